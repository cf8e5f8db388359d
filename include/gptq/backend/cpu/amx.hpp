// SPDX-License-Identifier: MIT
#pragma once

// Single-precision products on the matrix tiles of recent Intel processors (AMX). A float is split
// into two bfloat16 parts, x = high + low, and three of their four products are added in single
// precision: about 2⁻¹⁷ of error per product, at several times the speed of vector units.

#include <gptq/config.hpp>
#include <gptq/core/matrix_view.hpp>

#if GPTQ_AMX

#include <algorithm>  // std::min
#include <cstdint>
#include <cstring>  // std::memcpy
#include <memory>
#include <new>

#include <immintrin.h>
#include <sys/syscall.h>  // SYS_arch_prctl
#include <unistd.h>       // syscall

namespace gptq::backend {
inline namespace GPTQ_SIMD {
namespace cpu::amx {

/// Whether the processor has tiles and the system lets this process use them.
inline bool available() {
  static const bool granted = [] {
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }();
  return granted;
}

/// Eight tile registers of 16 rows x 64 bytes, for the calling thread, during its lifetime.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) Configuration {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } configuration;
    _tile_loadconfig(&configuration);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

/// One side of a product, split and laid out in tiles: blocks of 16 rows (left) or columns (right),
/// each in steps of 32 along the summed dimension, each step a tile of high and one of low parts.
class Operand {
 public:
  /// Rows or columns of a block; summed elements of a step.
  static constexpr Index block = 16, step = 32;
  static constexpr Index tile_bytes = 1024;  ///< 16 rows of 64 bytes

  Operand() = default;

  /// Room for `count` rows or columns and `depth` summed elements; rounded up with zeros.
  Operand(Index count, Index depth) : blocks_(blocks_for(count)), steps_(steps_for(depth)) {
    data_.reset(static_cast<std::byte*>(
        ::operator new(static_cast<std::size_t>(bytes(count, depth)), std::align_val_t(64))));
  }

  /// Bytes that such an operand takes.
  static constexpr Index bytes(Index count, Index depth) {
    return blocks_for(count) * steps_for(depth) * 2 * tile_bytes;
  }

  /// Number of blocks, even.
  Index blocks() const { return blocks_; }
  /// Number of steps of each block.
  Index steps() const { return steps_; }
  /// The high parts of block b in step s; the low parts follow.
  const std::byte* tile(Index b, Index s) const {
    return data_.get() + (b * steps_ + s) * 2 * tile_bytes;
  }
  /// To write.
  std::byte* tile(Index b, Index s) { return data_.get() + (b * steps_ + s) * 2 * tile_bytes; }

 private:
  static constexpr Index blocks_for(Index count) {
    return (count + 2 * block - 1) / (2 * block) * 2;
  }
  static constexpr Index steps_for(Index depth) { return (depth + step - 1) / step; }
  struct Free {
    void operator()(std::byte* data) const { ::operator delete(data, std::align_val_t(64)); }
  };
  Index blocks_ = 0, steps_ = 0;
  std::unique_ptr<std::byte[], Free> data_;
};

namespace detail {

/// high = x rounded to bfloat16, low = (x − high) rounded; the two floats of each pair adjacent.
inline void split(__m512 even, __m512 odd, __m512i& high, __m512i& low) {
  // One vector of odd over even elements, then each pair in one 32-bit word.
  const __m512i pairs = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
  high = _mm512_permutexvar_epi16(pairs, both);
  const __m512 even_high = _mm512_castsi512_ps(_mm512_slli_epi32(high, 16));
  const __m512 odd_high =
      _mm512_castsi512_ps(_mm512_and_si512(high, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  const __m512i rest =
      (__m512i)_mm512_cvtne2ps_pbh(_mm512_sub_ps(odd, odd_high), _mm512_sub_ps(even, even_high));
  low = _mm512_permutexvar_epi16(pairs, rest);
}

/// Transposes 16 x 16 words of 32 bits.
inline void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int k = 0; k < 2; ++k) {
      r[i + 2 * k] = _mm512_unpacklo_epi64(t[i + k], t[i + k + 2]);
      r[i + 2 * k + 1] = _mm512_unpackhi_epi64(t[i + k], t[i + k + 2]);
    }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

/// The words of one step of one block: word (i, p) holds elements 2p and 2p + 1 of row i, i in
/// rows. Rows and elements beyond the matrix are zero.
struct Words {
  __m512i high[16], low[16];
};

inline __m512 load_some(const float* from, Index stride, Index count) {
  if (count >= 16 && stride == 1) return _mm512_loadu_ps(from);
  alignas(64) float values[16] = {};
  for (Index i = 0; i < count && i < 16; ++i) values[i] = from[i * stride];
  return _mm512_load_ps(values);
}

}  // namespace detail

/// Which side of a product an operand is.
enum class Side { left, right };

/// Splits blocks [first, last) of `matrix`, [count, depth], into `out`. Fast if the matrix is
/// contiguous along either dimension.
inline void pack(Side side, MatrixView<const float> matrix, Index first, Index last, Operand& out) {
  using namespace detail;
  const bool along = matrix.col_stride() == 1;  // the summed dimension is contiguous
  for (Index b = first; b < last; ++b)
    for (Index s = 0; s < out.steps(); ++s) {
      const Index row = b * Operand::block, col = s * Operand::step;
      const Index rows = (std::min)(Operand::block, matrix.rows() - row);
      const Index cols = (std::min)(Operand::step, matrix.cols() - col);
      // r[i]: 16 words of row i (along), or word i of 16 rows (across)
      Words words;
      for (Index i = 0; i < 16; ++i) {
        __m512 even = _mm512_setzero_ps(), odd = even;
        if (along && i < rows) {
          const float* from = &matrix(row + i, col);
          const __m512 a = load_some(from, 1, cols), c = load_some(from + 16, 1, cols - 16);
          const __m512i evens =
              _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
          even = _mm512_permutex2var_ps(a, evens, c);
          odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(evens, _mm512_set1_epi32(1)), c);
        } else if (!along) {
          const Index stride = matrix.row_stride();
          if (2 * i < cols) even = load_some(&matrix(row, col + 2 * i), stride, rows);
          if (2 * i + 1 < cols) odd = load_some(&matrix(row, col + 2 * i + 1), stride, rows);
        }
        split(even, odd, words.high[i], words.low[i]);
      }
      // The left side needs rows of words, the right side words of rows.
      if (along != (side == Side::left)) {
        transpose(words.high);
        transpose(words.low);
      }
      std::memcpy(out.tile(b, s), words.high, Operand::tile_bytes);
      std::memcpy(out.tile(b, s) + Operand::tile_bytes, words.low, Operand::tile_bytes);
    }
}

namespace detail {

/// C[32 x 32] += (or = if it is fresh) blocks a, a + 1 of the left by b, b + 1 of the right, over
/// steps [first, last) of the left and as many of the right, `shift` further on.
/// \tparam Split  whether the low parts count too
template <bool Split>
inline void multiply_block(float* c, Index stride, const Operand& left, Index a,
                           const Operand& right, Index b, Index first, Index last, Index shift,
                           bool fresh) {
  const auto bytes = static_cast<std::size_t>(stride) * sizeof(float);
  float* const lower = c + 16 * stride;
  if (fresh) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, c, bytes);
    _tile_loadd(1, c + 16, bytes);
    _tile_loadd(2, lower, bytes);
    _tile_loadd(3, lower + 16, bytes);
  }
  const std::byte *a0 = left.tile(a, first), *a1 = left.tile(a + 1, first);
  const std::byte *b0 = right.tile(b, first + shift), *b1 = right.tile(b + 1, first + shift);
  constexpr Index low = Operand::tile_bytes, next = 2 * Operand::tile_bytes;
  for (Index s = first; s < last; ++s, a0 += next, a1 += next, b0 += next, b1 += next) {
    _tile_loadd(4, a0, 64);
    _tile_loadd(5, a1, 64);
    _tile_loadd(6, b0, 64);
    _tile_loadd(7, b1, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    if constexpr (!Split) continue;
    _tile_loadd(4, a0 + low, 64);
    _tile_loadd(5, a1 + low, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    _tile_loadd(4, a0, 64);
    _tile_loadd(5, a1, 64);
    _tile_loadd(6, b0 + low, 64);
    _tile_loadd(7, b1 + low, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, bytes);
  _tile_stored(1, c + 16, bytes);
  _tile_stored(2, lower, bytes);
  _tile_stored(3, lower + 16, bytes);
}

}  // namespace detail

/// How `multiply` deviates from adding the whole product.
struct MultiplyOptions {
  /// Where c begins, in blocks; both even.
  Index left_block = 0, right_block = 0;
  Index right_step = 0;  ///< where the summed dimension begins on the right
  bool fresh = false;    ///< c = left · right instead of c += left · right
  bool upper = false;    ///< skip blocks entirely below the diagonal of the whole product
  bool split = true;     ///< the low parts count too; else operands are rounded to bfloat16
};

/// c += left · right, summed over the depth of the left side. c is row-major.
inline void multiply(MatrixView<float> c, const Operand& left, const Operand& right,
                     const MultiplyOptions& o = {}) {
  constexpr Index size = 32, depth = 8;  // 8 steps of two right blocks fit the L1 cache
  alignas(64) float edge[size * size];
  for (Index first = 0; first < left.steps(); first += depth) {
    const Index last = (std::min)(left.steps(), first + depth);
    const bool fresh = o.fresh && first == 0;
    for (Index col = 0; col < c.cols(); col += size)
      for (Index row = 0; row < c.rows(); row += size) {
        const Index a = o.left_block + row / Operand::block;
        const Index b = o.right_block + col / Operand::block;
        if (o.upper && a > b) continue;
        const Index rows = (std::min)(size, c.rows() - row),
                    cols = (std::min)(size, c.cols() - col);
        const bool whole = rows == size && cols == size;
        const auto multiply_block =
            o.split ? detail::multiply_block<true> : detail::multiply_block<false>;
        multiply_block(whole ? &c(row, col) : edge, whole ? c.row_stride() : size, left, a, right,
                       b, first, last, o.right_step, whole ? fresh : true);
        if (whole) continue;
        for (Index r = 0; r < rows; ++r)
          for (Index k = 0; k < cols; ++k) {
            float& to = c(row + r, col + k);
            to = (fresh ? 0.0f : to) + edge[r * size + k];
          }
      }
  }
}

}  // namespace cpu::amx
}  // namespace GPTQ_SIMD
}  // namespace gptq::backend

#endif  // GPTQ_AMX
