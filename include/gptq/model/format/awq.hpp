// SPDX-License-Identifier: MIT
#pragma once

// The AWQ format ("GEMM") of AutoAWQ, transformers and vLLM: 4 bits, the same settings throughout.

#include <gptq/model/config_reader.hpp>
#include <gptq/model/format/format.hpp>
#include <gptq/pack/awq.hpp>

#include <memory>
#include <string>
#include <vector>

namespace gptq::model::format {

/// The AWQ format.
class Awq final : public Format {
 public:
  std::string_view name() const override { return "awq"; }

  void require_fits(const LinearSpec& linear, const ModuleSettings& settings) const override {
    pack::require_awq_shape(linear.in, linear.out, detail::groups_of(linear, settings).size,
                            settings.bits, linear.name);
  }

  void require_fits(const Description& model, const SettingsTable& table) const override {
    detail::require_same_settings(model, table, "AWQ");
  }

  std::vector<PartPlan> plan(const LinearSpec& linear,
                             const ModuleSettings& settings) const override {
    const Index in = linear.in, out = linear.out,
                groups = detail::groups_of(linear, settings).count;
    return {{".qweight", io::DType::I32, {in, out / 8}},
            {".qzeros", io::DType::I32, {groups, out / 8}},
            {".scales", io::DType::F16, {groups, out}}};
  }

  std::vector<Part> pack(const pack::AffineView& weight, const LinearSpec& linear,
                         const ModuleSettings&, const HostThreads& threads) const override {
    const auto t = pack::to_awq(weight, linear.name, threads);
    return {detail::part_of(".qweight", t.qweight), detail::part_of(".qzeros", t.qzeros),
            detail::halves_of(".scales", t.scales)};
  }

  /// The keys that AutoAWQ, transformers and vLLM read. There are always zero points: symmetric
  /// grids have 8.
  nlohmann::ordered_json config(const Description& model, const SettingsTable& table, const Params&,
                                bool) const override {
    return {{"quant_method", "awq"},
            {"bits", table.base.bits},
            {"group_size", table.base.group_size},
            {"zero_point", true},
            {"version", "gemm"},
            {"lm_head", false},
            {"modules_to_not_convert", detail::left_out(model, table)}};
  }

  std::vector<std::string> suffixes() const override { return {".qweight", ".qzeros", ".scales"}; }

  void require_tensors(const io::TensorSource& source, const LinearSpec& linear) const override {
    groups(source, linear);
  }

  StoredCodes codes(const io::TensorSource& source, const LinearSpec& linear) const override {
    const std::string& name = linear.name;
    pack::AwqTensors t{.in = linear.in, .out = linear.out, .groups = groups(source, linear)};
    detail::read_elements(source, name + ".qweight", t.qweight);
    detail::read_elements(source, name + ".qzeros", t.qzeros);
    t.scales = detail::read_scales(source, name + ".scales");
    return pack::codes_of(t, source.where(name + ".qweight") + ": " + name);
  }

  /// The format of a folder with this quantization_config.
  /// \throws FormatError  it has an option that is not supported
  static QuantizationInfo parse(const ConfigReader& config) {
    QuantizationInfo info{.method = "awq", .format = std::make_shared<Awq>()};
    info.bits = static_cast<int>(config.size(config.has("w_bit") ? "w_bit" : "bits"));
    info.group_size =
        config.get_or<Index>(config.has("q_group_size") ? "q_group_size" : "group_size", -1);
    info.symmetric = !config.get_or<bool>("zero_point", true);
    const auto version = model::detail::lower_case(config.get_or<std::string>("version", "gemm"));
    if (version != "gemm")
      config.fail("\"version\" = \"", version, "\" is not supported (gemm is)");
    info.variant = "awq gemm";
    if (info.bits != 4) config.fail("\"bits\" = ", info.bits, ": the AWQ format has 4");
    return info;
  }

 private:
  /// \throws FormatError  a tensor is missing, has the wrong type, or its shape does not match the
  /// others
  static Index groups(const io::TensorSource& source, const LinearSpec& linear) {
    const std::string& name = linear.name;
    gptq::detail::require<FormatError>(linear.out % 8 == 0, source.where(name + ".qweight"), ": ",
                                       name, " has ", linear.out,
                                       " outputs, which are no multiple of 8");
    io::require_shape(source, name + ".qweight", {linear.in, linear.out / 8});
    const Index groups = detail::require_scales(source, name + ".scales", linear, true);
    gptq::detail::require<FormatError>(linear.in % groups == 0, source.where(name + ".scales"),
                                       ": ", name, " has ", linear.in, " inputs, which ", groups,
                                       " groups do not divide");
    io::require_shape(source, name + ".qzeros", {groups, linear.out / 8});
    for (const char* part : {".qweight", ".qzeros"}) detail::require_words(source, name + part);
    return groups;
  }
};

}  // namespace gptq::model::format
