// SPDX-License-Identifier: MIT
#pragma once

// Layout: one of the ways in which compressed-tensors stores a module (its "compressors").

#include <gptq/model/config_reader.hpp>
#include <gptq/model/format/format.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace gptq::model::format::compressed_tensors {

/// How a module is stored. Members without a comment are those of Format.
class Layout {
 public:
  virtual ~Layout() = default;

  /// As in the configuration: "pack-quantized".
  virtual std::string_view name() const = 0;

  virtual std::vector<NumberType> types() const { return {NumberType::integer}; }
  virtual void require_fits(const LinearSpec& linear, const ModuleSettings& settings) const = 0;
  virtual std::vector<PartPlan> plan(const LinearSpec& linear,
                                     const ModuleSettings& settings) const = 0;
  virtual std::vector<Part> pack(const pack::AffineView&, const LinearSpec& linear,
                                 const ModuleSettings&, const HostThreads&) const {
    throw InvalidArgument(gptq::detail::message(name(), " holds no integers: ", linear.name));
  }
  virtual std::vector<Part> pack(const pack::LevelView&, const LinearSpec& linear,
                                 const ModuleSettings&, const HostThreads&) const {
    throw InvalidArgument(gptq::detail::message(name(), " holds integers only: ", linear.name));
  }

  /// The "weights" of a group in the configuration, a QuantizationArgs.
  virtual nlohmann::ordered_json weights(const ModuleSettings& settings) const = 0;

  virtual bool holds(const io::TensorSource& tensors, const std::string& module) const = 0;
  virtual void require_tensors(const io::TensorSource& source, const LinearSpec& linear) const = 0;
  virtual StoredCodes codes(const io::TensorSource& source, const LinearSpec& linear) const = 0;
};

/// What all QuantizationArgs contain. Readers refuse keys that they do not know.
inline nlohmann::ordered_json quantization_args(int bits, const char* type, bool symmetric,
                                                const char* strategy) {
  return {{"num_bits", bits},
          {"type", type},
          {"symmetric", symmetric},
          {"strategy", strategy},
          {"group_size", nullptr},
          {"dynamic", false},
          {"actorder", nullptr},
          {"observer", "minmax"},
          {"observer_kwargs", nlohmann::ordered_json::object()},
          {"block_structure", nullptr}};
}

/// Those of integers in groups, or with one scale per output.
inline nlohmann::ordered_json integer_args(const ModuleSettings& settings) {
  const bool channel = settings.group_size == -1;
  auto args =
      quantization_args(settings.bits, "int", settings.symmetric, channel ? "channel" : "group");
  if (!channel) args["group_size"] = settings.group_size;
  return args;
}

/// \throws InvalidArgument  the last group would be short
inline void require_whole_groups(const LinearSpec& linear, const ModuleSettings& settings) {
  const Index size = detail::groups_of(linear, settings).size;
  gptq::detail::require(linear.in % size == 0, "in_features = ", linear.in, " of ", linear.name,
                        " is not a multiple of ", size,
                        ": the compressed-tensors format has no short groups");
}

}  // namespace gptq::model::format::compressed_tensors
