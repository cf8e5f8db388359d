// SPDX-License-Identifier: MIT
#pragma once

// Block: a decoder layer, or what comes before or after the layers, as a list of recorded steps.
// It holds no numbers: weights are named, and everything else about a model (what its files must
// hold, what calibration looks at, how much memory a layer takes) is derived from the steps.

#include <gptq/core/error.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/model/step.hpp>

#include <string>
#include <utility>  // std::move
#include <variant>
#include <vector>

namespace gptq::model {

/// The result of a step: a matrix of one row per token, on its way through a block.
struct Value {
  int id = -1;
};

/// One operation. Its result is the value of the same number.
struct Step {
  step::Any what;
  std::vector<int> in;  ///< the values that it reads, all of earlier steps
  Index width;          ///< columns of its result
};

/// y = x·Wᵀ + b, W [out, in].
struct LinearSpec {
  std::string name;  ///< in files, rules and reports: "model.layers.3.mlp.down_proj"
  Index out, in;
  bool bias = false;
  bool quantize = true;  ///< false: always stays in 16 bits
};

/// Weights that are never quantized: of a norm, a table of positions, ...
struct VectorSpec {
  std::string name;  ///< of the tensor
  std::vector<Index> shape;
};

/// Steps are recorded by calling the functions below, each of which returns the value it makes.
class Block {
 public:
  /// \param prefix  of all weights: "model.layers.3."
  explicit Block(std::string prefix) : prefix_(std::move(prefix)) {}
  Block() = default;

  /// What flows in: hidden states. Call it first.
  Value input(Index width) { return push(step::Input{}, {}, width); }

  /// Normalizes parts of each row, `how.size` columns each.
  /// \param name  of the module; its weight has a number per column of a part, or of the row
  Value norm(Value x, const std::string& name, step::Norm how) {
    if (how.size == 0) how.size = width(x);
    how.weight = vector(name + ".weight", {how.size});
    return push(how, {x}, width(x));
  }

  /// \param spec  names are relative to the block, `in` is set here
  Value linear(Value x, LinearSpec spec) {
    spec.name = prefix_ + spec.name;
    spec.in = width(x);
    linears_.push_back(std::move(spec));
    return push(step::Linear{static_cast<int>(linears_.size()) - 1}, {x}, linears_.back().out);
  }
  Value linear(Value x, const std::string& name, Index out, bool bias = false) {
    return linear(x, {.name = name, .out = out, .in = 0, .bias = bias});
  }

  Value rope(Value x, step::Rope how) { return push(how, {x}, width(x)); }

  Value attention(Value q, Value k, Value v, step::Attention how) {
    const Index heads = how.heads * how.head_dim;
    return push(std::move(how), {q, k, v}, heads);
  }

  /// f(gate) · up
  Value gated(Value gate, Value up, Activation kind) {
    return push(step::Gated{kind}, {gate, up}, width(up));
  }

  Value add(Value a, Value b) { return push(step::Add{}, {a, b}, width(a)); }
  void output(Value x) { result_ = x.id; }

  /// Registers weights that are not quantized. \returns  their number
  int vector(const std::string& name, std::vector<Index> shape) {
    vectors_.push_back({prefix_ + name, std::move(shape)});
    return static_cast<int>(vectors_.size()) - 1;
  }

  Index width(Value x) const { return steps_[static_cast<std::size_t>(x.id)].width; }
  const std::vector<Step>& steps() const { return steps_; }
  const std::vector<LinearSpec>& linears() const { return linears_; }
  const std::vector<VectorSpec>& vectors() const { return vectors_; }
  /// The value that flows out.
  int result() const { return result_; }
  const std::string& prefix() const { return prefix_; }

 private:
  Value push(step::Any what, const std::vector<Value>& read, Index width) {
    Step made{std::move(what), {}, width};
    for (const Value v : read) made.in.push_back(v.id);
    steps_.push_back(std::move(made));
    return {static_cast<int>(steps_.size()) - 1};
  }

  std::string prefix_;
  std::vector<Step> steps_;
  std::vector<LinearSpec> linears_;
  std::vector<VectorSpec> vectors_;
  int result_ = -1;
};

}  // namespace gptq::model
