// SPDX-License-Identifier: MIT
#pragma once

// Tensors of a model folder that its decoder does not read: which are left out, which are copied,
// and which belong to another kind of decoder.

#include <gptq/core/error.hpp>
#include <gptq/io/checkpoint.hpp>
#include <gptq/model/config_keys.hpp>
#include <gptq/model/description.hpp>
#include <gptq/model/format/format.hpp>
#include <gptq/model/outside_tensors.hpp>

#include <algorithm>  // std::all_of, std::any_of
#include <string>
#include <vector>

namespace gptq::model::detail {

/// Masks and tables that some writers store with the weights and that loaders compute themselves.
inline bool is_buffer(const std::string& name, const io::Shape& shape) {
  for (const char* table : {"inv_freq", "cos_cached", "sin_cached", "cos", "sin"})
    if (name.ends_with(std::string("rotary_emb.") + table)) return true;
  for (const char* end : {"rotary_emb.original_inv_freq", "masked_bias", "causal_mask",
                          "attention_mask", "attn_mask", "position_ids"})
    if (name.ends_with(end)) return true;
  const bool mask = name.ends_with("attn.bias") || name.ends_with("attention.bias");
  return mask && shape.size() > 1;  // the bias of a linear module has one dimension
}

/// Whether a tensor has a name that some other kind of decoder would compute with: beside the
/// layers or in a head, or elsewhere with a telling name. Heads for other tasks do not count.
inline bool is_part_of_decoder(const std::string& name, const Description& description) {
  for (const char* head : {"v_head.", "value_head.", "score.", "classifier.", "qa_outputs.",
                           "reward_head.", "regression_head.", "medusa_head", "mtp."})
    if (name.starts_with(head)) return false;
  const std::string root = description.has_other_parts
                               ? description.base
                               : description.base.substr(0, description.base.find('.') + 1);
  if (description.has_other_parts && !name.starts_with(root)) return false;
  return name.starts_with(root) || name.starts_with(description.head.linear.name + ".") ||
         contains_any(lower_case(name), {"norm", "scale", "embed", "logit", "lm_head", "gate"});
}

inline bool is_all_zero(const io::TensorSource& tensors, const std::string& name) {
  tensors.require_readable(name);
  std::vector<float> numbers(static_cast<std::size_t>(io::element_count(tensors.shape(name))));
  tensors.read(name, numbers);
  return std::all_of(numbers.begin(), numbers.end(), [](float x) { return x == 0; });
}

/// Leaves out buffers, zero biases that no module uses, and tensors outside the decoder that cannot
/// be copied, and notes it.
/// \param format  of packed modules, or null
/// \throws FormatError  a tensor outside the layers that belongs to a decoder of another kind
inline void leave_out_unused(io::FolderSource& tensors, const Description& description,
                             const Format* format, const std::string& where,
                             std::vector<std::string>& notes) {
  if (!tensors.contains(description.embeddings)) return;  // reported elsewhere
  std::vector<std::string> buffers, not_finite, unknown;
  const auto outside = tensors_outside_layers(description, [&](const std::string& module) {
    return stored_parts(format, tensors, module);
  });
  const std::string head_bias = description.head.linear.name + ".bias";
  const auto is_ignored = [&](const std::string& name) {
    return std::any_of(description.ignored.begin(), description.ignored.end(),
                       [&](const std::string& start) { return name.starts_with(start); });
  };
  for (const std::string& name : tensors.names()) {
    if (is_buffer(name, tensors.shape(name)) || is_ignored(name)) {
      buffers.push_back(name);
    } else if (!name.starts_with(description.layers_prefix) && outside.count(name) == 0) {
      if (is_part_of_decoder(name, description)) {
        const bool bias = name == head_bias || name.ends_with("norm.bias");
        if (!bias || !is_all_zero(tensors, name))
          throw FormatError(gptq::detail::message(
              tensors.where(name), ": tensor ", name,
              " belongs to another kind of decoder: it changes what the model computes, which "
              "is not supported (remove it if nothing uses it)"));
        buffers.push_back(name);
        continue;
      }
      const Index count = io::element_count(tensors.shape(name));
      (tensors.find_unfit(name, 0, count, true) ? not_finite : unknown).push_back(name);
    }
  }
  for (const auto* names : {&buffers, &not_finite})
    for (const std::string& name : *names) tensors.leave_out(name);
  if (!buffers.empty())
    notes.push_back(where + ": no layer uses " + io::some_of(buffers) + "; left out");
  if (!not_finite.empty())
    notes.push_back(where + ": no layer uses " + io::some_of(not_finite) +
                    ", which has non-finite numbers; left out");
  if (!unknown.empty())
    notes.push_back(where + ": no layer uses " + io::some_of(unknown) + "; copied unchanged");
}

}  // namespace gptq::model::detail
