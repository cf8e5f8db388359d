// SPDX-License-Identifier: MIT

// The decoder on an NVIDIA GPU against the CPU's: on a real one, and on a fake device in host
// memory.

#include <gptq/backend/cpu.hpp>
#include <gptq/model/calibration_text.hpp>
#include <gptq/model/pipeline.hpp>
#include <gptq/model/quantized_folder.hpp>

#include "../support/catch.hpp"
#include "../support/decoder_on_device.hpp"
#include "../support/files.hpp"
#include "../support/quantize.hpp"

#include <filesystem>
#include <set>
#include <string>

using gptq::Index;
using gptq::Precision;
using gptq::backend::Cuda;
using gptq::model::CudaOperations;
using gptq::model::TokenId;
using CpuOperations = gptq::model::CpuOperations<>;
using test::on_device::no_device, test::on_device::operations;

TEST_CASE("every model predicts the same on a GPU as on the CPU", "[cuda]") {
  if (no_device()) return;
  // In fewer bits, where an expert that is chosen by a hair may be another one.
  const std::set<std::string> in_all_precisions{"llama",   "mistral",     "gemma2",
                                                "gpt2",    "bloom",       "mixtral",
                                                "gpt_oss", "deepseek_v3", "qwen3_next"};
  std::size_t seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::data_folder() / "models")) {
    const auto& folder = entry.path();
    const std::string name = folder.filename();
    INFO(name);
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
    if (!in_all_precisions.contains(name)) continue;
    ++seen;
    check(operations(Precision::split), 5e-3);
    check(operations(Precision::float16), 2e-2);
    if (Cuda{}.runtime()->has_bfloat16()) check(operations(Precision::bfloat16), 0.1);
  }
  CHECK(seen == in_all_precisions.size());
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
std::vector<gptq::model::ModuleReport> quantize_fixture(const char* name,
                                                        const Operations& operations,
                                                        const B& backend,
                                                        const gptq::model::PipelineOptions& options,
                                                        std::vector<std::uint32_t>& words) {
  const auto folder = test::data_folder() / "models" / name;
  const auto model = gptq::model::open_model(folder);
  const auto ids = gptq::io::read_json(folder / "expected.json")["ids"].get<std::vector<TokenId>>();
  gptq::model::Pipeline pipeline(model, options, operations, backend);
  const auto sink = [&](const std::string&, const gptq::model::QuantizedModule& module) {
    const auto& bytes = module.parts.front().bytes;
    std::vector<std::uint32_t> own(bytes.size() / 4);
    std::memcpy(own.data(), bytes.data(), bytes.size());
    words.insert(words.end(), own.begin(), own.end());
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
  const auto check = [&](const gptq::model::PipelineOptions& options, const char* name = "llama") {
    std::vector<std::uint32_t> a, b;
    const auto on_cpu =
        quantize_fixture(name, CpuOperations(gptq::exec::Threads(1), Precision::single),
                         gptq::backend::Cpu(gptq::exec::Threads(1), Precision::single), options, a);
    const Cuda cuda;
    const auto on_gpu = quantize_fixture(
        name, CudaOperations(cuda, gptq::exec::Threads(1), Precision::single), cuda, options, b);
    REQUIRE(on_gpu.size() == on_cpu.size());
    std::size_t different = 0;
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) different += a[i] != b[i];
    const bool experts = on_cpu.back().expert >= 0;
    if (!experts) CHECK(different <= a.size() / 50);
    for (std::size_t i = 0; i < on_cpu.size(); ++i) {
      INFO(on_cpu[i].name);
      CHECK(on_gpu[i].name == on_cpu[i].name);
      CHECK(on_gpu[i].report.apart.empty());
      // Behind the first layer, another expert may be chosen by a hair.
      if (experts && on_cpu[i].name.find("layers.0.") == std::string::npos) continue;
      CHECK(on_gpu[i].own_tokens == on_cpu[i].own_tokens);
      CHECK(on_gpu[i].pooled == Approx(on_cpu[i].pooled).epsilon(1e-3));
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
  SECTION("experts in one batch") { check(base, "gpt_oss"); }
  SECTION("some experts at a time, calibrated on all tokens") {
    base.expert_bytes = 1 << 21;
    base.experts = gptq::model::Experts::all;
    base.match = Match::layer;
    check(base, "gpt_oss");
  }
  SECTION("rounded to nearest") {
    base.method = Method::round_to_nearest;
    base.params.range = gptq::Range::minmax;
    check(base);
  }
}

namespace {

const std::filesystem::path demo = test::demo_folder();

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
  test::quantize_into(folder / "out", model, options, operations, backend,
                      demo_tokens("calibration.txt", 4 * 128), 128);
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
