// SPDX-License-Identifier: MIT
#pragma once

// Stream: all windows of a text on their way through the decoder. A layer is run from cut to cut,
// so that calibration can look at the inputs of linear modules before these are used.

#include <gptq/model/decoder.hpp>

#include <cstdint>
#include <map>
#include <span>
#include <utility>  // std::as_const, std::move
#include <vector>

namespace gptq::model {

/// The values of a layer that must be in memory for all calibration tokens at a cut.
template <class Operations>
class Stream {
 public:
  using Tensor = typename Operations::Tensor;
  using Layer = typename Operations::Layer;

  /// \param hidden       hidden states before the first layer, [tokens, hidden]
  /// \param cache_bytes  values inside a layer are kept up to this size, and computed again beyond
  /// it
  Stream(const Decoder<Operations>& decoder, Tensor hidden, std::uint64_t cache_bytes)
      : decoder_(decoder),
        tokens_(hidden.rows()),
        limit_(static_cast<Index>(cache_bytes / sizeof(float)) /
               (std::max)(Index(1), hidden.rows())) {
    slots_[0] = std::move(hidden);
  }

  Index tokens() const { return tokens_; }
  /// Hidden states between two layers.
  Tensor& hidden() { return slots_.begin()->second; }

  /// Calls f(first token, tokens) for chunks of whole windows.
  template <class F>
  void for_chunks(const F& f) const {
    const Index chunk = chunk_tokens(decoder_.length());
    for (Index begin = 0; begin < tokens_; begin += chunk)
      f(begin, (std::min)(chunk, tokens_ - begin));
  }

  Tensor copy_of_hidden() {
    Tensor copy = fresh(hidden().cols());
    decoder_.operations().copy(copy.view(), std::as_const(hidden()).view());
    return copy;
  }

  /// Begins a layer again, from other hidden states.
  void restart(Tensor hidden) {
    set_aside();
    slots_[0] = std::move(hidden);
    at_ = 0;
  }

  /// Begins a layer; `cuts` must live until its end.
  void enter(const Cuts& cuts) {
    cuts_ = &cuts;
    at_ = 0;
    kept_.clear();
    for (int cut = 1; cut <= cuts.count() + 1; ++cut) kept_.push_back(cuts.kept(cut, limit_));
    std::map<int, Tensor> input;
    input[0] = std::move(hidden());
    slots_ = std::move(input);
  }

  /// The wanted values of a chunk at a cut. On the way to the cut: call once for each chunk, then
  /// `arrive`; after that, as often as you like. Modules before the cut must be final.
  /// \param imposed  values to use instead of computing them: those of the steps `which`
  Values<Operations> chunk(int cut, const Layer& weights, std::span<const int> wanted, Index first,
                           Index rows, Values<Operations>* imposed = nullptr,
                           std::span<const int> which = {}) {
    const bool moving = cut != at_;
    Values<Operations> values(cuts_->block().steps().size());
    if (imposed)
      for (const int value : which) values.lend(value, imposed->view(value), false);
    for (auto& [value, slot] : slots_)
      values.lend(value, slot.view().middle_rows(first, rows), moving);
    std::vector<int> targets(wanted.begin(), wanted.end());
    if (moving) targets.insert(targets.end(), kept(cut).begin(), kept(cut).end());
    decoder_.run(*cuts_, weights, values, targets);
    if (moving)
      for (const int value : kept(cut)) store(values, value, first, rows);
    return values;
  }

  /// All chunks have reached the cut.
  void arrive(int cut) {
    if (cut == at_) return;
    for (const auto& [value, from] : moved_) {
      next_[value] = std::move(slots_.at(from));
      slots_.erase(from);
    }
    set_aside();
    slots_ = std::move(next_);
    next_.clear();
    moved_.clear();
    at_ = cut;
  }

  /// Ends the layer: only its result remains.
  void leave(const Layer& weights) {
    const int end = cuts_->count() + 1;
    for_chunks([&](Index first, Index rows) { chunk(end, weights, {}, first, rows); });
    arrive(end);
  }

 private:
  const std::vector<int>& kept(int cut) const { return kept_[std::size_t(cut) - 1]; }

  void store(const Values<Operations>& values, int value, Index first, Index rows) {
    if (const int lender = values.lender(value); lender >= 0) {  // computed in place
      moved_[value] = lender;
      return;
    }
    auto found = next_.find(value);
    if (found == next_.end())
      found = next_.emplace(value, fresh(cuts_->block().steps()[std::size_t(value)].width)).first;
    decoder_.operations().copy(found->second.view().middle_rows(first, rows), values.view(value));
  }

  /// Keeps the memory of all values for later ones.
  void set_aside() {
    for (auto& [value, slot] : slots_) free_.push_back(std::move(slot));
    slots_.clear();
  }

  /// Memory for one value of all tokens, that of an earlier one if possible.
  Tensor fresh(Index width) {
    for (std::size_t i = 0; i < free_.size(); ++i)
      if (free_[i].cols() == width) {
        Tensor found = std::move(free_[i]);
        free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
        return found;
      }
    return decoder_.operations().keep(tokens_, width);
  }

  const Decoder<Operations>& decoder_;
  Index tokens_, limit_;
  const Cuts* cuts_ = nullptr;
  int at_ = 0;                          // the cut that all chunks have reached
  std::vector<std::vector<int>> kept_;  // by cut
  std::map<int, Tensor> slots_, next_;  // by value, at this cut and at the next one
  std::map<int, int> moved_;            // from a value of the next cut to one in whose place it is
  std::vector<Tensor> free_;
};

}  // namespace gptq::model
