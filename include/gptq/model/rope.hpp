// SPDX-License-Identifier: MIT
#pragma once

// Rope: the angles of rotary position embeddings.

#include <gptq/core/matrix_view.hpp>

#include <algorithm>  // std::clamp, std::max, std::min
#include <cmath>      // std::cos, std::pow, std::sin
#include <numbers>
#include <vector>

namespace gptq::model {

/// A rule for the angle by which a pair of coordinates turns per position.
struct Rope {
  enum class Kind { plain, linear, llama3, yarn, longrope, dynamic };

  Index dims = 0;  ///< coordinates of a head that turn
  double theta = 10000;
  Kind kind = Kind::plain;
  double factor = 1;              ///< linear: divides positions; llama3, yarn: stretches long waves
  double low_freq_factor = 1;     ///< llama3
  double high_freq_factor = 4;    ///< llama3
  double original_positions = 0;  ///< llama3, yarn, longrope, dynamic: context before scaling
  double beta_fast = 32, beta_slow = 1;  ///< yarn: turns within it, between which it blends
  bool truncate = true;                  ///< yarn: the ends of the blend are whole coordinates
  /// longrope: of each pair, for windows within the original context and beyond it
  std::vector<double> short_stretches{}, long_stretches{};
  double amplitude = 1;     ///< of all sines and cosines
  double sharpen_beta = 0;  ///< see step::Sharpen
  double score_scale = 1;   ///< yarn: further factor of scores in models with latent attention

  bool operator==(const Rope&) const = default;

  /// Radians per position for each pair of coordinates, scaling included.
  /// \param positions  tokens of a window
  std::vector<double> frequencies(Index positions = 0) const {
    const double base = kind == Kind::dynamic ? theta_for(positions) : theta;
    const auto& listed =
        static_cast<double>(positions) > original_positions ? long_stretches : short_stretches;
    std::vector<double> out;
    for (Index i = 0; i < dims / 2; ++i) {
      const double plain =
          std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(dims));
      out.push_back(kind == Kind::yarn       ? blended(plain, static_cast<double>(i))
                    : kind == Kind::longrope ? plain / listed[static_cast<std::size_t>(i)]
                                             : plain / stretch(2 * std::numbers::pi / plain));
    }
    return out;
  }

  /// By how much a wave of this length (in positions) is stretched.
  double stretch(double wavelength) const {
    if (kind == Kind::plain || kind == Kind::dynamic) return 1;
    if (kind == Kind::linear) return factor;
    const double low = original_positions / low_freq_factor,
                 high = original_positions / high_freq_factor;
    if (wavelength < high) return 1;
    if (wavelength > low) return factor;
    const double smooth =
        (original_positions / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
    return 1 / ((1 - smooth) / factor + smooth);
  }

 private:
  /// Dynamic scaling: a larger base for windows beyond the original context.
  double theta_for(Index positions) const {
    const double stretch = static_cast<double>(positions) / original_positions;
    if (stretch <= 1 || dims <= 2) return theta;
    const auto d = static_cast<double>(dims);
    return theta * std::pow(factor * stretch - (factor - 1), d / (d - 2));
  }

  /// YaRN: fast waves stay, slow ones are stretched, those between are blended.
  double blended(double plain, double pair) const {
    const auto turning = [&](double turns) {  // the pair that turns so often in the context
      return static_cast<double>(dims) *
             std::log(original_positions / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
    };
    double low = turning(beta_fast), high = turning(beta_slow);
    if (truncate) low = std::floor(low), high = std::ceil(high);
    low = (std::max)(low, 0.0), high = (std::min)(high, static_cast<double>(dims - 1));
    if (low == high) high += 0.001;
    const double ramp = std::clamp((pair - low) / (high - low), 0.0, 1.0);
    return plain / factor * ramp + plain * (1 - ramp);
  }
};

/// cos and sin of position · frequency.
struct RopeTable {
  Index half = 0;                   ///< pairs that turn
  std::vector<float> cosine, sine;  ///< [positions, half]

  RopeTable() = default;
  RopeTable(const Rope& rope, Index positions) : half(rope.dims / 2) {
    const auto frequencies = rope.frequencies(positions);
    for (Index p = 0; p < positions; ++p)
      for (const double frequency : frequencies) {
        const double angle = static_cast<double>(p) * frequency;
        cosine.push_back(static_cast<float>(rope.amplitude * std::cos(angle)));
        sine.push_back(static_cast<float>(rope.amplitude * std::sin(angle)));
      }
  }
};

}  // namespace gptq::model
