// SPDX-License-Identifier: MIT
#pragma once

// HostSteps: steps that have no kernel yet run on the processor: numbers go there and back.

#include <gptq/backend/host/matrix.hpp>
#include <gptq/core/matrix_view.hpp>
#include <gptq/model/cpu_operations.hpp>
#include <gptq/model/step.hpp>

#include <array>
#include <span>
#include <utility>  // std::as_const
#include <vector>

namespace gptq::model::cuda {

/// \tparam Self  the operations that derive from this: tensor, copy, executor, wait
template <class Self>
class HostSteps {
 public:
  using View = MatrixView<float>;
  using ConstView = MatrixView<const float>;

  void activate(View y, ConstView x, Activation kind) const {
    on_host(y, x, [&](auto to, auto from) { host().activate(to, from, kind); });
  }
  void scale(View y, ConstView x, double factor) const {
    on_host(y, x, [&](auto to, auto from) { host().scale(to, from, factor); });
  }
  void clamp(View y, ConstView x, double limit) const {
    on_host(y, x, [&](auto to, auto from) { host().clamp(to, from, limit); });
  }
  void add_positions(View y, ConstView x, std::span<const float> table, Index offset,
                     Index length) const {
    const auto rows = to_host(table);
    on_host(y, x,
            [&](auto to, auto from) { host().add_positions(to, from, rows, offset, length); });
  }
  void sharpen(View y, ConstView x, const step::Sharpen& how, Index length) const {
    on_host(y, x, [&](auto to, auto from) { host().sharpen(to, from, how, length); });
  }
  auto columns(ConstView x, const step::Columns& how) const {
    return from_host(host().columns(to_host(x).view(), how));
  }
  auto join(ConstView a, ConstView b, const step::Join& how) const {
    return from_host(host().join(to_host(a).view(), to_host(b).view(), how));
  }
  auto route(ConstView logits, const step::Route& how, std::span<const float> bias) const {
    return from_host(host().route(to_host(logits).view(), how, to_host(bias)));
  }
  auto gather(ConstView x, ConstView routes, int expert) const {
    return from_host(host().gather(to_host(x).view(), to_host(routes).view(), expert));
  }
  auto scatter(ConstView routes, std::span<const ConstView> experts, Index width) const {
    std::vector<HostTensor> rows;
    std::vector<ConstView> views;
    for (const ConstView expert : experts) rows.push_back(to_host(expert));
    for (const HostTensor& expert : rows) views.push_back(expert.view());
    return from_host(host().scatter(to_host(routes).view(), views, width));
  }
  auto convolution(ConstView x, std::span<const float> weight, Index taps, Index length) const {
    return from_host(host().convolution(to_host(x).view(), to_host(weight), taps, length));
  }
  auto delta_rule(const std::array<ConstView, 5>& in, const step::DeltaRule& how,
                  std::span<const float> a_log, std::span<const float> dt_bias,
                  Index length) const {
    const HostTensor parts[] = {to_host(in[0]), to_host(in[1]), to_host(in[2]), to_host(in[3]),
                                to_host(in[4])};
    return from_host(host().delta_rule(
        {parts[0].view(), parts[1].view(), parts[2].view(), parts[3].view(), parts[4].view()}, how,
        to_host(a_log), to_host(dt_bias), length));
  }

 protected:
  using HostTensor = backend::HostMatrix<float>;

  CpuOperations<> host() const { return CpuOperations<>(self().executor(), Precision::single); }

  HostTensor to_host(ConstView x) const {
    HostTensor y(x.rows(), x.cols());
    self().copy(y.view(), x);
    self().wait();
    return y;
  }
  std::vector<float> to_host(std::span<const float> x) const {
    std::vector<float> y(x.size());
    if (x.empty()) return y;
    self().copy(View(y.data(), 1, static_cast<Index>(y.size())),
                ConstView(x.data(), 1, static_cast<Index>(x.size())));
    self().wait();
    return y;
  }
  auto from_host(const HostTensor& x) const {
    auto y = self().tensor(x.rows(), x.cols());
    self().copy(y.view(), x.view());
    self().wait();
    return y;
  }
  /// f(y, x) with both in host memory
  template <class F>
  void on_host(View y, ConstView x, const F& f) const {
    const HostTensor from = to_host(x);
    HostTensor to(y.rows(), y.cols());
    f(to.view(), from.view());
    self().copy(y, std::as_const(to).view());
    self().wait();
  }

 private:
  const Self& self() const { return static_cast<const Self&>(*this); }
};

}  // namespace gptq::model::cuda
