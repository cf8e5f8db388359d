// SPDX-License-Identifier: MIT
#pragma once

// The compressed-tensors format of llm-compressor and vLLM, in several layouts.

#include <gptq/model/format/compressed_tensors/float4_quantized.hpp>
#include <gptq/model/format/compressed_tensors/float_quantized.hpp>
#include <gptq/model/format/compressed_tensors/int_quantized.hpp>
#include <gptq/model/format/compressed_tensors/pack_quantized.hpp>

#include <algorithm>  // std::find, std::find_if
#include <memory>
#include <string>
#include <utility>  // std::pair
#include <vector>

namespace gptq::model::format {

namespace compressed_tensors {

/// All layouts. The first one that holds a type is the usual one.
inline std::vector<std::unique_ptr<const Layout>> layouts() {
  std::vector<std::unique_ptr<const Layout>> all;
  all.push_back(std::make_unique<PackQuantized>());
  all.push_back(std::make_unique<IntQuantized>());
  all.push_back(std::make_unique<FloatQuantized>());
  all.push_back(std::make_unique<Float4Quantized>(pack::Float4Kind::nvfp4));
  all.push_back(std::make_unique<Float4Quantized>(pack::Float4Kind::mxfp4));
  return all;
}

}  // namespace compressed_tensors

/// The compressed-tensors format.
class CompressedTensors final : public Format {
 public:
  /// \param layout  to write; empty: the usual one for the type of numbers
  explicit CompressedTensors(std::string layout = {}) : wanted_(std::move(layout)) {}

  /// "compressed-tensors" or "compressed-tensors:int-quantized".
  std::string_view name() const override { return name_; }

  std::vector<NumberType> types() const override {
    std::vector<NumberType> all;
    for (const auto& layout : layouts_)
      if (wanted_.empty() || layout->name() == wanted_)
        for (const NumberType type : layout->types()) all.push_back(type);
    return all;
  }

  void require_fits(const LinearSpec& linear, const ModuleSettings& settings) const override {
    layout(settings).require_fits(linear, settings);
  }

  std::vector<PartPlan> plan(const LinearSpec& linear,
                             const ModuleSettings& settings) const override {
    return layout(settings).plan(linear, settings);
  }

  std::vector<Part> pack(const pack::AffineView& weight, const LinearSpec& linear,
                         const ModuleSettings& settings,
                         const HostThreads& threads) const override {
    return layout(settings).pack(weight, linear, settings, threads);
  }

  std::vector<Part> pack(const pack::LevelView& weight, const LinearSpec& linear,
                         const ModuleSettings& settings,
                         const HostThreads& threads) const override {
    return layout(settings).pack(weight, linear, settings, threads);
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
    for (std::size_t i = 0; i < schemes.size(); ++i) {
      const auto& used = layout(schemes[i].first);
      groups["group_" + std::to_string(i)] = {{"targets", schemes[i].second},
                                              {"weights", used.weights(schemes[i].first)},
                                              {"input_activations", nullptr},
                                              {"output_activations", nullptr},
                                              {"format", used.name()}};
    }
    auto ignore = detail::left_out(model, table);
    ignore.push_back(model.head.linear.name);
    return {{"quant_method", "compressed-tensors"},
            {"format", layout(table.base).name()},
            {"quantization_status", "compressed"},
            {"version", "0.18.0"},  // whose layout this is
            {"config_groups", groups},
            {"ignore", ignore},
            {"kv_cache_scheme", nullptr},
            {"global_compression_ratio", nullptr},
            {"sparsity_config", nlohmann::ordered_json::object()},
            {"transform_config", nlohmann::ordered_json::object()}};
  }

  std::vector<std::string> suffixes() const override {
    return {".weight_packed", ".weight_scale",        ".weight_shape", ".weight_zero_point",
            ".weight_g_idx",  ".weight_global_scale", ".weight"};
  }

  bool holds(const io::TensorSource& tensors, const std::string& module) const override {
    return find(tensors, module) != nullptr;
  }

  void require_tensors(const io::TensorSource& source, const LinearSpec& linear) const override {
    find(source, linear.name)->require_tensors(source, linear);
  }

  StoredCodes codes(const io::TensorSource& source, const LinearSpec& linear) const override {
    return find(source, linear.name)->codes(source, linear);
  }

  /// The format of a folder with this quantization_config.
  /// \throws FormatError  it has an option that is not supported
  static QuantizationInfo parse(const ConfigReader& config) {
    const auto form = config.get_or<std::string>("format", "pack-quantized");
    QuantizationInfo info{.method = "compressed-tensors",
                          .format = std::make_shared<CompressedTensors>(
                              form == "int-quantized" ? form : std::string())};
    if (form != "mixed-precision") require_known(config, form);
    info.variant = "compressed-tensors " + form;
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
      require_known(group, group.get_or<std::string>("format", "pack-quantized"));
      const ConfigReader weights(json["weights"], group.where() + ": weights");
      const auto type = weights.get_or<std::string>("type", "int");
      if (type != "int" && type != "float")
        weights.fail("the type \"", type, "\" is not supported (int and float are)");
      if (info.bits > 0) continue;  // the first group is what `gptq inspect` shows
      info.bits = static_cast<int>(weights.size("num_bits"));
      info.group_size = weights.get_or<Index>("group_size", -1);
      info.symmetric = weights.get_or<bool>("symmetric", true);
    }
    return info;
  }

 private:
  /// \throws FormatError  there is no such layout
  static void require_known(const ConfigReader& config, const std::string& form) {
    std::string known;
    for (const auto& layout : compressed_tensors::layouts()) {
      if (layout->name() == form) return;
      known += (known.empty() ? "" : ", ") + std::string(layout->name());
    }
    config.fail("the format \"", form, "\" is not supported (these are: ", known, ")");
  }

  /// The layout that modules with these settings are written in.
  const compressed_tensors::Layout& layout(const ModuleSettings& settings) const {
    for (const auto& layout : layouts_) {
      const auto types = layout->types();
      if ((wanted_.empty() || layout->name() == wanted_) &&
          std::find(types.begin(), types.end(), settings.type) != types.end())
        return *layout;
    }
    throw InvalidArgument(gptq::detail::message(name(), " holds no numbers of the type ",
                                                model::info(settings.type).name));
  }

  /// The layout of a module that is stored; null: it is not packed.
  const compressed_tensors::Layout* find(const io::TensorSource& tensors,
                                         const std::string& module) const {
    for (const auto& layout : layouts_)
      if (layout->holds(tensors, module)) return layout.get();
    return nullptr;
  }

  std::vector<std::unique_ptr<const compressed_tensors::Layout>> layouts_ =
      compressed_tensors::layouts();
  std::string wanted_,
      name_ = wanted_.empty() ? "compressed-tensors" : "compressed-tensors:" + wanted_;
};

}  // namespace gptq::model::format
