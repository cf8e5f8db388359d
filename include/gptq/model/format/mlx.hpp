// SPDX-License-Identifier: MIT
#pragma once

// The format of MLX: symmetric integers of 2, 4 and 8 bits, on Apple's GPUs.

#include <gptq/model/config_reader.hpp>
#include <gptq/model/format/format.hpp>
#include <gptq/pack/mlx.hpp>

#include <memory>
#include <string>
#include <vector>

namespace gptq::model::format {

/// The MLX format.
class Mlx final : public Format {
 public:
  std::string_view name() const override { return "mlx"; }

  void require_fits(const LinearSpec& linear, const ModuleSettings& settings) const override {
    pack::require_mlx_shape(linear.in, settings.group_size, settings.bits, linear.name);
    gptq::detail::require(settings.symmetric,
                          "asymmetric grids: the MLX format stores scale * zero in 16 bits, which "
                          "would round it");
    gptq::detail::require(!linear.transposed, linear.name,
                          " is stored as [in, out], which the MLX format has not");
  }

  std::vector<PartPlan> plan(const LinearSpec& linear,
                             const ModuleSettings& settings) const override {
    const Index out = linear.out, groups = detail::groups_of(linear, settings).count;
    return {{".weight", io::DType::U32, {out, pack::word_count(linear.in, settings.bits)}},
            {".scales", io::DType::F16, {out, groups}},
            {".biases", io::DType::F16, {out, groups}}};
  }

  std::vector<Part> pack(const pack::AffineView& weight, const LinearSpec& linear,
                         const ModuleSettings&, const HostThreads& threads) const override {
    const auto t = pack::to_mlx(weight, linear.name, threads);
    return {detail::part_of(".weight", t.weight), detail::halves_of(".scales", t.scales),
            detail::halves_of(".biases", t.biases)};
  }

  std::string_view config_key() const override { return "quantization"; }

  /// What mlx-lm reads: modules with scales are packed, those with settings of their own are named.
  nlohmann::ordered_json config(const Description& model, const SettingsTable& table, const Params&,
                                bool) const override {
    const auto entry = [](const ModuleSettings& settings) {
      return nlohmann::ordered_json{{"group_size", settings.group_size}, {"bits", settings.bits}};
    };
    auto config = entry(table.base);
    for_each_quantized(model, table, [&](const LinearSpec& linear, const ModuleSettings& own) {
      if (own != table.base) config[linear.name] = entry(own);
    });
    return config;
  }

  std::vector<std::string> suffixes() const override { return {".scales", ".weight", ".biases"}; }

  void require_tensors(const io::TensorSource& source, const LinearSpec& linear) const override {
    layout(source, linear);
  }

  StoredCodes codes(const io::TensorSource& source, const LinearSpec& linear) const override {
    return pack::codes_of(tensors(source, linear), where(source, linear));
  }

  /// Grids of other writers may have no zero, which codes() cannot express.
  void read(const io::TensorSource& source, const LinearSpec& linear,
            MatrixView<float> weight) const override {
    pack::dequantize(tensors(source, linear), weight, where(source, linear));
  }

  /// The format of a folder whose config.json has this under "quantization".
  /// \throws FormatError  it has an option that is not supported
  static QuantizationInfo parse(const ConfigReader& config) {
    QuantizationInfo info{.method = "mlx", .format = std::make_shared<Mlx>(), .variant = "mlx"};
    info.bits = static_cast<int>(config.size("bits"));
    info.group_size = config.size("group_size");
    if (const auto mode = config.get_or<std::string>("mode", "affine"); mode != "affine")
      config.fail("\"mode\" = \"", mode, "\" is not supported (affine is)");
    return info;
  }

 private:
  static std::string where(const io::TensorSource& source, const LinearSpec& linear) {
    return source.where(linear.name + ".weight") + ": " + linear.name;
  }

  static pack::MlxTensors tensors(const io::TensorSource& source, const LinearSpec& linear) {
    pack::MlxTensors t = layout(source, linear);
    detail::read_elements(source, linear.name + ".weight", t.weight);
    t.scales = detail::read_scales(source, linear.name + ".scales");
    t.biases = detail::read_scales(source, linear.name + ".biases");
    return t;
  }

  /// Sizes, without numbers.
  /// \throws FormatError  a tensor is missing, has the wrong type, or its shape does not match the
  /// others
  static pack::MlxTensors layout(const io::TensorSource& source, const LinearSpec& linear) {
    const std::string& name = linear.name;
    const io::Shape words = io::shape_of(source, name + ".weight");
    const bool matrix = words.size() == 2 && words[0] == linear.out && words[1] <= linear.in;
    const int bits = matrix ? static_cast<int>(words[1] * 32 / linear.in) : 0;
    gptq::detail::require<FormatError>(
        bits >= 2 && bits <= 8 && pack::word_count(linear.in, bits) == words[1],
        source.where(name + ".weight"), ": tensor ", name, ".weight has the shape ",
        io::to_string(words), ", which is not [", linear.out, ", ", linear.in,
        "*bits/32] with 2 to 8 bits");
    detail::require_words(source, name + ".weight");
    const Index groups = detail::require_scales(source, name + ".scales", linear, false);
    gptq::detail::require<FormatError>(linear.in % groups == 0, source.where(name + ".scales"),
                                       ": ", name, " has ", linear.in, " inputs, which ", groups,
                                       " groups do not divide");
    io::require_shape(source, name + ".biases", {linear.out, groups});
    source.require_readable(name + ".biases");
    return {.in = linear.in, .out = linear.out, .groups = groups, .bits = bits};
  }
};

}  // namespace gptq::model::format
