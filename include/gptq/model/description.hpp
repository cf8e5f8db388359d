// SPDX-License-Identifier: MIT
#pragma once

// Description: a decoder, as its steps and the names of its weights. It is made from a config.json
// by the functions in architecture/; everything else reads it and knows no architecture.

#include <gptq/model/block.hpp>
#include <gptq/model/rope.hpp>

#include <nlohmann/json.hpp>

#include <functional>
#include <string>
#include <vector>

namespace gptq::model {

/// The numbers that everyone asks about a model.
struct Sizes {
  Index hidden = 0, intermediate = 0, layers = 0, vocabulary = 0, context = 0;
  Index heads = 0, kv_heads = 0, head_dim = 0;
};

/// Modules of a layer that inference engines join into one when loading a model.
struct FusedModules {
  std::string name;                ///< of the joined module, relative to the layer
  std::string words;               ///< "q, k and v"
  std::vector<std::string> parts;  ///< relative to the layer
};

/// A tensor with one module, or several, of all experts, and the modules that it holds.
struct ExpertStack {
  /// Rows that form a module.
  struct Part {
    std::string before, after;   ///< the module of expert e is called before + e + after
    Index first, stride, count;  ///< its rows
  };
  std::string tensor;  ///< [experts, rows, cols]; in MXFP4, with "_blocks" and "_scales" behind it
  std::string bias;    ///< [experts, rows], or empty
  Index experts, rows, cols;
  bool transposed;  ///< stored as [experts, cols, rows], except in MXFP4
  std::vector<Part> parts;
};

/// What turns hidden states into probabilities: softmax(cap(scale·(x·Wᵀ + b))).
struct HeadSpec {
  LinearSpec linear{};
  bool tied = false;  ///< W are the embeddings, unless the file has a head
  double scale = 1;
  double softcap = 0;  ///< z ← cap·tanh(z/cap); 0: none
};

/// All that the forward pass of a decoder consists of.
struct Description {
  std::string architecture;  ///< as in config.json: "LlamaForCausalLM"
  Sizes sizes;
  std::string base;        ///< how the names of all tensors but the head's begin: "model."
  std::string embeddings;  ///< name of the tensor [vocabulary, width of the entry's input]
  Block entry;             ///< from embeddings to the first layer
  std::vector<Block> layers;
  std::string layers_prefix;  ///< how the names of all weights in layers begin: "model.layers."
  Block exit;                 ///< from the last layer to the head
  HeadSpec head;
  std::vector<Rope> ropes;  ///< which step::Rope refers to by number
  std::vector<FusedModules> fused;
  std::vector<ExpertStack> stacks;  ///< other forms in which files may hold experts
  /// The files may have tensors of other parts, outside `base`: a vision tower, ...
  bool has_other_parts = false;
  /// Names of tensors in the layers' part that nobody reads begin with these: prediction heads, ...
  std::vector<std::string> ignored;
  /// Decisions made on the caller's behalf, and unknown keys; one sentence each.
  std::vector<std::string> notes;

  /// \param has  whether the model's files have a tensor; if empty, usual names are assumed
  /// \throws FormatError  an unsupported architecture or option, a missing or impossible value, or
  /// an unsupported key that changes what the model computes
  static Description parse(const nlohmann::json& config, const std::string& where,
                           const std::function<bool(const std::string&)>& has = {});

  /// The number of a table of angles; equal ones are kept once.
  int rope(const Rope& rope) {
    for (std::size_t i = 0; i < ropes.size(); ++i)
      if (ropes[i] == rope) return static_cast<int>(i);
    ropes.push_back(rope);
    return static_cast<int>(ropes.size()) - 1;
  }

  /// f(linear module) for all that may be quantized, layer by layer.
  template <class F>
  void for_each_linear(const F& f) const {
    for (const Block& layer : layers)
      for (const LinearSpec& linear : layer.linears())
        if (linear.quantize) f(linear);
  }

  /// How many linear modules may be quantized.
  Index linear_count() const {
    Index count = 0;
    for_each_linear([&](const LinearSpec&) { ++count; });
    return count;
  }
};

}  // namespace gptq::model
