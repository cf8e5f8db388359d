// SPDX-License-Identifier: MIT

// The demo model through the whole pipeline, and back in.

#include <gptq/backend/cpu.hpp>
#include <gptq/model/calibration_text.hpp>
#include <gptq/model/cpu_operations.hpp>
#include <gptq/model/pipeline.hpp>
#include <gptq/model/quantized_folder.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/quantize.hpp"
#include "../support/sanitized.hpp"

using gptq::Index;
using gptq::model::Method;
using gptq::model::ModuleReport;
using gptq::model::Override;
using gptq::model::PipelineOptions;
using gptq::model::Sequential;
using gptq::model::TokenId;
using Operations = gptq::model::CpuOperations<>;
using Cpu = gptq::backend::Cpu;

namespace {

const std::filesystem::path demo = test::demo_folder();

std::vector<TokenId> tokens(const char* file, Index count) {
  static const gptq::model::Tokenizer tokenizer(gptq::io::read_json(demo / "tokenizer.json"));
  auto ids = gptq::model::tokenize_file(tokenizer, demo / file);
  ids.resize(static_cast<std::size_t>(count));
  return ids;
}

double perplexity(const std::filesystem::path& folder) {
  static const auto ids = tokens("heldout.txt", 16 * 256);
  return gptq::model::perplexity(gptq::model::open_model(folder), Operations{}, ids, 0, 256)
      .perplexity();
}

struct Run {
  test::TemporaryFolder folder;
  std::filesystem::path out = folder / "out";
  std::vector<ModuleReport> reports;

  explicit Run(const PipelineOptions& options, int threads = 0, std::uint64_t shard = 1u << 30) {
    const auto model = gptq::model::open_model(demo);
    const gptq::exec::Threads executor(threads);
    static const auto ids = tokens("calibration.txt", 16 * 256);
    reports = test::quantize_into(out, model, options, Operations(executor), Cpu(executor), ids,
                                  256, {.max_shard_size = shard});
  }
};

PipelineOptions options(int bits, bool symmetric = true, Method method = Method::gptq) {
  PipelineOptions o;
  o.settings.base = {bits, symmetric, 128};
  o.method = method;
  if (method == Method::round_to_nearest) o.params.range = gptq::Range::minmax;
  return o;
}

double total_error(const std::vector<ModuleReport>& reports) {
  double sum = 0;
  for (const auto& r : reports) sum += std::log(r.report.relative_error);
  return sum / static_cast<double>(reports.size());
}

}  // namespace

TEST_CASE(
    "a quantized model reads back with the perplexity its bits allow, below round to "
    "nearest",
    "[pipeline]") {
  const double full = perplexity(demo);
  for (const int bits : {2, 3, 4, 8})
    for (const bool symmetric : {true, false}) {
      if (!symmetric && (bits == 3 || bits == 8)) continue;
      if (bits == 2 && symmetric) continue;
      if (test::sanitized && bits != 4) continue;
      const Run gptq(options(bits, symmetric)),
          rtn(options(bits, symmetric, Method::round_to_nearest));
      const double quantized = perplexity(gptq.out), rounded = perplexity(rtn.out);
      INFO(bits << " bits, full " << full << ", gptq " << quantized << ", rtn " << rounded);
      CHECK(gptq.reports.size() == 28);
      if (bits < 8) CHECK(quantized - full < 0.7 * (rounded - full));
      CHECK(quantized < full * (bits == 8 ? 1.002 : bits == 4 ? 1.02 : bits == 3 ? 1.1 : 2.0));
    }
}

TEST_CASE("the written folder has everything a loader needs", "[pipeline]") {
  auto o = options(4);
  o.settings.overrides.push_back(Override::parse("re:.*down_proj=bits:8,group-size:32"));
  o.settings.skips.emplace_back("re:model\\.layers\\.0\\.self_attn\\.[qkv]_proj");
  const Run run(o, 0, 1'000'000);
  CHECK(run.reports.size() == 25);
  CHECK(std::filesystem::exists(run.out / "tokenizer.json"));
  CHECK(std::filesystem::exists(run.out / "model.safetensors.index.json"));
  const auto config = gptq::io::read_json(run.out / "config.json");
  CHECK(config["quantization_config"] == gptq::io::read_json(run.out / "quantize_config.json"));
  CHECK(config["hidden_size"] == gptq::io::read_json(demo / "config.json")["hidden_size"]);
  const auto model = gptq::model::open_model(run.out);
  CHECK(model.tensors->contains("model.layers.0.self_attn.q_proj.weight"));
  CHECK_FALSE(model.tensors->contains("model.layers.1.self_attn.q_proj.weight"));
  const auto in = model.description.sizes.intermediate, out = model.description.sizes.hidden;
  CHECK(model.tensors->shape("model.layers.2.mlp.down_proj.qweight") ==
        gptq::io::Shape{in / 4, out});
  CHECK(model.tensors->shape("model.layers.2.mlp.down_proj.scales") ==
        gptq::io::Shape{in / 32, out});
  CHECK(model.tensors->type_name("model.embed_tokens.weight") == "BF16");
  CHECK(perplexity(run.out) < 1.02 * perplexity(demo));
}

TEST_CASE("later modules see the quantized ones as far as requested", "[pipeline]") {
  double ppl[3];
  int i = 0;
  for (const auto sequential : {Sequential::sublayer, Sequential::layer, Sequential::none}) {
    auto o = options(3);
    o.sequential = sequential;
    const Run run(o);
    ppl[i++] = perplexity(run.out);
    CHECK(run.reports.size() == 28);
  }
  const double full = perplexity(demo);
  CHECK(ppl[0] - full < 1.2 * (ppl[2] - full));
  CHECK(ppl[0] != ppl[1]);
  CHECK(ppl[1] != ppl[2]);
}

TEST_CASE("a model has the same bytes for any number of threads and with inputs of down recomputed",
          "[pipeline][determinism]") {
  const auto o = options(4);
  const Run first(o, 1);
  const auto expected = gptq::io::read_file(first.out / "model.safetensors");
  CHECK((gptq::io::read_file(Run(o, 3).out / "model.safetensors") == expected));
  auto twice = o;
  twice.cache_bytes = 0;
  CHECK((gptq::io::read_file(Run(twice).out / "model.safetensors") == expected));
}

TEST_CASE("reports give errors, noise and time of every module", "[pipeline]") {
  const Run run(options(4));
  for (const auto& r : run.reports) {
    INFO(r.name);
    CHECK(r.report.relative_error < r.report.rtn_relative_error);
    CHECK(r.report.tokens == 16 * 256);
    CHECK(r.snr_full == Approx(r.report.snr_db()).margin(4));
    CHECK(r.snr_quantized <= r.snr_full + 0.5);
    CHECK(r.weight_error > 0);
    CHECK(r.seconds > 0);
  }
  CHECK(total_error(run.reports) < std::log(0.02));
}

TEST_CASE("a run that is stopped leaves nothing behind", "[pipeline]") {
  const test::TemporaryFolder folder;
  const auto model = gptq::model::open_model(demo);
  const auto o = options(4);
  {
    gptq::model::QuantizedFolder target(model, o, folder / "out", 1u << 30, false);
    gptq::model::Pipeline pipeline(model, o, Operations{}, Cpu{});
    const auto ids = tokens("calibration.txt", 4 * 256);
    CHECK_THROWS_AS(
        pipeline.run(
            ids, 256,
            [&](const std::string& name, const auto& module) { target.write(name, module); },
            [](auto, double done, double) { return done < 1.5; }),
        gptq::Cancelled);
    CHECK(folder.names().size() == 1);
  }
  CHECK(folder.names().empty());
}

TEST_CASE("a non-empty folder is replaced only on request, and only the files of a model",
          "[pipeline]") {
  const test::TemporaryFolder folder;
  const auto model = gptq::model::open_model(demo);
  const auto o = options(4, true, Method::round_to_nearest);
  const auto write = [&](bool overwrite) {
    test::quantize_into(folder / "out", model, o, Operations{}, Cpu{}, {}, 0,
                        {.overwrite = overwrite});
  };
  std::filesystem::create_directory(folder / "out");
  gptq::io::write_file(folder / "out/notes.txt", "mine");
  gptq::io::write_file(folder / "out/model-00001-of-00009.safetensors", "old");
  CHECK_THAT(error_of<gptq::InvalidArgument>([&] { write(false); }),
             ContainsSubstring("is not empty") && ContainsSubstring("--overwrite"));
  CHECK(gptq::io::read_file(folder / "out/model-00001-of-00009.safetensors") == "old");
  write(true);
  CHECK(gptq::io::read_file(folder / "out/notes.txt") == "mine");
  CHECK_FALSE(std::filesystem::exists(folder / "out/model-00001-of-00009.safetensors"));
  CHECK(perplexity(folder / "out") < 3);
  CHECK(folder.names().size() == 1);
}

TEST_CASE("a model's only file is not replaced by its own output", "[pipeline][fault23]") {
  const test::TemporaryFolder folder;
  std::filesystem::create_directory(folder / "out");
  auto model = gptq::model::open_model(demo);
  const auto o = options(4, true, Method::round_to_nearest);
  const auto open = [&](const std::string& name) {
    gptq::io::write_file(folder / "out" / name, "gguf");
    model.path = folder / ("link to " + name);
    std::filesystem::create_symlink(folder / "out" / name, model.path);
    gptq::model::QuantizedFolder(model, o, folder / "out", 1u << 30, true);
  };
  CHECK_THAT(error_of<gptq::InvalidArgument>([&] { open("model.safetensors"); }),
             ContainsSubstring("out/model.safetensors would be replaced or deleted, and it is the "
                               "model"));
  CHECK_NOTHROW(open("small.gguf"));
}
