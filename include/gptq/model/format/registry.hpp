// SPDX-License-Identifier: MIT
#pragma once

// All formats: by name for writing, by quantization_config for reading.

#include <gptq/model/format/awq.hpp>
#include <gptq/model/format/bitsandbytes.hpp>
#include <gptq/model/format/compressed_tensors/format.hpp>
#include <gptq/model/format/gptq.hpp>
#include <gptq/model/format/mlx.hpp>
#include <gptq/model/format/plain.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace gptq::model {

/// The names of all formats that folders can be written in.
inline std::vector<std::string> format_names() {
  return {"gptq",         "awq",  "compressed-tensors", "compressed-tensors:int-quantized", "mlx",
          "bitsandbytes", "plain"};
}

/// \param own  the type of the model's weights, for the plain format
/// \throws InvalidArgument  there is no such format
inline std::shared_ptr<const Format> make_format(std::string_view name, io::DType own) {
  if (name == "gptq") return std::make_shared<format::Gptq>();
  if (name == "awq") return std::make_shared<format::Awq>();
  if (name == "compressed-tensors") return std::make_shared<format::CompressedTensors>();
  if (name == "compressed-tensors:int-quantized")
    return std::make_shared<format::CompressedTensors>("int-quantized");
  if (name == "mlx") return std::make_shared<format::Mlx>();
  if (name == "bitsandbytes") return std::make_shared<format::BitsAndBytes>();
  if (name == "plain") return std::make_shared<format::Plain>(own);
  throw InvalidArgument(gptq::detail::message("there is no format \"", name, "\""));
}

/// Whether a tensor's name is that of a packed weight in some format.
inline bool is_packed_weight(const std::string& tensor) {
  for (const std::string& name : format_names())
    if (const auto first = make_format(name, io::DType::F32)->suffixes().front();
        first != ".weight" && tensor.ends_with(first))
      return true;
  return false;
}

namespace detail {

/// The methods that can be read, for messages.
inline constexpr const char* readable_methods =
    "gptq, awq, compressed-tensors, mlx and bitsandbytes in nf4";

/// What a quantization_config says.
/// \throws FormatError  it contradicts itself, or has an option that is not supported
inline QuantizationInfo parse_quantization(const nlohmann::json& json, const std::string& where) {
  const ConfigReader config(json, where);
  std::string method;
  if (config.has("quant_method")) {
    method = config.get<std::string>("quant_method");
  } else {
    // AutoGPTQ files name no method; nor do old bitsandbytes ones.
    for (const auto& [key, value] : json.items())
      if (key.rfind("bnb_", 0) == 0 || key == "load_in_4bit" || key == "load_in_8bit")
        method = "bitsandbytes";
    if (method.empty() && !config.has("bits"))
      config.fail(
          "has neither \"quant_method\" nor \"bits\": how the model is quantized is "
          "unknown");
    if (method.empty()) method = "gptq";
  }
  if (method == "gptq") return format::Gptq::parse(config);
  if (method == "awq") return format::Awq::parse(config);
  if (method == "compressed-tensors") return format::CompressedTensors::parse(config);
  if (method == "bitsandbytes") return format::BitsAndBytes::parse(config);
  return {.method = method};
}

}  // namespace detail

}  // namespace gptq::model
