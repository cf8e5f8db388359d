// SPDX-License-Identifier: MIT

// The decoder on an NVIDIA GPU against the CPU's: on a real one, and on a fake device in host
// memory.

#include <gptq/backend/cpu.hpp>
#include <gptq/model/calibration_text.hpp>
#include <gptq/model/cpu_operations.hpp>
#include <gptq/model/cuda_operations.hpp>
#include <gptq/model/pipeline.hpp>
#include <gptq/model/quantized_folder.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/layer.hpp"

using gptq::Index;
using gptq::Precision;
using gptq::backend::Cuda;
using gptq::model::CudaOperations;
using gptq::model::TokenId;
using CpuOperations = gptq::model::CpuOperations<>;

namespace {

bool no_device() {
  if (gptq::backend::cuda::device_count() > 0) return false;
  std::printf("SKIPPED: no CUDA device\n");
  return true;
}

using Matrix = gptq::backend::HostMatrix<float>;

Matrix random(Index rows, Index cols, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Matrix m(rows, cols);
  for (Index i = 0; i < rows * cols; ++i) m.data()[i] = normal(random);
  return m;
}

/// An operand as a product of that precision sees it.
Matrix rounded(const Matrix& from, Precision precision) {
  Matrix to = random(from.rows(), from.cols(), 0);
  for (Index i = 0; i < from.rows() * from.cols(); ++i) {
    const float x = from.data()[i];
    to.data()[i] = precision == Precision::bfloat16  ? gptq::to_float(gptq::to_bfloat16(x))
                   : precision == Precision::float16 ? gptq::to_float(gptq::to_float16(x))
                                                     : x;
  }
  return to;
}

/// Checks that a device tensor holds these numbers.
void require_close(const CudaOperations::Tensor& tensor, const Matrix& expected, double margin) {
  REQUIRE(tensor.rows() == expected.rows());
  REQUIRE(tensor.cols() == expected.cols());
  Matrix host(tensor.rows(), tensor.cols());
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);  // it was made on another stream
  const Cuda any;
  any.download(tensor, host.view());
  for (Index r = 0; r < host.rows(); ++r)
    for (Index c = 0; c < host.cols(); ++c)
      REQUIRE(host(r, c) == Approx(expected(r, c)).margin(margin));
}

/// Copies to the device with `copy`.
CudaOperations::Tensor put(const CudaOperations& gpu, const Matrix& from) {
  auto tensor = gpu.tensor(from.rows(), from.cols());
  gpu.copy(tensor.view(), from.view());
  return tensor;
}

CudaOperations operations(Precision precision = Precision::single) {
  return CudaOperations(Cuda{}, gptq::exec::Threads(1), precision);
}

}  // namespace

TEST_CASE("products, norms and the rest match the CPU's", "[cuda]") {
  if (no_device()) return;
  const Matrix x = random(37, 48, 1), w = random(70, 48, 2), bias = random(1, 70, 3),
               y = random(37, 70, 4), z = random(37, 70, 5);
  const std::vector<float> b(bias.data(), bias.data() + 70);
  const CpuOperations cpu(gptq::exec::Threads(1), Precision::single);
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
    const Matrix product = cpu.matmul(operand.view(), weight.view(), b);
    require_close(gpu.matmul(dx.view(), dw.view(), device_bias), product, margin);
    require_close(gpu.matmul(x.view(), w.view(), b), product, margin);  // from the host
    Matrix sum = random(37, 70, 4);
    auto device_sum = put(gpu, sum);
    auto pinned = CudaOperations::Tensor::pinned(Cuda{}.runtime(), 37, 70);
    gpu.copy(pinned.view(), std::as_const(sum).view());
    cpu.matmul_add(sum.view(), operand.view(), weight.view(), b);
    gpu.matmul_add(device_sum.view(), dx.view(), dw.view(), device_bias);
    gpu.matmul_add(pinned.view(), dx.view(), dw.view(), device_bias);
    require_close(device_sum, sum, margin);
    require_close(put(gpu, sum), sum, 0);
    auto back = gpu.tensor(37, 70);
    gpu.copy(back.view(), std::as_const(pinned).view());
    require_close(back, sum, margin);
  }
  const CudaOperations gpu = operations();
  const std::vector<float> weight(x.data(), x.data() + 48);
  for (const Index size : {48, 16}) {
    const gptq::model::step::Norm norm{.epsilon = 1e-5, .size = size};
    const std::span<const float> numbers(weight.data(), std::size_t(size));
    Matrix normed(37, 48);
    cpu.norm(normed.view(), x.view(), norm, numbers, {});
    auto device_normed = gpu.tensor(37, 48);
    gpu.norm(device_normed.view(), put(gpu, x).view(), norm, numbers, {});
    require_close(device_normed, normed, 1e-5);
  }

  const gptq::model::step::Gated silu{gptq::model::Activation::silu};
  Matrix gate = random(37, 70, 4);
  auto device_gate = put(gpu, gate);
  cpu.gated(gate.view(), std::as_const(gate).view(), z.view(), silu);
  gpu.gated(device_gate.view(), std::as_const(device_gate).view(), put(gpu, z).view(), silu);
  require_close(device_gate, gate, 1e-5);
  cpu.add(gate.view(), z.view());
  gpu.add(device_gate.view(), put(gpu, z).view());
  require_close(device_gate, gate, 1e-5);

  const auto dy = put(gpu, y), dz = put(gpu, z);
  Matrix difference(37, 70);
  cpu.subtract(difference.view(), y.view(), z.view());
  auto device_difference = gpu.tensor(37, 70);
  gpu.subtract(device_difference.view(), dy.view(), dz.view());
  require_close(device_difference, difference, 0);
  CHECK(gpu.squared_norm(dy.view()) == Approx(cpu.squared_norm(y.view())).epsilon(1e-6));
  CHECK(gpu.squared_distance(dy.view(), dz.view()) ==
        Approx(cpu.squared_distance(y.view(), z.view())).epsilon(1e-6));
  require_close(gpu.round_to_int8(dy.view()), cpu.round_to_int8(y.view()), 1e-6);

  const std::vector<std::int32_t> ids{3, 0, 36, 3};
  require_close(gpu.embedding(x.view(), ids), cpu.embedding(x.view(), ids), 0);
  const gptq::model::Linear vocabulary{random(9001, 48, 7), {}};  // more than one strip
  const gptq::model::HeadSpec head;
  std::vector<std::int32_t> targets;
  for (std::int32_t t = 0; t < 37; ++t) targets.push_back(t % 5 == 0 ? -1 : t * 240);
  const auto on_cpu = cpu.cross_entropy(x.view(), vocabulary, head, targets),
             on_gpu = gpu.cross_entropy(put(gpu, x).view(), vocabulary, head, targets);
  REQUIRE(on_gpu.size() == on_cpu.size());
  for (std::size_t i = 0; i < on_cpu.size(); ++i)
    CHECK(on_gpu[i] == Approx(on_cpu[i]).epsilon(1e-5));
}

TEST_CASE("tiled attention equals plain attention", "[cuda]") {
  if (no_device()) return;
  const CpuOperations cpu(gptq::exec::Threads(1), Precision::single);
  const CudaOperations gpu = operations();
  struct Case {
    Index heads, kv_heads, head_dim, length, window;
  };
  for (const auto& [heads, kv_heads, head_dim, length, window] :
       {Case{4, 2, 8, 1, 0}, Case{4, 4, 6, 31, 0}, Case{2, 1, 64, 33, 0}, Case{3, 1, 16, 100, 0},
        Case{2, 2, 128, 70, 0}, Case{2, 1, 256, 40, 0}, Case{4, 2, 8, 100, 1},
        Case{4, 2, 8, 100, 32}, Case{4, 1, 12, 130, 50}}) {
    INFO(heads << " heads of " << head_dim << ", length " << length << ", window " << window);
    const Matrix q = random(2 * length, heads * head_dim, 1),
                 k = random(2 * length, kv_heads * head_dim, 2),
                 v = random(2 * length, kv_heads * head_dim, 3);
    const gptq::model::step::Attention shape{heads, kv_heads, head_dim, head_dim, window};
    require_close(gpu.attention(put(gpu, q).view(), put(gpu, k).view(), put(gpu, v).view(), shape,
                                {}, length),
                  cpu.attention(q.view(), k.view(), v.view(), shape, {}, length), 2e-5);
    const gptq::model::RopeTable table({.dims = head_dim}, length);
    const gptq::model::step::Rope rope{0, head_dim};
    Matrix turned(2 * length, heads * head_dim);
    auto device_turned = gpu.tensor(2 * length, heads * head_dim);
    cpu.rope(turned.view(), q.view(), table, rope, length);
    gpu.rope(device_turned.view(), put(gpu, q).view(), gpu.place(table), rope, length);
    require_close(device_turned, turned, 1e-5);
  }
}

TEST_CASE("models of every kind predict the same on a GPU as on the CPU", "[cuda]") {
  if (no_device()) return;
  for (const char* name :
       {"llama", "llama3_rope", "llama_linear", "mistral", "qwen2", "qwen3", "gemma2", "gpt2",
        "bloom", "cohere", "mixtral", "gpt_oss", "deepseek_v3", "qwen3_next"}) {
    INFO(name);
    const auto folder = test::data_folder() / "models" / name;
    const auto model = gptq::model::open_model(folder);
    const auto expected = gptq::io::read_json(folder / "expected.json");
    const auto ids = expected["ids"].get<std::vector<TokenId>>();
    const auto length = expected["length"].get<Index>();
    const auto on_cpu = gptq::model::perplexity(
        model, CpuOperations(gptq::exec::Threads(1), Precision::single), ids, 0, length);
    const auto check = [&](const CudaOperations& gpu, double margin) {
      const auto on_gpu = gptq::model::perplexity(model, gpu, ids, 0, length);
      REQUIRE(on_gpu.window_nll.size() == on_cpu.window_nll.size());
      for (std::size_t w = 0; w < on_cpu.window_nll.size(); ++w)
        CHECK(on_gpu.window_nll[w] == Approx(on_cpu.window_nll[w]).margin(margin));
    };
    check(operations(), 1e-4);
    check(operations(Precision::split), 5e-3);
    check(operations(Precision::float16), 2e-2);
    if (Cuda{}.runtime()->has_bfloat16()) check(operations(Precision::bfloat16), 0.1);
  }
}

TEST_CASE("hidden states that would leave too little device memory stay on the host", "[cuda]") {
  if (no_device()) return;
  CudaOperations gpu = operations();
  CHECK_FALSE(gpu.keep(10, 10).is_pinned());
  gpu.reserve(std::uint64_t(1) << 60);
  CHECK(gpu.keep(10, 10).is_pinned());
}

namespace {

/// Quantizes all modules of a small model and appends their words to `words`.
template <class Operations, class B>
std::vector<gptq::model::ModuleReport> quantize_llama(const Operations& operations,
                                                      const B& backend,
                                                      const gptq::model::PipelineOptions& options,
                                                      std::vector<std::uint32_t>& words) {
  const auto folder = test::data_folder() / "models" / "llama";
  const auto model = gptq::model::open_model(folder);
  const auto ids = gptq::io::read_json(folder / "expected.json")["ids"].get<std::vector<TokenId>>();
  gptq::model::Pipeline pipeline(model, options, operations, backend);
  const auto sink = [&](const std::string&, const gptq::model::QuantizedModule& module) {
    words.insert(words.end(), module.tensors.qweight.begin(), module.tensors.qweight.end());
  };
  if (options.method == gptq::model::Method::round_to_nearest)
    return pipeline.run_without_calibration(sink);
  const Index length = 16;
  return pipeline.run(
      std::span(ids).first(ids.size() / static_cast<std::size_t>(length) * std::size_t(length)),
      length, sink);
}

}  // namespace

TEST_CASE("a model quantizes the same on a GPU as on the CPU", "[cuda]") {
  if (no_device()) return;
  using gptq::model::Match, gptq::model::Method, gptq::model::Sequential;
  gptq::model::PipelineOptions base;
  base.settings.base = {4, true, 16};
  base.settings.skips.emplace_back("re:.*[kv]_proj");  // 16 outputs, which the format cannot hold
  const auto check = [&](const gptq::model::PipelineOptions& options) {
    std::vector<std::uint32_t> a, b;
    const auto on_cpu =
        quantize_llama(CpuOperations(gptq::exec::Threads(1), Precision::single),
                       gptq::backend::Cpu(gptq::exec::Threads(1), Precision::single), options, a);
    const Cuda cuda;
    const auto on_gpu = quantize_llama(
        CudaOperations(cuda, gptq::exec::Threads(1), Precision::single), cuda, options, b);
    REQUIRE(on_gpu.size() == on_cpu.size());
    std::size_t different = 0;
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) different += a[i] != b[i];
    CHECK(different <= a.size() / 50);
    for (std::size_t i = 0; i < on_cpu.size(); ++i) {
      CHECK(on_gpu[i].name == on_cpu[i].name);
      CHECK(on_gpu[i].weight_error == Approx(on_cpu[i].weight_error).epsilon(0.02));
      if (options.method == Method::round_to_nearest) continue;
      CHECK(on_gpu[i].report.loss == Approx(on_cpu[i].report.loss).epsilon(0.05));
      CHECK(on_gpu[i].snr_full == Approx(on_cpu[i].snr_full).margin(0.3));
      CHECK(on_gpu[i].snr_quantized == Approx(on_cpu[i].snr_quantized).margin(0.3));
    }
  };
  SECTION("layer by layer, inputs of down recomputed") {
    base.match = Match::layer;
    base.sequential = Sequential::layer;
    base.cache_bytes = 0;
    check(base);
  }
  SECTION("rounded to nearest") {
    base.method = Method::round_to_nearest;
    base.params.range = gptq::Range::minmax;
    check(base);
  }
}

namespace {

const std::filesystem::path demo = GPTQ_DEMO_MODEL_DIR;

std::vector<TokenId> demo_tokens(const char* file, Index count) {
  static const gptq::model::Tokenizer tokenizer(gptq::io::read_json(demo / "tokenizer.json"));
  auto ids = gptq::model::tokenize_file(tokenizer, demo / file);
  ids.resize(static_cast<std::size_t>(count));
  return ids;
}

/// Perplexity, on the CPU, of the demo model quantized with the full-precision model alongside.
template <class Operations, class B>
double demo_perplexity(const Operations& operations, const B& backend) {
  const test::TemporaryFolder folder;
  const auto model = gptq::model::open_model(demo);
  gptq::model::PipelineOptions options;
  options.settings.base = {4, true, 128};
  gptq::model::QuantizedFolder target(model, options.settings, options.params, folder / "out",
                                      1u << 30, false);
  gptq::model::Pipeline pipeline(model, options, operations, backend);
  pipeline.run(demo_tokens("calibration.txt", 4 * 128), 128,
               [&](const std::string& name, const gptq::model::QuantizedModule& module) {
                 target.write(name, module);
               });
  target.write_rest(model);
  target.commit();
  return gptq::model::perplexity(gptq::model::open_model(folder / "out"), CpuOperations(),
                                 demo_tokens("heldout.txt", 16 * 256), 0, 256)
      .perplexity();
}

}  // namespace

TEST_CASE("the demo model is as good quantized on a GPU as on the CPU", "[cuda]") {
  if (no_device()) return;
  const double on_cpu = demo_perplexity(CpuOperations(), gptq::backend::Cpu());
  const Cuda cuda(0, nullptr, Precision::split);
  const double on_gpu = demo_perplexity(CudaOperations(cuda), cuda);
  std::printf("perplexity of the demo model, quantized on the CPU: %.4f, on the device: %.4f\n",
              on_cpu, on_gpu);
  CHECK(on_gpu == Approx(on_cpu).epsilon(0.005));
}
