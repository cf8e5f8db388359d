// SPDX-License-Identifier: MIT
#pragma once

// TextFile: the texts of a calibration file, one after the other. Decides what kind of file it is
// and reports every choice.

#include <gptq/core/matrix_view.hpp>
#include <gptq/io/output_file.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>  // std::min
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gptq::model {

/// The start of some text, for messages: printable ASCII.
inline std::string printable(std::string_view text, std::size_t most = 20) {
  std::string out;
  for (const char c : text.substr(0, (std::min)(most, text.find_first_of("\r\n"))))
    out += c >= ' ' && c <= '~' ? c : '?';
  return out;
}

/// \throws FormatError  the file is not text, but compressed or a container format
inline void refuse_packed_text(std::string_view content, const std::filesystem::path& path) {
  using namespace std::string_view_literals;
  struct Kind {
    std::string_view magic;
    const char *name, *way_out;
  };
  static constexpr Kind kinds[] = {
      {"\x1f\x8b"sv, "a gzip file", "unpack it first: gunzip"},
      {"\x28\xb5\x2f\xfd"sv, "a Zstandard file", "unpack it first: zstd -d"},
      {"\xfd"
       "7zXZ\0"sv,
       "an xz file", "unpack it first: xz -d"},
      {"BZh"sv, "a bzip2 file", "unpack it first: bzip2 -d"},
      {"PK\x03\x04"sv, "a zip file", "unpack it first: unzip"},
      {"PAR1"sv, "a Parquet file", "write its text column as JSON lines"},
      {"ARROW1"sv, "an Arrow file", "write its text column as JSON lines"},
      {"%PDF-"sv, "a PDF file", "write its text into a text file"},
      {"\xff\xfe"sv, "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"},
      {"\xfe\xff"sv, "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"},
  };
  for (const Kind& kind : kinds)
    gptq::detail::require<FormatError>(content.substr(0, kind.magic.size()) != kind.magic,
                                       path.string(), ": is ", kind.name, ", not UTF-8 text; ",
                                       kind.way_out);
}

/// A file of text: plain, or JSON lines with a "text" field.
class TextFile {
 public:
  /// \param notes  receives a line for every choice that is made
  /// \throws FormatError  the file is compressed or binary
  explicit TextFile(const std::filesystem::path& path, std::vector<std::string>* notes = nullptr)
      : path_(path), content_(io::read_file(path)) {
    refuse_packed_text(content_, path);
    const auto extension = path.extension();
    named_json_ = extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
    json_lines_ = named_json_ || guess(notes);
  }

  /// Calls `f` with each text and its line number (0 for plain text) until it returns false.
  /// \throws FormatError  a line is not a JSON object with a text; names file, line and reason
  template <class F>
  void for_each_text(const F& f) const {
    if (!json_lines_) {
      f(std::string_view(content_), Index{0});
      return;
    }
    Index number = 0;
    for (std::string_view rest = content_; !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix((std::min)(line.size() + 1, rest.size()));
      ++number;
      if (is_blank(line)) continue;
      if (!f(std::string_view(text_of(line, number)), number)) return;
    }
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(Index line, const Parts&... parts) const {
    throw FormatError(gptq::detail::message(path_.string(), ": line ", line, parts...));
  }

  static bool is_blank(std::string_view line) {
    return line.find_first_not_of(" \t\r") == line.npos;
  }

  std::string_view first_line() const {
    for (std::string_view rest = content_; !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      if (!is_blank(line)) return line;
      rest.remove_prefix((std::min)(line.size() + 1, rest.size()));
    }
    return {};
  }

  /// Guesses the kind of a file from its content.
  bool guess(std::vector<std::string>* notes) const {
    const auto note = [&](const auto&... parts) {
      if (notes) notes->push_back(gptq::detail::message(path_.string(), ": ", parts...));
    };
    const std::string_view line = first_line();
    const auto json = line.find_first_of("{[") == line.find_first_not_of(" \t\xef\xbb\xbf")
                          ? parse(line, "null")
                          : nlohmann::json(nlohmann::json::value_t::discarded);
    if (json.is_object() && json.contains("text") && json["text"].is_string()) {
      note("its lines are JSON objects; their \"text\" is used");
      return true;
    }
    if ((json.is_object() && !json.empty()) || (json.is_array() && !json.empty()))
      note("its first line is JSON without a \"text\" string", keys(json),
           "; the file is used as plain text, names and brackets included");
    else if (is_table(line))
      note(
          "looks like a table (CSV); it is used as plain text, all columns and separators "
          "included");
    return false;
  }

  bool is_table(std::string_view line) const {
    const auto extension = path_.extension();
    if (extension == ".csv" || extension == ".tsv") return true;
    // A header: column names, one of them for the text.
    bool text = false;
    int columns = 0;
    while (!line.empty()) {
      std::string_view name = line.substr(0, line.find_first_of(",\t;"));
      line.remove_prefix((std::min)(name.size() + 1, line.size()));
      while (!name.empty() && std::string_view("\" \r").find(name.back()) != name.npos)
        name.remove_suffix(1);
      while (!name.empty() && std::string_view("\" ").find(name.front()) != name.npos)
        name.remove_prefix(1);
      if (name.find(' ') != name.npos) return false;
      text = text || name == "text" || name == "content" || name == "prompt";
      ++columns;
    }
    return text && columns > 1;
  }

  static std::string keys(const nlohmann::json& json) {
    if (!json.is_object()) return json.is_array() ? " (an array)" : "";
    std::string names;
    for (const auto& [key, value] : json.items())
      if (names.size() < 80) names += (names.empty() ? "" : ", ") + printable(key, 40);
    return " (it has: " + names + ")";
  }

  /// Parses a line as Python writes it: with NaN, Infinity and -Infinity, which are not JSON, and
  /// with unpaired surrogates, which are replaced by `half`.
  static nlohmann::json parse(std::string_view line, const char* half, bool* halves = nullptr) {
    auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_discarded()) return json;
    std::string out;
    bool inside = false;  // inside a string
    const auto unit = [&](std::size_t at) -> unsigned {
      if (line.substr(at, 2) != "\\u" || at + 6 > line.size()) return 0;
      unsigned value = 0;
      for (const char c : line.substr(at + 2, 4)) {
        const bool digit = c >= '0' && c <= '9', lower = c >= 'a' && c <= 'f',
                   upper = c >= 'A' && c <= 'F';
        if (!digit && !lower && !upper) return 0;
        value = 16 * value + unsigned(digit ? c - '0' : (c | 0x20) - 'a' + 10);
      }
      return value;
    };
    for (std::size_t at = 0; at < line.size();) {
      const std::string_view rest = line.substr(at);
      if (!inside) {
        bool replaced = false;
        for (const std::string_view number : {"-Infinity", "Infinity", "NaN"})
          if (rest.substr(0, number.size()) == number) {
            out += "null";
            at += number.size();
            replaced = true;
            break;
          }
        if (replaced) continue;
        inside = line[at] == '"';
        out += line[at++];
        continue;
      }
      if (const unsigned first = unit(at); first >= 0xd800 && first <= 0xdfff) {
        const unsigned second = unit(at + 6);
        const bool pair = first < 0xdc00 && second >= 0xdc00 && second <= 0xdfff;
        if (halves && !pair) *halves = true;
        out += pair ? std::string(line.substr(at, 12)) : std::string(half);
        at += pair ? 12 : 6;
        continue;
      }
      if (line[at] == '\\' && at + 1 < line.size()) out += line[at++];
      else inside = line[at] != '"';
      out += line[at++];
    }
    return nlohmann::json::parse(out, nullptr, false);
  }

  std::string text_of(std::string_view line, Index number) const {
    bool halves = false;
    auto json = parse(line, "\\ufffd", &halves);
    if (json.is_discarded())
      fail(number, " is not valid JSON: ", reason(line), ": ", printable(line, 80));
    if (json.is_array())
      fail(number, " is a JSON array, not an object with a \"text\" string",
           number == 1
               ? "; JSON lines have one object per line (jq -c '.[]' makes them of an array)"
               : "");
    if (!json.is_object())
      fail(number, " is ", json.type_name(), ", not a JSON object with a \"text\" string");
    if (!json.contains("text"))
      fail(number, " is a JSON object without a \"text\" string", keys(json),
           json.contains("messages") || json.contains("conversations")
               ? "; write the conversation as text, with the model's chat template"
               : "");
    if (!json["text"].is_string())
      fail(number, ": \"text\" is ", json["text"].type_name(), ", not a string");
    // An unpaired surrogate outside the text does not matter.
    if (halves && parse(line, "\\ufffc")["text"] != json["text"])
      fail(number,
           ": the text has an unpaired surrogate (\\ud800 to \\udfff alone), which is not a "
           "character");
    return json["text"].get<std::string>();
  }

  /// Where and why a line is not valid JSON.
  static std::string reason(std::string_view line) {
    try {
      if (!nlohmann::json::parse(line).is_discarded()) return "";
    } catch (const nlohmann::json::parse_error& error) {
      std::string text = error.what();
      const auto why = text.find("parsing");
      const auto last = text.find("; last read");
      const auto from = why == text.npos ? 0 : text.find(" - ", why);
      text = from == text.npos || from == 0 ? text : text.substr(from + 3, last - from - 3);
      return gptq::detail::message("column ", error.byte, ", ", text);
    } catch (const nlohmann::json::exception& error) {
      return error.what();
    }
    return "";
  }

  std::filesystem::path path_;
  std::string content_;
  bool named_json_ = false, json_lines_ = false;
};

}  // namespace gptq::model
