// SPDX-License-Identifier: MIT
#pragma once

// Block: a decoder layer, or what comes before or after the layers, as a list of recorded steps.
// It holds no numbers: weights are named, and everything else about a model (what its files must
// hold, what calibration looks at, how much memory a layer takes) is derived from the steps.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/model/step.hpp>

#include <functional>
#include <string>
#include <utility>  // std::move, std::pair
#include <vector>

namespace gptq::model {

/// The result of a step: a matrix of one row per token, on its way through a block.
struct Value {
  int id = -1;
};

/// One operation. Its result is the value of the same number.
struct Step {
  step::Any what;
  std::vector<int> in;  ///< the values that it reads, all of earlier steps
  Index width;          ///< columns of its result
  int expert = -1;      ///< whose rows it works on; -1: those of all tokens
};

/// y = x·Wᵀ + b, W [out, in].
struct LinearSpec {
  std::string name{};  ///< in files, rules and reports: "model.layers.3.mlp.down_proj"
  Index out = 0, in = 0;
  bool bias = false;
  bool quantize = true;     ///< false: always stays in 16 bits, like the router of experts
  bool transposed = false;  ///< stored as [in, out]
  int expert = -1;          ///< whose module it is
};

/// Weights that are never quantized: of a norm, a table of positions, ...
struct VectorSpec {
  std::string name;  ///< of the tensor; with a *, of one per row: its number stands there
  std::vector<Index> shape;
  float added = 0;  ///< what the file's numbers lack: 1 for norms that multiply by 1 + w
};

/// The tensors of a VectorSpec and their shapes.
inline std::vector<std::pair<std::string, std::vector<Index>>> tensors_of(const VectorSpec& spec) {
  const std::size_t star = spec.name.find('*');
  if (star == std::string::npos) return {{spec.name, spec.shape}};
  std::vector<std::pair<std::string, std::vector<Index>>> tensors;
  for (Index i = 0; i < spec.shape.front(); ++i) {
    std::string name = spec.name;
    name.replace(star, 1, std::to_string(i));
    tensors.emplace_back(std::move(name),
                         std::vector<Index>(spec.shape.begin() + 1, spec.shape.end()));
  }
  return tensors;
}

/// Steps are recorded by calling the functions below, each of which returns the value it makes.
class Block {
 public:
  /// \param prefix  of all weights: "model.layers.3."
  explicit Block(std::string prefix) : base_(std::move(prefix)), prefix_(base_) {}
  Block() = default;

  /// What flows in: hidden states. Call it first.
  Value input(Index width) { return push(step::Input{}, {}, width); }

  /// Normalizes parts of each row, `how.size` columns each.
  /// \param name  of the module that has the weights
  Value norm(Value x, const std::string& name, step::Norm how) {
    if (how.size == 0) how.size = width(x);
    const Index parts = width(x) / how.size;
    using Weights = step::Norm::Weights;
    if (how.weighted && how.weights == Weights::shared)
      how.weight = vector(name + ".weight", {how.size}, how.added);
    else if (how.weighted && how.weights == Weights::in_rows)
      how.weight = vector(name + ".weight", {parts, how.size}, how.added);
    else if (how.weighted) how.weight = vector(name + ".*.weight", {parts, how.size}, how.added);
    if (how.weighted && how.biased) how.bias = vector(name + ".bias", {how.size});
    return push(how, {x}, width(x));
  }

  /// \param spec  its name is relative to the block; `in` is set here
  Value linear(Value x, LinearSpec spec) {
    spec.name = prefix_ + spec.name;
    spec.in = width(x);
    spec.expert = expert_;
    linears_.push_back(std::move(spec));
    return push(step::Linear{static_cast<int>(linears_.size()) - 1}, {x}, linears_.back().out);
  }
  Value linear(Value x, const std::string& name, Index out, bool bias = false) {
    return linear(x, {.name = name, .out = out, .bias = bias});
  }

  /// A module that always stays in 16 bits.
  Value unquantized_linear(Value x, const std::string& name, Index out, bool bias = false) {
    return linear(x, {.name = name, .out = out, .bias = bias, .quantize = false});
  }

  /// Of every `period` columns those from `first` on, `count` of them.
  Value columns(Value x, Index first, Index count, Index period = 0) {
    if (period == 0) period = width(x);
    return push(step::Columns{first, count, period}, {x}, width(x) / period * count);
  }

  /// Per head, columns of a, then columns of b; a b as wide as one head is shared by all.
  Value join(Value a, Value b, Index heads, Index b_per_head) {
    const Index a_per_head = width(a) / heads;
    return push(step::Join{heads, a_per_head, b_per_head}, {a, b},
                heads * (a_per_head + b_per_head));
  }

  Value rope(Value x, step::Rope how) { return push(how, {x}, width(x)); }

  Value attention(Value q, Value k, Value v, step::Attention how) {
    const Index heads = how.heads * how.value_dim;
    return push(std::move(how), {q, k, v}, heads);
  }

  Value activate(Value x, Activation kind) { return push(step::Activate{kind}, {x}, width(x)); }

  /// f(gate) · up; a gate of one column scales whole rows.
  Value gated(Value gate, Value up, step::Gated how) { return push(how, {gate, up}, width(up)); }

  Value add(Value a, Value b) { return push(step::Add{}, {a, b}, width(a)); }
  Value scale(Value x, double factor) { return push(step::Scale{factor}, {x}, width(x)); }
  Value sharpen(Value x, double beta, double length) {
    return push(step::Sharpen{beta, length}, {x}, width(x));
  }
  Value clamp(Value x, double limit) { return push(step::Clamp{limit}, {x}, width(x)); }

  /// x plus a row of a table: that of the token's position + `offset`.
  Value positions(Value x, const std::string& table, Index rows, Index offset) {
    const int numbers = vector(table, {rows, width(x)});
    return push(step::Positions{numbers, offset}, {x}, width(x));
  }

  /// Chooses experts. \returns  a weight per expert, negative where it was not chosen
  Value route(Value logits, step::Route how) {
    return push(std::move(how), {logits}, width(logits));
  }

  /// y = Σ over the chosen experts of weight · expert(x).
  /// \param name    prefix of an expert's modules: "mlp.experts." (its number and a dot follow)
  /// \param expert  records one expert, from its rows of x to its rows of the result
  Value experts(Value x, Value routes, Index count, const std::string& name,
                const std::function<Value(Block&, Value rows)>& expert) {
    std::vector<Value> read{routes};
    for (Index e = 0; e < count; ++e) {
      expert_ = static_cast<int>(e);
      prefix_ = base_ + name + std::to_string(e) + ".";
      const Value rows = push(step::Gather{}, {x, routes}, width(x));
      read.push_back(expert(*this, rows));
    }
    expert_ = -1;
    prefix_ = base_;
    return push(step::Scatter{}, read, width(x));
  }

  /// A causal convolution of each column over the last `taps` tokens.
  Value convolution(Value x, const std::string& name, Index taps) {
    const int weight = vector(name + ".weight", {width(x), 1, taps});
    return push(step::Convolution{weight, taps}, {x}, width(x));
  }

  /// The gated delta rule, see step::DeltaRule.
  Value delta_rule(Value q, Value k, Value v, Value a, Value b, step::DeltaRule how,
                   const std::string& a_log, const std::string& dt_bias) {
    how.a_log = vector(a_log, {how.value_heads});
    how.dt_bias = vector(dt_bias, {how.value_heads});
    return push(how, {q, k, v, a, b}, how.value_heads * how.value_dim);
  }

  void output(Value x) { result_ = x.id; }

  /// Registers weights that are not quantized. \returns  their number
  int vector(const std::string& name, std::vector<Index> shape, float added = 0) {
    vectors_.push_back({prefix_ + name, std::move(shape), added});
    return static_cast<int>(vectors_.size()) - 1;
  }

  Index width(Value x) const { return steps_[static_cast<std::size_t>(x.id)].width; }
  const std::vector<Step>& steps() const { return steps_; }
  const std::vector<LinearSpec>& linears() const { return linears_; }
  const std::vector<VectorSpec>& vectors() const { return vectors_; }
  /// The value that flows out.
  int result() const { return result_; }
  const std::string& prefix() const { return base_; }

 private:
  Value push(step::Any what, const std::vector<Value>& read, Index width) {
    Step made{std::move(what), {}, width, expert_};
    for (const Value v : read) made.in.push_back(v.id);
    steps_.push_back(std::move(made));
    return {static_cast<int>(steps_.size()) - 1};
  }

  std::string base_, prefix_;  // of the block, and of the modules being recorded
  std::vector<Step> steps_;
  std::vector<LinearSpec> linears_;
  std::vector<VectorSpec> vectors_;
  int result_ = -1, expert_ = -1;
};

}  // namespace gptq::model
