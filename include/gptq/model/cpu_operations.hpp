// SPDX-License-Identifier: MIT
#pragma once

// The operations that a decoder is made of, on the CPU in single precision. Every task works on a
// tile whose shape depends on the operands alone, so results are bitwise independent of the number
// of threads.

#include <gptq/backend/cpu/tiled_products.hpp>
#include <gptq/backend/host/matrix.hpp>
#include <gptq/config.hpp>
#include <gptq/core/precision.hpp>
#include <gptq/exec/serial.hpp>
#include <gptq/exec/threads.hpp>
#include <gptq/model/layer_weights.hpp>
#include <gptq/model/rope.hpp>
#include <gptq/model/step.hpp>
#include <gptq/scheme/affine.hpp>

#include <Eigen/Core>

#include <cmath>  // std::sqrt
#include <cstdint>
#include <limits>
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {
inline namespace GPTQ_SIMD {

/// The operations of a decoder, on the CPU; a handle whose copies share the threads.
template <class Executor = exec::Threads>
class CpuOperations {
 public:
  using Tensor = backend::HostMatrix<float>;
  using View = MatrixView<float>;
  using ConstView = MatrixView<const float>;
  using Layer = LayerWeights;
  using Rope = RopeTable;

  /// \param precision  of products
  /// \throws InvalidArgument  this processor cannot multiply such operands
  explicit CpuOperations(Executor executor = Executor{}, Precision precision = Precision::split)
      : executor_(std::move(executor)), precision_(precision) {
    gptq::detail::require(precision != Precision::float16,
                          "this processor has no float16 products");
    gptq::detail::require(precision != Precision::bfloat16 || backend::cpu::use_tiles<float>(true),
                          "this processor has no bfloat16 products (AMX)");
  }

  const Executor& executor() const { return executor_; }

  Tensor tensor(Index rows, Index cols) const { return Tensor(rows, cols); }
  /// A long-lived tensor, and memory not to be used for those; nothing special here.
  Tensor keep(Index rows, Index cols) const { return Tensor(rows, cols); }
  void reserve(std::uint64_t /*bytes*/) {}
  Rope place(RopeTable table) const { return table; }

  /// x·Wᵀ + b: x [tokens, in], W [out, in], b [out] or empty
  Tensor matmul(ConstView x, ConstView weight, std::span<const float> bias = {}) const {
    Tensor y(x.rows(), weight.rows());
    matmul_into(y.view(), x, weight, bias, false);
    return y;
  }

  /// y += x·Wᵀ + b
  void matmul_add(View y, ConstView x, ConstView weight, std::span<const float> bias = {}) const {
    matmul_into(y, x, weight, bias, true);
  }

  /// Normalizes each part of a row; y may be x.
  void norm(View y, ConstView x, const step::Norm& how, std::span<const float> weight) const {
    for_rows(x.rows(), [&](Index r) {
      for (Index c = 0; c < x.cols(); c += how.size) norm_part(&x(r, c), &y(r, c), how, weight);
    });
  }

  /// Rotates each head of row r by its position, r mod `length`; y may be x.
  void rope(View y, ConstView x, const RopeTable& table, const step::Rope& how,
            Index length) const {
    const Index half = table.half;
    for_rows(x.rows(), [&](Index r) {
      if (y.data() != x.data()) std::copy_n(&x(r, 0), x.cols(), &y(r, 0));
      const float* cosine = table.cosine.data() + r % length * half;
      const float* sine = table.sine.data() + r % length * half;
      for (Index h = 0; h < x.cols(); h += how.head_dim) {
        float* a = &y(r, h);
        float* b = a + half;
        for (Index i = 0; i < half; ++i) {
          const float first = a[i], second = b[i];
          a[i] = first * cosine[i] - second * sine[i];
          b[i] = second * cosine[i] + first * sine[i];
        }
      }
    });
  }

  /// Causal attention within each sequence of `length` rows, head by head.
  Tensor attention(ConstView q, ConstView k, ConstView v, const step::Attention& how,
                   Index length) const {
    Tensor out(q.rows(), q.cols());
    const Index sequences = q.rows() / length, group = how.heads / how.kv_heads;
    executor_.parallel_for(sequences * how.heads, [&](Index task) {
      const Index first = task / how.heads * length, head = task % how.heads;
      const auto part = [&](auto matrix, Index which) {
        return matrix.block(first, which * how.head_dim, length, how.head_dim);
      };
      attend(part(out.view(), head), part(q, head), part(k, head / group), part(v, head / group),
             how.window);
    });
    return out;
  }

  /// f(gate) · up, element by element; y may be either.
  void gated(View y, ConstView gate, ConstView up, const step::Gated&) const {
    for_rows(y.rows(), [&](Index r) {
      const Eigen::Map<const Eigen::ArrayXf> g(&gate(r, 0), gate.cols()), u(&up(r, 0), up.cols());
      Eigen::Map<Eigen::ArrayXf>(&y(r, 0), y.cols()) = g / (1.0f + (-g).exp()) * u;
    });
  }

  /// y += x
  void add(View y, ConstView x) const {
    for_rows(y.rows(),
             [&](Index r) { Eigen::Map<Eigen::RowVectorXf>(&y(r, 0), y.cols()) += row(x, r); });
  }

  /// Rows of the table.
  Tensor embedding(ConstView table, std::span<const std::int32_t> ids) const {
    Tensor out(static_cast<Index>(ids.size()), table.cols());
    for_rows(out.rows(), [&](Index r) {
      std::copy_n(&table(ids[std::size_t(r)], 0), table.cols(), out.row(r));
    });
    return out;
  }

  /// −log softmax(x·Wᵀ)[target] of each row; rows with a negative target are left out as NaN. Works
  /// on a strip of the vocabulary at a time, so the logits are never all in memory.
  std::vector<double> cross_entropy(ConstView x, ConstView weight,
                                    std::span<const std::int32_t> targets) const {
    constexpr Index wide = 1024, tall = 256;
    struct Row {
      float top = -std::numeric_limits<float>::infinity();
      double sum = 0;     ///< Σ exp(logit − top) over the strips so far
      double target = 0;  ///< logit of the target
    };
    std::vector<Row> rows(static_cast<std::size_t>(x.rows()));
    for (Index col = 0; col < weight.rows(); col += wide) {
      const auto part = weight.middle_rows(col, (std::min)(wide, weight.rows() - col));
      const backend::cpu::RightSide right(executor_, part, precision_);
      executor_.parallel_for((x.rows() + tall - 1) / tall, [&](Index i) {
        const Index first = i * tall, count = (std::min)(tall, x.rows() - first);
        Tensor logits(count, part.rows());
        right.multiply(logits.view(), x.middle_rows(first, count), false);
        for (Index r = 0; r < count; ++r) {
          const Eigen::Map<const Eigen::ArrayXf> row(logits.row(r), logits.cols());
          Row& state = rows[std::size_t(first + r)];
          const float top = (std::max)(state.top, row.maxCoeff());
          state.sum = state.sum * std::exp(static_cast<double>(state.top - top)) +
                      static_cast<double>((row - top).exp().sum());
          state.top = top;
          const Index target = targets[std::size_t(first + r)] - col;
          if (target >= 0 && target < part.rows()) state.target = static_cast<double>(row[target]);
        }
      });
    }
    std::vector<double> losses;
    for (std::size_t r = 0; r < rows.size(); ++r)
      if (targets[r] >= 0)
        losses.push_back(std::log(rows[r].sum) + static_cast<double>(rows[r].top) - rows[r].target);
    return losses;
  }

  void copy(View to, ConstView from) const {
    for_rows(from.rows(), [&](Index r) { std::copy_n(&from(r, 0), from.cols(), &to(r, 0)); });
  }

  /// to = a − b
  void subtract(View to, ConstView a, ConstView b) const {
    for_rows(a.rows(), [&](Index r) {
      Eigen::Map<Eigen::RowVectorXf>(&to(r, 0), a.cols()) = row(a, r) - row(b, r);
    });
  }

  /// ‖a‖²
  double squared_norm(ConstView a) const {
    return sum_rows(a.rows(), [&](Index r) { return row(a, r).squaredNorm(); });
  }

  /// ‖a − b‖²
  double squared_distance(ConstView a, ConstView b) const {
    return sum_rows(a.rows(), [&](Index r) { return (row(a, r) - row(b, r)).squaredNorm(); });
  }

  /// x rounded to the symmetric 8-bit grid of its largest element.
  Tensor round_to_int8(ConstView x) const {
    float reach = 0;
    for (Index r = 0; r < x.rows(); ++r) reach = (std::max)(reach, row(x, r).cwiseAbs().maxCoeff());
    const scheme::Int8 scheme;
    const auto grid = scheme.fit(-reach, reach, ScaleType::fp32);
    Tensor y(x.rows(), x.cols());
    for_rows(x.rows(), [&](Index r) {
      for (Index c = 0; c < x.cols(); ++c)
        y(r, c) = scheme.decode(scheme.encode(x(r, c), grid), grid);
    });
    return y;
  }

 private:
  static auto row(ConstView x, Index r) {
    return Eigen::Map<const Eigen::RowVectorXf>(&x(r, 0), x.cols());
  }

  /// Σ f(row), in an order that does not depend on the number of threads.
  template <class F>
  double sum_rows(Index rows, F&& f) const {
    std::vector<double> parts(static_cast<std::size_t>(rows));
    for_rows(rows, [&](Index r) { parts[std::size_t(r)] = static_cast<double>(f(r)); });
    double total = 0;
    for (const double part : parts) total += part;
    return total;
  }

  template <class F>
  void for_rows(Index rows, F&& f) const {
    constexpr Index strip = 32;
    executor_.parallel_for((rows + strip - 1) / strip, [&](Index i) {
      for (Index r = i * strip; r < (std::min)(rows, (i + 1) * strip); ++r) f(r);
    });
  }

  void matmul_into(View y, ConstView x, ConstView weight, std::span<const float> bias,
                   bool add) const {
    namespace cpu = backend::cpu;
    cpu::multiply_transposed(executor_, y, x, weight, add, precision_);
    if (bias.empty()) return;
    const Eigen::Map<const Eigen::RowVectorXf> b(bias.data(), y.cols());
    for_rows(y.rows(), [&](Index r) { cpu::map(y.middle_rows(r, 1)) += b; });
  }

  static void norm_part(const float* x, float* y, const step::Norm& how,
                        std::span<const float> weight) {
    const Index n = how.size;
    const Eigen::Map<const Eigen::ArrayXf> in(x, n), w(weight.data(), n);
    const float scale = 1.0f / std::sqrt(in.square().mean() + static_cast<float>(how.epsilon));
    Eigen::Map<Eigen::ArrayXf>(y, n) = in * scale * w;
  }

  /// One head of one sequence: queries in blocks, scores of one block at a time.
  void attend(View out, ConstView q, ConstView k, ConstView v, Index window) const {
    constexpr Index block = 128, granule = 32;
    const Index length = q.rows();
    const float scale = 1.0f / std::sqrt(static_cast<float>(q.cols()));
    const backend::cpu::RightSide keys(exec::Serial{}, k, precision_),
        values(exec::Serial{}, v.transposed(), precision_);
    // Aligned memory, because Eigen's summation order depends on alignment.
    Tensor scores(block, length + granule);
    for (Index begin = 0; begin < length; begin += block) {
      const Index rows = (std::min)(block, length - begin);
      const Index reach = window > 0 ? (std::max)(Index(0), begin - window + 1) : 0;
      const Index from = reach / granule * granule, count = begin + rows - from;
      const View s(scores.data(), rows, count);
      keys.multiply(s, q.middle_rows(begin, rows), false, from);
      for (Index r = 0; r < rows; ++r) softmax(&s(r, 0), begin + r - from, count, window, scale);
      values.multiply(out.middle_rows(begin, rows), ConstView(s), false, 0, from);
    }
  }

  /// Turns the scores of one query into weights; keys after it and outside the window get 0.
  static void softmax(float* scores, Index last, Index keys, Index window, float scale) {
    const Index first = window > 0 ? (std::max)(Index(0), last - window + 1) : 0;
    Eigen::Map<Eigen::ArrayXf> live(scores + first, last + 1 - first);
    live = ((live - live.maxCoeff()) * scale).exp();
    live *= 1.0f / live.sum();
    std::fill(scores, scores + first, 0.0f);
    std::fill(scores + last + 1, scores + keys, 0.0f);
  }

  Executor executor_;
  Precision precision_;
};

}  // namespace GPTQ_SIMD
}  // namespace gptq::model
