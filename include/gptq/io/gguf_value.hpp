// SPDX-License-Identifier: MIT
#pragma once

// GgufValue: a metadata value of a GGUF file. Arrays stay in place in the mapped file, so that no
// claim in a file takes more memory than the file itself.

#include <gptq/io/number.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>  // std::memcpy
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>  // std::move
#include <variant>
#include <vector>

namespace gptq::io {

/// The types of metadata values, numbered as in the file.
enum class GgufType : std::uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64
};

/// Bytes of one value; 0 for types of variable size.
inline std::size_t gguf_size(GgufType type) {
  static constexpr std::size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return sizes[static_cast<std::size_t>(type)];
}

/// An array in the file: consecutive numbers or booleans, or strings, each preceded by its length
/// (64 bits).
struct GgufArray {
  GgufType type = GgufType::u8;  ///< element type; never array
  std::uint64_t count = 0;
  std::span<const std::byte> bytes{};  ///< all of them, checked
};

/// A value of GGUF metadata: a number, a boolean, a string, or an array that stays in the file.
class GgufValue {
 public:
  using Variant = std::variant<bool, std::uint64_t, std::int64_t, double, std::string, GgufArray>;

  GgufValue() = default;
  GgufValue(Variant value) : value_(std::move(value)) {}

  /// Decodes a number, boolean or string of `type` from the start of `bytes`.
  static GgufValue scalar(GgufType type, std::span<const std::byte> bytes) {
    const auto number = [&]<class T>(T x) {
      std::memcpy(&x, bytes.data(), sizeof(T));
      return x;
    };
    switch (type) {
      case GgufType::u8: return Variant(std::uint64_t{number(std::uint8_t{})});
      case GgufType::i8: return Variant(std::int64_t{number(std::int8_t{})});
      case GgufType::u16: return Variant(std::uint64_t{number(std::uint16_t{})});
      case GgufType::i16: return Variant(std::int64_t{number(std::int16_t{})});
      case GgufType::u32: return Variant(std::uint64_t{number(std::uint32_t{})});
      case GgufType::i32: return Variant(std::int64_t{number(std::int32_t{})});
      case GgufType::f32: return Variant(double{number(float{})});
      case GgufType::boolean: return Variant(number(std::uint8_t{}) != 0);
      case GgufType::u64: return Variant(number(std::uint64_t{}));
      case GgufType::i64: return Variant(number(std::int64_t{}));
      case GgufType::f64: return Variant(number(double{}));
      default: return Variant(text_of(bytes));
    }
  }

  const Variant& variant() const { return value_; }
  const GgufArray* array() const { return std::get_if<GgufArray>(&value_); }

  /// The value as a T (bool, a number, std::string, or a std::vector of these), or nothing if it is
  /// something else. Numbers are never truncated: see `number_as`.
  template <class T>
  std::optional<T> as() const {
    if constexpr (is_vector<T>::value) {
      const GgufArray* found = array();
      if (!found) return std::nullopt;
      T out;
      out.reserve(static_cast<std::size_t>(found->count));
      const bool good = for_each(*found, [&](const GgufValue& element) {
        auto value = element.as<typename T::value_type>();
        if (value) out.push_back(std::move(*value));
        return value.has_value();
      });
      if (!good) return std::nullopt;
      return out;
    } else if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::string>) {
      const T* found = std::get_if<T>(&value_);
      return found ? std::optional<T>(*found) : std::nullopt;
    } else {
      if (const auto* x = std::get_if<std::uint64_t>(&value_)) return number_as<T>(*x);
      if (const auto* x = std::get_if<std::int64_t>(&value_)) return number_as<T>(*x);
      if (const auto* x = std::get_if<double>(&value_)) return number_as<T>(*x);
      return std::nullopt;
    }
  }

  /// Calls f for each element of an array until it returns false. \returns true if f never did
  template <class F>
  static bool for_each(const GgufArray& array, F&& f) {
    auto rest = array.bytes;
    for (std::uint64_t i = 0; i < array.count; ++i) {
      std::size_t size = gguf_size(array.type);
      if (size == 0) {
        std::uint64_t length = 0;
        std::memcpy(&length, rest.data(), sizeof(length));
        rest = rest.subspan(sizeof(length));
        size = static_cast<std::size_t>(length);
      }
      if (!f(scalar(array.type, rest.first(size)))) return false;
      rest = rest.subspan(size);
    }
    return true;
  }

  /// For display: `"llama"`, `0.5`, `["a", "b", "c", ... 32000 in all]`, about `most` characters
  /// long.
  std::string text(std::size_t most = 80) const {
    const GgufArray* found = array();
    if (!found) return scalar_text(most);
    std::string out = "[";
    std::uint64_t shown = 0;
    for_each(*found, [&](const GgufValue& element) {
      if (out.size() >= most) return false;
      out += (shown > 0 ? ", " : "") + element.scalar_text(most);
      ++shown;
      return true;
    });
    if (shown < found->count)
      out += (shown > 0 ? ", ... " : "... ") + std::to_string(found->count) + " in all";
    return out + "]";
  }

 private:
  template <class T>
  struct is_vector : std::false_type {};
  template <class T>
  struct is_vector<std::vector<T>> : std::true_type {};

  static std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  std::string scalar_text(std::size_t most) const {
    nlohmann::json json;
    std::visit(
        [&]<class T>(const T& x) {
          if constexpr (std::is_same_v<T, std::string>)
            json = x.size() > most ? x.substr(0, most) + "..." : x;
          else if constexpr (!std::is_same_v<T, GgufArray>) json = x;
        },
        value_);
    return json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  }

  Variant value_{};
};

}  // namespace gptq::io
