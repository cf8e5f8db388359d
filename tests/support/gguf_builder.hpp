// SPDX-License-Identifier: MIT
#pragma once

// Writes small GGUF files for tests.

#include "files.hpp"

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>  // std::move
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

  /// A tensor of floats; shape outermost first. Replaces one with the same name.
  GgufBuilder& tensor(const std::string& name, std::vector<std::int64_t> shape,
                      const std::vector<float>& values) {
    std::string bytes;
    for (const float v : values) bytes += bytes_of(v);
    return tensor(name, std::move(shape), 0, bytes);
  }

  /// A tensor of any ggml type.
  GgufBuilder& tensor(const std::string& name, std::vector<std::int64_t> shape, std::uint32_t type,
                      const std::string& bytes) {
    const Tensor tensor{name, std::move(shape), type, bytes};
    for (Tensor& old : tensors_)
      if (old.name == name) {
        old = tensor;
        return *this;
      }
    tensors_.push_back(tensor);
    return *this;
  }

  GgufBuilder& without(const std::string& key) {
    std::erase_if(entries_, [&](const Entry& e) { return e.key == key; });
    std::erase_if(tensors_, [&](const Tensor& t) { return t.name == key; });
    return *this;
  }

  std::string bytes(std::uint32_t version = 3) const {
    std::string head, data;
    for (const Entry& e : entries_) head += string(e.key) + bytes_of(e.type) + e.body;
    for (const Tensor& t : tensors_) {
      head += string(t.name) + bytes_of(static_cast<std::uint32_t>(t.shape.size()));
      for (std::size_t i = t.shape.size(); i-- > 0;)
        head += bytes_of(static_cast<std::uint64_t>(t.shape[i]));
      head += bytes_of(t.type) + bytes_of(std::uint64_t(data.size()));
      data += t.bytes;
      data.resize((data.size() + 31) / 32 * 32, '\0');
    }
    std::string out = "GGUF" + bytes_of(version) + bytes_of(std::uint64_t(tensors_.size())) +
                      bytes_of(std::uint64_t(entries_.size())) + head;
    out.resize((out.size() + 31) / 32 * 32, '\0');
    return out + data;
  }

 private:
  struct Entry {
    std::string key;
    std::uint32_t type;
    std::string body;
  };
  struct Tensor {
    std::string name;
    std::vector<std::int64_t> shape;
    std::uint32_t type;
    std::string bytes;
  };

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
    entries_.push_back({key, type, body});
    return *this;
  }

  std::vector<Entry> entries_;
  std::vector<Tensor> tensors_;
};

/// A Llama with one layer: hidden size 32, 2 heads of 16, 40 tokens, no tokenizer.
inline GgufBuilder small_llama() {
  GgufBuilder b;
  b.text("general.architecture", "llama")
      .number<std::uint32_t>("llama.context_length", 64)
      .number<std::uint32_t>("llama.embedding_length", 32)
      .number<std::uint32_t>("llama.block_count", 1)
      .number<std::uint32_t>("llama.feed_forward_length", 32)
      .number<std::uint32_t>("llama.attention.head_count", 2)
      .number<float>("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const auto d : shape) count *= d;
    b.tensor(name, shape, std::vector<float>(static_cast<std::size_t>(count), 0.5f));
  };
  add("token_embd.weight", {40, 32});
  add("output_norm.weight", {32});
  for (const char* norm : {"attn_norm", "ffn_norm"})
    add("blk.0." + std::string(norm) + ".weight", {32});
  for (const char* m :
       {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"})
    add("blk.0." + std::string(m) + ".weight", {32, 32});
  return b;
}

}  // namespace test
