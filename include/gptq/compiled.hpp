// SPDX-License-Identifier: MIT
#pragma once

// What the library gptq::compiled contains, so that sources that link it need not compile it:
// Quantizer with the stock schemes on backend::Cpu, for weights of float. gptq.hpp includes this if
// GPTQ_COMPILED is defined, as linking the library does.

#include <gptq/backend/cpu.hpp>
#include <gptq/baseline/rtn.hpp>
#include <gptq/quantizer.hpp>
#include <gptq/scheme/affine.hpp>
#include <gptq/scheme/codebook.hpp>
#include <gptq/scheme/minifloat.hpp>

/// What all schemes share: GPTQ_COMPILED_BACKEND(extern) declares, GPTQ_COMPILED_BACKEND() defines.
#define GPTQ_COMPILED_BACKEND(kind)                                                                \
  kind template gptq::DampedFactor<gptq::backend::Cpu> gptq::factorize(                            \
      const gptq::Hessian<gptq::backend::Cpu>&, const gptq::Params&,                               \
      std::span<const gptq::Index>);                                                               \
  kind template void gptq::Hessian<gptq::backend::Cpu>::add_checked(gptq::MatrixView<const float>, \
                                                                    const float*);                 \
  kind template std::string gptq::memory_advice(gptq::Index, gptq::Index, const gptq::Params&,     \
                                                const gptq::backend::Cpu&);                        \
  kind template std::string gptq::factor_advice(gptq::Index, const gptq::Params&,                  \
                                                const gptq::backend::Cpu&);                        \
  kind template double gptq::require_finite(                                                       \
      const gptq::backend::Cpu&, gptq::MatrixView<const float>, std::string_view, gptq::Index)

/// The same for one scheme.
#define GPTQ_COMPILED_SCHEME(kind, ...)                                                           \
  kind template std::vector<gptq::QuantizedMatrix<__VA_ARGS__>>                                   \
  gptq::solver::round<gptq::solver::ByParams>(                                                    \
      const __VA_ARGS__&, const gptq::Params&, std::span<const gptq::solver::Task<float>>,        \
      const gptq::Factors<gptq::backend::Cpu>&, const gptq::Progress&,                            \
      const gptq::solver::Doors<gptq::backend::Cpu>&);                                            \
  kind template gptq::QuantizedMatrix<__VA_ARGS__> gptq::baseline::round_to_nearest(              \
      gptq::MatrixView<const float>, const gptq::Params&, const gptq::backend::Cpu&, __VA_ARGS__, \
      std::string_view)

/// Everything in the library.
#define GPTQ_COMPILED_ALL(kind)                            \
  GPTQ_COMPILED_BACKEND(kind);                             \
  GPTQ_COMPILED_SCHEME(kind, gptq::scheme::Affine<2>);     \
  GPTQ_COMPILED_SCHEME(kind, gptq::scheme::Affine<3>);     \
  GPTQ_COMPILED_SCHEME(kind, gptq::scheme::Affine<4>);     \
  GPTQ_COMPILED_SCHEME(kind, gptq::scheme::Affine<8>);     \
  GPTQ_COMPILED_SCHEME(kind, gptq::scheme::Asymmetric<2>); \
  GPTQ_COMPILED_SCHEME(kind, gptq::scheme::Asymmetric<3>); \
  GPTQ_COMPILED_SCHEME(kind, gptq::scheme::Asymmetric<4>); \
  GPTQ_COMPILED_SCHEME(kind, gptq::scheme::Asymmetric<8>); \
  GPTQ_COMPILED_SCHEME(kind, gptq::scheme::NF4);           \
  GPTQ_COMPILED_SCHEME(kind, gptq::scheme::Float4);        \
  GPTQ_COMPILED_SCHEME(kind, gptq::scheme::Float8)

GPTQ_COMPILED_ALL(extern);
