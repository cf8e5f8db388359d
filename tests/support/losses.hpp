// SPDX-License-Identifier: MIT
#pragma once

// The losses of a model, token by token.

#include <gptq/model/cpu_operations.hpp>
#include <gptq/model/perplexity.hpp>

#include <span>
#include <vector>

namespace test {

/// −log p of every scored token, windows of `length` tokens.
inline std::vector<double> losses(const gptq::model::ModelFiles& model,
                                  std::span<const gptq::model::TokenId> ids, gptq::Index length,
                                  gptq::Precision precision = gptq::Precision::single) {
  using namespace gptq::model;
  const auto& description = model.description;
  const CpuOperations<> operations(gptq::exec::Threads{}, precision);
  const Decoder<CpuOperations<>> decoder(description, length, operations);
  auto hidden = embed(model, decoder, ids);
  for (const Block& layer : description.layers)
    decoder.forward(hidden.view(), load_block(model, layer), Cuts(layer));
  return token_losses(description, decoder, load_head(model), hidden.view(), ids);
}

}  // namespace test
