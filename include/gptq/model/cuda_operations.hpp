// SPDX-License-Identifier: MIT
#pragma once

// The operations that a decoder is made of, on an NVIDIA GPU: products by cuBLAS, the rest by its
// own kernels. Link gptq::toolkit_cuda.

#include <gptq/backend/cuda.hpp>
#include <gptq/exec/threads.hpp>
#include <gptq/model/cuda/launch.hpp>
#include <gptq/model/cuda/product.hpp>
#include <gptq/model/cuda/running_softmax.hpp>
#include <gptq/model/layer_weights.hpp>
#include <gptq/model/rope.hpp>
#include <gptq/model/route.hpp>
#include <gptq/model/step.hpp>

#include <algorithm>  // std::min
#include <array>
#include <cstring>  // std::memcpy
#include <span>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// Weights come from the host a layer at a time (`place`), so a model may be larger than device
/// memory. Operands may be on the host too; results are on the device. Tensors that live for a
/// whole pass through the model (`keep`) go to pinned host memory if the device would otherwise run
/// short. A handle, like the backend; one thread at a time.
class CudaOperations {
 public:
  using Tensor = backend::cuda::DeviceMatrix<float>;
  using View = MatrixView<float>;
  using ConstView = MatrixView<const float>;

  /// A vector on the device, as a span.
  struct Vector {
    Tensor numbers;
    operator std::span<const float>() const {
      return {numbers.data(), static_cast<std::size_t>(numbers.size())};
    }
  };
  /// A Linear on the device.
  struct PlacedLinear {
    Tensor weight;
    Vector bias;
  };
  /// LayerWeights on the device.
  struct Layer {
    std::vector<PlacedLinear> linears;
    std::vector<Vector> vectors;
  };
  /// RopeTable on the device.
  struct Rope {
    Index half = 0;
    Vector cosine, sine;
  };

  /// \param backend    provides the device, stream and memory
  /// \param threads    for reading the model's files
  /// \param precision  of products; split parts and operands of 16 bits are multiplied on tensor
  ///                   cores
  /// \throws InvalidArgument  the device has no bfloat16 products
  explicit CudaOperations(backend::Cuda backend, exec::Threads threads = exec::Threads(),
                          Precision precision = Precision::split)
      : backend_(std::move(backend)), threads_(std::move(threads)), precision_(precision) {
    if (runtime()->has_bfloat16()) return;
    gptq::detail::require(precision != Precision::bfloat16, backend_.name(),
                          " has no bfloat16 products");
    if (precision == Precision::split) precision_ = Precision::single;
  }

  const exec::Threads& executor() const { return threads_; }

  /// Whether the backend's work is ordered after the work of these operations.
  bool shares(const backend::Cuda& backend) const { return backend_.shares(backend); }

  Tensor tensor(Index rows, Index cols) const { return Tensor(runtime(), rows, cols); }

  /// Device memory not to be used for tensors made by `keep`.
  void reserve(std::uint64_t bytes) { reserved_ = bytes; }

  /// A long-lived tensor: on the device if that leaves the reserve free, else in pinned host
  /// memory, which the device reads and writes.
  Tensor keep(Index rows, Index cols) const {
    const auto bytes = static_cast<std::uint64_t>(rows * cols) * sizeof(float);
    return bytes + reserved_ <= runtime()->available() ? tensor(rows, cols)
                                                       : Tensor::pinned(runtime(), rows, cols);
  }

  Layer place(const LayerWeights& weights) const {
    Layer layer{std::vector<PlacedLinear>(weights.linears.size()), {}};
    for (std::size_t i = 0; i < weights.linears.size(); ++i)
      place(weights.linears[i], layer.linears[i]);
    for (const std::vector<float>& numbers : weights.vectors)
      layer.vectors.push_back(vector(numbers));
    return layer;
  }

  /// Updates the device's copy of a module.
  void place(const Linear& linear, PlacedLinear& placed) const {
    placed.weight = backend_.upload(linear.weight.view());
    placed.bias = vector(linear.bias);
  }

  Rope place(const RopeTable& table) const {
    return {table.half, vector(table.cosine), vector(table.sine)};
  }

  /// x·Wᵀ + b: x [tokens, in], W [out, in], b [out] or empty
  Tensor matmul(ConstView x, ConstView weight, std::span<const float> bias = {}) const {
    Tensor y = tensor(x.rows(), weight.rows());
    product(y.view(), x, weight, bias, false);
    return y;
  }

  /// y += x·Wᵀ + b
  void matmul_add(View y, ConstView x, ConstView weight, std::span<const float> bias = {}) const {
    if (runtime()->is_on_device(y.data())) {
      product(y, x, weight, bias, true);
      return;
    }
    const Tensor added = matmul(x, weight, bias);  // pinned: one pass over y
    const auto scope = on_device();
    cuda::add(stream(), added.view(), y);
  }

  Tensor constant(Index rows, Index cols, float value) const {
    const auto scope = on_device();
    Tensor y = tensor(rows, cols);
    cuda::fill(stream(), value, y.view());
    return y;
  }

  /// Normalizes each part of a row; y may be x.
  void norm(View y, ConstView x, const step::Norm& how, std::span<const float> weight,
            std::span<const float> bias) const {
    const auto scope = on_device();
    const cuda::Borrowed w(runtime(), weight), b(runtime(), bias);
    cuda::norm(stream(), x, how, w.data(), b.data(), y);
  }

  /// Rotates each head of row r by its position, r mod `length`; y may be x.
  void rope(View y, ConstView x, const Rope& table, const step::Rope& how, Index length) const {
    if (y.data() != x.data()) copy(y, x);
    const auto scope = on_device();
    cuda::rope(stream(), y, table.cosine.numbers.data(), table.sine.numbers.data(), how, table.half,
               length);
  }

  /// Causal attention within each sequence of `length` rows, head by head.
  Tensor attention(ConstView q, ConstView k, ConstView v, const step::Attention& how,
                   std::span<const float> sinks, Index length) const {
    const auto scope = on_device();
    const cuda::Borrowed slopes(runtime(), how.slopes), sink(runtime(), sinks);
    Tensor out = tensor(q.rows(), how.heads * how.value_dim);
    cuda::attention(stream(),
                    {q, k, v, out.view(), how.heads, how.kv_heads, how.head_dim, how.value_dim,
                     length, how.window, score_scale(how), static_cast<float>(how.softcap),
                     slopes.data(), how.scaled_slopes, sink.data()},
                    runtime()->shared_memory());
    return out;
  }

  void activate(View y, ConstView x, Activation kind) const {
    const auto scope = on_device();
    cuda::activate(stream(), x, kind, y);
  }

  /// f(gate) · up, element by element; y may be either. A gate of one column scales rows.
  void gated(View y, ConstView gate, ConstView up, const step::Gated& how) const {
    const auto scope = on_device();
    cuda::gated(stream(), gate, up, how, y);
  }

  void scale(View y, ConstView x, double factor) const {
    const auto scope = on_device();
    cuda::scale(stream(), x, static_cast<float>(factor), y);
  }

  void clamp(View y, ConstView x, double limit) const {
    const auto scope = on_device();
    cuda::clamp(stream(), x, static_cast<float>(limit), y);
  }

  /// y = x + a row of a table [positions, cols]: that of the token's position + `offset`
  void add_positions(View y, ConstView x, std::span<const float> table, Index offset,
                     Index length) const {
    step::require_positions(table, x.cols(), offset, length);
    const auto scope = on_device();
    const cuda::Borrowed rows(runtime(), table);
    cuda::add_positions(stream(), x, rows.data(), offset, length, y);
  }

  void sharpen(View y, ConstView x, const step::Sharpen& how, Index length) const {
    const auto scope = on_device();
    cuda::sharpen(stream(), x, how, length, y);
  }

  /// Of every `period` columns, `count` of them.
  Tensor columns(ConstView x, const step::Columns& how) const {
    const auto scope = on_device();
    Tensor y = tensor(x.rows(), x.cols() / how.period * how.count);
    cuda::columns(stream(), x, how, y.view());
    return y;
  }

  /// Per head, columns of a, then columns of b.
  Tensor join(ConstView a, ConstView b, const step::Join& how) const {
    const auto scope = on_device();
    Tensor y = tensor(a.rows(), how.heads * (how.a + how.b));
    cuda::join(stream(), a, b, how, y.view());
    return y;
  }

  /// A weight per expert, negative where it was not chosen.
  Tensor route(ConstView logits, const step::Route& how, std::span<const float> bias) const {
    const auto scope = on_device();
    const cuda::Borrowed added(runtime(), bias);
    Tensor scratch = tensor(logits.rows(), route_scratch(how, logits.cols()));
    Tensor y = tensor(logits.rows(), logits.cols());
    cuda::choose_experts(stream(), logits, how, added.data(), scratch.data(), y.view());
    return y;
  }

  /// The rows of x that were routed to an expert.
  Tensor gather(ConstView x, ConstView routes, int expert) const {
    const auto scope = on_device();
    const Tokens tokens = list_tokens(routes, expert);
    Tensor y = tensor(backend::cuda::to_vector(*runtime(), tokens.count).front(), x.cols());
    cuda::gather(stream(), x, tokens.rows.data(), y.view());
    return y;
  }

  /// Σ over experts of weight · rows, in the order of experts.
  Tensor scatter(ConstView routes, std::span<const ConstView> experts, Index width) const {
    const auto scope = on_device();
    Tensor y = Tensor::zeros(runtime(), routes.rows(), width);
    for (std::size_t e = 0; e < experts.size(); ++e) {
      if (experts[e].empty()) continue;
      const Tokens tokens = list_tokens(routes, static_cast<Index>(e));
      cuda::scatter(stream(), experts[e], routes, static_cast<Index>(e), tokens.rows.data(),
                    y.view());
    }
    return y;
  }

  /// A causal convolution of each column: weight [columns, taps], the last tap is the token itself
  Tensor convolution(ConstView x, std::span<const float> weight, Index taps, Index length) const {
    const auto scope = on_device();
    const cuda::Borrowed w(runtime(), weight);
    Tensor y = tensor(x.rows(), x.cols());
    cuda::convolution(stream(), x, w.data(), taps, length, y.view());
    return y;
  }

  /// See step::DeltaRule. \param in  q, k, v, a, b
  Tensor delta_rule(const std::array<ConstView, 5>& in, const step::DeltaRule& how,
                    std::span<const float> a_log, std::span<const float> dt_bias,
                    Index length) const {
    const auto scope = on_device();
    const cuda::Borrowed decay(runtime(), a_log), shift(runtime(), dt_bias);
    Tensor y = tensor(in[0].rows(), how.value_heads * how.value_dim);
    cuda::delta_rule(stream(), {in[0], in[1], in[2], in[3], in[4], y.view(), how, decay.data(),
                                shift.data(), length});
    return y;
  }

  /// y += x
  void add(View y, ConstView x) const {
    const auto scope = on_device();
    cuda::add(stream(), x, y);
  }

  /// Looks up rows of a table on the host.
  Tensor embedding(ConstView table, std::span<const std::int32_t> ids) const {
    const auto scope = on_device();
    Tensor out = keep(static_cast<Index>(ids.size()), table.cols());
    const std::size_t row = sizeof(float) * std::size_t(table.cols());
    const auto fill = [&](std::byte* host, std::size_t at, std::size_t bytes) {
      for (std::size_t end = at + bytes; at < end; at += row, host += row)
        std::memcpy(host, &table(ids[at / row], 0), row);
    };
    if (out.is_pinned()) fill(reinterpret_cast<std::byte*>(out.data()), 0, out.bytes());
    else runtime()->copy_to_device(out.data(), out.bytes(), row, fill);
    return out;
  }

  /// −log softmax(cap(scale·(x·Wᵀ + b)))[target] of each row that has a target; a strip of rows
  /// and of the vocabulary at a time.
  std::vector<double> cross_entropy(ConstView x, const Linear& linear, const HeadSpec& how,
                                    std::span<const std::int32_t> targets) const {
    const ConstView weight = linear.weight.view();
    constexpr Index wide = 8192, tall = 4096;
    const auto scope = on_device();
    const cuda::Borrowed bias(runtime(), linear.bias);
    const cuda::HeadOperands head{bias.data(), static_cast<float>(how.scale),
                                  static_cast<float>(how.softcap)};
    cuda::RunningSoftmax softmax(runtime(), targets);
    for (Index col = 0; col < weight.rows(); col += wide) {
      const auto words = weight.middle_rows(col, (std::min)(wide, weight.rows() - col));
      const cuda::Borrowed part(runtime(), words);
      for (Index row = 0; row < x.rows(); row += tall) {
        const auto some = x.middle_rows(row, (std::min)(tall, x.rows() - row));
        const Tensor logits = matmul(some, part.view());
        softmax.add(logits.view(), row, col, head);
      }
    }
    return softmax.losses();
  }

  void copy(View to, ConstView from) const {
    const auto scope = on_device();
    cuda::copy(*runtime(), to, from);
  }

  /// to = a − b
  void subtract(View to, ConstView a, ConstView b) const {
    const auto scope = on_device();
    cuda::subtract(stream(), a, b, to);
  }

  /// ‖a‖²
  double squared_norm(ConstView a) const {
    const auto scope = on_device();
    backend::cuda::DeviceMatrix<double> of_row(runtime(), 1, a.rows());
    backend::cuda::squares_of_rows(stream(), a, {.columns = a.cols()}, of_row.data());
    double total = 0;
    for (const double x : backend::cuda::to_vector(*runtime(), of_row)) total += x;
    return total;
  }

  /// ‖a − b‖²
  double squared_distance(ConstView a, ConstView b) const {
    Tensor difference = tensor(a.rows(), a.cols());
    subtract(difference.view(), a, b);
    return squared_norm(std::as_const(difference).view());
  }

  /// x rounded to the symmetric 8-bit grid of its largest element.
  Tensor round_to_int8(ConstView x) const {
    const auto scope = on_device();
    const auto reach = static_cast<float>(backend_.largest(x));
    const auto grid = scheme::Int8{}.fit(-reach, reach, ScaleType::fp32);
    Tensor y = tensor(x.rows(), x.cols());
    cuda::round_to_int8(stream(), x, grid.scale, y.data());
    return y;
  }

 private:
  /// The tokens of an expert.
  struct Tokens {
    backend::cuda::DeviceMatrix<Index> rows, count;
  };
  Tokens list_tokens(ConstView routes, Index expert) const {
    using Indices = backend::cuda::DeviceMatrix<Index>;
    Tokens tokens{Indices(runtime(), 1, routes.rows()), Indices(runtime(), 1, 1)};
    cuda::list_tokens(stream(), routes, expert, tokens.rows.data(), tokens.count.data());
    return tokens;
  }

  void product(View y, ConstView x, ConstView weight, std::span<const float> bias, bool add) const {
    const auto scope = on_device();
    cuda::product(runtime(), precision_, y, x, weight, add);
    if (bias.empty()) return;
    const cuda::Borrowed added(runtime(), bias);
    cuda::add_bias(stream(), added.data(), y);
  }

  Vector vector(const std::vector<float>& from) const {
    if (from.empty()) return {};
    const auto scope = on_device();
    return {backend::cuda::to_device_vector(runtime(), std::span<const float>(from))};
  }

  backend::cuda::DeviceScope on_device() const {
    return backend::cuda::DeviceScope(backend_.device());
  }
  const std::shared_ptr<backend::cuda::Runtime>& runtime() const { return backend_.runtime(); }
  cudaStream_t stream() const { return backend_.stream(); }

  backend::Cuda backend_;
  exec::Threads threads_;
  Precision precision_;
  std::uint64_t reserved_ = 0;
};

}  // namespace gptq::model
