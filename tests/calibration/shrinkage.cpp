// SPDX-License-Identifier: MIT

// Hessians of few tokens, helped by a pooled one: on other tokens never worse than without help.

#include <gptq/calibration/shrinkage.hpp>
#include <gptq/gptq.hpp>

#include "../support/catch.hpp"
#include "../support/layer.hpp"

#include <Eigen/Dense>

#include <random>

using gptq::Index;
using Cpu = gptq::backend::Cpu;
using CpuHessian = gptq::Hessian<Cpu>;

namespace {

/// Inputs of experts: a spectrum that all share, and a part of each expert's own.
class ExpertTokens {
 public:
  ExpertTokens(Index inputs, std::uint32_t seed) : random_(seed), mix_(inputs, inputs) {
    for (Index i = 0; i < mix_.size(); ++i) mix_.data()[i] = normal_(random_);
    for (Index c = 0; c < inputs; ++c) mix_.col(c) *= std::pow(static_cast<float>(c + 1), -0.7f);
    own_ = Eigen::MatrixXf::Identity(inputs, inputs);
  }

  /// Another expert: some directions count for more, some for less.
  void next_expert(float difference) {
    for (Index i = 0; i < own_.rows(); ++i) own_(i, i) = std::exp(difference * normal_(random_));
  }

  Eigen::MatrixXf make(Index count) {
    Eigen::MatrixXf x(count, mix_.rows());
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = normal_(random_);
    return x * mix_.transpose() * own_;
  }

 private:
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  Eigen::MatrixXf mix_, own_;
};

double error_on_others(const Eigen::MatrixXf& weight, const CpuHessian& hessian,
                       const Eigen::MatrixXf& other) {
  const gptq::Quantizer<gptq::scheme::Affine<3>, Cpu> quantizer({.group_size = 128});
  const auto quantized = quantizer.quantize(weight, hessian);
  gptq::backend::HostMatrix<float> back(weight.rows(), weight.cols());
  quantized.dequantize(back.view());
  Eigen::MatrixXf difference = weight;
  for (Index r = 0; r < weight.rows(); ++r)
    for (Index c = 0; c < weight.cols(); ++c) difference(r, c) -= back(r, c);
  return (other * difference.transpose()).squaredNorm() /
         (other * weight.transpose()).squaredNorm();
}

}  // namespace

TEST_CASE("a shrunk Hessian has as much of the pool as its own tokens leave in doubt",
          "[shrinkage]") {
  CpuHessian own(4, Cpu()), pool(4, Cpu()), none(4, Cpu());
  own.add(Eigen::MatrixXf::Identity(4, 4).eval());
  pool.add((2 * Eigen::MatrixXf::Identity(4, 4)).eval());
  pool.add(Eigen::MatrixXf::Ones(4, 4).eval());
  const auto made = gptq::PooledHessian(pool).shrunk(own);
  // S = 1/4, T = (4·1 + 4·11ᵀ)/8: tr S = 1, ‖S‖² = 1/4, S − T = −3/4·1 − (11ᵀ − 1)/2.
  const double variance = (1 + 0.25) / 4, distance = 4 * 0.75 * 0.75 + 12 * 0.25;
  CHECK(made.share == Approx(std::pow(variance / distance, 2)));
  CHECK(made.hessian.tokens() == 4);
  const double factor = made.share / (1 - made.share) * 4 / 8;
  CHECK(made.hessian.sum()(0, 0) == Approx(1 + factor * 8));
  CHECK(made.hessian.sum()(0, 1) == Approx(factor * 4));
  const auto alone = gptq::PooledHessian(pool).shrunk(none);
  CHECK(alone.share == 1);
  CHECK(alone.hessian.tokens() == 8);
  CHECK(alone.hessian.sum()(0, 0) == Approx(8));
  CHECK_THAT(error_of<gptq::InvalidArgument>([&] { gptq::PooledHessian{none}; }),
             ContainsSubstring("has seen no tokens"));
  CHECK_THAT(error_of<gptq::InvalidArgument>(
                 [&] { gptq::PooledHessian(pool).shrunk(CpuHessian(5, Cpu())); }),
             ContainsSubstring("5 inputs cannot be helped by one of 4"));
}

TEST_CASE("on other tokens, a pooled Hessian never loses to the expert's own", "[shrinkage]") {
  constexpr Index inputs = 512, experts = 4;
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(64, inputs);
  for (const float difference : {0.0f, 0.2f, 0.7f})
    for (const Index count : {Index(64), Index(256), Index(1024)}) {
      ExpertTokens tokens(inputs, 3);
      std::vector<Eigen::MatrixXf> others;
      std::vector<CpuHessian> own;
      CpuHessian pool(inputs, Cpu());
      for (Index e = 0; e < experts; ++e) {
        tokens.next_expert(difference);
        own.emplace_back(inputs, Cpu());
        own.back().add(tokens.make(count));
        pool.merge(own.back());
        others.push_back(tokens.make(2048));
      }
      const gptq::PooledHessian help(pool);
      double alone = 0, helped = 0, pooled = 0, share = 0;
      for (std::size_t e = 0; e < own.size(); ++e) {
        const auto made = help.shrunk(own[e]);
        alone += error_on_others(weight, own[e], others[e]) / experts;
        pooled += error_on_others(weight, pool, others[e]) / experts;
        helped += error_on_others(weight, made.hessian, others[e]) / experts;
        share += made.share / experts;
      }
      INFO(count << " tokens, experts differ by " << difference << ": own " << alone << ", pool "
                 << pooled << ", both " << helped << ", share of the pool " << share);
      CHECK(helped < 1.01 * alone);
      CHECK(helped < 1.02 * pooled);
    }
}
