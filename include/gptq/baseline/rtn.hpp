// SPDX-License-Identifier: MIT
#pragma once

// Round to nearest: each weight on its own, without calibration. The baseline of every quantizer.

#include <gptq/backend/concept.hpp>
#include <gptq/quantized_matrix.hpp>
#include <gptq/scheme/concept.hpp>

#include <numeric>  // std::iota
#include <span>
#include <string_view>
#include <vector>

namespace gptq::baseline {

/// q = decode(encode(w)) on grids fitted to the weight alone.
///
/// \param weight  [out_features, in_features], any strides
/// \param params  used are group_size, allow_tail_group, range (weighted: least squares),
///                signed_scales, scale_type, sparsity (the smallest weights become zero) and the
///                parity quirks of grids
/// \throws InvalidArgument  the weight is empty; the group size does not divide in_features
/// \throws NumericalError   a weight is not finite
/// \throws ScaleError       a scale does not fit its type, see Report::vanished_groups
template <scheme::Scheme S, backend::Backend B, class W>
QuantizedMatrix<S> round_to_nearest(MatrixView<W> weight, const Params& params,
                                    const B& backend = default_backend<B>(), S scheme = {},
                                    std::string_view name = "the weight") {
  params.validate();
  scheme = scheme::with_parity(scheme, params.parity);
  const MatrixView<const std::remove_const_t<W>> w = weight;
  const Index n = w.cols();
  gptq::detail::require(w.rows() > 0 && n > 0, name, " is ", w.rows(), " x ", n);
  require_divisible(params, n, name);
  const double largest = require_finite(backend, w, name), unit = weight_unit(largest);

  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index{0});
  ColumnLayout layout(std::move(order), effective_group_size(params, n));

  QuantizedMatrix<S> result(w.rows(), n, layout.group_size(), scheme);
  result.set_scale_unit(scale_unit(scheme, params.scale_type, largest));
  const auto search = scheme::range_search(params, result.scale_unit(), unit);
  backend.for_panels(w.rows(), [&](const auto& worker, Index first, Index rows) {
    const Section<std::remove_const_t<W>> section{w.middle_rows(first, rows), &layout};
    auto panel = worker.load_panel(std::span(&section, 1), unit);
    worker.fit(scheme, search, layout, panel.weight, 0, 0, layout.groups(), panel);
    worker.round(scheme, params.sparsity, layout, panel);
    const SectionResult mine{result.codes().middle_rows(first, rows),
                             result.scales().middle_rows(first, rows),
                             result.zeros().middle_rows(first, rows)};
    worker.store(panel, layout, std::span(&mine, 1));
  });
  check_scales(result, w, backend, params.scale_type, unit, name);
  return result;
}

}  // namespace gptq::baseline
