// SPDX-License-Identifier: MIT
#pragma once

// ActivationHistogram: counts of numbers in bins that widen as the numbers do. It is the same
// however the numbers were ordered or cut into calls.

#include <gptq/core/matrix_view.hpp>

#include <algorithm>  // std::max, std::min
#include <cmath>      // std::floor
#include <utility>    // std::move
#include <vector>

namespace gptq::detail {

/// Bin j counts the numbers in [j·w, (j + 1)·w). The width w is the smallest power of two for which
/// the bins from the smallest number to the largest, zero among them, are no more than `bins`; so
/// they are more than about half of that. Two neighbours j = 2i and 2i + 1 of width w are exactly
/// bin i of width 2w, so a histogram that has doubled its width holds the counts that it would hold
/// had it started there.
class ActivationHistogram {
 public:
  explicit ActivationHistogram(Index bins) : bins_(bins), counts_(1) {}

  /// Makes room for numbers in [low, high], which are in the range of float.
  void cover(double low, double high) {
    low = (std::min)(low, 0.0), high = (std::max)(high, 0.0);
    const auto last_of = [&] { return (std::max)(last(), bin(high)); };
    const auto first_of = [&] { return (std::min)(first_, bin(low)); };
    while (!fits(low, high) || last_of() - first_of() >= bins_) double_width();
    const Index first = first_of(), last = last_of();
    if (first == first_ && last == this->last()) return;
    counts_.insert(counts_.begin(), static_cast<std::size_t>(first_ - first), 0);
    first_ = first;
    counts_.resize(static_cast<std::size_t>(last - first + 1));
  }

  /// Counts a number that is covered.
  void add(double x) { ++counts_[static_cast<std::size_t>(bin(x) - first_)]; }

  /// Adds the counts of another histogram with the same `bins`.
  void merge(const ActivationHistogram& other) {
    ActivationHistogram wider = other;
    while (width() < wider.width()) double_width();
    cover(static_cast<double>(wider.first_) * wider.width(),
          static_cast<double>(wider.last()) * wider.width());
    while (wider.width() < width()) wider.double_width();
    for (Index j = wider.first_; j <= wider.last(); ++j)
      counts_[static_cast<std::size_t>(j - first_)] += wider.count(j);
  }

  /// w
  double width() const { return 1 / per_unit_; }

  /// The bins from the smallest number, or zero, to the largest, or zero: first() ≤ 0 ≤ last().
  Index first() const { return first_; }
  Index last() const { return first_ + static_cast<Index>(counts_.size()) - 1; }
  Index count(Index bin) const { return counts_[static_cast<std::size_t>(bin - first_)]; }

  /// From bin first() on.
  const std::vector<Index>& counts() const { return counts_; }

  /// Counts of |x|: element i is bins i and −1 − i together, [i·w, (i + 1)·w) and its mirror image.
  std::vector<Index> magnitudes() const {
    std::vector<Index> folded(static_cast<std::size_t>((std::max)(last() + 1, -first_)));
    for (Index j = first_; j <= last(); ++j)
      folded[static_cast<std::size_t>(j < 0 ? -1 - j : j)] += count(j);
    return folded;
  }

 private:
  Index bin(double x) const { return static_cast<Index>(std::floor(x * per_unit_)); }

  /// Whether the range is short enough for bins of this width. In floating point, as the bins may
  /// be more than an Index can count.
  bool fits(double low, double high) const {
    return std::floor(high * per_unit_) - std::floor(low * per_unit_) < static_cast<double>(bins_);
  }

  void double_width() {
    const Index first = first_ >> 1;  // rounds down
    std::vector<Index> merged(static_cast<std::size_t>((last() >> 1) - first + 1));
    for (Index j = first_; j <= last(); ++j)
      merged[static_cast<std::size_t>((j >> 1) - first)] += count(j);
    counts_ = std::move(merged);
    first_ = first;
    per_unit_ /= 2;
  }

  Index bins_;
  std::vector<Index> counts_;
  Index first_ = 0;
  double per_unit_ = 0x1p200;  // 1/w; the first bins are far narrower than any scale
};

}  // namespace gptq::detail
