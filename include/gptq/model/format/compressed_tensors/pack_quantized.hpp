// SPDX-License-Identifier: MIT
#pragma once

// "pack-quantized": integers of 2 to 8 bits, packed in 32-bit words along the inputs.

#include <gptq/model/format/compressed_tensors/layout.hpp>
#include <gptq/pack/pack_quantized.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace gptq::model::format::compressed_tensors {

/// Integers in words.
class PackQuantized final : public Layout {
 public:
  std::string_view name() const override { return "pack-quantized"; }

  void require_fits(const LinearSpec& linear, const ModuleSettings& settings) const override {
    require_whole_groups(linear, settings);
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

  nlohmann::ordered_json weights(const ModuleSettings& settings) const override {
    return integer_args(settings);
  }

  bool holds(const io::TensorSource& tensors, const std::string& module) const override {
    const std::string packed = module + ".weight_packed";
    return tensors.contains(packed) && tensors.type_name(packed) != "U8";
  }

  void require_tensors(const io::TensorSource& source, const LinearSpec& linear) const override {
    layout(source, linear);
  }

  StoredCodes codes(const io::TensorSource& source, const LinearSpec& linear) const override {
    const std::string& name = linear.name;
    pack::PackQuantizedTensors t = layout(source, linear);
    detail::read_elements(source, name + ".weight_packed", t.weight_packed);
    t.weight_scale = detail::read_scales(source, name + ".weight_scale");
    if (source.contains(name + ".weight_zero_point"))
      detail::read_elements(source, name + ".weight_zero_point", t.weight_zero_point);
    if (source.contains(name + ".weight_g_idx"))
      detail::read_elements(source, name + ".weight_g_idx", t.weight_g_idx);
    return pack::codes_of(t, source.where(name + ".weight_packed") + ": " + name);
  }

 private:
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

}  // namespace gptq::model::format::compressed_tensors
