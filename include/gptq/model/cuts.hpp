// SPDX-License-Identifier: MIT
#pragma once

// Cuts: in which order calibration goes through a block, derived from its steps. Before cut c, the
// inputs of the linear modules of depth c are observed and these modules are quantized.

#include <gptq/model/block.hpp>

#include <algorithm>  // std::all_of, std::find, std::max
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace gptq::model {

/// Linear modules that read one value, and share its Hessian.
struct Reading {
  int value;
  std::vector<int> linears;  ///< numbers in the block
  /// The part of the residual stream to which they add their result, as it is known at the cut;
  /// -1: they do not.
  int residual = -1;
};

/// A block, taken apart.
class Cuts {
 public:
  explicit Cuts(const Block& block) : block_(&block) {
    const auto& steps = block.steps();
    find_depths();
    uses_.resize(steps.size());
    for (std::size_t i = 0; i < steps.size(); ++i)
      for (const int v : steps[i].in) uses_[std::size_t(v)].push_back(static_cast<int>(i));
    find_stream();
    for (std::size_t i = 0; i < steps.size(); ++i)
      if (std::holds_alternative<step::Route>(steps[i].what))
        routes_.push_back(static_cast<int>(i));
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const int linear = quantized_linear(static_cast<int>(i));
      if (linear < 0) continue;
      auto& readings = readings_[std::size_t(depth_[i]) - 1];
      const int value = steps[i].in[0], residual = residual_of(static_cast<int>(i));
      auto found = std::find_if(readings.begin(), readings.end(), [&](const Reading& r) {
        return r.value == value && r.residual == residual;
      });
      if (found == readings.end()) found = readings.insert(found, {value, {}, residual});
      found->linears.push_back(linear);
    }
  }

  const Block& block() const { return *block_; }

  /// How many cuts there are; behind the last one only the result is left to compute.
  int count() const { return static_cast<int>(readings_.size()); }

  /// What is observed at a cut, 1 .. count().
  const std::vector<Reading>& readings(int cut) const { return readings_[std::size_t(cut) - 1]; }

  /// The steps that choose experts.
  const std::vector<int>& routes() const { return routes_; }

  /// The deepest quantized module that a value depends on.
  int depth(int value) const { return depth_[std::size_t(value)]; }

  /// Steps that read a value.
  const std::vector<int>& uses(int value) const { return uses_[std::size_t(value)]; }

  /// The values that must be in memory for all tokens at a cut, 1 .. count() + 1: made before it,
  /// used behind it, and not computed from the others without a large product.
  /// \param limit  a value of more numbers per token is computed again by such products, unless
  ///               attention is needed for that
  std::vector<int> kept(int cut, Index limit) const {
    const auto& steps = block_->steps();
    std::set<int> live;
    for (std::size_t i = 0; i < steps.size(); ++i)
      if (depth_[i] >= cut)
        for (const int v : steps[i].in)
          if (depth(v) < cut) live.insert(v);
    if (depth(block_->result()) < cut) live.insert(block_->result());
    const std::vector<int> all(live.rbegin(), live.rend());
    for (const int v : all) {
      live.erase(v);
      const bool large = steps[std::size_t(v)].width > limit, expert = of_expert(v);
      if (!follows(v, live, large || expert)) live.insert(v);
    }
    return {live.begin(), live.end()};
  }

  /// A linear step whose result is only added to something: both are one operation.
  bool is_added(int step) const {
    const auto& readers = uses(step);
    return std::holds_alternative<step::Linear>(at(step)) && readers.size() == 1 &&
           std::holds_alternative<step::Add>(at(readers[0])) && step != block_->result() &&
           block_->steps()[std::size_t(readers[0])].in[0] !=
               block_->steps()[std::size_t(readers[0])].in[1];
  }

 private:
  const step::Any& at(int step) const { return block_->steps()[std::size_t(step)].what; }
  bool of_expert(int step) const { return block_->steps()[std::size_t(step)].expert >= 0; }

  int quantized_linear(int step) const {
    const auto* linear = std::get_if<step::Linear>(&at(step));
    return linear && block_->linears()[std::size_t(linear->linear)].quantize ? linear->linear : -1;
  }

  /// The depth of a linear module is one more than that of the deepest one before it.
  void find_depths() {
    const auto& steps = block_->steps();
    for (std::size_t i = 0; i < steps.size(); ++i) {
      int deepest = 0;
      for (const int v : steps[i].in) deepest = (std::max)(deepest, depth_[std::size_t(v)]);
      if (quantized_linear(static_cast<int>(i)) >= 0)
        readings_.resize((std::max)(readings_.size(), static_cast<std::size_t>(++deepest)));
      depth_.push_back(deepest);
    }
  }

  /// Whether a value can be computed from others that are in memory.
  /// \param products  with large products, too; those before the cut are done with final weights
  bool follows(int value, const std::set<int>& from, bool products) const {
    const auto& in = block_->steps()[std::size_t(value)].in;
    if (in.empty()) return false;
    if (std::holds_alternative<step::Attention>(at(value)) ||
        std::holds_alternative<step::DeltaRule>(at(value)) ||
        (quantized_linear(value) >= 0 && !products))
      return false;
    return std::all_of(in.begin(), in.end(),
                       [&](int v) { return from.count(v) > 0 || follows(v, from, products); });
  }

  /// The block's input and all sums that lead from it to the result.
  void find_stream() {
    const auto& steps = block_->steps();
    on_stream_.resize(steps.size());
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const auto is_on = [&](int v) { return bool(on_stream_[std::size_t(v)]); };
      on_stream_[i] = std::holds_alternative<step::Input>(steps[i].what) ||
                      (std::holds_alternative<step::Add>(steps[i].what) &&
                       (is_on(steps[i].in[0]) || is_on(steps[i].in[1])));
    }
  }

  int residual_of(int step) const {
    if (!is_added(step) || of_expert(step)) return -1;
    const auto& sum = block_->steps()[std::size_t(uses(step)[0])];
    int stream = sum.in[0] == step ? sum.in[1] : sum.in[0];
    if (!on_stream_[std::size_t(stream)]) return -1;
    while (depth(stream) >= depth(step)) {  // modules side by side: what both add to
      const auto& in = block_->steps()[std::size_t(stream)].in;
      stream = on_stream_[std::size_t(in[0])] ? in[0] : in[1];
    }
    return stream;
  }

  const Block* block_;
  std::vector<int> depth_;
  std::vector<std::vector<int>> uses_;
  std::vector<char> on_stream_;
  std::vector<int> routes_;
  std::vector<std::vector<Reading>> readings_;
};

/// What people call a module: the last part of its name, without "_proj".
inline std::string short_name(const std::string& name) {
  constexpr std::string_view ending = "_proj";
  std::string last = name.substr(name.rfind('.') + 1);
  if (last.ends_with(ending)) last.resize(last.size() - ending.size());
  return last;
}

/// "q, k, v": the modules of a cut.
inline std::string short_names(const Cuts& cuts, int cut) {
  std::vector<std::string> names;
  for (const Reading& reading : cuts.readings(cut))
    for (const int linear : reading.linears)
      if (const auto name = short_name(cuts.block().linears()[std::size_t(linear)].name);
          std::find(names.begin(), names.end(), name) == names.end())
        names.push_back(name);
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

}  // namespace gptq::model
