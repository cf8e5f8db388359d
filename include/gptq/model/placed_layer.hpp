// SPDX-License-Identifier: MIT
#pragma once

// PlacedLayer: a block's weights on the host, where they are quantized, and wherever the decoder
// reads them, perhaps on a device.

#include <gptq/model/layer_weights.hpp>

#include <type_traits>
#include <utility>  // std::move

namespace gptq::model {

/// \tparam Operations  Layer is what its decoder reads: LayerWeights themselves, or what
/// place(weights) makes of them and place(linear, linear of Layer) updates
template <class Operations>
class PlacedLayer {
 public:
  using Layer = typename Operations::Layer;

  PlacedLayer() = default;
  PlacedLayer(const Operations& operations, LayerWeights host) : host_(std::move(host)) {
    if constexpr (!in_place) placed_ = operations.place(host_);
  }

  LayerWeights& host() { return host_; }

  const Layer& placed() const {
    if constexpr (in_place) return host_;
    else return placed_;
  }

  /// Call when the weight of a linear module has changed on the host.
  void refresh(const Operations& operations, int linear) {
    if constexpr (!in_place)
      operations.place(host_.linears[std::size_t(linear)], placed_.linears[std::size_t(linear)]);
  }

 private:
  static constexpr bool in_place = std::is_same_v<Layer, LayerWeights>;
  struct Nothing {};

  LayerWeights host_;
  [[no_unique_address]] std::conditional_t<in_place, Nothing, Layer> placed_{};
};

}  // namespace gptq::model
