// SPDX-License-Identifier: MIT
#pragma once

// Tiles: how the upper triangle of a symmetric matrix is cut into rectangles that threads compute
// independently. The cut depends on the size alone, never on the number of threads.

#include <gptq/config.hpp>
#include <gptq/core/matrix_view.hpp>

#include <algorithm>  // std::min
#include <vector>

namespace gptq::backend {
inline namespace GPTQ_SIMD {
namespace cpu {

/// A rectangle of a matrix.
struct Tile {
  /// Its first element and its size.
  Index row, col, rows, cols;
};

namespace detail {

inline void cut_diagonal(std::vector<Tile>& tiles, Index begin, Index end, Index smallest) {
  if (end - begin <= smallest) {
    tiles.push_back({begin, begin, end - begin, end - begin});
    return;
  }
  const Index middle = begin + (end - begin + 1) / 2;
  tiles.push_back({begin, middle, middle - begin, end - middle});
  cut_diagonal(tiles, begin, middle, smallest);
  cut_diagonal(tiles, middle, end, smallest);
}

}  // namespace detail

/// Tiles of at most `size`² that cover the upper triangle of an n x n matrix, large ones first.
/// What they compute below the diagonal is wasted, so tiles on the diagonal are cut further, to at
/// most 128².
inline std::vector<Tile> upper_tiles(Index n, Index size) {
  std::vector<Tile> tiles;
  for (Index row = 0; row < n; row += size)
    for (Index col = row + size; col < n; col += size)
      tiles.push_back({row, col, (std::min)(size, n - row), (std::min)(size, n - col)});
  for (Index begin = 0; begin < n; begin += size)
    detail::cut_diagonal(tiles, begin, (std::min)(n, begin + size), 128);
  return tiles;
}

/// A tile size that leaves enough tiles for many threads and is large enough for a fast product.
inline Index tile_size(Index n) { return std::clamp<Index>((n / 6 + 63) / 64 * 64, 64, 512); }

}  // namespace cpu
}  // namespace GPTQ_SIMD
}  // namespace gptq::backend
