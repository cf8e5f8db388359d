// SPDX-License-Identifier: MIT
#pragma once

// "int-quantized": a signed byte per weight.

#include <gptq/model/format/compressed_tensors/layout.hpp>
#include <gptq/pack/int_quantized.hpp>

#include <string>
#include <vector>

namespace gptq::model::format::compressed_tensors {

/// Integers of 8 bits, as bytes.
class IntQuantized final : public Layout {
 public:
  std::string_view name() const override { return "int-quantized"; }

  void require_fits(const LinearSpec& linear, const ModuleSettings& settings) const override {
    gptq::detail::require(settings.bits == 8, "bits = ", settings.bits, " of ", linear.name,
                          ": the int-quantized layout has 8 bits");
    require_whole_groups(linear, settings);
  }

  std::vector<PartPlan> plan(const LinearSpec& linear,
                             const ModuleSettings& settings) const override {
    const Index out = linear.out, groups = detail::groups_of(linear, settings).count;
    std::vector<PartPlan> parts{{".weight", io::DType::I8, {out, linear.in}},
                                {".weight_scale", io::DType::F16, {out, groups}}};
    if (!settings.symmetric) parts.push_back({".weight_zero_point", io::DType::I8, {out, groups}});
    return parts;
  }

  std::vector<Part> pack(const pack::AffineView& weight, const LinearSpec& linear,
                         const ModuleSettings& settings,
                         const HostThreads& threads) const override {
    const auto t = pack::to_int_quantized(weight, settings.symmetric, linear.name, threads);
    std::vector<Part> parts{detail::part_of(".weight", t.weight),
                            detail::halves_of(".weight_scale", t.weight_scale)};
    if (!settings.symmetric)
      parts.push_back(detail::part_of(".weight_zero_point", t.weight_zero_point));
    return parts;
  }

  nlohmann::ordered_json weights(const ModuleSettings& settings) const override {
    return integer_args(settings);
  }

  bool holds(const io::TensorSource& tensors, const std::string& module) const override {
    return tensors.contains(module + ".weight") && tensors.type_name(module + ".weight") == "I8";
  }

  void require_tensors(const io::TensorSource& source, const LinearSpec& linear) const override {
    groups(source, linear);
  }

  StoredCodes codes(const io::TensorSource& source, const LinearSpec& linear) const override {
    const std::string& name = linear.name;
    pack::IntQuantizedTensors t{
        .in = linear.in, .out = linear.out, .groups = groups(source, linear)};
    detail::read_elements(source, name + ".weight", t.weight);
    t.weight_scale = detail::read_scales(source, name + ".weight_scale");
    if (source.contains(name + ".weight_zero_point"))
      detail::read_elements(source, name + ".weight_zero_point", t.weight_zero_point);
    return pack::codes_of(t, source.where(name + ".weight") + ": " + name);
  }

 private:
  /// \throws FormatError  a tensor is missing, has the wrong type, or its shape does not match the
  /// others
  static Index groups(const io::TensorSource& source, const LinearSpec& linear) {
    const std::string& name = linear.name;
    io::require_shape(source, name + ".weight", {linear.out, linear.in});
    const Index groups = detail::require_scales(source, name + ".weight_scale", linear, false);
    if (const std::string zeros = name + ".weight_zero_point"; source.contains(zeros)) {
      io::require_shape(source, zeros, {linear.out, groups});
      detail::require_type(source, zeros, "I8");
    }
    return groups;
  }
};

}  // namespace gptq::model::format::compressed_tensors
