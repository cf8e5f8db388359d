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
#include <gptq/model/cpu/activations.hpp>
#include <gptq/model/cpu/attention.hpp>
#include <gptq/model/cpu/cross_entropy.hpp>
#include <gptq/model/cpu/delta_rule.hpp>
#include <gptq/model/cpu/normalize.hpp>
#include <gptq/model/description.hpp>
#include <gptq/model/layer_weights.hpp>
#include <gptq/model/rope.hpp>
#include <gptq/model/route.hpp>
#include <gptq/model/step.hpp>
#include <gptq/scheme/affine.hpp>

#include <Eigen/Core>

#include <array>
#include <cstdint>
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
  Tensor constant(Index rows, Index cols, float value) const {
    Tensor y(rows, cols);
    std::fill_n(y.data(), rows * cols, value);
    return y;
  }
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
  void norm(View y, ConstView x, const step::Norm& how, std::span<const float> weight,
            std::span<const float> bias) const {
    for_rows(x.rows(), [&](Index r) {
      for (Index c = 0; c < x.cols(); c += how.size) {
        const auto part = [&](std::span<const float> numbers) {
          const auto first = std::size_t(how.weights == step::Norm::Weights::shared ? 0 : c);
          return numbers.empty() ? numbers : numbers.subspan(first, std::size_t(how.size));
        };
        cpu::normalize(&x(r, c), &y(r, c), how, part(weight), part(bias));
      }
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
      for (Index h = how.first; h < x.cols(); h += how.head_dim) {
        float* a = &y(r, h);
        float* b = a + half;
        for (Index i = 0; !how.interleaved && i < half; ++i) {
          const float first = a[i], second = b[i];
          a[i] = first * cosine[i] - second * sine[i];
          b[i] = second * cosine[i] + first * sine[i];
        }
        for (Index i = 0; how.interleaved && i < half; ++i) {
          const float first = a[2 * i], second = a[2 * i + 1];
          a[2 * i] = first * cosine[i] - second * sine[i];
          a[2 * i + 1] = second * cosine[i] + first * sine[i];
        }
      }
    });
  }

  /// Causal attention within each sequence of `length` rows, head by head.
  Tensor attention(ConstView q, ConstView k, ConstView v, const step::Attention& how,
                   std::span<const float> sinks, Index length) const {
    Tensor out(q.rows(), how.heads * how.value_dim);
    const Index sequences = q.rows() / length, group = how.heads / how.kv_heads;
    executor_.parallel_for(sequences * how.heads, [&](Index task) {
      const Index first = task / how.heads * length, head = task % how.heads;
      const auto part = [&](auto matrix, Index which, Index width) {
        return matrix.block(first, which * width, length, width);
      };
      cpu::attend(part(out.view(), head, how.value_dim), part(q, head, how.head_dim),
                  part(k, head / group, how.head_dim), part(v, head / group, how.value_dim),
                  cpu::AttentionHead(how, head, sinks), precision_);
    });
    return out;
  }

  void activate(View y, ConstView x, Activation kind) const {
    for_rows(y.rows(), [&](Index r) {
      cpu::with_activation(kind, [&](auto f) { map(y, r) = f(map(x, r)); });
    });
  }

  /// f(gate) · up, element by element; y may be either. A gate of one column scales rows.
  void gated(View y, ConstView gate, ConstView up, const step::Gated& how) const {
    const auto limit = static_cast<float>(how.limit), alpha = static_cast<float>(how.alpha);
    for_rows(y.rows(), [&](Index r) {
      const auto u = map(up, r);
      if (how.limit > 0) {
        const Eigen::ArrayXf g = map(gate, r).min(limit);
        map(y, r) = (u.max(-limit).min(limit) + 1.0f) * (g / (1.0f + (-alpha * g).exp()));
      } else if (gate.cols() == 1) {
        cpu::with_activation(how.kind, [&](auto f) {
          const Eigen::Array<float, 1, 1> g = f(map(gate, r).template head<1>());
          map(y, r) = g[0] * u;
        });
      } else {
        cpu::with_activation(how.kind, [&](auto f) { map(y, r) = f(map(gate, r)) * u; });
      }
    });
  }

  /// y += x
  void add(View y, ConstView x) const {
    for_rows(y.rows(),
             [&](Index r) { Eigen::Map<Eigen::RowVectorXf>(&y(r, 0), y.cols()) += row(x, r); });
  }

  void scale(View y, ConstView x, double factor) const {
    const auto f = static_cast<float>(factor);
    for_rows(y.rows(), [&](Index r) { map(y, r) = map(x, r) * f; });
  }

  void clamp(View y, ConstView x, double limit) const {
    const auto f = static_cast<float>(limit);
    for_rows(y.rows(), [&](Index r) { map(y, r) = map(x, r).max(-f).min(f); });
  }

  /// y = x + a row of a table [positions, cols]: that of the token's position + `offset`
  void add_positions(View y, ConstView x, std::span<const float> table, Index offset,
                     Index length) const {
    step::require_positions(table, x.cols(), offset, length);
    const ConstView rows(table.data(), static_cast<Index>(table.size()) / x.cols(), x.cols());
    for_rows(y.rows(), [&](Index r) { map(y, r) = map(x, r) + map(rows, r % length + offset); });
  }

  void sharpen(View y, ConstView x, const step::Sharpen& how, Index length) const {
    for_rows(y.rows(), [&](Index r) { map(y, r) = map(x, r) * how.factor(r % length); });
  }

  /// Of every `period` columns, `count` of them.
  Tensor columns(ConstView x, const step::Columns& how) const {
    Tensor y(x.rows(), x.cols() / how.period * how.count);
    for_rows(x.rows(), [&](Index r) {
      for (Index c = how.first, to = 0; c < x.cols(); c += how.period, to += how.count)
        std::copy_n(&x(r, c), how.count, y.row(r) + to);
    });
    return y;
  }

  /// Per head, columns of a, then columns of b.
  Tensor join(ConstView a, ConstView b, const step::Join& how) const {
    Tensor y(a.rows(), how.heads * (how.a + how.b));
    const Index step = b.cols() == how.b ? 0 : how.b;  // shared, or per head
    for_rows(y.rows(), [&](Index r) {
      for (Index h = 0; h < how.heads; ++h) {
        float* const to = y.row(r) + h * (how.a + how.b);
        std::copy_n(&a(r, h * how.a), how.a, to);
        std::copy_n(&b(r, h * step), how.b, to + how.a);
      }
    });
    return y;
  }

  /// A weight per expert, negative where it was not chosen.
  Tensor route(ConstView logits, const step::Route& how, std::span<const float> bias) const {
    Tensor y(logits.rows(), logits.cols());
    for_rows(y.rows(), [&](Index r) {
      std::vector<float> scratch(static_cast<std::size_t>(route_scratch(how, y.cols())));
      model::route(how, &logits(r, 0), y.cols(), bias.empty() ? nullptr : bias.data(), y.row(r),
                   scratch.data());
    });
    return y;
  }

  /// The rows of x that were routed to an expert.
  Tensor gather(ConstView x, ConstView routes, int expert) const {
    std::vector<Index> rows;
    for (Index r = 0; r < x.rows(); ++r)
      if (routes(r, expert) >= 0) rows.push_back(r);
    Tensor y(static_cast<Index>(rows.size()), x.cols());
    for_rows(y.rows(),
             [&](Index r) { std::copy_n(&x(rows[std::size_t(r)], 0), x.cols(), y.row(r)); });
    return y;
  }

  /// Σ over experts of weight · rows, in the order of experts.
  Tensor scatter(ConstView routes, std::span<const ConstView> experts, Index width) const {
    std::vector<Index> next(experts.size());
    std::vector<std::size_t> first{0};                  // of each token, in the lists below
    std::vector<std::pair<std::size_t, Index>> chosen;  // expert, its row
    for (Index r = 0; r < routes.rows(); ++r) {
      for (std::size_t e = 0; e < experts.size(); ++e)
        if (routes(r, static_cast<Index>(e)) >= 0) chosen.emplace_back(e, next[e]++);
      first.push_back(chosen.size());
    }
    Tensor y(routes.rows(), width);
    for_rows(y.rows(), [&](Index r) {
      map(y.view(), r).setZero();
      for (std::size_t i = first[std::size_t(r)]; i < first[std::size_t(r) + 1]; ++i) {
        const auto [expert, row] = chosen[i];
        map(y.view(), r) += routes(r, static_cast<Index>(expert)) * map(experts[expert], row);
      }
    });
    return y;
  }

  /// A causal convolution of each column: weight [columns, taps], the last tap is the token itself
  Tensor convolution(ConstView x, std::span<const float> weight, Index taps, Index length) const {
    Tensor y(x.rows(), x.cols());
    for_rows(y.rows(), [&](Index r) {
      map(y.view(), r).setZero();
      for (Index j = 0; j < taps; ++j) {
        const Index back = taps - 1 - j;
        if (back > r % length) continue;
        const Eigen::Map<const Eigen::ArrayXf, 0, Eigen::InnerStride<>> tap(
            weight.data() + j, x.cols(), Eigen::InnerStride<>(taps));
        map(y.view(), r) += tap * map(x, r - back);
      }
    });
    return y;
  }

  /// See step::DeltaRule. \param in  q, k, v, a, b
  Tensor delta_rule(const std::array<ConstView, 5>& in, const step::DeltaRule& how,
                    std::span<const float> a_log, std::span<const float> dt_bias,
                    Index length) const {
    Tensor y(in[0].rows(), how.value_heads * how.value_dim);
    executor_.parallel_for(y.rows() / length * how.value_heads, [&](Index task) {
      const Index first = task / how.value_heads * length, head = task % how.value_heads;
      cpu::delta_rule(y.view().middle_rows(first, length), in, how, head, first,
                      a_log[std::size_t(head)], dt_bias[std::size_t(head)]);
    });
    return y;
  }

  /// Rows of the table.
  Tensor embedding(ConstView table, std::span<const std::int32_t> ids) const {
    Tensor out(static_cast<Index>(ids.size()), table.cols());
    for_rows(out.rows(), [&](Index r) {
      std::copy_n(&table(ids[std::size_t(r)], 0), table.cols(), out.row(r));
    });
    return out;
  }

  /// −log softmax(cap(scale·(x·Wᵀ + b)))[target] of each row; rows with a negative target are left
  /// out.
  std::vector<double> cross_entropy(ConstView x, const Linear& linear, const HeadSpec& how,
                                    std::span<const std::int32_t> targets) const {
    return cpu::cross_entropy(executor_, precision_, x, linear, how, targets);
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

  static auto map(View m, Index r) { return Eigen::Map<Eigen::ArrayXf>(&m(r, 0), m.cols()); }
  static auto map(ConstView m, Index r) {
    return Eigen::Map<const Eigen::ArrayXf>(&m(r, 0), m.cols());
  }

  Executor executor_;
  Precision precision_;
};

}  // namespace GPTQ_SIMD
}  // namespace gptq::model
