// SPDX-License-Identifier: MIT
#pragma once

// The format of bitsandbytes: NF4 in blocks, without a second quantization of the scales.

#include <gptq/model/config_reader.hpp>
#include <gptq/model/format/format.hpp>
#include <gptq/pack/nf4.hpp>

#include <memory>
#include <string>
#include <vector>

namespace gptq::model::format {

/// The bitsandbytes format.
class BitsAndBytes final : public Format {
 public:
  std::string_view name() const override { return "bitsandbytes"; }
  std::vector<NumberType> types() const override { return {NumberType::nf4}; }

  void require_fits(const LinearSpec& linear, const ModuleSettings& settings) const override {
    pack::require_nf4_shape(linear.in, settings.group_size, linear.name);
    gptq::detail::require(!linear.transposed, linear.name,
                          " is stored as [in, out], which the bitsandbytes format has not");
  }

  void require_fits(const Description& model, const SettingsTable& table) const override {
    detail::require_same_settings(model, table, "bitsandbytes");
  }

  std::vector<PartPlan> plan(const LinearSpec& linear,
                             const ModuleSettings& settings) const override {
    const Index count = linear.out * linear.in;
    return {{".weight", io::DType::U8, {count / 2, 1}},
            {".weight.absmax", io::DType::F32, {count / settings.group_size}},
            {".weight.quant_map", io::DType::F32, {16}},
            {state_suffix,
             io::DType::U8,
             {static_cast<Index>(state(linear, settings.group_size).size())}}};
  }

  std::vector<Part> pack(const pack::LevelView& weight, const LinearSpec& linear,
                         const ModuleSettings& settings,
                         const HostThreads& threads) const override {
    const auto t = pack::to_nf4(weight, linear.name, threads);
    const std::string text = state(linear, settings.group_size);
    return {detail::part_of(".weight", t.weight), detail::part_of(".weight.absmax", t.absmax),
            detail::part_of(".weight.quant_map", levels()),
            detail::part_of(state_suffix, std::vector<char>(text.begin(), text.end()))};
  }

  /// A BitsAndBytesConfig as transformers writes it.
  nlohmann::ordered_json config(const Description& model, const SettingsTable& table, const Params&,
                                bool) const override {
    auto skipped = detail::left_out(model, table);
    skipped.push_back(model.head.linear.name);
    return {{"quant_method", "bitsandbytes"},
            {"load_in_4bit", true},
            {"load_in_8bit", false},
            {"bnb_4bit_quant_type", "nf4"},
            {"bnb_4bit_use_double_quant", false},
            {"bnb_4bit_compute_dtype", "bfloat16"},
            {"bnb_4bit_quant_storage", "uint8"},
            {"llm_int8_skip_modules", skipped},
            {"llm_int8_threshold", 6.0},
            {"llm_int8_has_fp16_weight", false},
            {"llm_int8_enable_fp32_cpu_offload", false}};
  }

  std::vector<std::string> suffixes() const override {
    return {".weight.absmax", ".weight", ".weight.quant_map", state_suffix};
  }

  void require_tensors(const io::TensorSource& source, const LinearSpec& linear) const override {
    block_size(source, linear);
  }

  StoredCodes codes(const io::TensorSource& source, const LinearSpec& linear) const override {
    const std::string& name = linear.name;
    pack::Nf4Tensors t{.in = linear.in, .out = linear.out, .block = block_size(source, linear)};
    detail::read_elements(source, name + ".weight", t.weight);
    t.absmax = detail::read_scales(source, name + ".weight.absmax");
    const std::string map = name + ".weight.quant_map";
    gptq::detail::require<FormatError>(detail::read_scales(source, map) == levels(),
                                       source.where(map), ": tensor ", map,
                                       " does not have the levels of NF4");
    return pack::codes_of(t, source.where(name + ".weight") + ": " + name);
  }

  /// The format of a folder with this quantization_config; none if its weights are in 8 bits or on
  /// other levels.
  static QuantizationInfo parse(const ConfigReader& config) {
    QuantizationInfo info{.method = "bitsandbytes"};
    const bool nf4 = config.get_or<bool>("load_in_4bit", false) &&
                     config.get_or<std::string>("bnb_4bit_quant_type", "fp4") == "nf4";
    if (!nf4) return info;
    if (config.get_or<bool>("bnb_4bit_use_double_quant", false))
      config.fail("\"bnb_4bit_use_double_quant\" is not supported");
    info.format = std::make_shared<BitsAndBytes>();
    info.variant = "bitsandbytes nf4";
    info.bits = 4;
    info.group_size = 64;  // where the configuration has nothing, the module's state decides
    return info;
  }

 private:
  static constexpr const char* state_suffix = ".weight.quant_state.bitsandbytes__nf4";

  static std::vector<float> levels() {
    const auto table = pack::level_table(pack::Levels::nf4);
    return {table.begin(), table.begin() + 16};
  }

  /// A QuantState, which bitsandbytes stores as JSON in a tensor of bytes.
  static std::string state(const LinearSpec& linear, Index block) {
    return nlohmann::ordered_json{{"quant_type", "nf4"},
                                  {"blocksize", block},
                                  {"dtype", "bfloat16"},
                                  {"shape", {linear.out, linear.in}}}
        .dump();
  }

  /// \throws FormatError  a tensor is missing, has the wrong type, or its shape does not match the
  /// others
  static Index block_size(const io::TensorSource& source, const LinearSpec& linear) {
    using gptq::detail::require;
    const std::string& name = linear.name;
    const Index count = linear.out * linear.in;
    const io::Shape shape = io::shape_of(source, name + ".weight");
    require<FormatError>(io::element_count(shape) * 2 == count, source.where(name + ".weight"),
                         ": tensor ", name, ".weight has the shape ", io::to_string(shape), "; ",
                         linear.out, " x ", linear.in, " weights are ", count / 2, " bytes");
    detail::require_type(source, name + ".weight", "U8");
    const std::string absmax = name + ".weight.absmax";
    const io::Shape blocks = io::shape_of(source, absmax);
    require<FormatError>(blocks.size() == 1 && blocks[0] > 0 && count % blocks[0] == 0,
                         source.where(absmax), ": tensor ", absmax, " has the shape ",
                         io::to_string(blocks), ", which does not divide ", count, " weights");
    require<FormatError>(source.type_name(absmax) == "F32", source.where(absmax), ": tensor ",
                         absmax, " has dtype ", source.type_name(absmax),
                         "; expected F32 (scales that are quantized themselves are not supported)");
    io::require_shape(source, name + ".weight.quant_map", {16});
    source.require_readable(name + ".weight.quant_map");
    return count / blocks[0];
  }
};

}  // namespace gptq::model::format
