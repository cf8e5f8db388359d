// SPDX-License-Identifier: MIT
#pragma once

// The families of GGUF files, and which one a file is of.

#include <gptq/model/architecture/gguf_deepseek.hpp>
#include <gptq/model/architecture/gguf_gemma.hpp>
#include <gptq/model/architecture/gguf_gpt.hpp>
#include <gptq/model/architecture/gguf_llama.hpp>
#include <gptq/model/architecture/gguf_mixture.hpp>
#include <gptq/model/architecture/gguf_qwen_next.hpp>

#include <set>
#include <span>
#include <string>
#include <string_view>

namespace gptq::model::architecture {

inline constexpr std::span<const GgufFamily> gguf_families[] = {
    gguf_llama, gguf_gemma, gguf_gpt, gguf_mixture, gguf_deepseek, gguf_qwen_next};

/// \throws FormatError  llama.cpp's name of the architecture is not known
inline const GgufFamily& find_gguf(const detail::GgufReader& reader) {
  const auto arch = reader.files().get<std::string>("general.architecture");
  std::set<std::string_view> known;
  for (const auto& families : gguf_families)
    for (const GgufFamily& family : families) {
      if (family.arch == arch && (!family.applies || family.applies(reader))) return family;
      known.insert(family.arch);
    }
  std::string all;
  for (const std::string_view name : known) all += (all.empty() ? "" : ", ") + std::string(name);
  reader.fail("the architecture \"", arch, "\" is not supported (", all, " are)");
}

}  // namespace gptq::model::architecture
