// SPDX-License-Identifier: MIT
#pragma once

// Hessians in files, so that calibration and quantization can run in different processes, or the
// Hessians of several machines be merged.

#include <gptq/calibration/hessian.hpp>
#include <gptq/io/output_file.hpp>

#include <algorithm>  // std::copy_n
#include <array>
#include <bit>  // std::endian
#include <cstdint>
#include <cstring>  // std::memcpy
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace gptq {

namespace detail {

static_assert(std::endian::native == std::endian::little, "gptq: files are little-endian");

/// The 64 bytes before the numbers.
struct HessianHeader {
  std::array<char, 8> magic{'G', 'P', 'T', 'Q', 'H', 'E', 'S', 'S'};
  std::uint32_t version = 3;
  std::uint32_t scalar_bytes = 0;  ///< 4 or 8
  std::uint64_t in_features = 0;
  double tokens = 0, sequences = 0;  // adjacent, with `largest`, for the checksum
  double largest = 0;                ///< activation
  std::uint64_t checksum = 0;        ///< FNV-1a of these three and the numbers, in words of 64 bits
  std::uint64_t reserved = 0;
};
static_assert(sizeof(HessianHeader) == 64);

/// Bytes after the header: the upper triangle.
inline std::uint64_t hessian_bytes(const HessianHeader& header) {
  return header.in_features * (header.in_features + 1) / 2 * header.scalar_bytes;
}

/// FNV-1a over 64-bit words; the last one is padded with zeros.
class Checksum {
 public:
  void add(const void* data, std::size_t bytes) {
    const auto* from = static_cast<const unsigned char*>(data);
    for (; bytes > 0;) {
      std::uint64_t word = 0;
      const std::size_t take = bytes < sizeof(word) ? bytes : sizeof(word);
      std::memcpy(&word, from, take);
      value_ = (value_ ^ word) * 0x100000001b3u;
      from += take;
      bytes -= take;
    }
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace detail

/// Writes the sum (upper triangle, row by row) and the counts to a temporary file that is renamed
/// at the end. \throws IoError  the file cannot be written
template <backend::Backend B>
void save_hessian(const Hessian<B>& hessian, const std::filesystem::path& path) {
  using Scalar = typename B::Scalar;
  const Index n = hessian.in_features();
  std::vector<Scalar> sum(static_cast<std::size_t>(n * n));
  hessian.backend().download(hessian.sum(), MatrixView<Scalar>(sum.data(), n, n));
  const auto row = [&](Index i) { return sum.data() + i * n + i; };
  const auto bytes = [&](Index i) { return static_cast<std::size_t>(n - i) * sizeof(Scalar); };

  detail::HessianHeader header;
  header.scalar_bytes = sizeof(Scalar);
  header.in_features = static_cast<std::uint64_t>(n);
  header.tokens = hessian.tokens();
  header.sequences = hessian.sequences();
  header.largest = hessian.largest();
  detail::Checksum checksum;
  checksum.add(&header.tokens, 3 * sizeof(double));
  for (Index i = 0; i < n; ++i) checksum.add(row(i), bytes(i));
  header.checksum = checksum.value();

  std::uint64_t at = sizeof(header);
  io::OutputFile file(path, at + detail::hessian_bytes(header));
  file.write_at(0, std::as_bytes(std::span(&header, 1)));
  for (Index i = 0; i < n; ++i) {
    file.write_at(at, std::as_bytes(std::span(row(i), static_cast<std::size_t>(n - i))));
    at += bytes(i);
  }
  file.commit();
}

/// Reads what save_hessian wrote.
/// \throws IoError         the file cannot be read
/// \throws FormatError     it is not a Hessian file, or damaged; the message says how
/// \throws NumericalError  an element is not finite
template <backend::Backend B>
Hessian<B> load_hessian(const std::filesystem::path& path, B backend = default_backend<B>()) {
  const std::string name = path.string();
  const auto check = [&](bool good, const auto&... what) {
    detail::require<FormatError>(good, name, ": ", what...);
  };
  const io::Descriptor file(path, O_RDONLY, "cannot open the file");
  const auto size = static_cast<std::uint64_t>(file.regular_status(path).st_size);
  detail::HessianHeader header, expected;
  check(size >= sizeof(header), "not a Hessian file: ", size, " bytes, shorter than its ",
        sizeof(header), "-byte header");
  file.read_at(0, std::as_writable_bytes(std::span(&header, 1)), path);
  check(header.magic == expected.magic, "not a Hessian file: it does not begin with GPTQHESS");
  check(header.version == expected.version, "version ", header.version, " is unknown, only ",
        expected.version, " is supported");
  check(header.scalar_bytes == 4 || header.scalar_bytes == 8, "numbers of ", header.scalar_bytes,
        " bytes");
  const std::uint64_t n = header.in_features;
  check(n > 0 && n < (std::uint64_t(1) << 24), "in_features = ", n);
  const std::uint64_t wanted = sizeof(header) + detail::hessian_bytes(header);
  check(size == wanted, "has ", size, " bytes, but a Hessian of ", n, " inputs has ", wanted);

  const auto read = [&]<class T>(T) {
    std::vector<T> sum(static_cast<std::size_t>(n * n));
    detail::Checksum checksum;
    checksum.add(&header.tokens, 3 * sizeof(double));
    std::uint64_t at = sizeof(header);
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::span<T> row(sum.data() + i * n + i, static_cast<std::size_t>(n - i));
      file.read_at(at, std::as_writable_bytes(row), path);
      checksum.add(row.data(), row.size_bytes());
      at += row.size_bytes();
    }
    check(checksum.value() == header.checksum, "is damaged: its checksum is ", checksum.value(),
          ", the header says ", header.checksum);
    const auto rows = static_cast<Index>(n);
    try {
      return Hessian<B>::from_sum(MatrixView<const T>(sum.data(), rows, rows), header.tokens,
                                  header.sequences, backend, header.largest, name + ": sum");
    } catch (const InvalidArgument& error) {
      throw FormatError(error.what());
    }
  };
  return header.scalar_bytes == 4 ? read(float{}) : read(double{});
}

}  // namespace gptq
