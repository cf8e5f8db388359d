// SPDX-License-Identifier: MIT
#pragma once

// Reading GGUF, versions 2 and 3: metadata, tensor descriptions, data. Counts, lengths and offsets
// in the file are not trusted: each is checked against the bytes that are there before it is used.

#include <gptq/io/file_kind.hpp>
#include <gptq/io/gguf_value.hpp>
#include <gptq/io/mapped_file.hpp>
#include <gptq/io/tensor.hpp>
#include <gptq/pack/gguf_blocks.hpp>

#include <algorithm>  // std::reverse
#include <map>
#include <string>
#include <utility>  // std::move

namespace gptq::io {

/// One tensor of a GGUF file, in place in the mapping.
struct GgufTensor {
  const pack::GgmlTypeInfo* type = nullptr;  ///< nullptr: an unsupported type
  std::uint32_t type_number = 0;
  Shape shape;  ///< outermost first: [out, in], the file's order reversed
  std::span<const std::byte> bytes;
};

/// A GGUF file: its metadata and tensors, mapped into memory.
class Gguf {
 public:
  /// \throws IoError      the file cannot be opened
  /// \throws FormatError  the file is not GGUF 2 or 3, is truncated, or claims more than it
  /// contains
  explicit Gguf(const std::filesystem::path& path) : file_(path), rest_(file_.bytes()) { parse(); }

  const std::filesystem::path& path() const { return file_.path(); }
  const MappedFile& file() const { return file_; }
  std::uint32_t version() const { return version_; }

  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }

  bool has(const std::string& key) const { return metadata_.count(key) > 0; }

  /// \throws FormatError  the key is missing or its value is not a T (see GgufValue::as)
  template <class T>
  T get(const std::string& key) const {
    const auto found = metadata_.find(key);
    check(found != metadata_.end(), "has no metadata key ", key);
    auto value = found->second.as<T>();
    if (!value)
      check(false, "the metadata key ", key, " has the value ", found->second.text(),
            ", which is not of the expected type");
    return std::move(*value);
  }

  template <class T>
  T get_or(const std::string& key, T otherwise) const {
    return has(key) ? get<T>(key) : otherwise;
  }

  /// \throws FormatError  no tensor of that name
  const GgufTensor& at(const std::string& name) const {
    const auto found = tensors_.find(name);
    check(found != tensors_.end(), "has no tensor ", name);
    return found->second;
  }

  /// \throws FormatError  there is no such tensor, or its type is not supported
  void require_readable(const std::string& name) const {
    const GgufTensor& tensor = at(name);
    if (tensor.type) return;
    const auto known = pack::ggml_type_name(tensor.type_number);
    check(false, "tensor ", name, " has the ggml type ",
          known.empty() ? std::to_string(tensor.type_number) : std::string(known),
          ", which is not supported (", pack::readable_ggml_types(), " are)");
  }

  /// A tensor's numbers, dequantized.
  /// \throws FormatError  there is no such tensor, its type is not supported, or `out` has the
  /// wrong size
  void read(const std::string& name, std::span<float> out) const {
    require_readable(name);
    const GgufTensor& tensor = at(name);
    try {
      pack::dequantize_ggml(*tensor.type, tensor.bytes, out);
    } catch (const FormatError& error) {
      check(false, "tensor ", name, ": ", error.what());
    }
  }

 private:
  template <class... Parts>
  void check(bool condition, const Parts&... parts) const {
    gptq::detail::require<FormatError>(condition, file_.path().string(), ": ", parts...);
  }

  std::span<const std::byte> take(std::uint64_t size, std::string_view what) {
    check(size <= rest_.size(), "truncated at ", what, ": ", size, " bytes needed, ", rest_.size(),
          " left");
    const auto bytes = rest_.first(static_cast<std::size_t>(size));
    rest_ = rest_.subspan(static_cast<std::size_t>(size));
    return bytes;
  }

  template <class T>
  T take_number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  std::string take_string(std::string_view what) {
    const auto length = take_number<std::uint64_t>(what);
    const auto bytes = take(length, what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  GgufValue take_value(std::uint32_t number, const std::string& key) {
    check(number <= static_cast<std::uint32_t>(GgufType::f64), "the metadata key ", key,
          " has the unknown type ", number);
    const auto type = static_cast<GgufType>(number);
    if (type == GgufType::array) return GgufValue::Variant(take_array(key));
    if (type == GgufType::string) return GgufValue::Variant(take_string(key));
    const auto bytes = take(gguf_size(type), key);
    if (type == GgufType::boolean) check_booleans(bytes, key);
    return GgufValue::scalar(type, bytes);
  }

  GgufArray take_array(const std::string& key) {
    const auto number = take_number<std::uint32_t>(key);
    check(number != static_cast<std::uint32_t>(GgufType::array), "the metadata key ", key,
          " is an array of arrays");
    check(number <= static_cast<std::uint32_t>(GgufType::f64), "the metadata key ", key,
          " is an array of the unknown type ", number);
    GgufArray array{.type = static_cast<GgufType>(number),
                    .count = take_number<std::uint64_t>(key)};
    const std::size_t size = gguf_size(array.type);
    const std::size_t smallest = size > 0 ? size : sizeof(std::uint64_t);
    check(array.count <= rest_.size() / smallest, "the metadata key ", key, " claims ", array.count,
          " elements, ", rest_.size(), " bytes are left");
    const auto begin = rest_;
    if (size > 0) {
      take(array.count * size, key);
    } else {
      for (std::uint64_t i = 0; i < array.count; ++i) take(take_number<std::uint64_t>(key), key);
    }
    array.bytes = begin.first(begin.size() - rest_.size());
    if (array.type == GgufType::boolean) check_booleans(array.bytes, key);
    return array;
  }

  void check_booleans(std::span<const std::byte> bytes, const std::string& key) const {
    for (const std::byte value : bytes)
      check(value <= std::byte{1}, "the metadata key ", key, " is a boolean with the value ",
            int(value));
  }

  void parse() {
    const bool ours =
        file_.bytes().size() >= 4 && std::memcmp(file_.bytes().data(), "GGUF", 4) == 0;
    if (const std::string kind = ours ? "" : file_kind(file_.bytes()); !kind.empty())
      check(false, "is ", kind);
    const auto magic = take(4, "the magic number");
    check(std::memcmp(magic.data(), "GGUF", 4) == 0,
          "is not a GGUF file: it does not start with \"GGUF\"");
    const auto version = version_ = take_number<std::uint32_t>("the version");
    check((version & 0xffffu) != 0, "is a big-endian GGUF file, which is not supported");
    check(version == 2 || version == 3, "is GGUF version ", version,
          "; versions 2 and 3 are supported");
    const auto tensor_count = take_number<std::uint64_t>("the number of tensors");
    const auto key_count = take_number<std::uint64_t>("the number of metadata keys");
    check(key_count <= rest_.size() / 13, "claims ", key_count, " metadata keys, ", rest_.size(),
          " bytes are left");
    check(tensor_count <= rest_.size() / 32, "claims ", tensor_count, " tensors, ", rest_.size(),
          " bytes are left");

    for (std::uint64_t i = 0; i < key_count; ++i) {
      const std::string key = take_string("a metadata key");
      check(!key.empty(), "has an empty metadata key");
      check(!has(key), "has the metadata key ", key, " twice");
      const auto type = take_number<std::uint32_t>(key);
      metadata_[key] = take_value(type, key);
    }
    const auto alignment = get_or<std::uint64_t>("general.alignment", 32);
    check(alignment > 0 && alignment <= (1u << 20) && (alignment & (alignment - 1)) == 0,
          "general.alignment = ", alignment, " is not a power of two");

    std::vector<std::pair<std::string, std::uint64_t>> offsets;
    for (std::uint64_t i = 0; i < tensor_count; ++i) offsets.push_back(take_tensor());

    const std::uint64_t begin = static_cast<std::uint64_t>(file_.bytes().size() - rest_.size());
    const std::uint64_t padding = (alignment - begin % alignment) % alignment;
    const auto data =
        padding <= rest_.size() ? rest_.subspan(static_cast<std::size_t>(padding)) : rest_.last(0);
    std::uint64_t expected = 0;
    bool after_unknown = false;  // a tensor of unknown type, hence size, leaves a gap
    for (const auto& [name, offset] : offsets) {
      GgufTensor& tensor = tensors_.at(name);
      if (!tensor.type) {
        after_unknown = true;
        continue;
      }
      const auto size = static_cast<std::uint64_t>(element_count(tensor.shape) /
                                                   tensor.type->elements * tensor.type->bytes);
      check(offset == expected || (after_unknown && offset > expected && offset % alignment == 0),
            "tensor ", name, ": its data should start at ", expected, " but is said to start at ",
            offset, " (gap or overlap)");
      check(offset <= data.size() && size <= data.size() - offset, "tensor ", name, ": ", size,
            " bytes at offset ", offset, " extend past the file's ", data.size(), " bytes of data");
      tensor.bytes = data.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size));
      expected = (offset + size + alignment - 1) / alignment * alignment;
      after_unknown = false;
    }
  }

  /// Reads one tensor description; returns the tensor's name and claimed offset.
  std::pair<std::string, std::uint64_t> take_tensor() {
    const std::string name = take_string("a tensor name");
    check(!name.empty() && name.size() < 64, "has a tensor name of ", name.size(),
          " bytes; 1 to 63 are allowed");
    const auto dimensions = take_number<std::uint32_t>(name);
    check(dimensions >= 1 && dimensions <= 4, "tensor ", name, " has ", dimensions,
          " dimensions; 1 to 4 are allowed");
    GgufTensor tensor;
    for (std::uint32_t d = 0; d < dimensions; ++d) {
      const auto size = take_number<std::uint64_t>(name);
      check(size <= static_cast<std::uint64_t>(std::numeric_limits<Index>::max()), "tensor ", name,
            ": dimension ", size, " is too large");
      tensor.shape.push_back(static_cast<Index>(size));
    }
    std::reverse(tensor.shape.begin(), tensor.shape.end());
    try {
      element_count(tensor.shape);
    } catch (const FormatError& error) {
      check(false, "tensor ", name, ": ", error.what());
    }
    tensor.type_number = take_number<std::uint32_t>(name);
    tensor.type = pack::find_ggml_type(tensor.type_number);
    if (tensor.type)
      check(tensor.shape.back() % tensor.type->elements == 0, "tensor ", name, ": its rows of ",
            tensor.shape.back(), " are not whole blocks of ", tensor.type->name, " (",
            tensor.type->elements, ")");
    const auto offset = take_number<std::uint64_t>(name);
    check(tensors_.emplace(name, std::move(tensor)).second, "has the tensor ", name, " twice");
    return {name, offset};
  }

  MappedFile file_;
  std::span<const std::byte> rest_;  // not yet parsed
  std::map<std::string, GgufValue> metadata_;
  std::map<std::string, GgufTensor> tensors_;
  std::uint32_t version_ = 0;
};

}  // namespace gptq::io
