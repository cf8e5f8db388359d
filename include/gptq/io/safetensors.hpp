// SPDX-License-Identifier: MIT
#pragma once

// Reading safetensors: a length, a JSON header, the numbers. Everything the header claims is
// checked against the file before it is used.

#include <gptq/io/json.hpp>
#include <gptq/io/mapped_file.hpp>
#include <gptq/io/tensor.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>  // std::sort
#include <map>
#include <string>
#include <utility>  // std::in_range, std::move

namespace gptq::io {

/// One tensor of a safetensors file.
struct SafeTensor {
  DType dtype = DType::F32;
  Shape shape;
  std::span<const std::byte> bytes;
};

/// A safetensors file, fully checked and mapped into memory.
class Safetensors {
 public:
  static constexpr std::uint64_t max_header =
      100'000'000;                             ///< bytes; the reference implementation's limit
  static constexpr std::size_t max_rank = 64;  ///< dimensions of a tensor

  /// \throws IoError      the file cannot be opened
  /// \throws FormatError  the file is truncated, or its header is wrong; the message names file,
  /// tensor and value
  explicit Safetensors(const std::filesystem::path& path) : file_(path) { parse(); }

  const std::filesystem::path& path() const { return file_.path(); }
  const std::map<std::string, SafeTensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const MappedFile& file() const { return file_; }

  /// \throws FormatError  no tensor of that name
  const SafeTensor& at(const std::string& name) const {
    const auto found = tensors_.find(name);
    check(found != tensors_.end(), "has no tensor ", name);
    return found->second;
  }

 private:
  template <class... Parts>
  void check(bool condition, const Parts&... parts) const {
    gptq::detail::require<FormatError>(condition, file_.path().string(), ": ", parts...);
  }

  /// Where a tensor's data lies, relative to the end of the header.
  struct Range {
    std::uint64_t begin, end;
    std::string name;
    friend bool operator<(const Range& a, const Range& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    }
  };

  void parse() {
    const auto bytes = file_.bytes();
    if (bytes.size() < 9 || bytes[8] != std::byte('{'))
      if (const std::string kind = file_kind(bytes); !kind.empty()) check(false, "is ", kind);
    check(bytes.size() >= 8, "truncated: ", bytes.size(),
          " bytes; a safetensors file has at least 8");
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    check(length <= max_header, "the header claims ", length, " bytes, more than ", max_header,
          ": not a safetensors file");
    check(length <= bytes.size() - 8, "truncated: the header claims ", length, " bytes, but only ",
          bytes.size() - 8, " follow the length");
    const char* text = reinterpret_cast<const char*>(bytes.data()) + 8;
    check(length > 0 && *text == '{', "the header does not start with '{'");

    const auto data = bytes.subspan(8 + static_cast<std::size_t>(length));
    std::vector<Range> ranges;
    parse_header(std::string_view(text, static_cast<std::size_t>(length)),
                 [&](const std::string& name, const nlohmann::json& entry) {
                   if (name == "__metadata__") read_metadata(entry);
                   else ranges.push_back(read_entry(name, entry, data));
                 });
    std::sort(ranges.begin(), ranges.end());
    std::uint64_t end = 0;
    for (const Range& range : ranges) {
      check(range.begin >= end, "tensor ", range.name, ": its data starts at ", range.begin,
            " and overlaps the previous tensor, which ends at ", end);
      check(range.begin == end, "tensor ", range.name, ": its data starts at ", range.begin,
            ", leaving a hole after ", end);
      end = range.end;
    }
    check(end == data.size(), "the tensors end at ", end, ", but the data at ", data.size());
  }

  void read_metadata(const nlohmann::json& entry) {
    check(entry.is_object(), "__metadata__ is not an object");
    for (const auto& [key, value] : entry.items()) {
      check(value.is_string(), "__metadata__[\"", key, "\"] is not a string");
      metadata_[key] = value.get<std::string>();
    }
  }

  Range read_entry(const std::string& name, const nlohmann::json& entry,
                   std::span<const std::byte> data) {
    const auto is_array = [&](const char* key) {
      return entry.is_object() && entry.contains(key) && entry[key].is_array();
    };
    const bool complete = is_array("shape") && is_array("data_offsets") &&
                          entry["data_offsets"].size() == 2 && entry.contains("dtype") &&
                          entry["dtype"].is_string();
    if (!complete)
      check(false, "tensor ", name, ": the entry needs dtype, shape and data_offsets but is ",
            entry.dump().substr(0, 200));
    const auto size_at = [&](const nlohmann::json& number, const char* what) {
      const bool size =
          number.is_number_unsigned() && std::in_range<Index>(number.get<std::uint64_t>());
      if (!size) check(false, "tensor ", name, ": ", number.dump(), " in ", what, " is not a size");
      return number.get<std::uint64_t>();
    };
    SafeTensor tensor;
    check(entry["shape"].size() <= max_rank, "tensor ", name, " has ", entry["shape"].size(),
          " dimensions; at most ", max_rank, " are supported");
    for (const auto& d : entry["shape"])
      tensor.shape.push_back(static_cast<Index>(size_at(d, "shape")));
    std::uint64_t bit_count = 0;
    try {
      tensor.dtype = parse_dtype(entry["dtype"].get<std::string>());
      bit_count = static_cast<std::uint64_t>(element_count(tensor.shape)) *
                  static_cast<std::uint64_t>(bits(tensor.dtype));
    } catch (const FormatError& error) {
      check(false, "tensor ", name, ": ", error.what());
    }
    const Range range{size_at(entry["data_offsets"][0], "data_offsets"),
                      size_at(entry["data_offsets"][1], "data_offsets"), name};
    check(range.begin <= range.end && range.end <= data.size(), "tensor ", name, ": data_offsets [",
          range.begin, ", ", range.end, "] lie outside the file's ", data.size(), " bytes of data");
    check(bit_count % 8 == 0 && bit_count / 8 == range.end - range.begin, "tensor ", name, ": ",
          gptq::io::name(tensor.dtype), " ", to_string(tensor.shape), " needs ",
          (bit_count + 7) / 8, " bytes, but data_offsets span ", range.end - range.begin);
    tensor.bytes = data.subspan(static_cast<std::size_t>(range.begin),
                                static_cast<std::size_t>(range.end - range.begin));
    tensors_.emplace(name, std::move(tensor));
    return range;
  }

  /// Passes each header entry to `take` as soon as it is parsed, so that only one is in memory at a
  /// time.
  template <class Take>
  void parse_header(std::string_view text, const Take& take) {
    using Event = nlohmann::json::parse_event_t;
    TwiceWatch twice;
    std::string name;  // of the current entry
    int depth = 0;     // open objects and arrays
    std::size_t values = 0;
    const auto watch = [&](Event event, const nlohmann::json& parsed) {
      twice(event, parsed);
      check(twice.twice().empty(), "the header has the key \"", twice.twice(), "\" twice");
      if (event == Event::object_start || event == Event::array_start) ++depth;
      if (event == Event::object_end || event == Event::array_end) --depth;
      if (event == Event::key && depth == 1) {
        name = parsed.get_ref<const std::string&>();
        values = 0;
      }
      if (event == Event::value && depth > 1 && name != "__metadata__")
        check(++values <= 2 * max_rank, "tensor ", name, " has more than ", max_rank,
              " dimensions, or a malformed entry");
      const bool closed = event == Event::object_end || event == Event::array_end;
      if (depth == 1 && (closed || event == Event::value)) take(name, parsed);
      return !(depth == 1 && closed);
    };
    try {
      parse_json(text, watch);
    } catch (const nlohmann::json::exception& error) {
      throw FormatError(gptq::detail::message(file_.path().string(),
                                              ": the header is not valid JSON: ", error.what()));
    } catch (const FormatError& error) {
      const std::string what = error.what();
      throw FormatError(what.rfind("JSON", 0) == 0
                            ? gptq::detail::message(file_.path().string(), ": the header is ", what)
                            : what);
    }
  }

  MappedFile file_;
  std::map<std::string, SafeTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace gptq::io
