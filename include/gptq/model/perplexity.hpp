// SPDX-License-Identifier: MIT
#pragma once

// Perplexity: how well a model predicts a text, over consecutive non-overlapping windows.

#include <gptq/core/progress.hpp>
#include <gptq/model/decoder.hpp>
#include <gptq/model/placed_layer.hpp>
#include <gptq/model/tokenizer/bpe.hpp>

#include <cmath>  // std::exp
#include <span>
#include <string>
#include <vector>

namespace gptq::model {

/// How well a model predicts a text, window by window.
struct Perplexity {
  std::vector<double> window_nll;  ///< mean −log p per scored token, window by window
  double nll = 0;                  ///< over all windows
  double perplexity() const { return std::exp(nll); }
};

/// The head and the final norm of a model.
struct Head {
  std::vector<float> norm;
  Linear projection;
};

inline Head load_head(const ModelFiles& model) {
  Head head;
  head.norm = load_vector(model, "model.norm.weight", model.config.hidden);
  head.projection = load_linear(model, has_tied_head(model) ? "model.embed_tokens" : "lm_head",
                                {model.config.vocabulary, model.config.hidden});
  return head;
}

/// The hidden states of tokens before the first layer.
/// \throws InvalidArgument  an id is not in the vocabulary
template <class Operations>
typename Operations::Tensor embed(const ModelFiles& model, const Operations& operations,
                                  std::span<const TokenId> ids) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    gptq::detail::require(ids[i] >= 0 && ids[i] < model.config.vocabulary, "token ", i,
                          " has the id ", ids[i], ", but the vocabulary has ",
                          model.config.vocabulary, " entries");
  const auto table =
      load_matrix(model, "model.embed_tokens.weight", model.config.vocabulary, model.config.hidden);
  return operations.embedding(table.view(), ids);
}

/// −log p of each token given those before it in its sequence, except for the first.
template <class Operations>
std::vector<double> token_losses(const Operations& operations, const ModelConfig& config,
                                 const Head& head, typename Operations::ConstView hidden,
                                 std::span<const TokenId> ids, Index length) {
  const auto normed = operations.rms_norm(hidden, head.norm, config.norm_epsilon);
  // Each row predicts the next token; the last of a sequence has none to predict.
  std::vector<TokenId> next(ids.begin() + 1, ids.end());
  next.push_back(-1);
  for (std::size_t t = 0; t < next.size(); ++t)
    if (static_cast<Index>(t) % length == length - 1) next[t] = -1;
  return operations.cross_entropy(normed.view(), head.projection.weight.view(), next);
}

/// Perplexity of the first `windows` windows of `length` tokens; the first token of a window is not
/// scored. Layers are read one at a time, so only one layer and the hidden states of all windows
/// are in memory.
///
/// \throws InvalidArgument  fewer tokens than one window
/// \throws Cancelled        the callback asked to stop
template <class Operations>
Perplexity perplexity(const ModelFiles& model, Operations operations,
                      std::span<const TokenId> tokens, Index windows, Index length,
                      const Progress& progress = {}) {
  require_decoder_tensors(model);
  gptq::detail::require(length >= 2, "a window of ", length, " tokens leaves nothing to score");
  const Index available = static_cast<Index>(tokens.size()) / length;
  gptq::detail::require(available > 0, "the text has ", tokens.size(),
                        " tokens, fewer than one window of ", length);
  const Index count = windows > 0 ? (std::min)(windows, available) : available;
  const auto ids = tokens.first(static_cast<std::size_t>(count * length));

  operations.reserve(decoder_bytes(model.config, length));
  auto hidden = embed(model, operations, ids);
  const Decoder<Operations> decoder(model.config, length, operations);
  const Index chunk = chunk_tokens(length);
  const auto steps = static_cast<double>(model.config.layers + 1);
  for (Index i = 0; i < model.config.layers; ++i) {
    if (progress && !progress("layer", static_cast<double>(i), steps)) throw Cancelled();
    const PlacedLayer<Operations> layer(operations, load_layer(model, i, operations.executor()));
    for (Index begin = 0; begin < hidden.rows(); begin += chunk)
      decoder.forward(hidden.view().middle_rows(begin, (std::min)(chunk, hidden.rows() - begin)),
                      layer.placed(), i);
  }
  if (progress && !progress("head", steps - 1, steps)) throw Cancelled();
  const auto losses = token_losses(operations, model.config, load_head(model),
                                   std::as_const(hidden).view(), ids, length);

  Perplexity result;
  for (Index w = 0; w < count; ++w) {
    double sum = 0;
    for (Index t = 0; t < length - 1; ++t) sum += losses[std::size_t(w * (length - 1) + t)];
    if (!std::isfinite(sum))
      throw NumericalError(
          gptq::detail::message("the model's outputs in window ", w, " are not finite"));
    result.window_nll.push_back(sum / static_cast<double>(length - 1));
    result.nll += result.window_nll.back() / static_cast<double>(count);
  }
  return result;
}

}  // namespace gptq::model
