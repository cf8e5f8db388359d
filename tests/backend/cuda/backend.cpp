// SPDX-License-Identifier: MIT

// backend::Cuda: on a GPU if there is one, and on a device emulated in host memory, where every
// line of it runs except cuBLAS, cuSOLVER and the launches themselves.

#include "ties.hpp"

#include <gptq/backend/cuda.hpp>
#include <gptq/baseline/rtn.hpp>
#include <gptq/factor/target.hpp>
#include <gptq/pack/gptq.hpp>
#include <gptq/testing/backend.hpp>

using gptq::Index;
using gptq::Params;
using gptq::backend::Cpu;
using gptq::backend::Cuda;

namespace {

bool no_device() {
  if (gptq::backend::cuda::device_count() > 0) return false;
  std::printf("SKIPPED: no CUDA device\n");
  return true;
}

/// A matrix in the device's memory.
template <class T>
class OnDevice {
 public:
  OnDevice(const Cuda& backend, const std::vector<T>& values, Index rows, Index cols)
      : runtime_(std::make_shared<gptq::backend::cuda::Runtime>(backend.device(), nullptr)),
        data_(gptq::backend::cuda::to_device_vector(runtime_, std::span<const T>(values))),
        rows_(rows),
        cols_(cols) {
    runtime_->synchronize();
  }
  gptq::MatrixView<const T> view() const { return {data_.data(), rows_, cols_}; }

 private:
  std::shared_ptr<gptq::backend::cuda::Runtime> runtime_;
  gptq::backend::cuda::DeviceMatrix<T> data_;
  Index rows_, cols_;
};

/// The same codes except where two are equally near, and after such a tie.
template <class S>
void require_same_as_cpu(const test::Layer& layer, const Params& params,
                         const Cuda& backend = Cuda{}) {
  const auto a = test::quantize<S, Cpu>(layer, params);
  const auto b = test::quantize<S, Cuda>(layer, params, backend);
  const double size = static_cast<double>(a.rows() * a.cols());
  if (params.sparsity.dense()) CHECK(test::require_ties_alone(layer, params, a, b) <= 4);
  else CHECK(test::code_differences(a, b) <= a.cols());  // patterns tie too: one row
  const auto &x = a.report(), &y = b.report();
  CHECK(y.loss == Approx(x.loss).epsilon(2e-3));
  CHECK(y.damped_loss == Approx(x.damped_loss).epsilon(2e-3));
  CHECK(y.relative_error == Approx(x.relative_error).epsilon(2e-3));
  CHECK(y.rtn_relative_error == Approx(x.rtn_relative_error).epsilon(2e-3));
  CHECK(y.clipped == Approx(x.clipped).margin(2 / size + 1e-3));
  CHECK(y.damping.lambda == Approx(x.damping.lambda).epsilon(1e-5));
  const auto d = test::error_of_weight(layer, b);
  CHECK(y.loss == Approx(test::quadratic_form(d, test::hessian_of(layer))).epsilon(5e-3));
  for (Index c = 0; c < a.cols(); ++c)
    REQUIRE(a.group_index()[std::size_t(c)] == b.group_index()[std::size_t(c)]);
}

template <class B>
test::Matrix download(const B& backend, const typename B::Matrix& matrix, Index rows, Index cols) {
  test::Matrix out(rows, cols);
  backend.download(matrix, gptq::MatrixView<double>(out.data.data(), rows, cols));
  return out;
}

}  // namespace

TEST_CASE("backend::Cuda conforms", "[cuda]") {
  if (no_device()) return;
  CHECK_NOTHROW(gptq::testing::test_backend(Cuda{}, 5e-6));
}

TEST_CASE("a GPU gives the codes of the CPU", "[cuda]") {
  if (no_device()) return;
  const auto layer = test::random_layer({.out = 75, .in = 192, .tokens = 700});
  using gptq::Groups, gptq::Order, gptq::Range, gptq::Solver;
  SECTION("in every order and with dynamic groups") {
    for (const Order order : {Order::natural, Order::act, Order::group_aware, Order::min_pivot})
      for (const Groups groups : {Groups::static_, Groups::dynamic}) {
        INFO("order " << static_cast<int>(order) << ", groups " << static_cast<int>(groups));
        require_same_as_cpu<gptq::scheme::Int4>(
            layer, {.group_size = 32, .order = order, .groups = groups});
      }
  }
  SECTION("in both forms, with every range and block size") {
    for (const Solver solver : {Solver::left_looking, Solver::lazy_batch})
      for (const Range range : {Range::minmax, Range::mse, Range::weighted})
        for (const Index block : {16, 128, 192}) {
          INFO("solver " << static_cast<int>(solver) << ", range " << static_cast<int>(range)
                         << ", block " << block);
          Params params{.group_size = 64, .range = range, .solver = solver};
          params.block_size = block;
          require_same_as_cpu<gptq::scheme::Asymmetric<3>>(layer, params);
        }
  }
  SECTION("in all schemes") {
    const Params params{.group_size = 32};
    require_same_as_cpu<gptq::scheme::Int2>(layer, params);
    require_same_as_cpu<gptq::scheme::Int8>(layer, {.group_size = -1});
    require_same_as_cpu<gptq::scheme::Asymmetric<4>>(layer, params);
    require_same_as_cpu<gptq::scheme::NF4>(layer, params);
    Params fp4{.group_size = 16};
    fp4.scale_type = gptq::ScaleType::fp8_e4m3;
    require_same_as_cpu<gptq::scheme::Float4>(layer, fp4);
    Params mx{.group_size = 32};
    mx.scale_type = gptq::ScaleType::power_of_two;
    require_same_as_cpu<gptq::scheme::Float4>(layer, mx);
    require_same_as_cpu<gptq::scheme::Float8>(layer, {.group_size = -1});
  }
  SECTION("with a sparsity pattern, a short last group and a factor in double precision") {
    Params sparse{.group_size = 32, .order = Order::natural};
    sparse.sparsity = {2, 4};
    require_same_as_cpu<gptq::scheme::Int4>(layer, sparse);
    Params tail{.group_size = 80};
    tail.allow_tail_group = true;
    tail.factor_in_double = true;
    require_same_as_cpu<gptq::scheme::Int4>(layer, tail);
  }
}

TEST_CASE("dead inputs and weights of any magnitude are solved as on the CPU", "[cuda]") {
  if (no_device()) return;
  auto layer = test::random_layer({.out = 33, .in = 96, .tokens = 300});
  for (Index t = 0; t < layer.activations.rows; ++t)
    layer.activations(t, 7) = layer.activations(t, 50) = 0;
  for (double& w : layer.weight.data) w *= 1e-20;
  test::round_to_float(layer);
  Params params{.group_size = 32};
  params.scale_type = gptq::ScaleType::fp32;
  const auto a = test::quantize<gptq::scheme::Int4, Cpu>(layer, params);
  const auto b = test::quantize<gptq::scheme::Int4, Cuda>(layer, params);
  CHECK(test::require_ties_alone(layer, params, a, b) <= 2);
  CHECK(b.report().damping.dead_columns == 2);
  for (Index r = 0; r < b.rows(); ++r)
    for (const Index c : {7, 50}) {
      const gptq::scheme::Grid<float> grid{b.scales()(r, c / 32), b.zeros()(r, c / 32)};
      CHECK(static_cast<float>(b.codes()(r, c)) ==
            b.scheme().encode(static_cast<float>(layer.weight(r, c)), grid));
    }
}

TEST_CASE("a GPU's Hessian is that of double precision, whatever the activations are", "[cuda]") {
  if (no_device()) return;
  const auto layer = test::random_layer({.out = 4, .in = 150, .tokens = 500});
  const Cuda backend;
  const auto norm = [](const test::Matrix& m) {
    double sum = 0;
    for (const double x : m.data) sum += x * x;
    return std::sqrt(sum);
  };
  const auto check = [&](auto convert, gptq::Precision precision, bool weighted, double tolerance) {
    using T = decltype(convert(0.0f));
    std::vector<T> x;
    for (const float value : layer.activations_f) x.push_back(convert(value));
    std::vector<float> weights(static_cast<std::size_t>(layer.activations.rows), 1.0f);
    if (weighted)
      for (std::size_t t = 0; t < weights.size(); ++t) weights[t] = static_cast<float>(t % 4);
    gptq::Hessian<Cuda> hessian(150, Cuda(0, nullptr, precision));
    const gptq::MatrixView<const T> view(x.data(), layer.activations.rows, 150);
    if (weighted) hessian.add(view, std::span<const float>(weights));
    else hessian.add(view);
    test::Matrix error = download(hessian.backend(), hessian.sum(), 150, 150), exact = error;
    for (Index i = 0; i < 150; ++i)
      for (Index j = 0; j < 150; ++j) {
        double sum = 0;
        for (Index t = 0; t < view.rows(); ++t)
          sum += static_cast<double>(weights[static_cast<std::size_t>(t)]) *
                 static_cast<double>(gptq::to_float(view(t, i))) *
                 static_cast<double>(gptq::to_float(view(t, j)));
        exact(i, j) = sum;
        error(i, j) = j < i ? 0 : error(i, j) - sum;
      }
    CHECK(norm(error) <= tolerance * norm(exact));
  };
  using gptq::Precision;
  for (const bool weighted : {false, true}) {
    check([](float x) { return x; }, Precision::single, weighted, 1e-5);
    check([](float x) { return x; }, Precision::split, weighted, 1e-5);
    check([](float x) { return static_cast<double>(x); }, Precision::single, weighted, 1e-5);
    check([](float x) { return gptq::to_bfloat16(x); }, Precision::single, weighted, 1e-5);
    check([](float x) { return gptq::to_float16(x); }, Precision::single, weighted, 1e-5);
  }
}

TEST_CASE("weights and activations may be on the device, or with any strides on the host",
          "[cuda]") {
  if (no_device()) return;
  const auto layer = test::random_layer({.out = 40, .in = 96, .tokens = 300});
  const Cuda backend;
  const Params params{.group_size = 32};
  const gptq::Quantizer<gptq::scheme::Int4, Cuda> quantizer(params);
  const auto expected = test::quantize<gptq::scheme::Int4, Cuda>(layer, params, backend);

  const OnDevice<float> x(backend, layer.activations_f, 300, 96),
      w(backend, layer.weight_f, 40, 96);
  gptq::Hessian<Cuda> hessian(96, backend);
  hessian.add(x.view());
  const auto there = quantizer.quantize(w.view(), hessian);
  CHECK(test::code_differences(expected, there) == 0);
  CHECK(there.report().loss == expected.report().loss);

  std::vector<float> transposed(layer.weight_f.size());
  for (Index r = 0; r < 40; ++r)
    for (Index c = 0; c < 96; ++c)
      transposed[static_cast<std::size_t>(c * 40 + r)] =
          layer.weight_f[static_cast<std::size_t>(r * 96 + c)];
  const gptq::MatrixView<const float> strided(transposed.data(), 40, 96, 1, 40);
  CHECK(test::code_differences(expected, quantizer.quantize(strided, hessian)) == 0);

  // Overlapping rows (windows of a signal), and a single token that is a column of a matrix.
  const std::vector<gptq::MatrixView<const float>> views{{x.view().data(), 200, 96, 7, 1},
                                                         {x.view().data(), 1, 96, 1, 1}};
  for (const auto& view : views) {
    const gptq::MatrixView<const float> on_host(layer.activations_f.data(), view.rows(), 96,
                                                view.row_stride(), 1);
    gptq::Hessian<Cuda> of_device(96, backend), of_host(96, backend);
    of_device.add(view);
    of_host.add(on_host);
    CHECK(backend.diagonal(of_device.sum()) == backend.diagonal(of_host.sum()));
  }
}

TEST_CASE("activations are copied in parts, from pinned memory too", "[cuda]") {
  if (no_device()) return;
  const Cuda backend;
  constexpr Index n = 6;
  const Index tokens = gptq::backend::cuda::staging_bytes / (n * Index(sizeof(float))) + 1000;
  auto pinned = gptq::backend::cuda::DeviceMatrix<float>::pinned(backend.runtime(), tokens, n + 2);
  std::vector<float> pageable(static_cast<std::size_t>(tokens * (n + 2)));
  std::minstd_rand random(7);
  for (float& x : pageable) x = static_cast<float>(random() % 9) - 4;
  std::copy(pageable.begin(), pageable.end(), pinned.data());
  const auto view = [&](const float* from) {
    return gptq::MatrixView<const float>(from, tokens, n, n + 2, 1);
  };
  gptq::Hessian<Cpu> expected(n);
  gptq::Hessian<Cuda> a(n, backend), b(n, backend);
  expected.add(view(pageable.data()));
  a.add(view(pageable.data()));
  b.add(view(pinned.data()));
  std::fill(pinned.data(), pinned.data() + pinned.size(), -1.0f);  // the caller may reuse it
  const test::Matrix sum = download(expected.backend(), expected.sum(), n, n);
  for (const auto* hessian : {&a, &b}) {
    const test::Matrix mine = download(backend, hessian->sum(), n, n);
    for (Index i = 0; i < n; ++i)
      for (Index j = i; j < n; ++j) CHECK(mine(i, j) == Approx(sum(i, j)).margin(1e-5 * sum(0, 0)));
  }
  // Columns that the device cannot read in place.
  gptq::Hessian<Cuda> turned(4, backend), plain(4, backend);
  const gptq::MatrixView<const float> across(pinned.data(), 4, n + 2);
  std::copy(pageable.begin(), pageable.begin() + 4 * (n + 2), pinned.data());
  std::vector<float> copied(4 * (n + 2));
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < n + 2; ++j) copied[std::size_t(j * 4 + i)] = across(i, j);
  turned.add(across.transposed());
  plain.add(gptq::MatrixView<const float>(copied.data(), n + 2, 4));
  CHECK(backend.diagonal(turned.sum()) == backend.diagonal(plain.sum()));
  // The results of each part are in the right place.
  const auto copy = backend.upload(view(pageable.data()));
  std::vector<float> back(static_cast<std::size_t>(tokens * n));
  backend.download(copy, gptq::MatrixView<float>(back.data(), tokens, n));
  Index wrong = 0;
  for (Index t = 0; t < tokens; ++t)
    for (Index c = 0; c < n; ++c)
      wrong += back[std::size_t(t * n + c)] != pageable[std::size_t(t * (n + 2) + c)];
  CHECK(wrong == 0);
}

TEST_CASE("an element that is not finite is named, wherever it is, and nothing is added",
          "[cuda]") {
  if (no_device()) return;
  auto layer = test::random_layer({.out = 4, .in = 64, .tokens = 100});
  const Cuda backend;
  gptq::Hessian<Cuda> hessian(64, backend);
  layer.activations_f[17 * 64 + 9] = std::numeric_limits<float>::quiet_NaN();
  const OnDevice<float> x(backend, layer.activations_f, 100, 64);
  for (const auto& view : {layer.x(), x.view()}) try {
      hessian.add(view);
      FAIL("accepted");
    } catch (const gptq::NumericalError& error) {
      CHECK(std::string(error.what()) == "activations(17, 9) = nan is not finite");
    }
  CHECK(hessian.tokens() == 0);
  CHECK(backend.diagonal(hessian.sum())[9] == 0);
}

TEST_CASE("a Hessian that cannot be factored is damped, refused or rounded as on the CPU",
          "[cuda]") {
  if (no_device()) return;
  test::Layer layer = test::random_layer({.out = 8, .in = 64, .tokens = 20});
  for (Index t = 0; t < 20; ++t)  // rank 1, and large
    for (Index j = 0; j < 64; ++j) layer.activations(t, j) = 1000 * (1 + 0.001 * double(t));
  test::round_to_float(layer);
  Params params{.group_size = 32, .damping = 1e-9};
  params.on_failure = gptq::OnFailure::damp;
  const auto a = test::quantize<gptq::scheme::Int4, Cpu>(layer, params);
  const auto b = test::quantize<gptq::scheme::Int4, Cuda>(layer, params);
  CHECK(a.report().damping.retries > 0);
  CHECK(std::abs(a.report().damping.retries - b.report().damping.retries) <= 1);
  params.on_failure = gptq::OnFailure::error;
  CHECK_THROWS_AS((test::quantize<gptq::scheme::Int4, Cuda>(layer, params)), gptq::NumericalError);
}

TEST_CASE("round to nearest, column orders and asymmetric targets are those of the CPU", "[cuda]") {
  if (no_device()) return;
  const auto layer = test::random_layer({.out = 20, .in = 64, .tokens = 200});
  const Cuda gpu;
  const Cpu cpu;
  const auto a = gptq::baseline::round_to_nearest<gptq::scheme::Int4>(
      layer.w(), Params{.group_size = 32}, cpu);
  const auto b = gptq::baseline::round_to_nearest<gptq::scheme::Int4>(
      layer.w(), Params{.group_size = 32}, gpu);
  CHECK(test::code_differences(a, b) == 0);

  const auto on_cpu = test::calibrate(layer, cpu);
  const auto on_gpu = test::calibrate(layer, gpu);
  Params pivots{.group_size = 32, .order = gptq::Order::min_pivot};
  pivots.estimate_condition = true;
  const auto f = gptq::factorize(on_cpu, pivots);
  const auto g = gptq::factorize(on_gpu, pivots);
  CHECK(std::vector<Index>(f.layout.order().begin(), f.layout.order().end()) ==
        std::vector<Index>(g.layout.order().begin(), g.layout.order().end()));
  CHECK(g.damping.condition == Approx(f.damping.condition).epsilon(1e-3));

  const auto shifted = test::random_layer({.out = 20, .in = 64, .tokens = 200, .seed = 9});
  const auto aimed = [&](const auto& backend, const auto& factor) {
    gptq::CrossMoment<std::decay_t<decltype(backend)>> cross(64, 64, backend),
        residual(20, 64, backend);
    cross.add(shifted.x(), layer.x());
    std::vector<float> r(200 * 20);
    for (std::size_t i = 0; i < r.size(); ++i) r[i] = static_cast<float>(i % 7) - 3;
    residual.add(gptq::MatrixView<const float>(r.data(), 200, 20), layer.x());
    std::vector<float> w = layer.weight_f;
    gptq::aim_at_full_precision(gptq::MatrixView<float>(w.data(), 20, 64), factor,
                                {.inputs = &cross, .residual = &residual});
    return w;
  };
  const auto x = aimed(cpu, f), y = aimed(gpu, g);
  for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(y[i] == Approx(x[i]).margin(1e-3));
}

TEST_CASE("several backends can share a device, and a backend can use the caller's stream",
          "[cuda]") {
  if (no_device()) return;
  const auto layer = test::random_layer({.out = 20, .in = 64, .tokens = 200});
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  {
    const Cuda mine(0, stream), other;
    CHECK(mine.stream() == stream);
    const Params params{.group_size = 32};
    const auto a = test::quantize<gptq::scheme::Int4, Cuda>(layer, params, mine);
    const auto b = test::quantize<gptq::scheme::Int4, Cuda>(layer, params, other);
    CHECK(test::code_differences(a, b) == 0);
    CHECK(a.report().loss == b.report().loss);
  }
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK_THROWS_AS(Cuda(99), gptq::InvalidArgument);
}

TEST_CASE("every device of the machine gives the same result", "[cuda]") {
  if (no_device()) return;
  const auto layer = test::random_layer({.out = 75, .in = 192, .tokens = 700});
  for (int device = 0; device < gptq::backend::cuda::device_count(); ++device) {
    INFO("device " << device);
    require_same_as_cpu<gptq::scheme::Int4>(layer, {.group_size = 64}, Cuda(device));
  }
}

TEST_CASE("Hessians of separate backends add up, also with thousands of inputs and tokens",
          "[cuda]") {
  if (no_device()) return;
  // More inputs than a block of the Hessian, and not a multiple of it; a bias, so that sums grow.
  constexpr Index n = 1300, tokens = 9000, piece = 4500;
  std::vector<gptq::bfloat16> x(static_cast<std::size_t>(n * tokens));
  std::minstd_rand random(5);
  std::normal_distribution<float> normal(0.5f, 1.0f);
  for (auto& v : x) v = gptq::to_bfloat16(normal(random));
  gptq::Hessian<Cpu> expected(n);
  const Cuda backend;
  gptq::Hessian<Cuda> a(n, backend), b(n, backend);
  expected.add(gptq::MatrixView<const gptq::bfloat16>(x.data(), tokens, n));
  a.add(gptq::MatrixView<const gptq::bfloat16>(x.data(), piece, n));
  b.add(gptq::MatrixView<const gptq::bfloat16>(x.data() + piece * n, tokens - piece, n));
  a.merge(b);
  b = gptq::Hessian<Cuda>(4, backend);
  std::vector<double> of_gpu(static_cast<std::size_t>(n * n)), of_cpu(of_gpu.size());
  a.backend().download(a.sum(), gptq::MatrixView<double>(of_gpu.data(), n, n));
  expected.backend().download(expected.sum(), gptq::MatrixView<double>(of_cpu.data(), n, n));
  double difference = 0, size = 0;
  for (Index i = 0; i < n; ++i)
    for (Index j = i; j < n; ++j) {
      const auto at = static_cast<std::size_t>(i * n + j);
      difference += std::pow(of_gpu[at] - of_cpu[at], 2);
      size += std::pow(of_cpu[at], 2);
    }
  CHECK(std::sqrt(difference / size) < 1e-5);
}

TEST_CASE("words are packed on a GPU as on the CPU", "[cuda]") {
  if (no_device()) return;
  const auto check = [](auto scheme) {
    using S = decltype(scheme);
    const auto layer = test::random_layer({.out = 96, .in = 160, .tokens = 300});
    const auto q = test::quantize<S, Cpu>(layer, {.group_size = 32});
    using gptq::pack::GptqFormat;
    const auto on_cpu = gptq::pack::to_gptq(q, GptqFormat::v1),
               on_gpu = gptq::pack::to_gptq(q, GptqFormat::v1, "w", Cuda{});
    CHECK(on_cpu.qweight == on_gpu.qweight);
    CHECK(on_cpu.qzeros == on_gpu.qzeros);
  };
  check(gptq::scheme::Affine<2>{});
  check(gptq::scheme::Affine<3>{});
  check(gptq::scheme::Affine<4>{});
  check(gptq::scheme::Affine<8>{});
}

TEST_CASE("experts in one launch have the results of single ones", "[cuda]") {
  if (no_device()) return;
  constexpr std::size_t count = 5;
  std::vector<test::Layer> layers;
  std::vector<gptq::MatrixView<const float>> weights;
  for (std::uint32_t i = 0; i < count; ++i)
    layers.push_back(test::random_layer({.out = 50, .in = 96, .tokens = 150, .seed = i + 1}));
  for (Index t = 0; t < 150; ++t) layers[2].activations(t, 11) = 0;  // a dead input in one of them
  test::round_to_float(layers[2]);
  for (Index t = 0; t < 150; ++t)  // and one whose Hessian needs more damping
    for (Index j = 0; j < 96; ++j) layers[3].activations(t, j) = 1000 * (1 + 1e-3 * double(t));
  test::round_to_float(layers[3]);
  for (const auto& layer : layers) weights.push_back(layer.w());
  using gptq::Groups, gptq::Order, gptq::Solver;
  const auto check = [&](const Params& params) {
    const Cuda backend;
    std::vector<gptq::Hessian<Cuda>> hessians;
    std::vector<const gptq::Hessian<Cuda>*> pointers;
    for (const auto& layer : layers) hessians.push_back(test::calibrate(layer, backend));
    for (const auto& hessian : hessians) pointers.push_back(&hessian);
    const gptq::Quantizer<gptq::scheme::Int4, Cuda> quantizer(params);
    const auto all = quantizer.quantize(std::span<const gptq::MatrixView<const float>>(weights),
                                        std::span<const gptq::Hessian<Cuda>* const>(pointers));
    REQUIRE(all.size() == count);
    const gptq::Factors<Cuda> factors(pointers, params);
    auto uneven = weights;
    uneven[1] = weights[1].middle_rows(0, 20);
    const auto apart = quantizer.quantize(uneven, factors);
    CHECK_FALSE(apart[0].report().apart.empty());
    CHECK(apart[1].rows() == 20);
    for (const std::size_t i : {std::size_t(0), count - std::size_t(1)})
      CHECK(test::code_differences(all[i], apart[i]) <= 10);
    const auto again = quantizer.quantize(weights, factors);
    for (std::size_t i = 0; i < count; ++i) {
      CHECK(test::code_differences(all[i], again[i]) == 0);
      CHECK(all[i].report().loss == again[i].report().loss);
      CHECK(again[i].report().seconds.factorize == 0);
      factors.with_matrices(i, [&](const gptq::DampedFactor<Cuda>& own) {
        const auto alone = quantizer.quantize(weights[i], own);
        CHECK(test::code_differences(all[i], alone) <= 10);
      });
    }
    std::vector<OnDevice<float>> copies;
    std::vector<gptq::MatrixView<const float>> there;
    for (const auto& layer : layers) copies.emplace_back(backend, layer.weight_f, 50, 96);
    for (const auto& copy : copies) there.push_back(copy.view());
    const auto from_device =
        quantizer.quantize(std::span<const gptq::MatrixView<const float>>(there),
                           std::span<const gptq::Hessian<Cuda>* const>(pointers));
    for (std::size_t i = 0; i < count; ++i) {
      INFO("expert " << i);
      CHECK(test::code_differences(all[i], from_device[i]) == 0);
      CHECK(all[i].report().loss == from_device[i].report().loss);
      const auto one = quantizer.quantize(weights[i], hessians[i]);
      CHECK(test::code_differences(all[i], one) <= 10);
      const auto &x = all[i].report(), &y = one.report();
      CHECK(x.loss == Approx(y.loss).epsilon(2e-3));
      CHECK(x.damped_loss == Approx(y.damped_loss).epsilon(2e-3));
      CHECK(x.relative_error == Approx(y.relative_error).epsilon(2e-3));
      CHECK(x.rtn_relative_error == Approx(y.rtn_relative_error).epsilon(2e-3));
      CHECK(x.clipped == Approx(y.clipped).margin(1e-3));
      CHECK(x.damping.retries == y.damping.retries);
      if (params.damping < 1e-5 && params.order != Order::min_pivot)
        CHECK((x.damping.retries > 0) == (i == 3));
      CHECK(x.damping.dead_columns == y.damping.dead_columns);
      for (Index c = 0; c < 96; ++c)
        REQUIRE(all[i].group_index()[std::size_t(c)] == one.group_index()[std::size_t(c)]);
    }
  };
  for (const Solver solver : {Solver::left_looking, Solver::lazy_batch})
    for (const Order order : {Order::natural, Order::act, Order::min_pivot})
      for (const Groups groups : {Groups::static_, Groups::dynamic}) {
        INFO("order " << static_cast<int>(order) << ", groups " << static_cast<int>(groups));
        Params params{.group_size = 32, .order = order, .groups = groups, .solver = solver};
        params.damping = 1e-9;
        params.block_size = 16;
        check(params);
      }
  Params sparse{.group_size = 32, .order = Order::natural};
  sparse.sparsity = {2, 4};
  check(sparse);
  check({.group_size = 32, .order = Order::group_aware, .groups = Groups::dynamic});  // one by one
  Params fp8{.group_size = 16};  // each weight has its own scale_unit
  fp8.scale_type = gptq::ScaleType::fp8_e4m3;
  check(fp8);
}

TEST_CASE("triangles of many experts are solved in blocks", "[cuda]") {
  if (no_device()) return;
  namespace cuda = gptq::backend::cuda;
  const Cuda backend;
  constexpr Index n = 700, width = 5, count = 3;  // more than a block, and not a multiple
  std::minstd_rand random(11);
  const auto number = [&] { return static_cast<float>(random() % 1000) / 1000 - 0.5f; };
  std::vector<float> r(std::size_t(count * n * n)), m(std::size_t(n * count * width));
  for (Index i = 0; i < count * n; ++i)
    for (Index j = i % n; j < n; ++j) r[std::size_t(i * n + j)] = j == i % n ? 2 : 0.05f * number();
  for (float& x : m) x = number();
  const auto stack = cuda::to_device_vector(backend.runtime(), std::span<const float>(r));
  for (const cuda::Factor which : {cuda::Factor::plain, cuda::Factor::transposed}) {
    auto together = cuda::to_device_vector(backend.runtime(), std::span<const float>(m));
    auto apart = cuda::to_device_vector(backend.runtime(), std::span<const float>(m));
    // Side by side: matrix i has columns [i · width, (i + 1) · width).
    const auto part = [&](auto& all, Index i) {
      return gptq::MatrixView<float>(all.data() + i * width, n, width, count * width, 1);
    };
    const auto factor = [&](Index i) {
      return gptq::MatrixView<const float>(stack.data() + i * n * n, n, n);
    };
    cuda::solve_triangular_all(backend.runtime(), which, factor(0), part(together, 0), count, n * n,
                               width);
    for (Index i = 0; i < count; ++i)
      cuda::solve_triangular(*backend.runtime(), which, factor(i), part(apart, i));
    const auto x = cuda::to_vector(*backend.runtime(), together),
               y = cuda::to_vector(*backend.runtime(), apart);
    for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(x[i] == Approx(y[i]).margin(1e-5));
  }
}

TEST_CASE("weights that read the same input have in one launch the results of single ones",
          "[cuda]") {
  if (no_device()) return;
  const auto layer = test::random_layer({.out = 120, .in = 96, .tokens = 300});
  const Cuda backend;
  const auto hessian = test::calibrate(layer, backend);
  const auto three = [](gptq::MatrixView<const float> w) {
    return std::vector<gptq::MatrixView<const float>>{w.middle_rows(0, 70), w.middle_rows(70, 33),
                                                      w.middle_rows(103, 17)};
  };
  const auto weights = three(layer.w());
  const OnDevice<float> copy(backend, layer.weight_f, 120, 96);
  for (const gptq::Groups groups : {gptq::Groups::static_, gptq::Groups::dynamic}) {
    const gptq::Quantizer<gptq::scheme::Asymmetric<4>, Cuda> quantizer(
        {.group_size = 32, .groups = groups});
    const auto factor = quantizer.factorize(hessian);
    const auto all =
        quantizer.quantize(std::span<const gptq::MatrixView<const float>>(weights), factor);
    const auto from_device = quantizer.quantize(
        std::span<const gptq::MatrixView<const float>>(three(copy.view())), factor);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      CHECK(test::code_differences(all[i], from_device[i]) == 0);
      const auto one = quantizer.quantize(weights[i], factor);
      CHECK(test::code_differences(all[i], one) <= 4);
      CHECK(all[i].report().loss == Approx(one.report().loss).epsilon(2e-3));
      CHECK(all[i].report().relative_error == Approx(one.report().relative_error).epsilon(2e-3));
      CHECK(all[i].report().rtn_relative_error ==
            Approx(one.report().rtn_relative_error).epsilon(2e-3));
    }
  }
}
