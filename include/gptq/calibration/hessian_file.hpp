// SPDX-License-Identifier: MIT
#pragma once

// Hessians in files, so that calibration and quantization can be different processes, or different
// machines whose Hessians are merged.

#include <gptq/calibration/hessian.hpp>

#include <algorithm>  // std::copy_n
#include <array>
#include <bit>  // std::endian
#include <cstdint>
#include <cstdio>      // std::remove
#include <cstring>     // std::memcpy
#include <filesystem>  // std::filesystem::rename
#include <fstream>
#include <string>

namespace gptq {

namespace detail {

static_assert(std::endian::native == std::endian::little, "gptq: files are little-endian");

/// What stands before the numbers: 64 bytes.
struct HessianHeader {
  std::array<char, 8> magic{'G', 'P', 'T', 'Q', 'H', 'E', 'S', 'S'};
  std::uint32_t version = 3;
  std::uint32_t scalar_bytes = 0;  ///< 4 or 8
  std::uint64_t in_features = 0;
  double tokens = 0, sequences = 0;  // side by side, with
  double largest = 0;                ///< activation
  std::uint64_t checksum = 0;  ///< FNV-1a of these three and what follows, in words of 64 bits
  std::uint64_t reserved = 0;
};
static_assert(sizeof(HessianHeader) == 64);

/// FNV-1a over 64-bit words; the last one is filled up with zeros.
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

/// Writes the sum (upper triangle, row by row) and the counts, under a temporary name that is
/// renamed at the end.
/// \throws IoError  the file cannot be written
template <Backend B>
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

  const std::filesystem::path temporary = path.string() + ".partial";
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(&header), sizeof(header));
    for (Index i = 0; i < n && file; ++i)
      file.write(reinterpret_cast<const char*>(row(i)), static_cast<std::streamsize>(bytes(i)));
    file.close();
    if (!file) {
      std::remove(temporary.c_str());
      throw IoError(detail::message(path.string(), ": cannot write the Hessian"));
    }
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (error) {
    std::remove(temporary.c_str());
    throw IoError(
        detail::message(path.string(), ": cannot rename the finished file: ", error.message()));
  }
}

/// \throws IoError         the file cannot be read
/// \throws FormatError     it is not a Hessian, or damaged; the message says how
/// \throws NumericalError  an element is not finite
template <Backend B>
Hessian<B> load_hessian(const std::filesystem::path& path, B backend = B{}) {
  const std::string name = path.string();
  const auto check = [&](bool good, const auto&... what) {
    detail::require<FormatError>(good, name, ": ", what...);
  };
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw IoError(detail::message(name, ": cannot open the file"));
  const auto size = static_cast<std::uint64_t>(file.tellg());
  file.seekg(0);
  detail::HessianHeader header, expected;
  check(size >= sizeof(header), "is no Hessian: ", size, " bytes, the header alone has ",
        sizeof(header));
  file.read(reinterpret_cast<char*>(&header), sizeof(header));
  check(header.magic == expected.magic, "is no Hessian: it does not begin with GPTQHESS");
  check(header.version == expected.version, "version ", header.version, " is not known, only ",
        expected.version);
  check(header.scalar_bytes == 4 || header.scalar_bytes == 8, "numbers of ", header.scalar_bytes,
        " bytes");
  const std::uint64_t n = header.in_features;
  check(n > 0 && n < (std::uint64_t(1) << 24), "in_features = ", n);
  const std::uint64_t wanted = sizeof(header) + n * (n + 1) / 2 * header.scalar_bytes;
  check(size == wanted, "has ", size, " bytes, a Hessian of ", n, " inputs has ", wanted);

  const auto read = [&]<class T>(T) {
    std::vector<T> sum(static_cast<std::size_t>(n * n));
    detail::Checksum checksum;
    checksum.add(&header.tokens, 3 * sizeof(double));
    for (std::uint64_t i = 0; i < n; ++i) {
      const auto bytes = static_cast<std::size_t>((n - i) * sizeof(T));
      file.read(reinterpret_cast<char*>(sum.data() + i * n + i),
                static_cast<std::streamsize>(bytes));
      if (!file) throw IoError(detail::message(name, ": cannot read row ", i));
      checksum.add(sum.data() + i * n + i, bytes);
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
