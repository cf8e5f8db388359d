// SPDX-License-Identifier: MIT
#pragma once

// Observation: what calibration keeps of the inputs of linear modules.

#include <gptq/calibration/cross_moment.hpp>
#include <gptq/calibration/hessian.hpp>
#include <gptq/calibration/shrinkage.hpp>
#include <gptq/model/cuts.hpp>
#include <gptq/model/values.hpp>

#include <algorithm>  // std::count, std::min
#include <optional>
#include <span>
#include <string>
#include <utility>  // std::as_const, std::move
#include <vector>

namespace gptq::model {

/// Statistics of one input.
template <class Operations, class B>
struct Observation {
  Hessian<B> hessian;
  typename Operations::Tensor sample{};    ///< some of its last rows
  std::optional<CrossMoment<B>> inputs{};  ///< (X − X̃)ᵀX̃
  std::optional<CrossMoment<B>>
      residual{};         ///< (r − r̃)ᵀX̃, where the output joins the residual stream
  double own_tokens = 0;  ///< in the Hessian, without those of a pooled one
  double pooled = 0;      ///< share of the pooled Hessian of all experts in an expert's, 0 .. 1
};

/// Observes the inputs of some modules of a cut.
template <class Operations, class B>
class Observer {
 public:
  using Tensor = typename Operations::Tensor;
  using ConstView = typename Operations::ConstView;

  /// \param beside  whether the full-precision model runs alongside
  Observer(const Cuts& cuts, std::span<const Reading> readings, bool beside,
           const Operations& operations, const B& backend)
      : cuts_(cuts), readings_(readings), operations_(operations) {
    for (const Reading& reading : readings_) {  // their order is that of `seen`
      const Index in = width(reading.value);
      seen_.push_back({Hessian<B>(in, backend)});
      wanted_.push_back(reading.value);
      if (!beside) continue;
      seen_.back().inputs.emplace(in, in, backend);
      if (reading.residual < 0) continue;
      seen_.back().residual.emplace(width(reading.residual), in, backend);
      wanted_.push_back(reading.residual);
    }
  }

  /// The values to be observed.
  std::span<const int> wanted() const { return wanted_; }

  /// \param first  token of the chunk, for messages
  /// \param kept   how many of the last rows to keep for measuring outputs
  void add(const Values<Operations>& values, Index first, Index kept) {
    for (std::size_t i = 0; i < readings_.size(); ++i) {
      const ConstView x = values.view(readings_[i].value);
      if (x.rows() == 0) continue;  // nothing was routed to the expert
      try {
        seen_[i].hessian.add(x);
      } catch (const NumericalError& error) {
        const auto& linear = cuts_.block().linears()[std::size_t(readings_[i].linears[0])];
        throw NumericalError(gptq::detail::message(
            "input of ", linear.name, ", calibration tokens from ", first, ": ", error.what()));
      }
      const Index rows = (std::min)(kept, x.rows());
      if (rows == 0) continue;
      seen_[i].sample = operations_.tensor(rows, x.cols());
      operations_.copy(seen_[i].sample.view(), x.middle_rows(x.rows() - rows, rows));
    }
  }

  /// How the quantized stream differs from the full-precision one, whose values may be overwritten.
  void add_mismatch(Values<Operations>& full, const Values<Operations>& quantized) {
    for (std::size_t i = 0; i < readings_.size(); ++i) {
      const ConstView x = quantized.view(readings_[i].value);
      if (x.rows() == 0) continue;
      const auto add = [&](int value, CrossMoment<B>& moment) {
        const ConstView a = std::as_const(full).view(value);
        const bool in_place = full.lender(value) < 0 && full.is_writable(value) &&
                              std::count(wanted_.begin(), wanted_.end(), value) == 1;
        Tensor other;
        if (!in_place) other = operations_.tensor(a.rows(), a.cols());
        const auto difference = in_place ? full.view(value) : other.view();
        operations_.subtract(difference, a, quantized.view(value));
        moment.add(ConstView(difference), x);
      };
      add(readings_[i].value, *seen_[i].inputs);
      if (seen_[i].residual) add(readings_[i].residual, *seen_[i].residual);
    }
  }

  std::vector<Observation<Operations, B>> finish() {
    for (auto& seen : seen_) seen.own_tokens = seen.hessian.tokens();
    return std::move(seen_);
  }

 private:
  Index width(int value) const { return cuts_.block().width({value}); }

  const Cuts& cuts_;
  std::span<const Reading> readings_;
  const Operations& operations_;
  std::vector<Observation<Operations, B>> seen_;
  std::vector<int> wanted_;
};

/// Routes by which every expert sees every token.
template <class Operations>
Values<Operations> all_routes(const Cuts& cuts, Index rows, const Operations& operations) {
  Values<Operations> values(cuts.block().steps().size());
  for (const int route : cuts.routes())
    values.set(route, operations.constant(rows, cuts.block().width({route}), 1));
  return values;
}

/// Helps an expert that saw few tokens, or none, with the Hessian of all experts.
template <class Operations, class B>
void shrink_toward(const PooledHessian<B>& pool, Observation<Operations, B>& seen) {
  if (seen.hessian.tokens() == 0) seen.inputs.reset(), seen.residual.reset();
  auto made = pool.shrunk(seen.hessian);
  seen.hessian = std::move(made.hessian);
  seen.pooled = made.share;
}

}  // namespace gptq::model
