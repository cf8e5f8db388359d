// SPDX-License-Identifier: MIT

// The memory that calibration is said to take, for models of today's sizes, and measured.

#include <gptq/backend/cpu.hpp>
#include <gptq/model/cpu_operations.hpp>
#include <gptq/model/pipeline.hpp>
#include <gptq/model/working_bytes.hpp>

#include "../support/allocations.hpp"
#include "../support/catch.hpp"
#include "../support/files.hpp"

#include <random>

using gptq::Index;
using gptq::model::Cuts;
using gptq::model::Description;
using gptq::model::Experts;
using gptq::model::PipelineOptions;
using gptq::model::Reading;
using gptq::model::WorkingBytes;
using Cpu = gptq::backend::Cpu;

namespace {

/// The description of a fixture's architecture in other sizes.
Description described(const char* fixture, const char* sizes) {
  auto json = gptq::io::read_json(test::data_folder() / "models" / fixture / "config.json");
  json.merge_patch(nlohmann::json::parse(sizes));
  return Description::parse(json, "config.json");
}

/// How many experts are calibrated at a time at each cut of the last layer that has experts.
std::vector<std::size_t> at_once(const Description& model, const PipelineOptions& options) {
  std::vector<std::size_t> counts;
  const auto& layer = model.layers.back();
  const Cuts cuts(layer);
  for (int cut = 1; cut <= cuts.count(); ++cut) {
    std::vector<Reading> experts;
    for (const Reading& reading : cuts.readings(cut))
      if (layer.linears()[std::size_t(reading.linears[0])].expert >= 0) experts.push_back(reading);
    if (!experts.empty())
      counts.push_back(gptq::model::experts_at_once(layer, experts, options, Cpu(), 2048));
  }
  return counts;
}

constexpr Index all_tokens = 128 * 2048;
constexpr double gib = 1u << 30;

}  // namespace

TEST_CASE("experts of today's sizes are calibrated in the memory set aside for them", "[memory]") {
  const Description qwen = described("qwen3_moe", R"({"hidden_size": 2048, "head_dim": 128,
      "num_attention_heads": 32, "num_key_value_heads": 4, "moe_intermediate_size": 768,
      "num_local_experts": 128, "num_experts_per_tok": 8, "vocab_size": 151936})");
  const Description deepseek = described("deepseek_v3", R"({"hidden_size": 7168,
      "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256,
      "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "n_shared_experts": 1,
      "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536,
      "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "qk_head_dim": 192,
      "head_dim": 64, "v_head_dim": 128, "vocab_size": 129280})");
  PipelineOptions options;
  // An input of 2048 has two matrices of 16 MiB, and its two modules 2 x 768 x 2048 x 6 bytes.
  CHECK(at_once(qwen, options) == std::vector<std::size_t>{81, 128});
  CHECK(at_once(deepseek, options) == std::vector<std::size_t>{7, 35});
  options.match = gptq::model::Match::layer;
  CHECK(at_once(qwen, options) == std::vector<std::size_t>{120, 128});
  CHECK(at_once(deepseek, options) == std::vector<std::size_t>{11, 40});
  options.expert_bytes = 1;
  CHECK(at_once(deepseek, options) == std::vector<std::size_t>{1, 1});
  options.expert_bytes = PipelineOptions().expert_bytes;

  for (const Experts experts : {Experts::routed, Experts::all}) {
    options.experts = experts;
    for (const auto match : {gptq::model::Match::layer, gptq::model::Match::model}) {
      options.match = match;
      const double layers = match == gptq::model::Match::model ? 2 : 1;
      const Cpu backend{gptq::exec::Threads(2)};
      for (const Description* model : {&qwen, &deepseek}) {
        const WorkingBytes bytes =
            gptq::model::working_bytes(*model, options, backend, 2048, all_tokens);
        // Besides the experts' own, the pool and what two threads mix with it.
        const double square = 4.0 * double(model->sizes.hidden) * double(model->sizes.hidden);
        CHECK(double(bytes.statistics) <= double(options.expert_bytes) + 8 * square);
        CHECK(double(bytes.layer) == layers * 4 * double(gptq::model::largest_layer(*model)));
        // Hidden states, and at most cache_bytes inside the layer: before and behind a cut.
        CHECK(double(bytes.streams) <=
              layers * (4.0 * double(all_tokens) * double(model->sizes.hidden) * 4 + 4 * gib));
        CHECK(bytes.peak() >= bytes.layer + bytes.statistics + bytes.solve);
      }
    }
  }
}

TEST_CASE("calibration takes no more memory than is said before", "[memory]") {
  if (!test::Allocations::counted()) {
    std::puts("SKIPPED: this heap cannot be counted");
    return;
  }
  const auto model = gptq::model::open_model(test::demo_folder());
  std::mt19937 random(1);
  std::vector<gptq::model::TokenId> ids;
  constexpr Index length = 128, count = 32 * length;
  for (Index t = 0; t < count; ++t)
    ids.push_back(static_cast<gptq::model::TokenId>(
        random() % static_cast<unsigned>(model.description.sizes.vocabulary)));
  for (const auto sequential : {gptq::model::Sequential::sublayer, gptq::model::Sequential::layer})
    for (const auto match : {gptq::model::Match::layer, gptq::model::Match::model}) {
      PipelineOptions options;
      options.settings.base = {4, true, 128};
      options.sequential = sequential;
      options.match = match;
      const gptq::exec::Threads threads(2);
      const Cpu backend(threads);
      gptq::model::Pipeline pipeline(model, options, gptq::model::CpuOperations<>(threads),
                                     backend);
      const auto said = double(
          gptq::model::working_bytes(model.description, options, backend, length, count).peak());
      test::Allocations::reset();
      pipeline.run(ids, length, [](const std::string&, const auto&) {});
      const auto taken = double(test::Allocations::now().peak);
      CAPTURE(taken, said);
      CHECK(taken <= said);
      CHECK(taken >= 0.4 * said);
    }
}
