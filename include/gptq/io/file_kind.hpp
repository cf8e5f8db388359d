// SPDX-License-Identifier: MIT
#pragma once

// Identifies files that are not what their names say: failed downloads and unsupported formats.

#include <algorithm>  // std::transform
#include <cctype>     // std::tolower
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace gptq::io {

/// What the first bytes reveal, with advice, to be put after "FILE: is "; "" if they reveal
/// nothing.
inline std::string file_kind(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                              (std::min)(bytes.size(), std::size_t(4096)));
  const auto starts = [&](std::string_view start) { return text.substr(0, start.size()) == start; };
  if (bytes.empty()) return "empty";
  if (starts("version https://git-lfs"))
    return "a Git LFS pointer, not the file itself: \"git lfs pull\" in its repository fetches it";
  std::string lower(text.substr((std::min)(text.find_first_not_of(" \t\r\n"), text.size())), 0, 16);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower.rfind("<!doctype", 0) == 0 || lower.rfind("<html", 0) == 0 ||
      lower.rfind("<?xml", 0) == 0)
    return "a web page, not the file itself: the download returned an error or a login page";
  if (starts("GGUF")) return "a GGUF file: give it a name that ends in .gguf";
  if (starts("ggjt") || starts("tjgg") || starts("lmgg") || starts("fmgg") || starts("ggla"))
    return "a GGML file from before GGUF: convert the original model again";
  if (starts("\x1f\x8b")) return "compressed with gzip: unpack it first";
  if (starts("\x28\xb5\x2f\xfd")) return "compressed with zstd: unpack it first";
  if (starts("\xfd"
             "7zXZ"))
    return "compressed with xz: unpack it first";
  if (starts("BZh")) return "compressed with bzip2: unpack it first";
  if (starts("PK\x03\x04"))
    return "a zip archive, such as a PyTorch checkpoint: save the model as safetensors";
  if (starts("\x80\x02") || starts("\x80\x03") || starts("\x80\x04"))
    return "a Python pickle, such as a PyTorch checkpoint: save the model as safetensors";
  if (starts("\x89HDF\r\n")) return "an HDF5 file: save the model as safetensors";
  if (text.size() > 9 && text[8] == '{' && text[4] == 0 && text[5] == 0 && text[6] == 0 &&
      text[7] == 0)
    return "a safetensors file: pass the folder that it is in, with config.json";
  return {};
}

}  // namespace gptq::io
