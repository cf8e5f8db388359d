// SPDX-License-Identifier: MIT

#include <gptq/factor/target.hpp>

#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/paper.hpp"

using gptq::CrossMoment;
using gptq::Index;
using gptq::Mismatch;
using test::Layer;
using test::Matrix;
using Cpu = gptq::backend::Cpu;
using Reference = gptq::backend::Reference;

namespace {

/// A layer, its full-precision inputs X, and its inputs X̃ disturbed by quantized earlier layers.
struct Disturbed {
  Layer layer;  // activations are X̃
  Matrix full;  // X
  std::vector<float> difference;

  explicit Disturbed(double noise, Index tokens = 400) {
    layer = test::random_layer({.out = 12, .in = 40, .tokens = tokens});
    full = layer.activations;
    std::mt19937 random(5);
    std::normal_distribution<double> normal;
    for (Index t = 0; t < tokens; ++t)
      for (Index j = 0; j < 40; ++j)  // correlated with the input, as quantization noise is
        layer.activations(t, j) = (1 - 0.3 * noise) * full(t, j) + noise * full(t, (j + 1) % 40) +
                                  0.1 * noise * normal(random);
    test::round_to_float(layer);
    for (std::size_t i = 0; i < full.data.size(); ++i)
      difference.push_back(static_cast<float>(full.data[i]) - layer.activations_f[i]);
  }
  gptq::MatrixView<const float> dx() const { return {difference.data(), full.rows, full.cols}; }
};

/// ‖X·Wᵀ − X̃·Qᵀ‖²
double output_error(const Disturbed& d, const Matrix& weight, const Matrix& quantized) {
  double total = 0;
  for (Index t = 0; t < d.full.rows; ++t)
    for (Index r = 0; r < weight.rows; ++r) {
      double e = 0;
      for (Index j = 0; j < weight.cols; ++j)
        e += d.full(t, j) * weight(r, j) - d.layer.activations(t, j) * quantized(r, j);
      total += e * e;
    }
  return total;
}

template <class B>
Matrix target(const Disturbed& d, double strength, double damping = 1e-9) {
  const auto hessian = test::calibrate<B>(d.layer);
  CrossMoment<B> cross(40, 40);
  cross.add(d.dx(), d.layer.x());
  auto weight = d.layer.weight_f;
  const auto factor = gptq::factorize(hessian, {.group_size = -1, .damping = damping});
  gptq::aim_at_full_precision(gptq::MatrixView<float>(weight.data(), 12, 40), factor,
                              Mismatch<B>{.inputs = &cross, .input_strength = strength});
  Matrix out(12, 40);
  out.data.assign(weight.begin(), weight.end());
  return out;
}

}  // namespace

TEST_CASE("the target is the least-squares weight for the disturbed inputs", "[target]") {
  const Disturbed d(0.3);
  const Matrix best = target<Reference>(d, 1);
  // The gradient of ‖X·Wᵀ − X̃·W*ᵀ‖² vanishes: X̃ᵀ(X·Wᵀ − X̃·W*ᵀ) = 0.
  double gradient = 0, size = 0;
  for (Index r = 0; r < 12; ++r)
    for (Index k = 0; k < 40; ++k) {
      double g = 0, s = 0;
      for (Index t = 0; t < d.full.rows; ++t) {
        double full = 0, now = 0;
        for (Index j = 0; j < 40; ++j) {
          full += d.full(t, j) * d.layer.weight(r, j);
          now += d.layer.activations(t, j) * best(r, j);
        }
        g += d.layer.activations(t, k) * (full - now), s += d.layer.activations(t, k) * full;
      }
      gradient += g * g, size += s * s;
    }
  CHECK(std::sqrt(gradient / size) < 1e-5);
}

TEST_CASE("the error splits into the target's and that of rounding to it", "[target][identity]") {
  const Disturbed d(0.3);
  const Matrix best = target<Reference>(d, 1);
  Matrix quantized = best;
  for (double& w : quantized.data) w = std::round(w * 50) / 50;
  Matrix difference = best;
  for (std::size_t i = 0; i < difference.data.size(); ++i) difference.data[i] -= quantized.data[i];
  const double rounding = test::quadratic_form(difference, test::hessian_of(d.layer)) *
                          static_cast<double>(d.full.rows);
  CHECK(output_error(d, d.layer.weight, quantized) ==
        Approx(output_error(d, d.layer.weight, best) + rounding).epsilon(1e-4));
}

TEST_CASE("equal inputs or zero strengths leave the weight unchanged", "[target]") {
  const Disturbed same(0.0), other(0.3);
  for (std::size_t i = 0; i < same.layer.weight.data.size(); ++i)
    CHECK(target<Cpu>(same, 1, 0.01).data[i] == Approx(same.layer.weight.data[i]).margin(1e-6));
  CHECK(target<Cpu>(other, 0).data == other.layer.weight.data);
  // So the codes are those of plain GPTQ.
  Layer aimed = same.layer;
  aimed.weight = target<Cpu>(same, 1, 0.01);
  test::round_to_float(aimed);
  CHECK(test::code_differences(
            test::quantize<gptq::scheme::Int4, Cpu>(aimed, {.group_size = 8}),
            test::quantize<gptq::scheme::Int4, Cpu>(same.layer, {.group_size = 8})) == 0);
}

TEST_CASE("backends agree on the target", "[target]") {
  const Disturbed d(0.2);
  const Matrix a = target<Cpu>(d, 0.5, 0.01), b = target<Reference>(d, 0.5, 0.01);
  for (std::size_t i = 0; i < a.data.size(); ++i)
    CHECK(a.data[i] == Approx(b.data[i]).margin(1e-5));
}

TEST_CASE("quantizing towards the target beats quantizing the weight", "[target]") {
  const Disturbed d(0.2);
  const auto quantize = [&](const Matrix& weight) {
    std::vector<float> w(weight.data.begin(), weight.data.end());
    const auto q = gptq::Quantizer<gptq::scheme::Int4, Cpu>({.group_size = 20})
                       .quantize(gptq::MatrixView<const float>(w.data(), 12, 40),
                                 test::calibrate<Cpu>(d.layer));
    Matrix out(12, 40);
    for (Index r = 0; r < 12; ++r)
      for (Index c = 0; c < 40; ++c) out(r, c) = static_cast<double>(q(r, c));
    return output_error(d, d.layer.weight, out);
  };
  CHECK(quantize(target<Cpu>(d, 1, 0.01)) < 0.5 * quantize(d.layer.weight));
}

TEST_CASE("a layer that adds to the residual stream makes up for the stream's error", "[target]") {
  // The output is added to a stream that is off by a linear function of the input: the layer can
  // undo that.
  const Layer layer = test::random_layer({.out = 6, .in = 24, .tokens = 300});
  std::vector<float> residual(static_cast<std::size_t>(300 * 6));
  for (Index t = 0; t < 300; ++t)
    for (Index r = 0; r < 6; ++r)
      residual[static_cast<std::size_t>(t * 6 + r)] = 0.5f * layer.x()(t, r);
  const auto hessian = test::calibrate<Cpu>(layer);
  CrossMoment<Cpu> cross(6, 24);
  cross.add(gptq::MatrixView<const float>(residual.data(), 300, 6), layer.x());
  auto weight = layer.weight_f;
  const auto factor = gptq::factorize(hessian, {.group_size = -1, .damping = 1e-6});
  gptq::aim_at_full_precision(gptq::MatrixView<float>(weight.data(), 6, 24), factor,
                              Mismatch<Cpu>{.residual = &cross, .residual_strength = 1});
  for (Index r = 0; r < 6; ++r)
    for (Index c = 0; c < 24; ++c)
      CHECK(weight[static_cast<std::size_t>(r * 24 + c)] ==
            Approx(layer.w()(r, c) + (r == c ? 0.5f : 0.0f)).margin(2e-3));
}

TEST_CASE("cross moments refuse what does not fit", "[target]") {
  CrossMoment<Cpu> cross(3, 4);
  const std::vector<float> numbers(40);
  CHECK_THAT(error_of<gptq::InvalidArgument>([&] {
               cross.add(gptq::MatrixView<const float>(numbers.data(), 5, 3),
                         gptq::MatrixView<const float>(numbers.data(), 6, 4));
             }),
             ContainsSubstring("a cross moment of 3 x 4 cannot add 5 x 3 and 6 x 4"));
}

TEST_CASE("cross moments accept only numbers that they can add", "[target]") {
  const Layer layer = test::random_layer({.out = 3, .in = 8, .tokens = 50});
  const auto x = layer.x();
  CrossMoment<Cpu> whole(8, 8);
  whole.add(x, x);
  const auto same_as_whole = [&](const auto& moment) {
    for (Index i = 0; i < 8; ++i)
      for (Index j = 0; j < 8; ++j)
        CHECK(moment.sum()(i, j) == Approx(whole.sum()(i, j)).epsilon(0.02).margin(0.5));
  };
  const auto in_type = [&](auto convert) {
    using T = decltype(convert(0.0f));
    std::vector<T> numbers;
    for (const float v : layer.activations_f) numbers.push_back(convert(v));
    const gptq::MatrixView<const T> view(numbers.data(), 50, 8);
    CrossMoment<Cpu> moment(8, 8);
    moment.add(view, view);
    CHECK(moment.tokens() == 50);
    same_as_whole(moment);
  };
  in_type([](float v) { return static_cast<double>(v); });
  in_type([](float v) { return gptq::to_bfloat16(v); });
  in_type([](float v) { return gptq::to_float16(v); });

  auto broken = layer.activations_f;
  CrossMoment<Cpu> moment(8, 8);
  moment.add(x, x);
  for (const float bad : {NAN, INFINITY}) {
    broken[3 * 8 + 5] = bad;
    const gptq::MatrixView<const float> view(broken.data(), 50, 8);
    CHECK_THAT(error_of<gptq::NumericalError>([&] { moment.add(view, x); }),
               ContainsSubstring("a(3, 5) = "));
    CHECK_THAT(error_of<gptq::NumericalError>([&] { moment.add(x, view); }),
               ContainsSubstring("b(3, 5) = "));
  }
  for (float& v : broken) v = 1e19f;
  const gptq::MatrixView<const float> huge(broken.data(), 50, 8);
  CHECK_THAT(error_of<gptq::NumericalError>([&] { moment.add(huge, huge); }),
             ContainsSubstring("may not fit the backend's numbers"));
  CHECK(moment.tokens() == 50);
  same_as_whole(moment);
}

TEST_CASE("a target that is refused leaves the weight unchanged", "[target]") {
  const Disturbed d(0.3);
  const auto factor =
      gptq::factorize(test::calibrate<Cpu>(d.layer), {.group_size = -1, .damping = 0.01});
  CrossMoment<Cpu> cross(40, 40), narrow(12, 39), short_one(40, 40);
  cross.add(d.dx(), d.layer.x());
  short_one.add(d.dx().middle_rows(0, 10), d.layer.x().middle_rows(0, 10));
  auto weight = d.layer.weight_f;
  const auto refused = [&](const Mismatch<Cpu>& mismatch) {
    const auto before = weight;
    const auto what = error_of<gptq::Error>([&] {
      gptq::aim_at_full_precision(gptq::MatrixView<float>(weight.data(), 12, 40), factor, mismatch);
    });
    CHECK(weight == before);
    return what;
  };
  for (const double strength : {7.0, -1.0, static_cast<double>(NAN)}) {
    CHECK_THAT(refused({.inputs = &cross, .input_strength = strength}),
               ContainsSubstring("the strength of the inputs is "));
    CHECK_THAT(refused({.inputs = &cross, .residual_strength = strength}),
               ContainsSubstring("the strength of the residual is "));
  }
  CHECK_THAT(refused({.inputs = &cross, .residual = &narrow}),
             ContainsSubstring("the cross moment of the residual is 12 x 39, a weight of 12 x 40 "
                               "needs 12 x 40"));
  CHECK_THAT(refused({.inputs = &short_one}),
             ContainsSubstring("the cross moment of the inputs has 10 tokens, the Hessian has"));
  for (float& w : weight) w = 3e38f;
  CHECK_THAT(refused({.inputs = &cross, .input_strength = 1}),
             ContainsSubstring("the weight adjusted for the layers before it("));
}
