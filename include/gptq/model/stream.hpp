// SPDX-License-Identifier: MIT
#pragma once

// Stream: all windows of a text on their way through the decoder. A layer is run in stages, one for
// each input of linear modules, so that calibration can look at an input before it is used.

#include <gptq/model/decoder.hpp>

#include <cstdint>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

/// The inputs of linear modules in a decoder layer, in the order of the forward pass.
enum class Stage { attention, output, mlp, down };
inline constexpr Stage stages[] = {Stage::attention, Stage::output, Stage::mlp, Stage::down};

/// Modules that read the input of a stage.
inline std::vector<Module> stage_modules(Stage stage) {
  switch (stage) {
    case Stage::attention: return {Module::q, Module::k, Module::v};
    case Stage::output: return {Module::o};
    case Stage::mlp: return {Module::gate, Module::up};
    case Stage::down: break;
  }
  return {Module::down};
}

/// Numbers per token in the input of a stage.
inline Index stage_width(const ModelConfig& config, Stage stage) {
  return module_shape(config, stage_modules(stage)[0]).in;
}

/// Hidden states of all calibration tokens on their way through the layers.
template <class Operations>
class Stream {
 public:
  using Tensor = typename Operations::Tensor;
  using Layer = typename Operations::Layer;

  /// \param hidden       hidden states before the first layer, [tokens, hidden]
  /// \param cache_bytes  inputs of `down` are kept up to this size, and recomputed beyond it
  Stream(const Decoder<Operations>& decoder, Tensor hidden, std::uint64_t cache_bytes)
      : decoder_(decoder), hidden_(std::move(hidden)) {
    const ModelConfig& config = decoder_.config();
    const Index width = stage_width(config, Stage::down);
    attended_ = decoder_.operations().keep(tokens(), stage_width(config, Stage::output));
    if (static_cast<std::uint64_t>(tokens() * width) * sizeof(float) <= cache_bytes)
      activated_ = decoder_.operations().keep(tokens(), width);
  }

  Index tokens() const { return hidden_.rows(); }
  Tensor& hidden() { return hidden_; }

  /// Calls f(first token, tokens) for chunks of whole windows.
  template <class F>
  void for_chunks(const F& f) const {
    const Index chunk = chunk_tokens(decoder_.length());
    for (Index begin = 0; begin < tokens(); begin += chunk)
      f(begin, (std::min)(chunk, tokens() - begin));
  }

  /// The input of a stage for a chunk. Call once for each chunk, and for all of them before the
  /// next stage. Modules before the stage must be final: their weights are used here.
  Tensor input(Stage stage, const Layer& weights, Index layer, Index begin, Index rows) {
    switch (stage) {
      case Stage::attention: return decoder_.attention_input(part(hidden_, begin, rows), weights);
      case Stage::output: {
        const Tensor x = decoder_.attention_input(part(hidden_, begin, rows), weights);
        return keep(attended_, decoder_.attend(x.view(), weights, layer), begin);
      }
      case Stage::mlp:
        decoder_.add_attention(part(hidden_, begin, rows), part(attended_, begin, rows), weights);
        return decoder_.mlp_input(part(hidden_, begin, rows), weights);
      case Stage::down: break;
    }
    Tensor x = activate(weights, begin, rows);
    return activated_.rows() > 0 ? keep(activated_, std::move(x), begin) : std::move(x);
  }

  /// Ends the layer for a chunk: adds the output of `down` to the hidden states.
  void finish(const Layer& weights, Index begin, Index rows) {
    const auto hidden = part(hidden_, begin, rows);
    if (activated_.rows() > 0) decoder_.add_mlp(hidden, part(activated_, begin, rows), weights);
    else decoder_.add_mlp(hidden, activate(weights, begin, rows).view(), weights);
  }

 private:
  static auto part(Tensor& tensor, Index begin, Index rows) {
    return tensor.view().middle_rows(begin, rows);
  }

  Tensor activate(const Layer& weights, Index begin, Index rows) {
    const Tensor x = decoder_.mlp_input(part(hidden_, begin, rows), weights);
    return decoder_.activate(x.view(), weights);
  }

  Tensor keep(Tensor& all, Tensor x, Index begin) {
    decoder_.operations().copy(part(all, begin, x.rows()), std::as_const(x).view());
    return x;
  }

  const Decoder<Operations>& decoder_;
  Tensor hidden_;
  Tensor attended_;   // inputs of o, all windows
  Tensor activated_;  // inputs of down, or empty if they are recomputed
};

}  // namespace gptq::model
