// SPDX-License-Identifier: MIT
#pragma once

// GgufFamily: how llama.cpp names, stores and describes the models of an architecture.

#include <gptq/model/gguf_reader.hpp>

#include <nlohmann/json.hpp>

#include <span>
#include <string_view>

namespace gptq::model::architecture {

/// How llama.cpp stores a tensor, where that differs from Hugging Face folders.
enum class GgufForm {
  same,
  queries,   ///< rows of each head of q: the first of the first half, the first of the second, ...
  keys,      ///< likewise, with as many heads as there are of k
  plus_one,  ///< weights of norms that multiply by 1 + w: as 1 + w
  transposed,  ///< [out, in] instead of [in, out]
  regrouped,   ///< rows of all of q, k and v, instead of groups of heads of q with their k and v
  stacked,     ///< [n, ...]: n tensors, whose number is the '*' in their name
  stacked_halves,  ///< of each of n, the first half of the rows and the second, named beside '|'
  row,             ///< [n] instead of [1, n]
  split_qkv,       ///< rows of q, k and v, which are the tensors named between '|'
  first,           ///< the first rows of a tensor
  last,            ///< its other rows
  latent_k,        ///< kv_b_proj's rows of k: transposed, head by head
  latent_v,        ///< its rows of v, head by head
  // A gated delta rule; how value heads are ordered, the family says.
  delta_qkv,          ///< of a tensor with q, k, v and z of each key head: all of q, k and v
  delta_z,            ///< all of its z
  delta_tail,         ///< behind the rows of q and k, value heads
  delta_values,       ///< rows of value heads
  delta_heads,        ///< a row for each value head
  delta_decay,        ///< −exp(w), one for each value head
  delta_convolution,  ///< like delta_tail, and [n, taps] instead of [n, 1, taps]
  delta_columns       ///< columns of value heads
};

/// A name in GGUF files and in Hugging Face folders, either whole or without its ending (".weight"
/// or ".bias") in both.
struct GgufName {
  std::string_view gguf, hf;
  GgufForm form = GgufForm::same;
};

/// How llama.cpp stores an architecture.
struct GgufFamily {
  static constexpr std::string_view rms_epsilon = "rms_norm_eps";
  enum class Rope {
    whole,    ///< all coordinates of a head turn
    partial,  ///< some may: partial_rotary_factor
    latent,   ///< DeepSeek: heads whose q and k, and v, are of different sizes
    none
  };
  std::string_view arch;          ///< general.architecture
  std::string_view architecture;  ///< in config.json
  /// Names in a layer that differ from those of a Llama, behind "blk.N." and "layers.N.".
  std::span<const GgufName> inside{};
  /// Names outside the layers, where not as usual; relative to the model's base.
  std::span<const GgufName> outside{};
  Rope rope = Rope::whole;
  /// Reads what the family has of its own, and adds it to a config.json with the usual keys.
  void (*configure)(const detail::GgufReader& from, nlohmann::ordered_json& config) = nullptr;
  /// The key of ε in config.json, which also tells RMSNorms from LayerNorms; empty: none.
  std::string_view epsilon = rms_epsilon;
  /// Whether a file of this `arch` is of this family; if null, all are.
  bool (*applies)(const detail::GgufReader& from) = nullptr;
  /// Whether value heads of a delta rule are dealt out: the first of each key head, the second, ...
  bool deals_value_heads = false;
};

}  // namespace gptq::model::architecture
