// SPDX-License-Identifier: MIT
#pragma once

// "nvfp4-pack-quantized" and "mxfp4-pack-quantized": 4-bit floats in blocks, two per byte.

#include <gptq/model/format/compressed_tensors/layout.hpp>
#include <gptq/pack/float4.hpp>

#include <cmath>  // std::isfinite
#include <string>
#include <vector>

namespace gptq::model::format::compressed_tensors {

/// 4-bit floats.
class Float4Quantized final : public Layout {
 public:
  explicit Float4Quantized(pack::Float4Kind kind) : kind_(kind) {}

  std::string_view name() const override {
    return nv() ? "nvfp4-pack-quantized" : "mxfp4-pack-quantized";
  }
  std::vector<NumberType> types() const override {
    return {nv() ? NumberType::nvfp4 : NumberType::mxfp4};
  }

  void require_fits(const LinearSpec& linear, const ModuleSettings&) const override {
    pack::require_float4_shape(kind_, linear.in, linear.name);
  }

  std::vector<PartPlan> plan(const LinearSpec& linear, const ModuleSettings&) const override {
    std::vector<PartPlan> parts{
        {".weight_packed", io::DType::U8, {linear.out, linear.in / 2}},
        {".weight_scale", nv() ? io::DType::F8_E4M3 : io::DType::U8, scale_shape(linear)}};
    if (nv()) parts.push_back({".weight_global_scale", io::DType::F32, {1}});
    return parts;
  }

  std::vector<Part> pack(const pack::LevelView& weight, const LinearSpec& linear,
                         const ModuleSettings&, const HostThreads& threads) const override {
    const auto t = pack::to_float4(weight, kind_, linear.name, threads);
    std::vector<Part> parts{detail::part_of(".weight_packed", t.weight_packed),
                            detail::part_of(".weight_scale", t.weight_scale)};
    if (nv())
      parts.push_back(
          detail::part_of(".weight_global_scale", std::vector<float>{t.weight_global_scale}));
    return parts;
  }

  nlohmann::ordered_json weights(const ModuleSettings& settings) const override {
    auto args = quantization_args(settings.bits, "float", true, nv() ? "tensor_group" : "group");
    args["group_size"] = pack::block_size(kind_);
    args["scale_dtype"] = nv() ? "torch.float8_e4m3fn" : "torch.uint8";
    return args;
  }

  bool holds(const io::TensorSource& tensors, const std::string& module) const override {
    const std::string packed = module + ".weight_packed";
    return tensors.contains(packed) && tensors.type_name(packed) == "U8" &&
           tensors.contains(module + ".weight_global_scale") == nv();
  }

  void require_tensors(const io::TensorSource& source, const LinearSpec& linear) const override {
    const std::string& name = linear.name;
    io::require_shape(source, name + ".weight_packed", {linear.out, linear.in / 2});
    io::require_shape(source, name + ".weight_scale", scale_shape(linear));
    if (nv()) {
      detail::require_type(source, name + ".weight_scale", "F8_E4M3");
      io::require_shape(source, name + ".weight_global_scale", {1});
      source.require_readable(name + ".weight_global_scale");
    } else if (source.type_name(name + ".weight_scale") != "F8_E8M0") {
      detail::require_type(source, name + ".weight_scale", "U8");
    }
  }

  StoredCodes codes(const io::TensorSource& source, const LinearSpec& linear) const override {
    const std::string& name = linear.name;
    pack::Float4Tensors t{.kind = kind_, .in = linear.in, .out = linear.out};
    detail::read_elements(source, name + ".weight_packed", t.weight_packed);
    detail::read_elements(source, name + ".weight_scale", t.weight_scale);
    if (nv()) {
      const std::string global = name + ".weight_global_scale";
      source.read(global, std::span(&t.weight_global_scale, 1));
      gptq::detail::require<FormatError>(
          std::isfinite(t.weight_global_scale) && t.weight_global_scale > 0, source.where(global),
          ": tensor ", global, " is ", t.weight_global_scale, ", not a positive number");
    }
    return pack::codes_of(t, source.where(name + ".weight_packed") + ": " + name);
  }

 private:
  bool nv() const { return kind_ == pack::Float4Kind::nvfp4; }
  io::Shape scale_shape(const LinearSpec& linear) const {
    return {linear.out, linear.in / pack::block_size(kind_)};
  }

  pack::Float4Kind kind_;
};

}  // namespace gptq::model::format::compressed_tensors
