// SPDX-License-Identifier: MIT
#pragma once

// The families of GGUF files, and which one a file is of.

#include <gptq/model/architecture/gguf_deepseek.hpp>
#include <gptq/model/architecture/gguf_gemma.hpp>
#include <gptq/model/architecture/gguf_gpt.hpp>
#include <gptq/model/architecture/gguf_llama.hpp>
#include <gptq/model/architecture/gguf_mixture.hpp>

#include <span>
#include <string>

namespace gptq::model::architecture {

inline constexpr std::span<const GgufFamily> gguf_families[] = {gguf_llama, gguf_gemma, gguf_gpt,
                                                                gguf_mixture, gguf_deepseek};

/// \throws FormatError  llama.cpp's name of the architecture is not known
inline const GgufFamily& find_gguf(const detail::GgufReader& reader) {
  const auto arch = reader.files().get<std::string>("general.architecture");
  std::string all, last;
  for (const auto& families : gguf_families)
    for (const GgufFamily& family : families) {
      if (family.arch == arch && (!family.applies || family.applies(reader))) return family;
      if (family.arch != last) all += (all.empty() ? "" : ", ") + std::string(family.arch);
      last = family.arch;
    }
  reader.fail("the architecture \"", arch, "\" is not supported (", all, " are)");
}

}  // namespace gptq::model::architecture
