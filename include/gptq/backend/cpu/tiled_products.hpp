// SPDX-License-Identifier: MIT
#pragma once

// The two large products on a CPU: XᵀX for Hessians and X·Wᵀ for the decoder, cut into tiles whose
// shape depends on the operands alone, so that any number of threads gives the same bits.

#include <gptq/backend/cpu/amx.hpp>
#include <gptq/backend/cpu/maps.hpp>
#include <gptq/backend/cpu/packed_product.hpp>
#include <gptq/backend/cpu/tiles.hpp>
#include <gptq/config.hpp>
#include <gptq/core/precision.hpp>

#include <algorithm>  // std::min
#include <type_traits>

namespace gptq::backend {
inline namespace GPTQ_SIMD {
namespace cpu {

/// Whether a product runs on matrix tiles: if it is allowed to and the processor has them.
template <class Scalar>
bool use_tiles([[maybe_unused]] bool allowed) {
#if GPTQ_AMX
  return std::is_same_v<Scalar, float> && allowed && amx::available();
#else
  return false;
#endif
}

/// Rows of a product that one task computes on matrix tiles: enough to reuse what it reads of the
/// right side many times, few enough to leave tasks for many threads.
inline Index strip_rows(Index rows) {
  return std::clamp<Index>((rows / 8 + 31) / 32 * 32, 64, 256);
}

/// Tokens whose products are summed before they are added to a sum over tokens.
constexpr Index tokens_at_once = 512;

/// The most bytes that add_gram takes for n columns.
template <class Scalar, class Executor>
Index gram_bytes(const Executor& executor, Index n) {
  const Index packed = executor.concurrency() * product_bytes<Scalar>(tile_size(n));
#if GPTQ_AMX
  if (use_tiles<Scalar>(true))
    return (std::max)(packed, 2 * amx::Operand::bytes(n, tokens_at_once));
#endif
  return packed;
}

/// sum += xᵀ·x, upper triangle; x [tokens, n] with contiguous rows.
template <class Executor, class Scalar>
void add_gram(const Executor& executor, MatrixView<Scalar> sum, MatrixView<const Scalar> x,
              [[maybe_unused]] bool tiles) {
  const Index n = x.cols();
#if GPTQ_AMX
  if constexpr (std::is_same_v<Scalar, float>)
    if (tiles) {
      const Index strip = strip_rows(n), blocks = strip / amx::Operand::block;
      const Index strips = (n + strip - 1) / strip;
      amx::Operand left(n, tokens_at_once), right(n, tokens_at_once);
      for (Index t = 0; t < x.rows(); t += tokens_at_once) {
        const auto part = x.middle_rows(t, (std::min)(tokens_at_once, x.rows() - t)).transposed();
        executor.parallel_for(strips, [&](Index i) {
          const Index end = (std::min)(left.blocks(), (i + 1) * blocks);
          amx::pack(amx::Side::left, part, i * blocks, end, left);
          amx::pack(amx::Side::right, part, i * blocks, end, right);
        });
        executor.parallel_for(strips, [&](Index i) {
          const amx::Tiles registers;
          const Index row = i * strip, rows = (std::min)(strip, n - row);
          amx::multiply(sum.block(row, row, rows, n - row), left, right,
                        {.left_block = i * blocks, .right_block = i * blocks, .upper = true});
        });
      }
      return;
    }
#endif
  const auto list = upper_tiles(n, tile_size(n));
  executor.parallel_for(static_cast<Index>(list.size()), [&](Index i) {
    const Tile& tile = list[std::size_t(i)];
    for (Index t = 0; t < x.rows(); t += tokens_at_once) {
      const auto part = x.middle_rows(t, (std::min)(tokens_at_once, x.rows() - t));
      add_product(sum.block(tile.row, tile.col, tile.rows, tile.cols),
                  part.middle_cols(tile.row, tile.rows), part.middle_cols(tile.col, tile.cols));
    }
  });
}

/// The right side of products y = x·wᵀ, w [out, in], prepared once for many x.
class RightSide {
 public:
  /// \param w  contiguous along one of its dimensions; must outlive this
  template <class Executor>
  RightSide([[maybe_unused]] const Executor& executor, MatrixView<const float> w,
            [[maybe_unused]] Precision precision)
      : w_(w) {
#if GPTQ_AMX
    tiles_ = use_tiles<float>(precision != Precision::single);
    split_ = precision == Precision::split;
    if (!tiles_) return;
    constexpr Index at_once = 4;
    packed_ = amx::Operand(w.rows(), w.cols());
    executor.parallel_for((packed_.blocks() + at_once - 1) / at_once, [&](Index i) {
      amx::pack(amx::Side::right, w, i * at_once, (std::min)(packed_.blocks(), (i + 1) * at_once),
                packed_);
    });
#endif
  }

  /// y = x·w[row.., col..]ᵀ, or += with `add`, on the calling thread. Takes as many rows of w as y
  /// has columns and as many columns as x has; row and col are multiples of 32.
  void multiply(MatrixView<float> y, MatrixView<const float> x, bool add, Index row = 0,
                Index col = 0) const {
#if GPTQ_AMX
    if (tiles_) {
      amx::Operand left(x.rows(), x.cols());
      amx::pack(amx::Side::left, x, 0, left.blocks(), left);
      const amx::Tiles registers;
      amx::multiply(y, left, packed_,
                    {.right_block = row / amx::Operand::block,
                     .right_step = col / amx::Operand::step,
                     .fresh = !add,
                     .split = split_});
      return;
    }
#endif
    if (!add) map(y).setZero();
    add_product<Sign::plus, float>(y, x.transposed(),
                                   w_.block(row, col, y.cols(), x.cols()).transposed());
  }

 private:
  MatrixView<const float> w_;
#if GPTQ_AMX
  bool tiles_ = false, split_ = true;
  amx::Operand packed_;
#endif
};

/// sum += aᵀ·b; a [tokens, k], b [tokens, n], sum [k, n], all with contiguous rows.
template <class Executor, class Scalar>
void add_cross(const Executor& executor, MatrixView<Scalar> sum, MatrixView<const Scalar> a,
               MatrixView<const Scalar> b, [[maybe_unused]] bool tiles) {
  for (Index t = 0; t < a.rows(); t += tokens_at_once) {
    const Index tokens = (std::min)(tokens_at_once, a.rows() - t);
#if GPTQ_AMX
    if constexpr (std::is_same_v<Scalar, float>)
      if (tiles) {
        const auto left = a.middle_rows(t, tokens).transposed();
        const RightSide packed(executor, b.middle_rows(t, tokens).transposed(), Precision::split);
        const Index strip = strip_rows(left.rows());
        executor.parallel_for((left.rows() + strip - 1) / strip, [&](Index i) {
          const Index row = i * strip, rows = (std::min)(strip, left.rows() - row);
          packed.multiply(sum.middle_rows(row, rows), left.middle_rows(row, rows), true);
        });
        continue;
      }
#endif
    const Index size = tile_size(sum.cols());
    const Index across = (sum.cols() + size - 1) / size, down = (sum.rows() + size - 1) / size;
    executor.parallel_for(across * down, [&](Index i) {
      const Index row = i / across * size, col = i % across * size;
      const Index rows = (std::min)(size, sum.rows() - row);
      const Index cols = (std::min)(size, sum.cols() - col);
      add_product(sum.block(row, col, rows, cols), a.block(t, row, tokens, rows),
                  b.block(t, col, tokens, cols));
    });
  }
}

/// y = x·wᵀ, or y += x·wᵀ; x [tokens, in], w [out, in], y [tokens, out], all with contiguous rows.
template <class Executor>
void multiply_transposed(const Executor& executor, MatrixView<float> y, MatrixView<const float> x,
                         MatrixView<const float> w, bool add, Precision precision) {
  constexpr Index wide = 1024, tall = 256;  // tiles of y
  for (Index col = 0; col < w.rows(); col += wide) {
    const auto part = w.middle_rows(col, (std::min)(wide, w.rows() - col));
    const RightSide right(executor, part, precision);
    executor.parallel_for((x.rows() + tall - 1) / tall, [&](Index i) {
      const Index row = i * tall, rows = (std::min)(tall, x.rows() - row);
      const auto out = y.block(row, col, rows, part.rows());
      right.multiply(out, x.middle_rows(row, rows), add);
    });
  }
}

}  // namespace cpu
}  // namespace GPTQ_SIMD
}  // namespace gptq::backend
