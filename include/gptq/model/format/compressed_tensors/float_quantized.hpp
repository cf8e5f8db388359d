// SPDX-License-Identifier: MIT
#pragma once

// "float-quantized": weights in 8-bit floats, E4M3, with a scale per output.

#include <gptq/model/format/compressed_tensors/layout.hpp>
#include <gptq/pack/float8.hpp>

#include <string>
#include <vector>

namespace gptq::model::format::compressed_tensors {

/// 8-bit floats. They are read as what they are: numbers with scales (see ExpandedSource).
class FloatQuantized final : public Layout {
 public:
  std::string_view name() const override { return "float-quantized"; }
  std::vector<NumberType> types() const override { return {NumberType::fp8}; }
  void require_fits(const LinearSpec&, const ModuleSettings&) const override {}

  std::vector<PartPlan> plan(const LinearSpec& linear, const ModuleSettings&) const override {
    return {{".weight", io::DType::F8_E4M3, {linear.out, linear.in}},
            {".weight_scale", io::DType::BF16, {linear.out, 1}}};
  }

  std::vector<Part> pack(const pack::LevelView& weight, const LinearSpec& linear,
                         const ModuleSettings&, const HostThreads& threads) const override {
    const auto t = pack::to_float8(weight, linear.name, threads);
    return {detail::part_of(".weight", t.weight),
            detail::halves_of(".weight_scale", t.weight_scale, io::DType::BF16)};
  }

  nlohmann::ordered_json weights(const ModuleSettings& settings) const override {
    return quantization_args(settings.bits, "float", true, "channel");
  }

  bool holds(const io::TensorSource&, const std::string&) const override { return false; }
  void require_tensors(const io::TensorSource&, const LinearSpec&) const override {}
  StoredCodes codes(const io::TensorSource&, const LinearSpec&) const override { return {}; }
};

}  // namespace gptq::model::format::compressed_tensors
