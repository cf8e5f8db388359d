// SPDX-License-Identifier: MIT
#pragma once

// What quantization changed in a module, measured with the decoder's operations.

#include <gptq/model/pipeline_options.hpp>

#include <algorithm>  // std::max
#include <cmath>      // std::log10

namespace gptq::model {

/// The error of a weight, and the signal-to-noise ratio of its outputs on some inputs, as they are
/// and rounded to 8 bits.
/// \param sample  inputs; without rows, outputs are not measured
template <class Operations>
void measure_change(const Operations& operations, typename Operations::ConstView original,
                    typename Operations::ConstView quantized, typename Operations::ConstView sample,
                    ModuleReport& report) {
  report.weight_error = operations.squared_distance(original, quantized) /
                        (std::max)(operations.squared_norm(original), 1e-300);
  if (sample.rows() == 0) return;
  const auto target = operations.matmul(sample, original);
  const double energy = operations.squared_norm(target.view());
  const auto snr = [&](typename Operations::ConstView x) {
    const auto output = operations.matmul(x, quantized);
    return -10 * std::log10(operations.squared_distance(target.view(), output.view()) / energy);
  };
  report.snr_full = snr(sample);
  report.snr_quantized = snr(operations.round_to_int8(sample).view());
}

}  // namespace gptq::model
