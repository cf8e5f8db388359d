// SPDX-License-Identifier: MIT
#pragma once

// What the fuzz targets share. A target gets arbitrary bytes and passes them to one reader; success
// and errors thrown by the library are fine, anything else is a finding.

#include "exact_mapping.hpp"

#include <gptq/core/error.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fuzz {

using Input = std::span<const std::uint8_t>;

void calibration(Input input);     // text files, JSON lines, token ids
void config(Input input);          // config.json with its quantization_config
void expressions(Input input);     // a regular expression, "\x1e", a text
void gguf(Input input);            // metadata, tensors, all the way to a layer
void gguf_tokenizer(Input input);  // the vocabulary of a GGUF file
void hessian(Input input);         // Hessian files
void quantized(Input input);       // a folder of GPTQ tensors
void rules(Input input);           // an override, "\x1e", a skip, "\x1e", a module's name
void safetensors(Input input);     // header and numbers
void tokenizer(
    Input input);  // tokenizer.json, "\x1e", a text, ..., vocab.json, merges.txt, a config

/// Lets `read` fail with one of the library's errors.
template <class F>
void may_refuse(const F& read) {
  try {
    read();
  } catch (const gptq::Error&) {}
}

/// Aborts if something that must hold does not.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

inline std::string_view text(Input input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

/// The parts between "\x1e" (ASCII's record separator, which JSON never contains).
inline std::vector<std::string> parts(Input input) {
  std::string_view rest = text(input);
  std::vector<std::string> out;
  for (;;) {
    const std::size_t at = rest.find('\x1e');
    out.emplace_back(rest.substr(0, at));
    if (at == std::string_view::npos) return out;
    rest.remove_prefix(at + 1);
  }
}

/// Files for readers that want a path. `run.sh` points TMPDIR to a folder in memory and removes it.
class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() /
              ("gptq-fuzz-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }

  /// Writes a file with these bytes.
  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    const auto file = path_ / name;
    std::ofstream out(file, std::ios::binary | std::ios::trunc);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    out.close();
    require(out.good(), "a file of the harness can be written");
    return file;
  }

 private:
  std::filesystem::path path_;
};

inline const Folder& folder() {
  static const Folder one;
  return one;
}

}  // namespace fuzz

#ifdef GPTQ_FUZZ_TARGET  // a program for one target
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::GPTQ_FUZZ_TARGET({data, size});
  return 0;
}
#endif
