// SPDX-License-Identifier: MIT
#pragma once

// ModuleQuantizer: one linear module, quantized with settings that are known only at run time,
// packed for the file, and its weight replaced by what the file will give back.

#include <gptq/baseline/rtn.hpp>
#include <gptq/model/module_settings.hpp>
#include <gptq/pack/gptq.hpp>
#include <gptq/quantizer.hpp>

#include <map>
#include <string>
#include <utility>  // std::move

namespace gptq::model {

enum class Method { gptq, round_to_nearest };

struct QuantizedModule {
  pack::GptqTensors tensors;
  Report report;
};

/// The format that a grid is stored in: v1 where everything reads it, v2 where zero points may be
/// zero.
inline pack::GptqFormat gptq_format(bool symmetric) {
  return symmetric ? pack::GptqFormat::v1 : pack::GptqFormat::v2;
}

/// Quantizes modules that read one input; the Hessian is factored once per group size.
template <class B>
class ModuleQuantizer {
 public:
  ModuleQuantizer(const Params& params, Method method, pack::GptqFormat format, B backend,
                  const Hessian<B>* hessian)
      : params_(params),
        method_(method),
        format_(format),
        backend_(std::move(backend)),
        hessian_(hessian) {}

  /// The factor for a group size, made when it is first needed.
  const DampedFactor<B>& factor(Index group_size) {
    Params params = params_;
    params.group_size = group_size;
    const Index key = effective_group_size(params, hessian_->in_features());
    auto found = factors_.find(key);
    if (found == factors_.end())
      found = factors_.emplace(key, damped_factor(*hessian_, params)).first;
    return found->second;
  }

  /// \param weight  [out, in]; overwritten with the quantized weight
  QuantizedModule quantize(MatrixView<float> weight, const ModuleSettings& settings,
                           const std::string& name) {
    switch (settings.bits) {
      case 2: return with_bits<2>(weight, settings, name);
      case 3: return with_bits<3>(weight, settings, name);
      case 4: return with_bits<4>(weight, settings, name);
      case 8: return with_bits<8>(weight, settings, name);
      default:
        throw InvalidArgument(gptq::detail::message("bits = ", settings.bits, " of ", name,
                                                    ": the GPTQ format has 2, 3, 4 and 8 bits"));
    }
  }

 private:
  template <int Bits>
  QuantizedModule with_bits(MatrixView<float> weight, const ModuleSettings& settings,
                            const std::string& name) {
    return settings.symmetric ? with_scheme<scheme::Affine<Bits>>(weight, settings, name)
                              : with_scheme<scheme::Asymmetric<Bits>>(weight, settings, name);
  }

  template <class S>
  QuantizedModule with_scheme(MatrixView<float> weight, const ModuleSettings& settings,
                              const std::string& name) {
    Params params = params_;
    params.group_size = settings.group_size;
    const auto quantized =
        method_ == Method::gptq
            ? Quantizer<S, B>(params).quantize(weight, factor(settings.group_size), name)
            : baseline::round_to_nearest<S>(weight, params, backend_, S{}, name);
    QuantizedModule result{pack::to_gptq(quantized, format_, name, backend_), quantized.report()};
    quantized.dequantize(weight);
    return result;
  }

  Params params_;
  Method method_;
  pack::GptqFormat format_;
  B backend_;
  const Hessian<B>* hessian_;
  std::map<Index, DampedFactor<B>> factors_;
};

}  // namespace gptq::model
