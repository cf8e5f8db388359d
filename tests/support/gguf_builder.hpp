// SPDX-License-Identifier: MIT
#pragma once

// Writes small GGUF files for tests.

#include "files.hpp"

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace test {

class GgufBuilder {
 public:
  GgufBuilder& text(const std::string& key, const std::string& value) {
    return entry(key, 8, string(value));
  }
  GgufBuilder& flag(const std::string& key, bool value) {
    return entry(key, 7, bytes_of(static_cast<std::uint8_t>(value)));
  }

  template <class T>
  GgufBuilder& number(const std::string& key, T value) {
    return entry(key, type<T>(), bytes_of(value));
  }

  GgufBuilder& texts(const std::string& key, const std::vector<std::string>& values) {
    std::string body = bytes_of(std::uint32_t(8)) + bytes_of(std::uint64_t(values.size()));
    for (const auto& v : values) body += string(v);
    return entry(key, 9, body);
  }

  template <class T>
  GgufBuilder& numbers(const std::string& key, const std::vector<T>& values) {
    std::string body = bytes_of(type<T>()) + bytes_of(std::uint64_t(values.size()));
    for (const T& v : values) body += bytes_of(v);
    return entry(key, 9, body);
  }

  /// A tensor of floats; shape outermost first.
  GgufBuilder& tensor(const std::string& name, std::vector<std::int64_t> shape,
                      const std::vector<float>& values) {
    tensors_ += string(name) + bytes_of(static_cast<std::uint32_t>(shape.size()));
    for (std::size_t i = shape.size(); i-- > 0;)
      tensors_ += bytes_of(static_cast<std::uint64_t>(shape[i]));
    tensors_ += bytes_of(std::uint32_t(0)) + bytes_of(std::uint64_t(data_.size()));
    for (const float v : values) data_ += bytes_of(v);
    data_.resize((data_.size() + 31) / 32 * 32, '\0');
    ++tensor_count_;
    return *this;
  }

  std::string bytes(std::uint32_t version = 3) const {
    std::string out = "GGUF" + bytes_of(version) + bytes_of(tensor_count_) + bytes_of(key_count_) +
                      keys_ + tensors_;
    out.resize((out.size() + 31) / 32 * 32, '\0');
    return out + data_;
  }

 private:
  template <class T>
  static constexpr std::uint32_t type() {
    if constexpr (std::is_same_v<T, float>) return 6;
    else if constexpr (std::is_same_v<T, std::uint32_t>) return 4;
    else if constexpr (std::is_same_v<T, std::int32_t>) return 5;
    else if constexpr (std::is_same_v<T, std::uint64_t>) return 10;
    else return 12;
  }
  static std::string string(const std::string& s) { return bytes_of(std::uint64_t(s.size())) + s; }
  GgufBuilder& entry(const std::string& key, std::uint32_t type, const std::string& body) {
    keys_ += string(key) + bytes_of(type) + body;
    ++key_count_;
    return *this;
  }

  std::string keys_, tensors_, data_;
  std::uint64_t key_count_ = 0, tensor_count_ = 0;
};

}  // namespace test
