// SPDX-License-Identifier: MIT
#pragma once

// Decoder: runs the steps of blocks on a device. It knows no architecture and holds no weights.

#include <gptq/model/cuts.hpp>
#include <gptq/model/description.hpp>
#include <gptq/model/values.hpp>

#include <algorithm>  // std::max
#include <cstdint>
#include <set>
#include <span>
#include <utility>  // std::as_const, std::move
#include <variant>
#include <vector>

namespace gptq::model {

/// Tokens that go through a layer at once: whole sequences.
inline Index chunk_tokens(Index length) { return (std::max)(Index(1), 4096 / length) * length; }

/// How many weights the linear modules of a block have.
inline Index linear_weights(const Block& block) {
  Index weights = 0;
  for (const LinearSpec& linear : block.linears()) weights += linear.out * linear.in;
  return weights;
}

/// The same of the largest layer.
inline Index largest_layer(const Description& description) {
  Index largest = 0;
  for (const Block& layer : description.layers)
    largest = (std::max)(largest, linear_weights(layer));
  return largest;
}

/// Bytes needed for a chunk on its way through a layer, besides the rows of experts.
inline std::uint64_t chunk_bytes(const Description& description, Index length) {
  Index numbers = 0;
  for (const Block& layer : description.layers) {
    std::set<Index> widths;
    for (const LinearSpec& linear : layer.linears()) widths.insert({linear.out, linear.in});
    Index sum = 0;
    for (const Index width : widths) sum += width;
    numbers = (std::max)(numbers, 4 * sum);  // with the split parts of operands: Precision::split
  }
  return sizeof(float) * static_cast<std::uint64_t>(chunk_tokens(length) * numbers);
}

/// Bytes needed on a device for one layer, with the split parts of its weights, and for a chunk on
/// its way through it.
inline std::uint64_t decoder_bytes(const Description& description, Index length) {
  return 2 * sizeof(float) * static_cast<std::uint64_t>(largest_layer(description)) +
         chunk_bytes(description, length);
}

/// Rows of all tensors are tokens: whole sequences of `length` tokens, one after the other.
/// \tparam Operations  one function per kind of step, on its own tensors (CpuOperations,
/// CudaOperations)
template <class Operations>
class Decoder {
 public:
  using Tensor = typename Operations::Tensor;
  using View = typename Operations::View;
  using ConstView = typename Operations::ConstView;
  using Layer = typename Operations::Layer;

  /// \param length  tokens per sequence
  Decoder(const Description& description, Index length, Operations operations)
      : operations_(std::move(operations)), length_(length) {
    for (const Rope& rope : description.ropes)
      ropes_.push_back(operations_.place(RopeTable(rope, length)));
  }

  const Operations& operations() const { return operations_; }
  Index length() const { return length_; }

  /// Computes values from others that are there, which are dropped after their last use unless they
  /// are wanted, too; memory is reused where possible.
  void run(const Cuts& cuts, const Layer& weights, Values<Operations>& values,
           std::span<const int> wanted) const {
    const auto& steps = cuts.block().steps();
    Run run{cuts, weights, values, std::vector<int>(steps.size()), std::vector<char>(steps.size()),
            0};
    std::vector<int> open(wanted.begin(), wanted.end());
    while (!open.empty()) {
      const int v = open.back();
      open.pop_back();
      if (values.has(v) || run.needed[std::size_t(v)]) continue;
      run.needed[std::size_t(v)] = true;
      for (const int read : steps[std::size_t(v)].in) {
        ++run.left[std::size_t(read)];
        open.push_back(read);
      }
    }
    for (const int v : wanted) ++run.left[std::size_t(v)];
    for (std::size_t i = 0; i < steps.size(); ++i) {
      run.step = static_cast<int>(i);
      if (!run.needed[i] || (cuts.is_added(run.step) && !is_wanted(wanted, run.step))) continue;
      std::visit([&](const auto& what) { compute(what, run); }, steps[i].what);
      for (const int read : steps[i].in) finish_reading(run, read);
    }
  }

  /// One whole block, in place if its result is as wide as its input.
  /// \return  empty if it was
  Tensor forward(View hidden, const Layer& weights, const Cuts& cuts) const {
    Values<Operations> values(cuts.block().steps().size());
    const int result = cuts.block().result();
    values.lend(0, hidden, true);
    run(cuts, weights, values, {&result, 1});
    if (values.lender(result) == 0) return {};
    if (cuts.block().steps()[std::size_t(result)].width == hidden.cols()) {
      operations_.copy(hidden, std::as_const(values).view(result));
      return {};
    }
    return values.take(result);
  }

 private:
  /// The state of a run.
  struct Run {
    const Cuts& cuts;
    const Layer& weights;
    Values<Operations>& values;
    std::vector<int> left;     ///< how often each value will still be read
    std::vector<char> needed;  ///< whether a step has to run
    int step;                  ///< the one that runs

    const Step& this_step() const { return cuts.block().steps()[std::size_t(step)]; }
    int in(std::size_t i) const { return cuts.block().steps()[std::size_t(step)].in[i]; }
    ConstView operand(std::size_t i) const { return std::as_const(values).view(in(i)); }
    std::span<const float> vector(int number) const {
      if (number < 0) return {};
      return weights.vectors[std::size_t(number)];
    }
  };

  static bool is_wanted(std::span<const int> wanted, int value) {
    return std::find(wanted.begin(), wanted.end(), value) != wanted.end();
  }

  void finish_reading(Run& run, int value) const {
    if (--run.left[std::size_t(value)] > 0) return;
    if (run.values.has(value)) run.values.drop(value);
    else if (run.needed[std::size_t(value)] && run.cuts.is_added(value))  // was part of a sum
      finish_reading(run, run.cuts.block().steps()[std::size_t(value)].in[0]);
  }

  /// Where to write the result of a step: over its operand i if nothing else reads that.
  View destination(Run& run, std::size_t i) const {
    const int from = run.in(i);
    if (run.left[std::size_t(from)] == 1 && run.values.is_writable(from)) {
      const View same = run.values.view(from);
      run.values.move(from, run.step);
      return same;
    }
    const ConstView x = run.operand(i);
    run.values.set(run.step, operations_.tensor(x.rows(), x.cols()));
    return run.values.view(run.step);
  }

  const auto& linear(const Run& run, int step) const {
    const auto& what = run.cuts.block().steps()[std::size_t(step)].what;
    return run.weights.linears[std::size_t(std::get<step::Linear>(what).linear)];
  }
  Tensor product(const Run& run, int step) const {
    const int x = run.cuts.block().steps()[std::size_t(step)].in[0];
    const auto& module = linear(run, step);
    return operations_.matmul(std::as_const(run.values).view(x), module.weight.view(), module.bias);
  }

  void compute(const step::Input&, Run&) const {
    throw InvalidArgument("a block's input is not there");
  }

  void compute(const step::Linear&, Run& run) const {
    run.values.set(run.step, product(run, run.step));
  }

  void compute(const step::Norm& how, Run& run) const {
    const ConstView x = run.operand(0);
    operations_.norm(destination(run, 0), x, how, run.vector(how.weight), run.vector(how.bias));
  }

  void compute(const step::Rope& how, Run& run) const {
    const ConstView x = run.operand(0);
    operations_.rope(destination(run, 0), x, ropes_[std::size_t(how.table)], how, length_);
  }

  void compute(const step::Attention& how, Run& run) const {
    run.values.set(run.step, operations_.attention(run.operand(0), run.operand(1), run.operand(2),
                                                   how, run.vector(how.sinks), length_));
  }

  void compute(const step::Gated& how, Run& run) const {
    const ConstView gate = run.operand(0), up = run.operand(1);
    operations_.gated(destination(run, gate.cols() == up.cols() ? 0 : 1), gate, up, how);
  }

  void compute(const step::Columns& how, Run& run) const {
    run.values.set(run.step, operations_.columns(run.operand(0), how));
  }

  void compute(const step::Join& how, Run& run) const {
    run.values.set(run.step, operations_.join(run.operand(0), run.operand(1), how));
  }

  void compute(const step::Activate& how, Run& run) const {
    const ConstView x = run.operand(0);
    operations_.activate(destination(run, 0), x, how.kind);
  }

  void compute(const step::Scale& how, Run& run) const {
    const ConstView x = run.operand(0);
    operations_.scale(destination(run, 0), x, how.factor);
  }

  void compute(const step::Clamp& how, Run& run) const {
    const ConstView x = run.operand(0);
    operations_.clamp(destination(run, 0), x, how.limit);
  }

  void compute(const step::Positions& how, Run& run) const {
    const ConstView x = run.operand(0);
    operations_.add_positions(destination(run, 0), x, run.vector(how.table), how.offset, length_);
  }

  void compute(const step::Sharpen& how, Run& run) const {
    const ConstView x = run.operand(0);
    operations_.sharpen(destination(run, 0), x, how, length_);
  }

  void compute(const step::Route& how, Run& run) const {
    run.values.set(run.step, operations_.route(run.operand(0), how, run.vector(how.bias)));
  }

  void compute(const step::Gather&, Run& run) const {
    run.values.set(run.step,
                   operations_.gather(run.operand(0), run.operand(1), run.this_step().expert));
  }

  void compute(const step::Scatter&, Run& run) const {
    std::vector<ConstView> parts;
    for (std::size_t i = 1; i < run.this_step().in.size(); ++i) parts.push_back(run.operand(i));
    run.values.set(run.step, operations_.scatter(run.operand(0), parts, run.this_step().width));
  }

  void compute(const step::Convolution& how, Run& run) const {
    run.values.set(run.step, operations_.convolution(run.operand(0), run.vector(how.weight),
                                                     how.taps, length_));
  }

  void compute(const step::DeltaRule& how, Run& run) const {
    run.values.set(run.step, operations_.delta_rule({run.operand(0), run.operand(1), run.operand(2),
                                                     run.operand(3), run.operand(4)},
                                                    how, run.vector(how.a_log),
                                                    run.vector(how.dt_bias), length_));
  }

  /// A product whose result is only added is accumulated in the sum.
  void compute(const step::Add&, Run& run) const {
    const auto is_product = [&](int v) { return !run.values.has(v) && run.cuts.is_added(v); };
    const bool swapped = !is_product(run.in(1)) && is_product(run.in(0));
    const std::size_t base = swapped ? 1 : 0;
    const int other = run.in(1 - base);
    if (is_product(run.in(base))) run.values.set(run.in(base), product(run, run.in(base)));
    const ConstView x = run.operand(base);
    const View sum = destination(run, base);
    if (sum.data() != x.data()) operations_.copy(sum, x);
    if (is_product(other)) {
      const auto& module = linear(run, other);
      const int factor = run.cuts.block().steps()[std::size_t(other)].in[0];
      operations_.matmul_add(sum, std::as_const(run.values).view(factor), module.weight.view(),
                             module.bias);
    } else {
      operations_.add(sum, std::as_const(run.values).view(other));
    }
  }

  Operations operations_;
  Index length_;
  std::vector<typename Operations::Rope> ropes_;
};

}  // namespace gptq::model
