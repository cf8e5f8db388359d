// SPDX-License-Identifier: MIT
#pragma once

// A grid for each token, from the token alone: dynamic quantization of activations, which needs no
// calibration.

#include <gptq/calibration/activation_range.hpp>

#include <algorithm>  // std::max, std::min
#include <vector>

namespace gptq {

/// The grid of each row's own smallest and largest activation, as ActivationRange::grid says it:
/// what dynamic quantization per token computes at run time.
/// \param activations  [tokens, features] of float, double, bfloat16 or float16, any strides
/// \return one grid per token
/// \throws InvalidArgument  tokens have no features, or bits are not 2 to 8
/// \throws NumericalError   an activation is not finite or not in the range of float
template <class T>
std::vector<scheme::Grid<float>> per_token_grids(
    MatrixView<T> activations, int bits = 8,
    scheme::Symmetry symmetry = scheme::Symmetry::symmetric) {
  detail::require(bits >= 2 && bits <= 8, "bits = ", bits, " must be 2 to 8");
  detail::require(activations.rows() == 0 || activations.cols() > 0, activations.rows(),
                  " tokens without features have no ranges");
  std::vector<detail::ActivationClip> clips(static_cast<std::size_t>(activations.rows()));
  detail::for_each_activation(activations, [&](Index row, double x) {
    auto& clip = clips[static_cast<std::size_t>(row)];
    clip = {(std::min)(clip.low, x), (std::max)(clip.high, x)};
  });
  std::vector<scheme::Grid<float>> grids;
  for (const auto& clip : clips)
    grids.push_back(detail::in_float(detail::activation_grid(clip, bits, symmetry)));
  return grids;
}
template <StridedMatrix M>
std::vector<scheme::Grid<float>> per_token_grids(
    const M& activations, int bits = 8, scheme::Symmetry symmetry = scheme::Symmetry::symmetric) {
  return per_token_grids(detail::view_of(activations), bits, symmetry);
}

}  // namespace gptq
