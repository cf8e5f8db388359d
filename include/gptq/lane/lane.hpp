// SPDX-License-Identifier: MIT
#pragma once

// A lane: the same column of N neighbouring rows, computed side by side by the CPU's vector units.
// It implements the names in arithmetic.hpp, so schemes and kernels need not know how many rows
// they hold.

#include <gptq/config.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/lane/arithmetic.hpp>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include <array>
#include <bit>  // std::bit_cast
#include <cstdint>
#include <cstring>  // std::memcpy

namespace gptq::lane {
inline namespace GPTQ_SIMD {

/// N rows of a column. The compiler maps its vector type to what the machine has: 16 floats are one
/// AVX-512 register, two AVX, four SSE or NEON.
template <class T, int N>
struct Lane {
  typedef T Vector __attribute__((vector_size(sizeof(T) * N)));
  static constexpr int size = N;

  Vector v;

  Lane() = default;
  Lane(T x) : v(x - Vector{}) {}  // a broadcast; 0 + x would be a real addition because of -0
  explicit Lane(const Vector& x) : v(x) {}

  friend Lane operator+(const Lane& a, const Lane& b) { return Lane(a.v + b.v); }
  friend Lane operator-(const Lane& a, const Lane& b) { return Lane(a.v - b.v); }
  friend Lane operator*(const Lane& a, const Lane& b) { return Lane(a.v * b.v); }
  friend Lane operator/(const Lane& a, const Lane& b) { return Lane(a.v / b.v); }
  friend Lane operator-(const Lane& a) { return Lane(-a.v); }
  Lane& operator+=(const Lane& b) {
    v += b.v;
    return *this;
  }

  /// The result of a comparison: all ones or all zeros per row, for `select`.
  struct Mask {
    decltype(Vector{} < Vector{}) v;
    friend Mask operator&(const Mask& a, const Mask& b) { return {a.v & b.v}; }
    friend Mask operator|(const Mask& a, const Mask& b) { return {a.v | b.v}; }
    friend bool any(const Mask& a) {
#ifdef __AVX512F__
      if constexpr (sizeof(a.v) == 64)
        return _mm512_test_epi64_mask(__m512i(a.v), __m512i(a.v)) != 0;
#endif
      const auto words = std::bit_cast<std::array<std::uint64_t, sizeof(a.v) / 8>>(a.v);
      std::uint64_t all = 0;
      for (const std::uint64_t word : words) all |= word;
      return all != 0;
    }
  };
  friend Mask operator<(const Lane& a, const Lane& b) { return {a.v < b.v}; }
  friend Mask operator>(const Lane& a, const Lane& b) { return {a.v > b.v}; }
  friend Mask operator==(const Lane& a, const Lane& b) { return {a.v == b.v}; }
};

template <class T, int N>
Lane<T, N> select(const typename Lane<T, N>::Mask& mask, const Lane<T, N>& yes,
                  const Lane<T, N>& no) {
  return Lane<T, N>(mask.v ? yes.v : no.v);
}

template <class T, int N>
Lane<T, N> min(const Lane<T, N>& a, const Lane<T, N>& b) {
  return select(a < b, a, b);
}

template <class T, int N>
Lane<T, N> max(const Lane<T, N>& a, const Lane<T, N>& b) {
  return select(a > b, a, b);
}

#ifdef __AVX512F__
// One instruction each; compilers use two for a comparison and a select.
inline Lane<float, 16> min(const Lane<float, 16>& a, const Lane<float, 16>& b) {
  return Lane<float, 16>(_mm512_min_ps(a.v, b.v));
}
inline Lane<float, 16> max(const Lane<float, 16>& a, const Lane<float, 16>& b) {
  return Lane<float, 16>(_mm512_max_ps(a.v, b.v));
}
#endif

template <class T, int N>
Lane<T, N> abs(const Lane<T, N>& x) {
  return select(x < Lane<T, N>(0), -x, x);
}

template <class T, int N>
Lane<T, N> load(const T* from, const Lane<T, N>& /*kind*/) {
  Lane<T, N> x;
  std::memcpy(&x.v, from, sizeof(x.v));
  return x;
}

template <class T, int N, class F>
Lane<T, N> map(const Lane<T, N>& x, const F& f) {
  auto rows = std::bit_cast<std::array<T, N>>(x.v);
  for (T& row : rows) row = static_cast<T>(f(static_cast<float>(row)));
  return load(rows.data(), x);
}

template <class T, int N>
Lane<T, N> power(const Lane<T, N>& x, float exponent) {
  Lane<T, N> y;
  for (int i = 0; i < N; ++i) y.v[i] = lane::power(x.v[i], exponent);
  return y;
}

/// Ties to even. Adding 1.5·2²³ (2⁵² for double) shifts the fraction out of the mantissa, and the
/// addition rounds it to even.
template <class T, int N>
Lane<T, N> round_small(const Lane<T, N>& x) {
  constexpr T magic = sizeof(T) == 4 ? T(0x1.8p23) : T(0x1.8p52);
  const Lane<T, N> shifted(GPTQ_AS_IT_STANDS(x.v + Lane<T, N>(magic).v));
  return shifted - Lane<T, N>(magic);
}

/// Larger numbers are integers already and skip the trick.
template <class T, int N>
Lane<T, N> round_even(const Lane<T, N>& x) {
  constexpr T limit = sizeof(T) == 4 ? T(0x1p22) : T(0x1p51);
  return select(abs(x) < Lane<T, N>(limit), round_small(x), x);
}

template <class T, int N>
void store(T* to, const Lane<T, N>& x) {
  std::memcpy(to, &x.v, sizeof(x.v));
}

template <class T, int N>
void store_codes(std::uint8_t* to, const Lane<T, N>& x) {
  const auto values = std::bit_cast<std::array<T, N>>(x.v);
  for (int i = 0; i < N; ++i)
    to[i] = static_cast<std::uint8_t>(static_cast<int>(values[std::size_t(i)]));
}

#ifdef __AVX512F__
inline void store_codes(std::uint8_t* to, const Lane<float, 16>& x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(x.v)));
}
#endif

/// Sum over the first `rows` rows.
template <class T, int N>
double sum(const Lane<T, N>& x, Index rows) {
  double total = 0;
  if (rows < N) {
    for (Index i = 0; i < rows; ++i) total += x.v[i];
    return total;
  }
  // Adds the second half to the first until one is left: additions independent of each other.
  double parts[N];
  const auto values = std::bit_cast<std::array<T, N>>(x.v);
  for (int i = 0; i < N; ++i) parts[i] = static_cast<double>(values[std::size_t(i)]);
#pragma GCC unroll 8
  for (int half = N / 2; half > 0; half /= 2)
#pragma GCC unroll 16
    for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
  return parts[0];
}

/// How many of the first `rows` rows a mask selects.
template <class T, int N>
Index count(const Lane<T, N>& kind, const typename Lane<T, N>::Mask& mask, Index rows) {
  static_cast<void>(kind);
  int total = 0;
  if (rows < N)
    for (Index i = 0; i < rows; ++i) total += mask.v[i] != 0;
  else
    for (int i = 0; i < N; ++i) total -= static_cast<int>(mask.v[i]);
  return total;
}

}  // namespace GPTQ_SIMD
}  // namespace gptq::lane
