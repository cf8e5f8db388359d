// SPDX-License-Identifier: MIT
#pragma once

// Folds: where factors of a value's columns can go without changing what a block computes. If the
// modules that read the value have their columns multiplied by s, something before it can be
// divided by s: a norm's weights, or rows of a linear module.

#include <gptq/model/cuts.hpp>

#include <algorithm>  // std::find
#include <numeric>    // std::iota
#include <optional>
#include <utility>  // std::move
#include <variant>
#include <vector>

namespace gptq::model {

/// A factor s_c for each column c of a value: multiplied into the columns of all modules that read
/// it, divided out of what makes it.
struct Fold {
  int value = -1;
  std::vector<int> readers{};  ///< linear modules of the block, those of 16 bits among them
  int linear = -1;             ///< whose rows and bias are divided, or
  int weight = -1, bias = -1;  ///< vectors of a norm
  /// The row or element that makes each column; columns with the same one need the same factor.
  std::vector<Index> rows{};
};

namespace detail {

/// Finds the folds of one block.
class FoldFinder {
 public:
  explicit FoldFinder(const Cuts& cuts) : cuts_(cuts) {}

  std::optional<Fold> find(int value) const {
    Fold fold{.value = value};
    if (value == cuts_.block().result() || !collect_readers(value, fold)) return std::nullopt;
    fold.rows.resize(static_cast<std::size_t>(step(value).width));
    std::iota(fold.rows.begin(), fold.rows.end(), Index{0});
    if (!divide(value, fold)) return std::nullopt;
    return fold;
  }

 private:
  const Step& step(int value) const { return cuts_.block().steps()[std::size_t(value)]; }

  /// \return  false if something else than linear modules reads it
  bool collect_readers(int value, Fold& fold) const {
    for (const int use : cuts_.uses(value)) {
      if (const auto* linear = std::get_if<step::Linear>(&step(use).what)) {
        fold.readers.push_back(linear->linear);
      } else if (std::holds_alternative<step::Gather>(step(use).what) && step(use).in[0] == value) {
        if (!collect_readers(use, fold)) return false;
      } else {
        return false;
      }
    }
    return true;
  }

  bool is_read_once(int value) const {
    return cuts_.uses(value).size() == 1 && value != cuts_.block().result();
  }

  /// Follows a value to what can be divided; fold.rows are its columns, then those before it.
  bool divide(int value, Fold& fold) const {
    return std::visit([&](const auto& what) { return divide(what, step(value), fold); },
                      step(value).what);
  }

  bool divide_read_once(int value, Fold& fold) const {
    return is_read_once(value) && divide(value, fold);
  }

  bool divide(const step::Norm& how, const Step&, Fold& fold) const {
    if (!how.weighted || how.weight < 0) return false;
    fold.weight = how.weight;
    fold.bias = how.bias;
    if (how.weights == step::Norm::Weights::shared)
      for (Index& row : fold.rows) row %= how.size;
    return true;
  }
  bool divide(const step::Linear& how, const Step&, Fold& fold) const {
    fold.linear = how.linear;
    return true;
  }
  /// Other columns of the value may go elsewhere.
  bool divide(const step::Columns& how, const Step& here, Fold& fold) const {
    const int from = here.in[0];
    if (from == 0 || from == cuts_.block().result()) return false;
    std::vector<char> taken(static_cast<std::size_t>(step(from).width));
    for (const int use : cuts_.uses(from)) {
      const auto* other = std::get_if<step::Columns>(&step(use).what);
      if (!other) return false;
      for (Index c = 0; c < step(use).width; ++c)
        if (++taken[std::size_t(column(*other, c))] > 1) return false;
    }
    if (!std::holds_alternative<step::Linear>(step(from).what)) return false;
    for (Index& row : fold.rows) row = column(how, row);
    return divide(from, fold);
  }
  bool divide(const step::Gated& how, const Step& here, Fold& fold) const {
    return how.limit == 0 && divide_read_once(here.in[1], fold);
  }
  bool divide(const step::Activate& how, const Step& here, Fold& fold) const {
    return how.kind == Activation::relu && divide_read_once(here.in[0], fold);
  }
  bool divide(const step::Scale&, const Step& here, Fold& fold) const {
    return divide_read_once(here.in[0], fold);
  }
  /// Heads of q that share one of v share its columns.
  bool divide(const step::Attention& how, const Step& here, Fold& fold) const {
    const Index shared = how.heads / how.kv_heads;
    for (Index& row : fold.rows)
      row = row / how.value_dim / shared * how.value_dim + row % how.value_dim;
    return divide_read_once(here.in[2], fold);
  }
  template <class Other>
  bool divide(const Other&, const Step&, Fold&) const {
    return false;
  }

  static Index column(const step::Columns& how, Index c) {
    return c / how.count * how.period + how.first + c % how.count;
  }

  const Cuts& cuts_;
};

}  // namespace detail

/// The folds for the inputs of all quantized modules of a block, each once. Experts share theirs.
inline std::vector<Fold> folds(const Cuts& cuts) {
  const detail::FoldFinder finder(cuts);
  std::vector<Fold> found;
  std::vector<int> seen;
  for (int cut = 1; cut <= cuts.count(); ++cut)
    for (const Reading& reading : cuts.readings(cut)) {
      int value = reading.value;
      const auto& steps = cuts.block().steps();
      while (std::holds_alternative<step::Gather>(steps[std::size_t(value)].what))
        value = steps[std::size_t(value)].in[0];
      if (std::find(seen.begin(), seen.end(), value) != seen.end()) continue;
      seen.push_back(value);
      if (auto fold = finder.find(value)) found.push_back(std::move(*fold));
    }
  return found;
}

}  // namespace gptq::model
