// SPDX-License-Identifier: MIT
#pragma once

// WordCache: the ids of words seen before, because words repeat. Limited to a few megabytes.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace gptq::model {

using TokenId = std::int32_t;

namespace detail {

/// Allows lookups without copying the string.
struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>{}(text);
  }
};

template <class Value>
using StringMap = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

}  // namespace detail

/// Ids by word. Not to be shared between threads.
class WordCache {
 public:
  static constexpr std::size_t longest = 256;  ///< bytes of the longest word kept

  /// Appends the ids of the word: cached ones, or else what `encode(ids)` appends.
  template <class Encode>
  void append(std::string_view word, std::vector<TokenId>& ids, const Encode& encode) {
    if (word.size() > longest) {
      encode(ids);
      return;
    }
    if (const auto found = entries_.find(word); found != entries_.end()) {
      const auto begin = ids_.begin() + static_cast<std::ptrdiff_t>(found->second.begin);
      ids.insert(ids.end(), begin, begin + static_cast<std::ptrdiff_t>(found->second.count));
      return;
    }
    const std::size_t begin = ids.size();
    encode(ids);
    if (entries_.size() >= most || ids_.size() >= 16 * most) {
      entries_.clear();
      ids_.clear();
    }
    entries_.emplace(word, Entry{ids_.size(), ids.size() - begin});
    ids_.insert(ids_.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end());
  }

 private:
  static constexpr std::size_t most = 1 << 15;

  struct Entry {
    std::size_t begin, count;  // in ids_
  };

  detail::StringMap<Entry> entries_;
  std::vector<TokenId> ids_;
};

}  // namespace gptq::model
