// SPDX-License-Identifier: MIT
#pragma once

// Calibration text: files of text or of token ids.

#include <gptq/core/matrix_view.hpp>
#include <gptq/io/output_file.hpp>
#include <gptq/model/text_file.hpp>
#include <gptq/model/tokenizer.hpp>
#include <gptq/model/tokenizer/new_characters.hpp>

#include <charconv>  // std::from_chars
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace gptq::model {

/// The texts of a file: one for plain text, one per line for JSON lines with a "text" field.
/// \param notes  receives a line for every choice that was made, without a full stop
/// \throws FormatError  a line of a JSON lines file is not an object with a text, or the file is
/// compressed or binary
inline std::vector<std::string> read_texts(const std::filesystem::path& path,
                                           std::vector<std::string>* notes = nullptr) {
  std::vector<std::string> texts;
  TextFile(path, notes).for_each_text([&](std::string_view text, Index) {
    texts.emplace_back(text);
    return true;
  });
  return texts;
}

/// The token ids of all texts of a file, concatenated.
/// \param enough  stop after this many ids: they are the first of the whole file
/// \param stop    polled now and then; return true to stop
/// \param notes   receives a line for every choice that was made, without a full stop
/// \throws FormatError  as read_texts() and Tokenizer::encode(); names the file, and the line of a
/// JSON lines file
/// \throws Cancelled    `stop` returned true
inline std::vector<TokenId> tokenize_file(const Tokenizer& tokenizer,
                                          const std::filesystem::path& path,
                                          std::size_t enough = Tokenizer::all,
                                          const Stop& stop = {},
                                          std::vector<std::string>* notes = nullptr) {
  std::vector<TokenId> ids;
  Tokenizer::Memory memory;
  NewCharacters characters;
  TextFile(path, notes).for_each_text([&](std::string_view text, Index line) {
    try {
      tokenizer.append(text, ids, memory, enough, stop);
    } catch (const FormatError& error) {
      const std::string place = line > 0 ? gptq::detail::message(": line ", line) : std::string();
      throw FormatError(gptq::detail::message(path.string(), place, ": ", error.what()));
    }
    if (notes) characters.look_at(text);
    return ids.size() < enough;
  });
  if (notes && !characters.note().empty())
    notes->push_back(gptq::detail::message(path.string(), ": ", characters.note()));
  return ids;
}

/// Cuts ids into windows that each begin with `prefix`; the rest that fills no window is dropped.
/// \param length  of a window, prefix included
/// \throws InvalidArgument  the prefix leaves no room
inline std::vector<TokenId> windows_with_prefix(std::span<const TokenId> ids,
                                                std::span<const TokenId> prefix, Index length) {
  const auto room = static_cast<std::size_t>(length) - prefix.size();
  gptq::detail::require(prefix.size() < static_cast<std::size_t>(length), "windows of ", length,
                        " tokens have no room behind the ", prefix.size(),
                        " that each begins with");
  std::vector<TokenId> windows;
  for (std::size_t at = 0; at + room <= ids.size(); at += room) {
    windows.insert(windows.end(), prefix.begin(), prefix.end());
    const auto part = ids.subspan(at, room);
    windows.insert(windows.end(), part.begin(), part.end());
  }
  return windows;
}

/// Token ids written as numbers, separated by white space, commas or brackets.
/// \throws FormatError  the file contains anything else
inline std::vector<TokenId> read_token_ids(const std::filesystem::path& path) {
  const std::string content = io::read_file(path);
  refuse_packed_text(content, path);
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
        printable(std::string_view(content).substr(static_cast<std::size_t>(at - content.data()))),
        "\", is not a token id");
    ids.push_back(id);
    at = next;
  }
  return ids;
}

/// \param file        where the ids come from, for messages
/// \param vocabulary  how many embeddings the model has
/// \throws FormatError  an id outside the model's vocabulary; names file, position and id
inline void require_token_ids(std::span<const TokenId> ids, Index vocabulary,
                              const std::filesystem::path& file) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    gptq::detail::require<FormatError>(
        ids[i] >= 0 && ids[i] < vocabulary, file.string(), ": token ", i, " has the id ", ids[i],
        ", but the model has embeddings for ", vocabulary, " tokens (ids from another tokenizer?)");
}

}  // namespace gptq::model
