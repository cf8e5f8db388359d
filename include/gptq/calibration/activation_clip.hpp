// SPDX-License-Identifier: MIT
#pragma once

// ActivationClip: the range that a grid of activations covers, and three ways to find one in a
// histogram - percentile, squared error, KL divergence. What lies beyond is clipped to its ends.

#include <gptq/calibration/activation_histogram.hpp>
#include <gptq/scheme/affine.hpp>

#include <algorithm>  // std::max, std::min, std::reverse
#include <cmath>      // std::ceil, std::exp2, std::log, std::nearbyint
#include <limits>
#include <vector>

namespace gptq::detail {

struct ActivationClip {
  double low = 0, high = 0;

  /// The part of it within [-reach, reach].
  ActivationClip within(double reach) const {
    return {(std::max)(low, -reach), (std::min)(high, reach)};
  }
  double reach() const { return (std::max)(-low, high); }
};

/// The affine grid that covers a clip and zero. Nothing but zeros: any grid holds them, and that of
/// [-1, 1] is as good as others.
/// \throws InvalidArgument  bits are not 2 to 8
inline scheme::Grid<double> activation_grid(ActivationClip clip, int bits,
                                            scheme::Symmetry symmetry) {
  clip = {(std::min)(clip.low, 0.0), (std::max)(clip.high, 0.0)};
  if (clip.low == clip.high) clip = {-1, 1};
  scheme::Grid<double> grid{};
  scheme::with_affine(bits, symmetry == scheme::Symmetry::symmetric, [&](const auto& affine) {
    grid = affine.fit(clip.low, clip.high, scheme::ScaleRounding(ScaleType::fp32));
  });
  return grid;
}

/// The bin in which the element of this rank lies, counted from 1.
inline Index bin_of_rank(const std::vector<Index>& counts, double rank) {
  double below = 0;
  for (std::size_t j = 0; j + 1 < counts.size(); ++j)
    if ((below += static_cast<double>(counts[j])) >= rank) return static_cast<Index>(j);
  return static_cast<Index>(counts.size()) - 1;
}

/// From the (100 − p)th to the pth percentile of x; symmetric: up to the pth of |x|. By nearest
/// rank, ⌈p·n / 100⌉ of n, and widened to the edge of the bin.
inline ActivationClip percentile_clip(const ActivationHistogram& seen, const ActivationClip& all,
                                      double percentile, scheme::Symmetry symmetry) {
  double total = 0;
  for (const Index count : seen.counts()) total += static_cast<double>(count);
  const double rank = std::ceil(percentile * total / 100);
  const auto edge = [&](const std::vector<Index>& counts) {
    return static_cast<double>(bin_of_rank(counts, rank) + 1) * seen.width();
  };
  if (symmetry == scheme::Symmetry::symmetric) return all.within(edge(seen.magnitudes()));
  auto counts = seen.counts();
  const double high = edge(counts) + static_cast<double>(seen.first()) * seen.width();
  std::reverse(counts.begin(), counts.end());  // the low tail is the high one of −x
  const double low = static_cast<double>(seen.last() + 1) * seen.width() - edge(counts);
  return {(std::max)(low, all.low), (std::min)(high, all.high)};
}

/// Σ (x − q(x))² over the histogram, each bin's numbers spread evenly over it.
inline double squared_error(const ActivationHistogram& seen, const scheme::Grid<double>& grid,
                            int bits) {
  const double lowest = -grid.zero, highest = lowest + (1 << bits) - 1;
  // ∫₀ᵘ (v − q(v))² dv in units of the scale: 1/12 for each level passed, and the way from the
  // nearest one, n, which beyond the grid is its end.
  const auto integral = [&](double u) {
    const double n = lane::clamp(std::nearbyint(u), lowest, highest);
    return n / 12 + (u - n) * (u - n) * (u - n) / 3;
  };
  const double width = seen.width() / grid.scale;
  double sum = 0, at_left = integral(static_cast<double>(seen.first()) * width);
  for (Index j = seen.first(); j <= seen.last(); ++j) {
    const double at_right = integral(static_cast<double>(j + 1) * width);
    sum += static_cast<double>(seen.count(j)) * (at_right - at_left);
    at_left = at_right;
  }
  return sum / width * grid.scale * grid.scale;
}

/// The clip with the smallest squared error, clipping included, of those 2^(−k/32) times the range.
/// Asymmetric: both ends by turns, from the best clip within a common reach.
inline ActivationClip mse_clip(const ActivationHistogram& seen, const ActivationClip& all, int bits,
                               scheme::Symmetry symmetry) {
  ActivationClip best = all;
  double least = std::numeric_limits<double>::infinity();
  const auto scan = [&](double from, const auto& clip_at) {
    bool better = false;
    for (int k = 0;; ++k) {
      const double end = from * std::exp2(-k / 32.0);
      if (end <= seen.width()) return better;
      const ActivationClip clip = clip_at(end);
      const double error = squared_error(seen, activation_grid(clip, bits, symmetry), bits);
      if (error < least) least = error, best = clip, better = true;
    }
  };
  scan(all.reach(), [&](double end) { return all.within(end); });
  if (symmetry == scheme::Symmetry::symmetric) return best;
  const auto move_low = [&](double end) { return ActivationClip{-end, best.high}; };
  const auto move_high = [&](double end) { return ActivationClip{best.low, end}; };
  for (int turn = 0, idle = 0; turn < 8 && idle < 2; ++turn)
    idle = (turn % 2 == 0 ? scan(-all.low, move_low) : scan(all.high, move_high)) ? 0 : idle + 1;
  return best;
}

/// Prefix sums over bins, by which the divergence of a window takes a step per level, not per bin.
class KlDivergence {
 public:
  explicit KlDivergence(const std::vector<Index>& counts) : counts_(counts) {
    sums_.push_back({});
    for (const Index count : counts) {
      const Sums& last = sums_.back();
      const auto c = static_cast<double>(count);
      sums_.push_back({last.mass + c, last.used + (count > 0 ? 1 : 0), last.c_log_c + c_log_c(c)});
    }
  }

  /// KL(P ‖ Q) of bins [first, last) in nats. P: the counts, with those of all bins on the left
  /// added to the first bin and those on the right to the last. Q: the counts without these, summed
  /// over each of `levels` equal parts of the window and spread evenly over its bins that P uses.
  /// Infinite where P uses a part that Q does not.
  double operator()(Index first, Index last, int levels) const {
    const Index bins = last - first;
    const double left = at(first).mass, right = sums_.back().mass - at(last).mass;
    double divergence = at(last).c_log_c - at(first).c_log_c;
    const auto correct = [&](Index bin, double beyond) {
      const auto c = static_cast<double>(counts_[static_cast<std::size_t>(bin)]);
      divergence += c_log_c(c + beyond) - c_log_c(c);
      return c == 0 && beyond > 0 ? 1.0 : 0.0;  // a bin that only P uses
    };
    const double first_used = correct(first, left), last_used = correct(last - 1, right);
    for (Index level = 0, begin = first; level < levels; ++level) {
      const Index end = first + ((level + 1) * bins + levels - 1) / levels;
      const double mass = at(end).mass - at(begin).mass;
      const double used = at(end).used - at(begin).used + (begin == first ? first_used : 0) +
                          (end == last ? last_used : 0);
      const double of_p = mass + (begin == first ? left : 0) + (end == last ? right : 0);
      if (of_p > 0 && mass == 0) return std::numeric_limits<double>::infinity();
      if (of_p > 0) divergence -= of_p * std::log(mass / used);
      begin = end;
    }
    const double total = sums_.back().mass, of_q = at(last).mass - at(first).mass;
    return divergence / total - std::log(total) + std::log(of_q);
  }

 private:
  struct Sums {
    double mass = 0, used = 0, c_log_c = 0;
  };
  static double c_log_c(double c) { return c > 0 ? c * std::log(c) : 0; }
  const Sums& at(Index bin) const { return sums_[static_cast<std::size_t>(bin)]; }

  const std::vector<Index>& counts_;
  std::vector<Sums> sums_;
};

/// The clip whose quantized histogram has the smallest divergence from the histogram itself, of
/// those that end at a bin and are no fewer bins than levels; the widest wins a tie. Symmetric: |x|
/// in 2^(bits−1) levels; asymmetric: x in 2^bits, within a common reach.
inline ActivationClip entropy_clip(const ActivationHistogram& seen, const ActivationClip& all,
                                   int bits, scheme::Symmetry symmetry) {
  const bool symmetric = symmetry == scheme::Symmetry::symmetric;
  const auto counts = symmetric ? seen.magnitudes() : seen.counts();
  const Index below = symmetric ? 0 : -seen.first(),
              above = static_cast<Index>(counts.size()) - below;
  const int levels = 1 << (symmetric ? bits - 1 : bits);
  const KlDivergence divergence(counts);
  ActivationClip best = all;
  double least = std::numeric_limits<double>::infinity();
  for (Index reach = (std::max)(below, above); reach > 0; --reach) {
    const Index first = below - (std::min)(below, reach), last = below + (std::min)(above, reach);
    if (last - first < levels) break;
    const double kl = divergence(first, last, levels);
    if (kl < least) least = kl, best = all.within(static_cast<double>(reach) * seen.width());
  }
  return best;
}

}  // namespace gptq::detail
