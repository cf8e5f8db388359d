// SPDX-License-Identifier: MIT
#pragma once

// Matrices of bytes, a row per output: layouts of 8-bit codes, and of two 4-bit codes per byte.

#include <gptq/backend/concept.hpp>
#include <gptq/core/matrix_view.hpp>

#include <algorithm>  // std::min
#include <cstdint>
#include <vector>

namespace gptq::pack {

/// A row-major matrix of bytes.
/// \param byte     byte(row, col)
/// \param backend  whose threads on the host compute them
template <class Byte, class B>
std::vector<std::uint8_t> byte_rows(Index rows, Index cols, const Byte& byte, const B& backend) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * cols));
  constexpr Index together = 64;  // outputs, whose codes are adjacent
  for_each_on_host(backend, (rows + together - 1) / together, [&](Index job) {
    const Index first = job * together, last = (std::min)(first + together, rows);
    for (Index c = 0; c < cols; ++c)
      for (Index r = first; r < last; ++r)
        bytes[std::size_t(r * cols + c)] = static_cast<std::uint8_t>(byte(r, c));
  });
  return bytes;
}

}  // namespace gptq::pack
