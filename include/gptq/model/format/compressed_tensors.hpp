// SPDX-License-Identifier: MIT
#pragma once

// The compressed-tensors format of llm-compressor and vLLM: integers packed in 32-bit words
// ("pack-quantized").

#include <gptq/model/config_reader.hpp>
#include <gptq/model/format/format.hpp>
#include <gptq/pack/compressed_tensors.hpp>

#include <algorithm>  // std::find_if
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>  // std::pair
#include <vector>

namespace gptq::model::format {

/// The compressed-tensors format.
class CompressedTensors final : public Format {
 public:
  std::string_view name() const override { return "compressed-tensors"; }

  void require_fits(const LinearSpec& linear, const ModuleSettings& settings) const override {
    const Index group = detail::groups_of(linear, settings).size;
    gptq::detail::require(linear.in % group == 0, "in_features = ", linear.in, " of ", linear.name,
                          " is not a multiple of ", group,
                          ": the compressed-tensors format has no short groups");
  }

  std::vector<PartPlan> plan(const LinearSpec& linear,
                             const ModuleSettings& settings) const override {
    const Index in = linear.in, out = linear.out,
                groups = detail::groups_of(linear, settings).count;
    std::vector<PartPlan> parts{
        {".weight_packed", io::DType::I32, {out, pack::word_count(in, settings.bits)}},
        {".weight_scale", io::DType::F16, {out, groups}},
        {".weight_shape", io::DType::I64, {2}}};
    if (!settings.symmetric)
      parts.push_back(
          {".weight_zero_point", io::DType::I32, {pack::word_count(out, settings.bits), groups}});
    return parts;
  }

  std::vector<Part> pack(const pack::AffineView& weight, const LinearSpec& linear,
                         const ModuleSettings& settings,
                         const HostThreads& threads) const override {
    const auto t = pack::to_pack_quantized(weight, settings.symmetric, linear.name, threads);
    const std::vector<std::int64_t> shape{linear.out, linear.in};
    std::vector<Part> parts{detail::part_of(".weight_packed", t.weight_packed),
                            detail::halves_of(".weight_scale", t.weight_scale),
                            detail::part_of(".weight_shape", shape)};
    if (!settings.symmetric)
      parts.push_back(detail::part_of(".weight_zero_point", t.weight_zero_point));
    return parts;
  }

  /// The keys that compressed-tensors and vLLM read. Modules with settings of their own are listed
  /// by name, which takes precedence over "Linear".
  nlohmann::ordered_json config(const Description& model, const SettingsTable& table, const Params&,
                                bool) const override {
    std::vector<std::pair<ModuleSettings, std::vector<std::string>>> schemes{
        {table.base, {"Linear"}}};
    for_each_quantized(model, table, [&](const LinearSpec& linear, const ModuleSettings& own) {
      if (own == table.base) return;
      auto scheme = std::find_if(schemes.begin(), schemes.end(),
                                 [&](const auto& s) { return s.first == own; });
      if (scheme == schemes.end()) scheme = schemes.insert(scheme, {own, {}});
      scheme->second.push_back(linear.name);
    });
    nlohmann::ordered_json groups = nlohmann::ordered_json::object();
    for (std::size_t i = 0; i < schemes.size(); ++i)
      groups["group_" + std::to_string(i)] = {{"targets", schemes[i].second},
                                              {"weights", weights(schemes[i].first)},
                                              {"input_activations", nullptr},
                                              {"output_activations", nullptr},
                                              {"format", "pack-quantized"}};
    auto ignore = detail::left_out(model, table);
    ignore.push_back(model.head.linear.name);
    return {{"quant_method", "compressed-tensors"},
            {"format", "pack-quantized"},
            {"quantization_status", "compressed"},
            {"version", "0.18.0"},  // whose layout this is
            {"config_groups", groups},
            {"ignore", ignore},
            {"kv_cache_scheme", nullptr},
            {"global_compression_ratio", nullptr},
            {"sparsity_config", nlohmann::ordered_json::object()},
            {"transform_config", nlohmann::ordered_json::object()}};
  }

  std::vector<std::string> notes(const Description& model,
                                 const SettingsTable& table) const override {
    std::set<std::string> notes;
    for_each_quantized(model, table, [&](const LinearSpec&, const ModuleSettings& settings) {
      const int bits = settings.bits;
      if (!settings.symmetric)
        notes.insert(
            "asymmetric grids will not load in transformers with compressed-tensors 0.20, which "
            "expects zero points that are not packed; vLLM reads them");
      if (bits == 4 || bits == 8) return;
      notes.insert(settings.symmetric
                       ? gptq::detail::message(bits, " bits load in vLLM with humming-kernels only")
                       : gptq::detail::message("asymmetric grids of ", bits,
                                               " bits will not load in vLLM (4 and 8 do)"));
      if (bits == 3)
        notes.insert("3 bits need compressed-tensors 0.18 or newer: others pack them differently");
    });
    detail::add_fused_notes(notes, model, table);
    return {notes.begin(), notes.end()};
  }

  std::vector<std::string> suffixes() const override {
    return {".weight_packed", ".weight_scale", ".weight_shape", ".weight_zero_point",
            ".weight_g_idx"};
  }

  void require_tensors(const io::TensorSource& source, const LinearSpec& linear) const override {
    layout(source, linear);
  }

  void read(const io::TensorSource& source, const LinearSpec& linear,
            MatrixView<float> weight) const override {
    const std::string& name = linear.name;
    pack::PackQuantizedTensors t = layout(source, linear);
    detail::read_words(source, name + ".weight_packed", t.weight_packed);
    t.weight_scale = detail::read_scales(source, name + ".weight_scale");
    if (source.contains(name + ".weight_zero_point"))
      detail::read_words(source, name + ".weight_zero_point", t.weight_zero_point);
    if (source.contains(name + ".weight_g_idx"))
      detail::read_words(source, name + ".weight_g_idx", t.weight_g_idx);
    pack::dequantize(t, weight, source.where(name + ".weight_packed") + ": " + name);
  }

  /// The format of a folder with this quantization_config.
  /// \throws FormatError  it has an option that is not supported
  static QuantizationInfo parse(const ConfigReader& config) {
    QuantizationInfo info{.method = "compressed-tensors",
                          .format = std::make_shared<CompressedTensors>(),
                          .variant = "compressed-tensors pack-quantized"};
    require_packed(config, config.get_or<std::string>("format", "pack-quantized"));
    for (const char* key : {"kv_cache_scheme", "sparsity_config", "transform_config"})
      if (config.has(key) && !config.json()[key].empty() &&
          config.json()[key] != nlohmann::json{{"format", "dense"}})
        config.fail("\"", key, "\" = ", ConfigReader::text(config.json()[key]),
                    " is not supported");
    if (!config.has("config_groups") || config.json()["config_groups"].empty())
      config.fail("has no \"config_groups\"");
    for (const auto& [name, json] : config.json()["config_groups"].items()) {
      const ConfigReader group(json, config.where() + ": config_groups: " + name);
      if (!group.has("weights")) group.fail("has no \"weights\"");
      if (group.has("input_activations"))
        group.fail("quantized activations (\"input_activations\") are not supported");
      require_packed(group, group.get_or<std::string>("format", "pack-quantized"));
      const ConfigReader weights(json["weights"], group.where() + ": weights");
      const auto type = weights.get_or<std::string>("type", "int");
      if (type != "int") weights.fail("the type \"", type, "\" is not supported (int is)");
      if (info.bits > 0) continue;  // the first group is what `gptq inspect` shows
      info.bits = static_cast<int>(weights.size("num_bits"));
      info.group_size = weights.get_or<Index>("group_size", -1);
      info.symmetric = weights.get_or<bool>("symmetric", true);
    }
    return info;
  }

 private:
  /// \throws FormatError  weights are stored in another form
  static void require_packed(const ConfigReader& config, const std::string& form) {
    if (form != "pack-quantized")
      config.fail("the format \"", form, "\" is not supported (pack-quantized is)");
  }

  /// A QuantizationArgs: readers refuse keys that they do not know.
  static nlohmann::ordered_json weights(const ModuleSettings& settings) {
    nlohmann::ordered_json args{{"num_bits", settings.bits},
                                {"type", "int"},
                                {"symmetric", settings.symmetric},
                                {"strategy", settings.group_size == -1 ? "channel" : "group"},
                                {"group_size", nullptr},
                                {"dynamic", false},
                                {"actorder", nullptr},
                                {"observer", "minmax"},
                                {"observer_kwargs", nlohmann::ordered_json::object()},
                                {"block_structure", nullptr}};
    if (settings.group_size != -1) args["group_size"] = settings.group_size;
    return args;
  }

  /// Sizes, without numbers.
  /// \throws FormatError  a tensor is missing, has the wrong type, or its shape does not match the
  /// others
  static pack::PackQuantizedTensors layout(const io::TensorSource& source,
                                           const LinearSpec& linear) {
    using gptq::detail::require;
    const std::string& name = linear.name;
    const io::Shape packed = io::shape_of(source, name + ".weight_packed");
    const bool matrix = packed.size() == 2 && packed[0] == linear.out && packed[1] <= linear.in;
    const int bits = matrix ? static_cast<int>(packed[1] * 32 / linear.in) : 0;
    require<FormatError>(bits >= 2 && bits <= 8 && pack::word_count(linear.in, bits) == packed[1],
                         source.where(name + ".weight_packed"), ": tensor ", name,
                         ".weight_packed has the shape ", io::to_string(packed), ", which is not [",
                         linear.out, ", ", linear.in,
                         "*bits/32] with 2 to 8 bits (compressed-tensors before 0.18 packs 3, 5, 6 "
                         "and 7 bits otherwise)");
    const Index groups = detail::require_scales(source, name + ".weight_scale", linear, false);
    detail::require_words(source, name + ".weight_packed");
    if (source.contains(name + ".weight_zero_point")) {
      io::require_shape(source, name + ".weight_zero_point",
                        {pack::word_count(linear.out, bits), groups});
      detail::require_words(source, name + ".weight_zero_point");
    }
    if (source.contains(name + ".weight_g_idx")) {
      io::require_shape(source, name + ".weight_g_idx", {linear.in});
      detail::require_words(source, name + ".weight_g_idx");
    }
    return {.in = linear.in, .out = linear.out, .groups = groups, .bits = bits};
  }
};

}  // namespace gptq::model::format
