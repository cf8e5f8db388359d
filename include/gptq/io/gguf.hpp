// SPDX-License-Identifier: MIT
#pragma once

// Reading GGUF, versions 2 and 3: metadata, tensor descriptions, data. Counts, lengths and offsets
// in the file are claims: each one is held against the bytes that are there before it is used.

#include <gptq/io/mapped_file.hpp>
#include <gptq/io/tensor.hpp>
#include <gptq/pack/gguf_blocks.hpp>

#include <nlohmann/json.hpp>

#include <map>
#include <set>
#include <string>
#include <utility>  // std::move

namespace gptq::io {

/// One tensor of a GGUF file, where it lies in the mapping.
struct GgufTensor {
  const pack::GgmlTypeInfo* type = nullptr;  ///< nullptr: a type that is not read
  std::uint32_t type_number = 0;
  Shape shape;  ///< outermost first: [out, in], the file's order reversed
  std::span<const std::byte> bytes;
};

/// A GGUF file: its metadata and tensors, mapped into memory.
class Gguf {
 public:
  /// \throws IoError      the file cannot be opened
  /// \throws FormatError  the file is not GGUF 2 or 3, is truncated, or claims what is not there
  explicit Gguf(const std::filesystem::path& path) : file_(path), rest_(file_.bytes()) { parse(); }

  const std::filesystem::path& path() const { return file_.path(); }
  const MappedFile& file() const { return file_; }
  std::uint32_t version() const { return version_; }

  /// Keys and values; arrays as JSON arrays.
  const std::map<std::string, nlohmann::json>& metadata() const { return metadata_; }
  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }

  bool has(const std::string& key) const { return metadata_.count(key) > 0; }

  /// \throws FormatError  the key is missing or its value is not a T
  template <class T>
  T get(const std::string& key) const {
    const auto found = metadata_.find(key);
    check(found != metadata_.end(), "has no metadata key ", key);
    try {
      return found->second.get<T>();
    } catch (const nlohmann::json::exception&) {
      throw FormatError(gptq::detail::message(path().string(), ": the metadata key ", key,
                                              " has the value ", preview(found->second),
                                              ", which is not of the expected kind"));
    }
  }

  template <class T>
  T get_or(const std::string& key, T otherwise) const {
    return has(key) ? get<T>(key) : otherwise;
  }

  /// Numbers of a tensor, dequantized.
  /// \throws FormatError  its type is not read
  void read(const std::string& name, std::span<float> out) const {
    const GgufTensor& tensor = tensors_.at(name);
    check(tensor.type != nullptr, "tensor ", name, " has ggml type ", tensor.type_number,
          ", which is not read");
    pack::dequantize_ggml(*tensor.type, tensor.bytes, out);
  }

 private:
  enum ValueType : std::uint32_t {
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

  template <class... Parts>
  void check(bool condition, const Parts&... parts) const {
    gptq::detail::require<FormatError>(condition, file_.path().string(), ": ", parts...);
  }

  static std::string preview(const nlohmann::json& value) {
    const std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    return text.size() > 80 ? text.substr(0, 80) + "..." : text;
  }

  std::span<const std::byte> take(std::uint64_t size, const std::string& what) {
    check(size <= rest_.size(), "truncated at ", what, ": ", size, " bytes wanted, ", rest_.size(),
          " left");
    const auto bytes = rest_.first(static_cast<std::size_t>(size));
    rest_ = rest_.subspan(static_cast<std::size_t>(size));
    return bytes;
  }

  template <class T>
  T take_number(const std::string& what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  std::string take_string(const std::string& what) {
    const auto length = take_number<std::uint64_t>(what);
    const auto bytes = take(length, what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  nlohmann::json take_value(std::uint32_t type, const std::string& key) {
    switch (type) {
      case u8: return take_number<std::uint8_t>(key);
      case i8: return take_number<std::int8_t>(key);
      case u16: return take_number<std::uint16_t>(key);
      case i16: return take_number<std::int16_t>(key);
      case u32: return take_number<std::uint32_t>(key);
      case i32: return take_number<std::int32_t>(key);
      case f32: return take_number<float>(key);
      case boolean: {
        const auto value = take_number<std::uint8_t>(key);
        check(value <= 1, "the metadata key ", key, " is a boolean of value ", int(value));
        return value != 0;
      }
      case string: return take_string(key);
      case u64: return take_number<std::uint64_t>(key);
      case i64: return take_number<std::int64_t>(key);
      case f64: return take_number<double>(key);
      case array: {
        const auto element = take_number<std::uint32_t>(key);
        const auto count = take_number<std::uint64_t>(key);
        check(element != array, "the metadata key ", key, " is an array of arrays");
        check(element <= f64, "the metadata key ", key, " is an array of the unknown type ",
              element);
        static constexpr std::uint64_t smallest[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};
        check(count <= rest_.size() / smallest[element], "the metadata key ", key, " claims ",
              count, " elements, ", rest_.size(), " bytes are left");
        nlohmann::json values = nlohmann::json::array();
        values.get_ref<nlohmann::json::array_t&>().reserve(static_cast<std::size_t>(count));
        for (std::uint64_t i = 0; i < count; ++i) values.push_back(take_value(element, key));
        return values;
      }
      default: check(false, "the metadata key ", key, " has the unknown type ", type); return {};
    }
  }

  void parse() {
    const auto magic = take(4, "the magic number");
    check(std::memcmp(magic.data(), "GGUF", 4) == 0,
          "is not a GGUF file: it does not start with \"GGUF\"");
    const auto version = version_ = take_number<std::uint32_t>("the version");
    check((version & 0xffffu) != 0, "is a big-endian GGUF file, which is not read");
    check(version == 2 || version == 3, "is GGUF version ", version, ", versions 2 and 3 are read");
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
    bool after_unknown = false;  // a tensor of a type without a known size leaves a gap
    for (const auto& [name, offset] : offsets) {
      GgufTensor& tensor = tensors_.at(name);
      if (!tensor.type) {
        after_unknown = true;
        continue;
      }
      const auto size = static_cast<std::uint64_t>(element_count(tensor.shape) /
                                                   tensor.type->elements * tensor.type->bytes);
      check(offset == expected || (after_unknown && offset > expected && offset % alignment == 0),
            "tensor ", name, ": its data is said to start at ", offset, ", ", expected,
            " expected (gap or overlap)");
      check(offset <= data.size() && size <= data.size() - offset, "tensor ", name, ": ", size,
            " bytes at offset ", offset, " reach beyond the file's ", data.size(),
            " bytes of data");
      tensor.bytes = data.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size));
      expected = (offset + size + alignment - 1) / alignment * alignment;
      after_unknown = false;
    }
  }

  /// One tensor description; its name and the offset that it claims.
  std::pair<std::string, std::uint64_t> take_tensor() {
    const std::string name = take_string("a tensor name");
    check(!name.empty() && name.size() < 64, "has a tensor name of ", name.size(),
          " bytes, 1 to 63 are allowed");
    const auto dimensions = take_number<std::uint32_t>(name);
    check(dimensions >= 1 && dimensions <= 4, "tensor ", name, " has ", dimensions,
          " dimensions, 1 to 4 are allowed");
    GgufTensor tensor;
    for (std::uint32_t d = 0; d < dimensions; ++d) {
      const auto size = take_number<std::uint64_t>(name);
      check(size <= static_cast<std::uint64_t>(std::numeric_limits<Index>::max()), "tensor ", name,
            ": dimension ", size, " is too large");
      tensor.shape.insert(tensor.shape.begin(), static_cast<Index>(size));
    }
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
  std::map<std::string, nlohmann::json> metadata_;
  std::map<std::string, GgufTensor> tensors_;
  std::uint32_t version_ = 0;
};

}  // namespace gptq::io
