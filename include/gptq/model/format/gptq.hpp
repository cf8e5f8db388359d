// SPDX-License-Identifier: MIT
#pragma once

// The GPTQ format of GPTQModel, AutoGPTQ and Hugging Face: qweight, qzeros, scales and g_idx.

#include <gptq/model/config_reader.hpp>
#include <gptq/model/format/format.hpp>
#include <gptq/pack/gptq.hpp>
#include <gptq/version.hpp>

#include <algorithm>  // std::find_if
#include <memory>
#include <optional>
#include <string>
#include <utility>  // std::pair
#include <vector>

namespace gptq::model::format {

namespace detail {

/// Adds one entry to the dynamic groups, which loaders search in order until one matches.
inline void add_dynamic(nlohmann::ordered_json& dynamic, const std::string& expression,
                        const std::optional<int>& bits, const std::optional<Index>& group_size) {
  auto& entry = dynamic["+:" + expression];
  entry = nlohmann::ordered_json::object();
  if (bits) entry["bits"] = *bits;
  if (group_size) entry["group_size"] = *group_size;
}

/// Text with the characters that mean something in a regular expression quoted.
inline std::string quoted(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '.' ? "\\." : std::string(1, c);
  return out;
}

/// Adds rules under the names of fused modules where the rules for their parts would give that name
/// different settings.
inline void add_fused_rules(nlohmann::ordered_json& dynamic, const Description& description,
                            const SettingsTable& table) {
  for (const FusedModules& fused : description.fused) {
    std::vector<std::pair<std::optional<ModuleSettings>, std::string>> rules;  // layers: "0|3"
    for (const Block& layer : description.layers) {
      const auto settings = common_settings(table, layer, fused);
      if (!settings || table.find(layer.prefix() + fused.name) == *settings) continue;
      auto rule = std::find_if(rules.begin(), rules.end(),
                               [&](const auto& r) { return r.first == *settings; });
      if (rule == rules.end()) rule = rules.insert(rule, {*settings, ""});
      std::string number = layer.prefix().substr(description.layers_prefix.size());
      number.pop_back();  // the dot
      rule->second += (rule->second.empty() ? "" : "|") + number;
    }
    for (const auto& [settings, layers] : rules) {
      const std::string expression = "^" + quoted(description.layers_prefix) + "(" + layers +
                                     ")\\." + quoted(fused.name) + "$";
      if (settings) add_dynamic(dynamic, expression, settings->bits, settings->group_size);
      else dynamic["-:" + expression] = nlohmann::ordered_json::object();
    }
  }
}

/// Bits and groups of a linear module in a GPTQ folder, from the shapes of its tensors.
struct GptqLayout {
  int bits;
  Index groups;
};

/// \throws FormatError  a tensor is missing, has the wrong type, or its shape does not match the
/// others
inline GptqLayout require_gptq_tensors(const io::TensorSource& source, const LinearSpec& shape) {
  const std::string& name = shape.name;
  const io::Shape qweight = io::shape_of(source, name + ".qweight");
  const bool fits = qweight.size() == 2 && qweight[1] == shape.out && qweight[0] <= shape.in &&
                    qweight[0] * 32 % shape.in == 0;
  const int bits = fits ? static_cast<int>(qweight[0] * 32 / shape.in) : 0;
  gptq::detail::require<FormatError>(
      bits == 2 || bits == 3 || bits == 4 || bits == 8, source.where(name + ".qweight"),
      ": tensor ", name, ".qweight has the shape ", io::to_string(qweight), ", which is not [",
      shape.in, "*bits/32, ", shape.out, "] with 2, 3, 4 or 8 bits");
  const Index groups = require_scales(source, name + ".scales", shape, true);
  io::require_shape(source, name + ".qzeros", {groups, pack::word_count(shape.out, bits)});
  if (source.contains(name + ".g_idx")) io::require_shape(source, name + ".g_idx", {shape.in});
  for (const char* part : {".qweight", ".qzeros", ".g_idx"})
    if (source.contains(name + part)) require_words(source, name + part);
  return {bits, groups};
}

}  // namespace detail

/// The GPTQ format. Version 1, which everything reads, for symmetric grids; version 2 for zero
/// points that may be zero.
class Gptq final : public Format {
 public:
  /// For folders to write.
  Gptq() = default;
  /// For a folder that has this version.
  explicit Gptq(pack::GptqFormat version) : version_(version) {}

  std::string_view name() const override { return "gptq"; }

  void require_fits(const LinearSpec& linear, const ModuleSettings& settings) const override {
    pack::require_gptq_shape(linear.in, linear.out, settings.bits, linear.name);
  }

  std::vector<PartPlan> plan(const LinearSpec& linear,
                             const ModuleSettings& settings) const override {
    const Index in = linear.in, out = linear.out,
                groups = detail::groups_of(linear, settings).count;
    return {{".qweight", io::DType::I32, {pack::word_count(in, settings.bits), out}},
            {".qzeros", io::DType::I32, {groups, pack::word_count(out, settings.bits)}},
            {".scales", io::DType::F16, {groups, out}},
            {".g_idx", io::DType::I32, {in}}};
  }

  std::vector<Part> pack(const pack::AffineView& weight, const LinearSpec& linear,
                         const ModuleSettings& settings,
                         const HostThreads& threads) const override {
    const auto t = pack::to_gptq(weight, version(settings), linear.name, threads);
    return {detail::part_of(".qweight", t.qweight), detail::part_of(".qzeros", t.qzeros),
            detail::halves_of(".scales", t.scales), detail::part_of(".g_idx", t.g_idx)};
  }

  /// The keys that GPTQModel, AutoGPTQ, optimum, transformers, vLLM and SGLang read.
  nlohmann::ordered_json config(const Description& model, const SettingsTable& table,
                                const Params& params, bool true_sequential) const override {
    const std::string format(pack::checkpoint_format(version(table.base)));
    nlohmann::ordered_json config{
        {"bits", table.base.bits},
        {"group_size", table.base.group_size},
        {"desc_act", false},  // groups are contiguous columns: loaders need no g_idx
        {"sym", table.base.symmetric},
        {"lm_head", false},
        {"quant_method", "gptq"},
        {"method", "gptq"},
        {"checkpoint_format", format},
        {"format", format},
        {"pack_dtype", "int32"},
        {"damp_percent", params.damping},
        {"true_sequential", true_sequential},
        {"static_groups", false},
        {"model_name_or_path", nullptr},
        {"model_file_base_name", "model"},
        {"meta",
         {{"quantizer",
           {gptq::detail::message("gptq:", gptq::version.major, ".", gptq::version.minor, ".",
                                  gptq::version.patch)}}}}};
    nlohmann::ordered_json dynamic = nlohmann::ordered_json::object();
    detail::add_fused_rules(dynamic, model, table);
    for (const NamePattern& skip : table.skips)
      dynamic["-:" + skip.expression()] = nlohmann::ordered_json::object();
    for (const Override& rule : table.overrides)
      detail::add_dynamic(dynamic, rule.pattern.expression(), rule.bits, rule.group_size);
    if (!dynamic.empty()) config["dynamic"] = dynamic;
    return config;
  }

  std::string config_file() const override { return "quantize_config.json"; }

  std::vector<std::string> suffixes() const override {
    return {".qweight", ".qzeros", ".scales", ".g_idx"};
  }

  void require_tensors(const io::TensorSource& tensors, const LinearSpec& linear) const override {
    detail::require_gptq_tensors(tensors, linear);
  }

  StoredCodes codes(const io::TensorSource& source, const LinearSpec& linear) const override {
    const std::string& name = linear.name;
    const auto [bits, groups] = detail::require_gptq_tensors(source, linear);
    pack::GptqTensors t{.in = linear.in, .out = linear.out, .groups = groups, .bits = bits};
    detail::read_elements(source, name + ".qweight", t.qweight);
    detail::read_elements(source, name + ".qzeros", t.qzeros);
    t.scales = detail::read_scales(source, name + ".scales");
    if (source.contains(name + ".g_idx")) detail::read_elements(source, name + ".g_idx", t.g_idx);
    else t.g_idx = pack::contiguous_groups(linear.in, (linear.in + groups - 1) / groups);
    return pack::codes_of(t, *version_, source.where(name + ".qweight") + ": " + name);
  }

  /// The format of a folder with this quantization_config.
  /// \throws FormatError  it contradicts itself, or has an option that is not supported
  static QuantizationInfo parse(const ConfigReader& config) {
    QuantizationInfo info{.method = "gptq"};
    info.bits = static_cast<int>(config.size("bits"));
    info.group_size = config.get_or<Index>("group_size", -1);
    info.symmetric = config.get_or<bool>("sym", true);
    // Old writers set checkpoint_format, optimum sets format; if a file contradicts itself, we do
    // not guess.
    const auto first = config.get_or<std::string>("checkpoint_format",
                                                  config.get_or<std::string>("format", "gptq"));
    const auto second = config.get_or<std::string>("format", first);
    if (first != second)
      config.fail("checkpoint_format is \"", first, "\" and format is \"", second, "\"");
    if (first != "gptq" && first != "gptq_v2")
      config.fail("the format \"", first, "\" is not supported (gptq and gptq_v2 are)");
    info.variant = first;
    info.format =
        std::make_shared<Gptq>(first == "gptq" ? pack::GptqFormat::v1 : pack::GptqFormat::v2);
    if (const auto words = config.get_or<std::string>("pack_dtype", "int32"); words != "int32")
      config.fail("\"pack_dtype\" = \"", words, "\" is not supported (int32 is)");
    for (const auto& [key, value] : config.json().items())
      if (model::detail::contains_any(
              model::detail::lower_case(key),
              {"activation", "adapter", "eora", "hadamard", "input_bits", "kv_cache", "lora",
               "marlin", "rotat", "smooth", "sparsity"}) &&
          !model::detail::is_one_of(value, model::detail::off))
        config.fail("\"", key, "\" = ", ConfigReader::text(value),
                    " changes what the model computes, which is not supported");
    return info;
  }

 private:
  pack::GptqFormat version(const ModuleSettings& settings) const {
    return version_.value_or(settings.symmetric ? pack::GptqFormat::v1 : pack::GptqFormat::v2);
  }

  std::optional<pack::GptqFormat> version_;
};

}  // namespace gptq::model::format
