// SPDX-License-Identifier: MIT

// Each step of a decoder on an NVIDIA GPU against the CPU's: on a real one, and on a fake device in
// host memory.

#include <gptq/model/cpu_operations.hpp>
#include <gptq/model/cuda_operations.hpp>

#include "../support/catch.hpp"
#include "../support/decoder_on_device.hpp"

using gptq::model::Activation;
using namespace test::on_device;
namespace step = gptq::model::step;

namespace {

const CpuOperations& cpu() {
  static const CpuOperations operations(gptq::exec::Threads(1), Precision::single);
  return operations;
}

/// Of a matrix on the host and its copy on the device, the one where the operations work.
template <class Operations, class Host, class Device>
const auto& where(const Operations&, const Host& host, const Device& device) {
  if constexpr (std::is_same_v<Operations, CpuOperations>) return host;
  else return device;
}

/// f(operations, result, operand), which may be one matrix, gives the same on both devices.
template <class F>
void compare_in_place(const CudaOperations& gpu, const Matrix& x, double margin, const F& f) {
  Matrix expected(x.rows(), x.cols()), in_place(x.rows(), x.cols());
  f(cpu(), expected.view(), x.view());
  auto from = put(gpu, x), to = gpu.tensor(x.rows(), x.cols());
  f(gpu, to.view(), std::as_const(from).view());
  require_close(to, expected, margin);
  require_close(from, x, 0);
  f(gpu, from.view(), std::as_const(from).view());
  require_close(from, expected, margin);
}

std::vector<float> numbers(Index count, std::uint32_t seed) {
  const Matrix m = random(1, count, seed);
  return {m.data(), m.data() + count};
}

}  // namespace

TEST_CASE("products and sums match the CPU's", "[cuda]") {
  if (no_device()) return;
  const Matrix x = random(37, 48, 1), w = random(70, 48, 2), bias = random(1, 70, 3),
               y = random(37, 70, 4), z = random(37, 70, 5);
  const std::vector<float> b(bias.data(), bias.data() + 70);
  for (const auto& [precision, margin] : {std::pair{Precision::single, 1e-4},
                                          {Precision::split, 1e-3},
                                          {Precision::float16, 1e-4},
                                          {Precision::bfloat16, 1e-4}}) {
    if (precision == Precision::bfloat16 && !Cuda{}.runtime()->has_bfloat16()) continue;
    const CudaOperations gpu = operations(precision);
    const auto dx = put(gpu, x), dw = put(gpu, w);
    const auto db = put(gpu, bias);
    const std::span<const float> device_bias(db.data(), 70);
    const Matrix operand = rounded(x, precision), weight = rounded(w, precision);
    const Matrix product = cpu().matmul(operand.view(), weight.view(), b);
    require_close(gpu.matmul(dx.view(), dw.view(), device_bias), product, margin);
    require_close(gpu.matmul(x.view(), w.view(), b), product, margin);  // from the host
    Matrix sum = random(37, 70, 4);
    auto device_sum = put(gpu, sum);
    auto pinned = CudaOperations::Tensor::pinned(Cuda{}.runtime(), 37, 70);
    gpu.copy(pinned.view(), std::as_const(sum).view());
    cpu().matmul_add(sum.view(), operand.view(), weight.view(), b);
    gpu.matmul_add(device_sum.view(), dx.view(), dw.view(), device_bias);
    gpu.matmul_add(pinned.view(), dx.view(), dw.view(), device_bias);
    require_close(device_sum, sum, margin);
    require_close(put(gpu, sum), sum, 0);
    auto back = gpu.tensor(37, 70);
    gpu.copy(back.view(), std::as_const(pinned).view());
    require_close(back, sum, margin);
  }
  const CudaOperations gpu = operations();
  Matrix sum = random(37, 70, 4);
  auto device_sum = put(gpu, sum);
  cpu().add(sum.view(), z.view());
  gpu.add(device_sum.view(), put(gpu, z).view());
  require_close(device_sum, sum, 1e-5);

  const auto dy = put(gpu, y), dz = put(gpu, z);
  Matrix difference(37, 70);
  cpu().subtract(difference.view(), y.view(), z.view());
  auto device_difference = gpu.tensor(37, 70);
  gpu.subtract(device_difference.view(), dy.view(), dz.view());
  require_close(device_difference, difference, 0);
  CHECK(gpu.squared_norm(dy.view()) == Approx(cpu().squared_norm(y.view())).epsilon(1e-6));
  CHECK(gpu.squared_distance(dy.view(), dz.view()) ==
        Approx(cpu().squared_distance(y.view(), z.view())).epsilon(1e-6));
  require_close(gpu.round_to_int8(dy.view()), cpu().round_to_int8(y.view()), 1e-6);

  const std::vector<std::int32_t> ids{3, 0, 36, 3};
  require_close(gpu.embedding(x.view(), ids), cpu().embedding(x.view(), ids), 0);
  require_close(gpu.constant(3, 5, 0.25f), cpu().constant(3, 5, 0.25f), 0);
}

TEST_CASE("norms of every kind match the CPU's", "[cuda]") {
  if (no_device()) return;
  const CudaOperations gpu = operations();
  const Matrix x = random(37, 48, 1);
  const std::vector<float> weight = numbers(48, 2), bias = numbers(48, 3);
  for (const auto kind : {step::Norm::Kind::rms, step::Norm::Kind::layer})
    for (const Index size : {48, 16})
      for (const auto weights : {step::Norm::Weights::shared, step::Norm::Weights::in_rows})
        for (const bool weighted : {false, true})
          for (const bool biased : {false, true}) {
            const step::Norm how{.kind = kind, .epsilon = 1e-3, .size = size, .weights = weights};
            INFO((kind == step::Norm::Kind::rms ? "rms" : "layer")
                 << " of " << size << (weighted ? ", weighted" : "") << (biased ? ", biased" : ""));
            const auto part = [&](const std::vector<float>& all, bool there) {
              const Index count = weights == step::Norm::Weights::shared ? size : 48;
              return std::span(all).first(there ? std::size_t(count) : 0);
            };
            compare_in_place(gpu, x, 1e-5, [&](const auto& on, auto to, auto from) {
              on.norm(to, from, how, part(weight, weighted), part(bias, biased));
            });
          }
}

TEST_CASE("functions of each element match the CPU's", "[cuda]") {
  if (no_device()) return;
  const Matrix x = random(36, 40, 1), up = random(36, 40, 2), one = random(36, 1, 3);
  const CudaOperations gpu = operations();
  const auto device_up = put(gpu, up), device_one = put(gpu, one);
  for (const auto kind : {Activation::silu, Activation::gelu, Activation::gelu_tanh,
                          Activation::relu, Activation::relu_squared, Activation::sigmoid}) {
    INFO(static_cast<int>(kind));
    compare_in_place(gpu, x, 1e-6,
                     [&](const auto& on, auto to, auto from) { on.activate(to, from, kind); });
    compare_in_place(gpu, x, 1e-5, [&](const auto& on, auto to, auto from) {
      on.gated(to, from, where(on, up, device_up).view(), {kind});
    });
    compare_in_place(gpu, x, 1e-5, [&](const auto& on, auto to, auto from) {
      on.gated(to, where(on, one, device_one).view(), from, {kind});
    });
  }
  compare_in_place(gpu, x, 1e-5, [&](const auto& on, auto to, auto from) {  // as in gpt-oss
    on.gated(to, from, where(on, up, device_up).view(),
             {Activation::sigmoid, /*limit=*/0.7, /*alpha=*/1.3});
  });
  compare_in_place(gpu, x, 0, [](const auto& on, auto to, auto from) { on.scale(to, from, 0.3); });
  compare_in_place(gpu, x, 0, [](const auto& on, auto to, auto from) { on.clamp(to, from, 0.5); });
  const std::vector<float> table = numbers(14 * 40, 4);
  compare_in_place(gpu, x, 0, [&](const auto& on, auto to, auto from) {
    on.add_positions(to, from, table, 2, 12);
  });
  CHECK_THROWS_WITH(gpu.add_positions(put(gpu, x).view(), x.view(), table, 3, 12),
                    "windows of 12 tokens, but the model has 11 positions");
  compare_in_place(gpu, x, 1e-6, [](const auto& on, auto to, auto from) {
    on.sharpen(to, from, {.beta = 0.2, .length = 5}, 12);
  });
  for (const bool interleaved : {false, true})
    for (const auto& [head_dim, first, dims] :
         {std::array<Index, 3>{20, 0, 20}, {20, 0, 8}, {10, 4, 6}}) {
      INFO("heads of " << head_dim << ", " << dims << " from " << first
                       << (interleaved ? ", interleaved" : ""));
      const gptq::model::RopeTable angles({.dims = dims}, 12);
      const step::Rope how{0, head_dim, first, interleaved};
      const auto device_angles = gpu.place(angles);
      compare_in_place(gpu, x, 1e-5, [&](const auto& on, auto to, auto from) {
        on.rope(to, from, where(on, angles, device_angles), how, 12);
      });
    }
}

TEST_CASE("columns, joins and convolutions match the CPU's", "[cuda]") {
  if (no_device()) return;
  const CudaOperations gpu = operations();
  const Matrix x = random(36, 40, 1), per_head = random(36, 12, 2), shared = random(36, 3, 3);
  const auto device_x = put(gpu, x);
  for (const step::Columns& how :
       {step::Columns{0, 4, 8}, {4, 4, 8}, {1, 2, 5}, {0, 40, 40}, {30, 10, 40}})
    require_close(gpu.columns(device_x.view(), how), cpu().columns(x.view(), how), 0);
  const step::Join how{4, 10, 3};
  require_close(gpu.join(device_x.view(), put(gpu, per_head).view(), how),
                cpu().join(x.view(), per_head.view(), how), 0);
  require_close(gpu.join(device_x.view(), put(gpu, shared).view(), how),
                cpu().join(x.view(), shared.view(), how), 0);
  const std::vector<float> weight = numbers(40 * 4, 4);
  require_close(gpu.convolution(device_x.view(), weight, 4, 12),
                cpu().convolution(x.view(), weight, 4, 12), 1e-5);
}

TEST_CASE("experts are chosen as on the CPU, and their tokens go there and back", "[cuda]") {
  if (no_device()) return;
  const CudaOperations gpu = operations();
  constexpr Index tokens = 300, experts = 12;  // more tokens than a block has threads
  const Matrix logits = random(tokens, experts, 1), x = random(tokens, 8, 2);
  const std::vector<float> bias = numbers(experts, 3);
  using Route = step::Route;
  for (const Route& how :
       {Route{.chosen = 1}, Route{.chosen = 3, .normalized = true},
        Route{.score = Route::Score::sigmoid,
        .chosen = 4,
        .normalized = true,
        .least_sum = 1e-20,
        .scale = 2.5,
        .groups = 4,
        .chosen_groups = 2,
        .group_score = Route::GroupScore::two_best},
        Route{.chosen = 3, .scale = 16, .groups = 3, .chosen_groups = 1}, Route{.chosen = 12}})
    for (const bool biased : {false, true}) {
      INFO(how.chosen << " of " << how.groups << " groups" << (biased ? ", biased" : ""));
      const auto added = std::span(bias).first(biased ? bias.size() : 0);
      const Matrix expected = cpu().route(logits.view(), how, added);
      const auto routes = gpu.route(put(gpu, logits).view(), how, added);
      require_close(routes, expected, 1e-6);
      std::vector<Matrix> rows;
      std::vector<CudaOperations::Tensor> device_rows;
      std::vector<gptq::MatrixView<const float>> views, device_views;
      Index total = 0;
      for (int e = 0; e < experts; ++e) {
        rows.push_back(cpu().gather(x.view(), expected.view(), e));
        device_rows.push_back(gpu.gather(put(gpu, x).view(), routes.view(), e));
        require_close(device_rows.back(), rows.back(), 0);
        total += rows.back().rows();
      }
      CHECK(total == tokens * how.chosen);
      for (const Matrix& m : rows) views.push_back(m.view());
      for (const auto& m : device_rows) device_views.push_back(m.view());
      require_close(gpu.scatter(routes.view(), device_views, 8),
                    cpu().scatter(expected.view(), views, 8), 1e-4);
    }
}

TEST_CASE("the delta rule matches the CPU's", "[cuda]") {
  if (no_device()) return;
  const CudaOperations gpu = operations();
  constexpr Index length = 21;
  for (const step::DeltaRule& how : {step::DeltaRule{2, 4, 8, 6}, {1, 1, 33, 70}, {3, 3, 16, 32}}) {
    INFO(how.key_dim << " x " << how.value_dim);
    const Matrix q = random(2 * length, how.key_heads * how.key_dim, 1),
                 k = random(2 * length, how.key_heads * how.key_dim, 2),
                 v = random(2 * length, how.value_heads * how.value_dim, 3),
                 a = random(2 * length, how.value_heads, 4),
                 b = random(2 * length, how.value_heads, 5);
    const std::vector<float> a_log = numbers(how.value_heads, 6),
                             dt_bias = numbers(how.value_heads, 7);
    const auto dq = put(gpu, q), dk = put(gpu, k), dv = put(gpu, v), da = put(gpu, a),
               db = put(gpu, b);
    require_close(gpu.delta_rule({dq.view(), dk.view(), dv.view(), da.view(), db.view()}, how,
                                 a_log, dt_bias, length),
                  cpu().delta_rule({q.view(), k.view(), v.view(), a.view(), b.view()}, how, a_log,
                                   dt_bias, length),
                  1e-5);
  }
}

TEST_CASE("tiled attention equals plain attention", "[cuda]") {
  if (no_device()) return;
  const CudaOperations gpu = operations();
  const auto check = [&](const step::Attention& how, Index length,
                         std::span<const float> sinks = {}) {
    INFO(how.heads << " heads of " << how.head_dim << " and " << how.value_dim << ", length "
                   << length << ", window " << how.window << ", cap " << how.softcap);
    const Matrix q = random(2 * length, how.heads * how.head_dim, 1),
                 k = random(2 * length, how.kv_heads * how.head_dim, 2),
                 v = random(2 * length, how.kv_heads * how.value_dim, 3);
    require_close(gpu.attention(put(gpu, q).view(), put(gpu, k).view(), put(gpu, v).view(), how,
                                sinks, length),
                  cpu().attention(q.view(), k.view(), v.view(), how, sinks, length), 2e-5);
  };
  check({4, 2, 8, 8}, 1);
  check({4, 4, 6, 6}, 31);
  check({2, 1, 64, 64}, 33);
  check({3, 1, 16, 16}, 100);
  check({2, 2, 128, 128}, 70);
  check({2, 1, 256, 256}, 40);
  check({2, 1, 400, 400}, 20);
  for (const Index window : {1, 32}) check({4, 2, 8, 8, window}, 100);
  check({4, 1, 12, 12, 50}, 130);
  check({2, 2, 24, 16}, 70);  // latent attention: values are narrower
  check({2, 1, 16, 15}, 40);  // an odd width
  const std::vector<float> of_heads{0.5f, -1.5f, 3.0f, 0.1f};
  check({.heads = 4, .kv_heads = 2, .head_dim = 8, .value_dim = 8, .scale = 0.7}, 40);
  check({.heads = 4, .kv_heads = 2, .head_dim = 8, .value_dim = 8, .softcap = 2}, 40);
  check({.heads = 4, .kv_heads = 2, .head_dim = 8, .value_dim = 8, .window = 9}, 70, of_heads);
  step::Attention alibi{.heads = 4, .kv_heads = 4, .head_dim = 8, .value_dim = 8};
  alibi.slopes = {0.5f, 0.25f, 0.0625f, 0.03f};
  check(alibi, 70);
  alibi.scaled_slopes = true;
  check(alibi, 70);
}

TEST_CASE("the loss of a head matches the CPU's", "[cuda]") {
  if (no_device()) return;
  const CudaOperations gpu = operations();
  const Matrix x = random(37, 48, 1);
  std::vector<std::int32_t> targets;
  for (std::int32_t t = 0; t < 37; ++t) targets.push_back(t % 5 == 0 ? -1 : t * 240);
  gptq::model::Linear vocabulary{random(9001, 48, 7), {}};  // more than one strip
  const auto check = [&](const gptq::model::HeadSpec& head) {
    const auto on_cpu = cpu().cross_entropy(x.view(), vocabulary, head, targets),
               on_gpu = gpu.cross_entropy(put(gpu, x).view(), vocabulary, head, targets);
    REQUIRE(on_gpu.size() == on_cpu.size());
    for (std::size_t i = 0; i < on_cpu.size(); ++i)
      CHECK(on_gpu[i] == Approx(on_cpu[i]).epsilon(1e-5));
  };
  check({});
  vocabulary.bias = numbers(9001, 8);
  check({});
  check({.scale = 0.25});
  check({.scale = 0.5, .softcap = 5});
}
