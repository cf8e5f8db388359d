// SPDX-License-Identifier: MIT

#include <gptq/pack/bitstream.hpp>

#include "../support/catch.hpp"

#include <random>
#include <vector>

using gptq::Index;
using gptq::MatrixView;

namespace {

std::vector<std::uint32_t> pack_column(const std::vector<int>& codes, int bits) {
  const auto count = static_cast<Index>(codes.size());
  std::vector<std::uint32_t> words(static_cast<std::size_t>(gptq::pack::word_count(count, bits)));
  gptq::pack::pack_rows(
      [&](Index r, Index) { return codes[static_cast<std::size_t>(r)]; }, count, bits,
      MatrixView<std::uint32_t>(words.data(), static_cast<Index>(words.size()), 1));
  return words;
}

}  // namespace

TEST_CASE("codes pack to the published words", "[bitstream]") {
  CHECK(pack_column({0, 1, 2, 3, 4, 5, 6, 7}, 4) == std::vector<std::uint32_t>{0x76543210});
  CHECK(pack_column({0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3}, 2) ==
        std::vector<std::uint32_t>{0xE4E4E4E4});
  CHECK(pack_column({0x10, 0x20, 0x30, 0xF0}, 8) == std::vector<std::uint32_t>{0xF0302010});
  std::vector<int> three;
  for (int i = 0; i < 32; ++i) three.push_back(i % 8);
  CHECK(pack_column(three, 3) == std::vector<std::uint32_t>{0x88FAC688, 0xC688FAC6, 0xFAC688FA});
}

TEST_CASE("codes of any number of bits come back, column by column", "[bitstream]") {
  std::mt19937 random(2);
  for (int bits = 1; bits <= 8; ++bits)
    for (const Index rows : {1, 5, 32, 77, 160}) {
      const Index cols = 3;
      std::vector<std::uint32_t> codes(static_cast<std::size_t>(rows * cols));
      for (auto& c : codes) c = static_cast<std::uint32_t>(random()) % (1u << bits);
      std::vector<std::uint32_t> words(
          static_cast<std::size_t>(gptq::pack::word_count(rows, bits) * cols), 0xffffffffu);
      const MatrixView<std::uint32_t> view(words.data(), gptq::pack::word_count(rows, bits), cols);
      gptq::pack::pack_rows(
          [&](Index r, Index c) { return codes[static_cast<std::size_t>(r * cols + c)]; }, rows,
          bits, view);
      for (Index c = 0; c < cols; ++c) {
        const auto word = [&](Index w) { return view(w, c); };
        for (Index r = 0; r < rows; ++r)
          REQUIRE(gptq::pack::unpack(word, r, bits) ==
                  codes[static_cast<std::size_t>(r * cols + c)]);
      }
    }
}

TEST_CASE("a code that is too wide does not spill into its neighbours", "[bitstream]") {
  CHECK(pack_column({0, -1, 0, 0, 0, 0, 0, 0}, 4) == std::vector<std::uint32_t>{0x000000F0});
}
