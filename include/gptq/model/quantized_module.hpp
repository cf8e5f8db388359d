// SPDX-License-Identifier: MIT
#pragma once

// QuantizedModule: a module as it is stored, on its way from whatever makes it to its file.

#include <gptq/core/report.hpp>
#include <gptq/model/format/format.hpp>

#include <functional>
#include <string>
#include <vector>

namespace gptq::model {

/// A module as it is stored, and its report.
struct QuantizedModule {
  std::vector<Part> parts{};
  Report report{};
  std::vector<float> first_row{};  ///< of the weight that the file yields, to check it
};

/// Receives the quantized modules.
using ModuleSink = std::function<void(const std::string& name, const QuantizedModule& module)>;

}  // namespace gptq::model
