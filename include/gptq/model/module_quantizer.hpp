// SPDX-License-Identifier: MIT
#pragma once

// ModuleQuantizer: quantizes one linear module with settings known only at run time, packs it for
// the file, and replaces its weight by what the file will yield.

#include <gptq/baseline/rtn.hpp>
#include <gptq/core/progress.hpp>
#include <gptq/model/layer_weights.hpp>
#include <gptq/model/quantized_module.hpp>
#include <gptq/quantizer.hpp>
#include <gptq/scheme/scale_range.hpp>

#if defined(GPTQ_COMPILED)
#include <gptq/compiled.hpp>
#endif

#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>  // std::move
#include <vector>

namespace gptq::model {

namespace detail {

/// f(), adding a remedy to the error if a module's scales do not fit.
template <class F>
auto with_way_out(const F& f) {
  try {
    return f();
  } catch (const ScaleError& error) {
    throw ScaleError(error.problem(), "skip the module to keep it unquantized (--skip NAME)");
  }
}

}  // namespace detail

/// Checks the weights of all modules for scales outside the range of fp16, before starting work
/// that would fail on them at its end.
/// \throws ScaleError      names module, row and group
/// \throws Cancelled       the callback asked to stop
template <class Executor>
void require_scales_fit(const ModelFiles& model, const SettingsTable& table,
                        const Executor& executor, const Progress& progress = {}) {
  const auto modules = static_cast<double>(model.description.linear_count());
  double done = 0;
  model.description.for_each_linear([&](const LinearSpec& linear) {
    if (progress && !progress("checking the scales", done++ / modules, 1)) throw Cancelled();
    const auto settings = table.find(linear.name);
    if (!settings || settings->type != NumberType::integer) return;
    const Linear loaded = load_linear(model, linear);
    detail::with_way_out([&] {
      scheme::require_scales_fit(executor, loaded.weight.view(), settings->bits,
                                 settings->symmetric, settings->group_size, ScaleType::fp16,
                                 linear.name);
    });
  });
}

/// Quantizes modules that share one input, or one module of each of several inputs (experts); the
/// Hessians are factored once per group size.
template <class B>
class ModuleQuantizer {
 public:
  /// \param hessians  of the inputs, all of one size; none: round to nearest
  ModuleQuantizer(const Params& params, Method method, const Format& format, B backend,
                  std::vector<const Hessian<B>*> hessians)
      : params_(params),
        method_(method),
        format_(format),
        backend_(std::move(backend)),
        hessians_(std::move(hessians)) {}

  /// The factors for a group size, one for each input, computed when first needed.
  const Factors<B>& factors(Index group_size) {
    Params params = params_;
    params.group_size = group_size;
    const Index key = effective_group_size(params, hessians_.front()->in_features());
    auto found = factors_.find(key);
    if (found == factors_.end())
      found = factors_
                  .emplace(key, solver::advised_factors(
                                    std::span<const Hessian<B>* const>(hessians_), params))
                  .first;
    return found->second;
  }

  /// \param weights  [out, in] each, of the one input or one of each; overwritten with what the
  ///                 file will yield
  std::vector<QuantizedModule> quantize(std::span<const MatrixView<float>> weights,
                                        const ModuleSettings& settings,
                                        std::span<const LinearSpec* const> linears) {
    return detail::with_way_out([&] {
      switch (settings.type) {
        case NumberType::nf4: return with_scheme<scheme::NF4>(weights, settings, linears);
        case NumberType::nvfp4:
        case NumberType::mxfp4: return with_scheme<scheme::Float4>(weights, settings, linears);
        case NumberType::fp8: return with_scheme<scheme::Float8>(weights, settings, linears);
        case NumberType::integer: break;
      }
      switch (settings.bits) {
        case 2: return with_bits<2>(weights, settings, linears);
        case 3: return with_bits<3>(weights, settings, linears);
        case 4: return with_bits<4>(weights, settings, linears);
        case 8: return with_bits<8>(weights, settings, linears);
        default:
          throw InvalidArgument(gptq::detail::message("bits = ", settings.bits, " of ",
                                                      linears.front()->name,
                                                      ": there are 2, 3, 4 and 8 bits"));
      }
    });
  }

 private:
  using Weights = std::span<const MatrixView<float>>;
  using Linears = std::span<const LinearSpec* const>;

  template <int Bits>
  std::vector<QuantizedModule> with_bits(Weights weights, const ModuleSettings& settings,
                                         Linears linears) {
    return settings.symmetric ? with_scheme<scheme::Affine<Bits>>(weights, settings, linears)
                              : with_scheme<scheme::Asymmetric<Bits>>(weights, settings, linears);
  }

  template <class S>
  std::vector<QuantizedModule> with_scheme(Weights weights, const ModuleSettings& settings,
                                           Linears linears) {
    std::vector<std::string> names;
    for (const LinearSpec* linear : linears) names.push_back(linear->name);
    Params params = params_;
    params.group_size = settings.group_size;
    params.scale_type = info(settings.type).scales;
    std::vector<QuantizedMatrix<S>> quantized;
    if (method_ == Method::gptq) {
      const Factors<B>& made = factors(settings.group_size);
      const Quantizer<S, B> quantizer(params);
      quantized = made.count() == 1 ? quantizer.quantize(weights, made.of(0), names)
                                    : quantizer.quantize(weights, made, names);
      if (counted_.insert(&made).second)  // charged to the first module of each input
        for (std::size_t i = 0; i < made.count(); ++i) {
          Timings& seconds = quantized[i].report().seconds;
          seconds.factorize = made.of(i).seconds;
          seconds.total += seconds.factorize;
        }
    } else
      for (std::size_t i = 0; i < weights.size(); ++i)
        quantized.push_back(
            baseline::round_to_nearest<S>(weights[i], params, backend_, S{}, names[i]));
    const HostThreads threads{[this](Index jobs, const std::function<void(Index)>& job) {
      for_each_on_host(backend_, jobs, job);
    }};
    std::vector<QuantizedModule> results;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const auto view = [&] {
        if constexpr (scheme::is_affine<S>) return pack::affine_view(quantized[i]);
        else return pack::level_view(quantized[i]);
      }();
      results.push_back(
          {format_.pack(view, *linears[i], settings, threads), quantized[i].report(), {}});
      quantized[i].dequantize(weights[i], backend_);
      for (Index c = 0; c < weights[i].cols(); ++c)
        results.back().first_row.push_back(weights[i](0, c));
    }
    return results;
  }

  Params params_;
  Method method_;
  const Format& format_;
  B backend_;
  std::vector<const Hessian<B>*> hessians_;
  std::map<Index, Factors<B>> factors_;  // by group size
  std::set<const Factors<B>*> counted_;  // whose time is already in a report
};

}  // namespace gptq::model
