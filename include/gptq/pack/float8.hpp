// SPDX-License-Identifier: MIT
#pragma once

// The "float-quantized" layout of compressed-tensors: a weight in 8-bit floats, E4M3, under scales.

#include <gptq/pack/byte_rows.hpp>
#include <gptq/pack/level_view.hpp>

#include <cstdint>
#include <string_view>
#include <vector>

namespace gptq::pack {

/// A linear layer as stored in the file. Row-major.
struct Float8Tensors {
  Index in = 0, out = 0;
  std::vector<std::uint8_t> weight{};  ///< [out, in], E4M3
  std::vector<float> weight_scale{};   ///< [out]; bf16 in files that we write
};

/// Packs a quantized weight.
/// \param backend  whose threads on the host pack
/// \throws InvalidArgument  there is more than one scale per output, or a scale would be rounded
template <class B = HostPacking>
Float8Tensors to_float8(const LevelView& q, std::string_view name = "the layer",
                        const B& backend = {}) {
  gptq::detail::require(q.kind == Levels::e4m3 && q.groups() == 1, name, " has ", q.groups(),
                        " groups per output: the float-quantized layout has one");
  require_storable(q, ScaleType::bf16, name);
  Float8Tensors t{.in = q.in(), .out = q.out()};
  t.weight = byte_rows(
      t.out, t.in, [&](Index o, Index i) { return scheme::Float8::pattern(q.codes(o, i)); },
      backend);
  for (Index o = 0; o < t.out; ++o) t.weight_scale.push_back(q.scales(o, 0));
  return t;
}

}  // namespace gptq::pack
