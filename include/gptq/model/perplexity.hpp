// SPDX-License-Identifier: MIT
#pragma once

// Perplexity: how well a model predicts a text, over consecutive non-overlapping windows.

#include <gptq/core/progress.hpp>
#include <gptq/model/decoder.hpp>
#include <gptq/model/decoder_tensors.hpp>
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

/// What comes after the layers.
struct Head {
  LayerWeights exit;
  Linear projection;
};

inline Head load_head(const ModelFiles& model) {
  const Description& description = model.description;
  Head head{load_block(model, description.exit), {}};
  if (has_tied_head(model))
    head.projection.weight = load_matrix(model, description.embeddings, description.head.linear.out,
                                         description.head.linear.in);
  else head.projection = load_linear(model, description.head.linear);
  return head;
}

/// The hidden states of tokens before the first layer.
/// \throws InvalidArgument  an id is not in the vocabulary
template <class Operations>
typename Operations::Tensor embed(const ModelFiles& model, const Decoder<Operations>& decoder,
                                  std::span<const TokenId> ids) {
  const Description& description = model.description;
  const Index vocabulary = description.sizes.vocabulary;
  for (std::size_t i = 0; i < ids.size(); ++i)
    gptq::detail::require(ids[i] >= 0 && ids[i] < vocabulary, "token ", i, " has the id ", ids[i],
                          ", but the vocabulary has ", vocabulary, " entries");
  const Operations& operations = decoder.operations();
  const Cuts entry(description.entry);
  auto hidden = [&] {
    const auto table = load_matrix(model, description.embeddings, vocabulary,
                                   description.entry.steps().front().width);
    return operations.embedding(table.view(), ids);
  }();
  if (description.entry.steps().size() == 1) return hidden;
  const PlacedLayer<Operations> weights(operations, load_block(model, description.entry));
  auto changed = decoder.forward(hidden.view(), weights.placed(), entry);
  return changed.rows() > 0 ? std::move(changed) : std::move(hidden);
}

/// −log p of each token given those before it in its sequence, except for the first.
template <class Operations>
std::vector<double> token_losses(const Description& description, const Decoder<Operations>& decoder,
                                 Head head, typename Operations::View hidden,
                                 std::span<const TokenId> ids) {
  const Index length = decoder.length();
  const Cuts exit(description.exit);
  const PlacedLayer<Operations> weights(decoder.operations(), std::move(head.exit));
  Values<Operations> values(description.exit.steps().size());
  values.lend(0, hidden, false);
  const int normed = description.exit.result();
  decoder.run(exit, weights.placed(), values, {&normed, 1});
  // Each row predicts the next token; the last of a sequence has none to predict.
  std::vector<TokenId> next(ids.begin() + 1, ids.end());
  next.push_back(-1);
  for (std::size_t t = 0; t < next.size(); ++t)
    if (static_cast<Index>(t) % length == length - 1) next[t] = -1;
  return decoder.operations().cross_entropy(std::as_const(values).view(normed), head.projection,
                                            description.head, next);
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

  const Description& description = model.description;
  operations.reserve(decoder_bytes(description, length));
  const Decoder<Operations> decoder(description, length, operations);
  auto hidden = embed(model, decoder, ids);
  const Index chunk = chunk_tokens(length), layers = description.sizes.layers;
  const auto steps = static_cast<double>(layers + 1);
  for (Index i = 0; i < layers; ++i) {
    if (progress && !progress("layer", static_cast<double>(i), steps)) throw Cancelled();
    const PlacedLayer<Operations> layer(operations, load_layer(model, i, operations.executor()));
    const Cuts cuts(description.layers[std::size_t(i)]);
    for (Index begin = 0; begin < hidden.rows(); begin += chunk)
      decoder.forward(hidden.view().middle_rows(begin, (std::min)(chunk, hidden.rows() - begin)),
                      layer.placed(), cuts);
  }
  if (progress && !progress("head", steps - 1, steps)) throw Cancelled();
  const auto losses = token_losses(description, decoder, load_head(model), hidden.view(), ids);

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
