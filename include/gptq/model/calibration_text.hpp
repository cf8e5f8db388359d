// SPDX-License-Identifier: MIT
#pragma once

// Calibration text: files of text or of token ids, cut into windows.

#include <gptq/core/matrix_view.hpp>
#include <gptq/io/output_file.hpp>
#include <gptq/model/tokenizer.hpp>

#include <nlohmann/json.hpp>

#include <charconv>  // std::from_chars
#include <filesystem>
#include <string>
#include <vector>

namespace gptq::model {

/// The texts of a file: one for plain text, one per line for JSON lines with a "text" field.
/// \throws FormatError  a line of a JSON lines file is not an object with a text
inline std::vector<std::string> read_texts(const std::filesystem::path& path) {
  std::string content = io::read_file(path);
  const auto is_text_line = [](const nlohmann::json& json) {
    return json.is_object() && json.contains("text") && json["text"].is_string();
  };
  const std::string first = content.substr(0, content.find('\n'));
  const bool json_lines = path.extension() == ".jsonl" || path.extension() == ".json" ||
                          is_text_line(nlohmann::json::parse(first, nullptr, false));
  if (!json_lines) return {std::move(content)};

  std::vector<std::string> texts;
  Index number = 0;
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t end = (std::min)(content.find('\n', begin), content.size());
    const std::string_view line(content.data() + begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    gptq::detail::require<FormatError>(
        is_text_line(json), path.string(), ": line ", number,
        " is not a JSON object with a \"text\" string: ", line.substr(0, 80));
    texts.push_back(json["text"].get<std::string>());
  }
  return texts;
}

/// Ids of all texts of a file, one after the other.
inline std::vector<TokenId> tokenize_file(const Tokenizer& tokenizer,
                                          const std::filesystem::path& path) {
  std::vector<TokenId> ids;
  for (const std::string& text : read_texts(path)) {
    try {
      const auto part = tokenizer.encode(text);
      ids.insert(ids.end(), part.begin(), part.end());
    } catch (const FormatError& error) {
      throw FormatError(gptq::detail::message(path.string(), ": ", error.what()));
    }
  }
  return ids;
}

/// Token ids written as numbers, between white space, commas or brackets.
/// \throws FormatError  something else is in the file
inline std::vector<TokenId> read_token_ids(const std::filesystem::path& path) {
  const std::string content = io::read_file(path);
  std::vector<TokenId> ids;
  const char* at = content.data();
  const char* const end = at + content.size();
  while (at < end) {
    if (std::string_view(" \t\r\n,[]").find(*at) != std::string_view::npos) {
      ++at;
      continue;
    }
    TokenId id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    gptq::detail::require<FormatError>(
        error == std::errc{} && id >= 0, path.string(), ": byte ", at - content.data(), ", \"",
        content.substr(static_cast<std::size_t>(at - content.data()), 20), "\", is not a token id");
    ids.push_back(id);
    at = next;
  }
  return ids;
}

}  // namespace gptq::model
