// SPDX-License-Identifier: MIT

// A backend that has what the contract asks for and nothing else: it conforms, and what it lacks is
// missed by name.

#include "../support/catch.hpp"
#include "../support/layer.hpp"

#include <gptq/backend/reference.hpp>
#include <gptq/testing/backend.hpp>

using Catch::Matchers::Contains;
using gptq::Index;
using gptq::MatrixView;

namespace {

class Minimal {
 public:
  using Scalar = double;
  using Matrix = gptq::backend::HostMatrix<double>;

  class Worker {
   public:
    using Matrix = Minimal::Matrix;
    using Panel = gptq::backend::Reference::Worker::Panel;
    using Form = gptq::kernel::LeftLooking;
    using Layout = gptq::ColumnLayout;

    template <class W>
    Panel load_panel(std::span<const gptq::Section<W>> sections, double unit) const {
      return w_.load_panel(sections, unit);
    }
    template <class S>
    void fit(const S& s, const gptq::scheme::RangeSearch& search, const Layout& layout,
             const Matrix& m, Index base, Index first, Index last, Panel& panel) const {
      w_.fit(s, search, layout, m, base, first, last, panel);
    }
    template <class S>
    void solve(Form form, const S& s, const gptq::Sparsity& sparsity, const Layout& layout,
               const Matrix& factor, Index first, Index last, Panel& panel) const {
      w_.solve(form, s, sparsity, layout, factor, first, last, panel);
    }
    Matrix targets(Form form, const Matrix& factor, const Panel& panel, Index first,
                   Index last) const {
      return w_.targets(form, factor, panel, first, last);
    }
    template <class S>
    void round(const S& s, const gptq::Sparsity& sparsity, const Layout& layout,
               Panel& panel) const {
      w_.round(s, sparsity, layout, panel);
    }
    void store(const Panel& panel, const Layout& layout,
               std::span<const gptq::SectionResult> results) const {
      w_.store(panel, layout, results);
    }
    void propagate(Matrix& out, Index to, Index to_count, const Matrix& factor, const Matrix& in,
                   Index from, Index from_count) const {
      w_.propagate(out, to, to_count, factor, in, from, from_count);
    }
    void multiply(Matrix& out, Index first, Index rows, const Matrix& factor,
                  const Matrix& in) const {
      w_.multiply(out, first, rows, factor, in);
    }
    auto sums(const Panel& panel) const { return w_.sums(panel); }
    auto energy(const Matrix& factor, const Matrix& a, const Panel& panel) const {
      return w_.energy(factor, a, panel);
    }
    auto squares(const Matrix& a, const Panel& panel) const { return w_.squares(a, panel); }

   private:
    gptq::backend::Reference::Worker w_;
  };

  Matrix zeros(Index rows, Index cols) const { return b_.zeros(rows, cols); }
  template <class T>
  Matrix upload(MatrixView<const T> from) const {
    return b_.upload(from);
  }
  template <class T>
  void download(const Matrix& from, MatrixView<T> to) const {
    b_.download(from, to);
  }
  template <class T>
  double largest(MatrixView<const T> matrix) const {
    return b_.largest(matrix);
  }
  template <class T>
  void accumulate(Matrix& sum, MatrixView<const T> x, const float* weights) const {
    b_.accumulate(sum, x, weights);
  }
  std::vector<double> diagonal(const Matrix& m) const { return b_.diagonal(m); }
  Matrix arrange(const Matrix& from, std::span<const Index> order, double factor,
                 std::span<const double> added) const {
    return b_.arrange(from, order, factor, added);
  }
  Index factorize(Matrix& h) const { return b_.factorize(h); }
  template <class F>
  void for_panels(Index rows, F&& panel) const {
    panel(Worker(), Index{0}, rows);
  }
  template <class F>
  void for_each(Index jobs, F&& job) const {
    b_.for_each(jobs, job);
  }
  gptq::backend::Footprint footprint(Index rows, Index cols, const gptq::Params& params) const {
    return b_.footprint(rows, cols, params);
  }

 private:
  gptq::backend::Reference b_;
};

}  // namespace

TEST_CASE("a backend with the operations of the contract alone conforms", "[conformance]") {
  CHECK_NOTHROW(gptq::testing::test_backend(Minimal{}, 1e-12));
}

TEST_CASE("what a backend lacks is missed by name, where it is asked for", "[conformance]") {
  const auto layer = test::random_layer({.out = 9, .in = 32});
  const auto hessian = test::calibrate<Minimal>(layer);
  const auto message = [&](const gptq::Params& params, const auto& extra) {
    return error_of<gptq::InvalidArgument>([&] {
      const gptq::Quantizer<gptq::scheme::Int4, Minimal> quantizer(params);
      extra(quantizer, quantizer.factorize(hessian));
    });
  };
  const auto nothing = [](const auto&, const auto&) {};
  CHECK_THAT(message({.group_size = 32, .solver = gptq::Solver::lazy_batch}, nothing),
             Contains("Solver::lazy_batch needs"));
  CHECK_THAT(message({.group_size = 32, .factor_in_double = true}, nothing),
             Contains("factor_in_double needs a backend with factorize_in_double"));
  CHECK_THAT(message({.group_size = 32, .order = gptq::Order::min_pivot}, nothing),
             Contains("Order::min_pivot needs a backend with pivot_order"));
  const std::vector<float> ones(9, 1.0f), eights(9, 8.0f);
  CHECK_THAT(message({.group_size = 32},
                     [&](const auto& quantizer, const auto& factor) {
                       quantizer.quantize(layer.w(), factor,
                                          gptq::Grids{{ones.data(), 9, 1}, {eights.data(), 9, 1}});
                     }),
             Contains("given grids need a worker with set_grids"));
  CHECK_THAT(message({.group_size = 32},
                     [&](const auto& quantizer, const auto& factor) {
                       quantizer.quantize(layer.w(), factor, "w", {},
                                          {.observer = [](const auto&) {}});
                     }),
             Contains("an observer needs a worker with observe"));
}
