// SPDX-License-Identifier: MIT
#pragma once

// Engines: which of them load a quantized model, from its settings alone. Facts are of the versions
// in docs/formats.md.

#include <gptq/model/cuts.hpp>
#include <gptq/model/format/format.hpp>

#include <algorithm>  // std::find, std::find_if
#include <array>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>  // std::pair
#include <vector>

namespace gptq::model {

/// A quantized model as an engine finds it.
struct EngineView {
  const Description& description;
  const SettingsTable& table;
  const Format& format;
  Index ranks = 1;  ///< of tensor parallelism

  /// The format without its layout.
  std::string_view family() const { return format.name().substr(0, format.name().find(':')); }
};

/// What an engine says to a model.
struct Verdict {
  bool reads = true;               ///< whether it knows the format at all
  std::set<std::string> refusals;  ///< why it will not load; none: it will
  std::set<std::string> warnings;  ///< what it will do slowly, or only with something added
};

namespace engine {

/// f(linear, settings) for every quantized module.
template <class F>
void for_each(const EngineView& view, const F& f) {
  for_each_quantized(view.description, view.table, f);
}

/// "4 and 8"
inline std::string listed(std::initializer_list<Index> values) {
  std::string text;
  std::size_t i = 0;
  for (const Index value : values) {
    if (i > 0) text += i + 1 == values.size() ? " and " : ", ";
    text += value == -1 ? "one per output" : std::to_string(value);
    ++i;
  }
  return text;
}

inline bool is_one_of(Index value, std::initializer_list<Index> values) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

inline void require_bits(const EngineView& view, Verdict& verdict,
                         std::initializer_list<Index> bits) {
  for_each(view, [&](const LinearSpec&, const ModuleSettings& settings) {
    if (!is_one_of(settings.bits, bits))
      verdict.refusals.insert(
          gptq::detail::message(settings.bits, " bits (", listed(bits), " load)"));
  });
}

inline void require_symmetric(const EngineView& view, Verdict& verdict) {
  for_each(view, [&](const LinearSpec&, const ModuleSettings& settings) {
    if (!settings.symmetric) verdict.refusals.insert("asymmetric grids");
  });
}

inline void require_groups(const EngineView& view, Verdict& verdict,
                           std::initializer_list<Index> groups) {
  for_each(view, [&](const LinearSpec&, const ModuleSettings& settings) {
    if (!is_one_of(settings.group_size, groups))
      verdict.refusals.insert(
          gptq::detail::message("groups of ", settings.group_size, " (", listed(groups), " load)"));
  });
}

inline void require_whole_groups(const EngineView& view, Verdict& verdict) {
  for_each(view, [&](const LinearSpec& linear, const ModuleSettings& settings) {
    const Index group = settings.group_size;
    if (group != -1 && linear.in % group != 0)
      verdict.refusals.insert(gptq::detail::message("a short last group (", linear.in,
                                                    " inputs in groups of ", group, ")"));
  });
}

/// Engines that join modules, or experts, want them alike.
inline void require_fused_alike(const EngineView& view, Verdict& verdict) {
  for (const Block& layer : view.description.layers) {
    for (const FusedModules& fused : view.description.fused)
      if (!common_settings(view.table, layer, fused))
        verdict.refusals.insert(fused.words + " have different settings, but are one module there");
    std::optional<std::optional<ModuleSettings>> first;  // of the layer's experts
    for (const LinearSpec& linear : layer.linears()) {
      if (linear.expert < 0 || !linear.quantize) continue;
      const auto own = view.table.find(linear.name);
      if (!first) first = own;
      if (own != *first)
        verdict.refusals.insert(
            "experts of a layer have different settings, but are one module "
            "there");
    }
  }
}

inline bool has_experts(const EngineView& view) {
  bool found = false;
  for_each(view, [&](const LinearSpec& linear, const ModuleSettings&) {
    found = found || linear.expert >= 0;
  });
  return found;
}

/// The fast kernels of vLLM and SGLang.
inline void add_marlin_warnings(const EngineView& view, Verdict& verdict) {
  for_each(view, [&](const LinearSpec& linear, const ModuleSettings&) {
    if (linear.out % 64 != 0 || linear.in % 128 != 0)
      verdict.warnings.insert(gptq::detail::message(
          "a layer of ", linear.out, " x ", linear.in,
          " is not a multiple of 64 x 128: the fast Marlin kernels pad it or refuse it"));
  });
}

/// Whether each rank gets whole groups of inputs (modules whose results are added up) or whole
/// words of outputs (all others).
inline void require_ranks(const EngineView& view, Verdict& verdict) {
  if (view.ranks == 1) return;
  const auto ranks = view.ranks;
  for (const Block& layer : view.description.layers) {
    const Cuts cuts(layer);
    for (std::size_t i = 0; i < layer.steps().size(); ++i) {
      const auto* step = std::get_if<step::Linear>(&layer.steps()[i].what);
      if (!step) continue;
      const LinearSpec& linear = layer.linears()[std::size_t(step->linear)];
      const auto settings = view.table.find(linear.name);
      if (!linear.quantize || !settings) continue;
      const auto& uses = cuts.uses(static_cast<int>(i));
      const bool added = cuts.is_added(static_cast<int>(i)) ||
                         (uses.size() == 1 && std::holds_alternative<step::Scatter>(
                                                  layer.steps()[std::size_t(uses[0])].what));
      const Index size = added ? linear.in : linear.out;
      const Index unit = !added                       ? 32 / settings->bits
                         : settings->group_size == -1 ? 1
                                                      : settings->group_size;
      if (size % ranks != 0 || size / ranks % unit != 0)
        verdict.refusals.insert(gptq::detail::message(
            size, added ? " inputs of " : " outputs of ", short_name(linear.name), " on ", ranks,
            " ranks are no whole ", added ? "groups" : "words"));
    }
  }
}

inline void vllm(const EngineView& view, Verdict& verdict) {
  const auto family = view.family();
  verdict.reads = family != "mlx";
  if (family == "gptq") {
    require_bits(view, verdict, {4, 8});
    require_symmetric(view, verdict);
  }
  if (family == "gptq" || family == "awq") {
    require_groups(view, verdict, {-1, 32, 64, 128});
    require_whole_groups(view, verdict);
    add_marlin_warnings(view, verdict);
  }
  if (view.format.name() == "compressed-tensors:int-quantized")
    verdict.refusals.insert(
        "int-quantized weights without quantized activations (pack-quantized ones load)");
  else if (family == "compressed-tensors")
    for_each(view, [&](const LinearSpec&, const ModuleSettings& settings) {
      if (settings.bits == 4 || settings.bits == 8) return;
      if (settings.symmetric)
        verdict.warnings.insert(
            gptq::detail::message(settings.bits, " bits load with humming-kernels only"));
      else
        verdict.refusals.insert(
            gptq::detail::message("asymmetric grids of ", settings.bits, " bits (4 and 8 load)"));
    });
  if (!view.format.packs()) return;
  require_fused_alike(view, verdict);
  require_ranks(view, verdict);
}

inline void sglang(const EngineView& view, Verdict& verdict) {
  const auto family = view.family();
  verdict.reads = family != "mlx";
  if (family == "gptq") {
    require_whole_groups(view, verdict);
    add_marlin_warnings(view, verdict);
    if (has_experts(view)) {
      require_bits(view, verdict, {4, 8});
      require_symmetric(view, verdict);
    }
  }
  if (!view.format.packs()) return;
  require_fused_alike(view, verdict);
  require_ranks(view, verdict);
}

inline void transformers(const EngineView& view, Verdict& verdict) {
  verdict.reads = view.family() != "mlx";
  if (view.family() != "compressed-tensors") return;
  const bool words = view.format.name() == "compressed-tensors";
  for_each(view, [&](const LinearSpec&, const ModuleSettings& settings) {
    if (settings.type == NumberType::integer && !settings.symmetric && words)
      verdict.refusals.insert(
          "asymmetric grids with compressed-tensors 0.20, which expects zero points that are not "
          "packed");
    if (settings.bits == 3)
      verdict.warnings.insert(
          "3 bits need compressed-tensors 0.18 or newer: others pack them differently");
  });
}

inline void gptqmodel(const EngineView& view, Verdict& verdict) {
  verdict.reads = view.family() == "gptq" || view.family() == "awq";
  require_groups(view, verdict, {-1, 16, 32, 64, 128, 256, 512, 1024});
}

/// What convert_hf_to_gguf.py makes a GGUF file of.
inline void llama_cpp(const EngineView& view, Verdict& verdict) {
  const auto family = view.family();
  verdict.reads = family == "gptq" || family == "compressed-tensors" || family == "plain";
  if (family == "gptq") require_bits(view, verdict, {2, 4, 8});
  for_each(view, [&](const LinearSpec&, const ModuleSettings& settings) {
    if (family == "compressed-tensors" && settings.type != NumberType::integer)
      verdict.warnings.insert(
          gptq::detail::message("not tried with numbers of the type ", info(settings.type).name));
  });
}

inline void exllamav2(const EngineView& view, Verdict& verdict) {
  verdict.reads = view.family() == "gptq" || view.family() == "plain";
  if (!view.format.packs()) return;
  require_bits(view, verdict, {4});
  require_whole_groups(view, verdict);
  for_each(view, [&](const LinearSpec& linear, const ModuleSettings& settings) {
    const Index group = settings.group_size == -1 ? linear.in : settings.group_size;
    if ((group & (group - 1)) != 0)
      verdict.refusals.insert(
          gptq::detail::message("groups of ", group, ", which is no power of two"));
  });
}

inline void mlx(const EngineView& view, Verdict& verdict) {
  verdict.reads = view.family() == "mlx" || view.family() == "awq" || view.family() == "plain";
}

}  // namespace engine

/// Something that loads quantized models.
struct Engine {
  std::string_view name;                       ///< as on the command line
  void (*judge)(const EngineView&, Verdict&);  ///< adds what it says
};

/// All engines whose rules are known.
inline constexpr std::array<Engine, 7> engines{{{"vllm", engine::vllm},
                                                {"sglang", engine::sglang},
                                                {"transformers", engine::transformers},
                                                {"gptqmodel", engine::gptqmodel},
                                                {"llama.cpp", engine::llama_cpp},
                                                {"exllamav2", engine::exllamav2},
                                                {"mlx", engine::mlx}}};

/// What an engine says to a model.
inline Verdict judge(const Engine& engine, const EngineView& view) {
  Verdict verdict;
  engine.judge(view, verdict);
  if (!verdict.reads)
    verdict = {false, {"it does not read the format " + std::string(view.family())}, {}};
  return verdict;
}

/// What the engines that read a format have against a model, one sentence each.
inline std::vector<std::string> engine_notes(const EngineView& view) {
  std::vector<std::pair<std::string, std::string>> said;  // what, and by whom
  const auto add = [&](const std::string& what, std::string_view by) {
    auto found =
        std::find_if(said.begin(), said.end(), [&](const auto& s) { return s.first == what; });
    if (found == said.end()) said.emplace_back(what, by);
    else found->second += ", " + std::string(by);
  };
  for (const Engine& engine : engines) {
    const Verdict verdict = judge(engine, view);
    if (!verdict.reads) continue;
    for (const std::string& why : verdict.refusals) add(" will refuse it: " + why, engine.name);
    for (const std::string& why : verdict.warnings) add(": " + why, engine.name);
  }
  std::vector<std::string> notes;
  for (const auto& [what, by] : said) notes.push_back(by + what);
  return notes;
}

}  // namespace gptq::model
