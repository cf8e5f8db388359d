// SPDX-License-Identifier: MIT

#include "../support/catch.hpp"

#include <gptq/backend/cpu.hpp>
#include <gptq/exec/serial.hpp>
#include <gptq/testing/backend.hpp>

using gptq::Index;
using gptq::backend::BasicCpu;
using gptq::backend::Reference;
using gptq::testing::test_backend;

TEST_CASE("backend::Reference conforms", "[conformance]") {
  CHECK_NOTHROW(test_backend(Reference{}, 1e-12));
}
TEST_CASE("backend::Cpu conforms", "[conformance]") {
  CHECK_NOTHROW(test_backend(gptq::backend::Cpu{}, 5e-6));
}
TEST_CASE("backend::BasicCpu<Serial> conforms", "[conformance]") {
  CHECK_NOTHROW(test_backend(BasicCpu<gptq::exec::Serial>{}, 5e-6));
}
TEST_CASE("backend::BasicCpu in double precision conforms", "[conformance]") {
  CHECK_NOTHROW(test_backend(BasicCpu<gptq::exec::Threads, double>{}, 1e-12));
}

namespace {

/// The reference with one operation that is slightly wrong.
struct Broken : Reference {
  std::string operation;
  bool is(std::string_view name) const { return operation == name; }

  static void nudge(Matrix& m) {
    if (m.rows() > 0 && m.cols() > 0) m(m.rows() - 1, m.cols() - 1) += 1e-3;
  }

  struct Worker : Reference::Worker {
    using Base = Reference::Worker;
    std::string_view operation;
    bool is(std::string_view name) const { return operation == name; }

    template <class W>
    Panel load_panel(std::span<const gptq::Section<W>> sections, double unit) const {
      Panel panel = Base::load_panel(sections, is("load_panel: unit") ? 2 * unit : unit);
      if (is("load_panel: carry")) panel.carry(0, 0) = 1e-3;
      return panel;
    }
    template <class S>
    void fit(const S& s, const gptq::scheme::RangeSearch& search, const gptq::ColumnLayout& layout,
             const Matrix& m, Index base, Index first, Index last, Panel& panel) const {
      auto other = search;
      if (is("fit: search")) other.range = gptq::Range::minmax;
      Base::fit(s, other, layout, m, is("fit: base") ? 0 : base, first, last, panel);
    }
    template <class Form, class S>
    void solve(Form form, const S& s, const gptq::Sparsity& sparsity,
               const gptq::ColumnLayout& layout, const Matrix& factor, Index first, Index last,
               Panel& panel) const {
      constexpr bool lazy = std::is_same_v<Form, gptq::kernel::LazyBatch>;
      Matrix none = Matrix::zeros(factor.rows(), factor.cols());
      for (Index i = 0; i < factor.rows(); ++i) none(i, i) = factor(i, i);
      const bool alone = is(lazy ? "solve: lazy batch" : "solve: left-looking");
      Base::solve(form, s, sparsity, layout, alone ? none : factor, first, last, panel);
      if (is("solve: carry") && last - first > 1) panel.carry(first, 0) *= 1.01;
    }
    Matrix targets(gptq::kernel::LeftLooking form, const Matrix& factor, const Panel& panel,
                   Index first, Index last) const {
      Matrix v = Base::targets(form, factor, panel, first, last);
      if (is("targets: left-looking")) nudge(v);
      return v;
    }
    Matrix targets(gptq::kernel::LazyBatch form, const Matrix& factor, const Panel& panel,
                   Index first, Index last) const {
      Matrix v = Base::targets(form, factor, panel, first, last);
      if (is("targets: lazy batch")) nudge(v);
      return v;
    }
    template <class S>
    void find_errors(const S& s, const gptq::ColumnLayout& layout, Panel& panel) const {
      Base::find_errors(s, layout, panel);
      if (is("find_errors")) nudge(panel.carry);
    }
    template <class S>
    void round(const S& s, const gptq::Sparsity& sparsity, const gptq::ColumnLayout& layout,
               Panel& panel) const {
      Base::round(s, is("round: sparsity") ? gptq::Sparsity{} : sparsity, layout, panel);
      if (is("round: carry")) nudge(panel.carry);
      if (is("round: codes")) panel.codes(0, 0) ^= 2;
    }
    void store(const Panel& panel, const gptq::ColumnLayout& layout,
               std::span<const gptq::SectionResult> results) const {
      Base::store(panel, layout, results);
      if (is("store: codes")) std::swap(results[0].codes(0, 0), results[0].codes(1, 0));
      if (is("store: scales")) results[0].scales(0, 0) *= 2;
      if (is("store: zeros")) results[0].zeros(0, 0) += 2;
    }
    void propagate(Matrix& out, Index to, Index to_count, const Matrix& factor, const Matrix& in,
                   Index from, Index from_count) const {
      Base::propagate(out, to, to_count, factor, in, from,
                      from_count - (is("propagate") && from_count > 1 ? 1 : 0));
    }
    void multiply(Matrix& out, Index first, Index rows, const Matrix& factor,
                  const Matrix& in) const {
      Base::multiply(out, first, rows, factor, in);
      if (is("multiply")) nudge(out);
    }
    std::vector<gptq::SectionSums> sums(const Panel& panel) const {
      auto sums = Base::sums(panel);
      if (is("sums: loss")) sums[0].column_loss.back() *= 1.01;
      if (is("sums: clipped")) sums[0].clipped += 1;
      return sums;
    }
    std::vector<double> energy(const Matrix& factor, const Matrix& a, const Panel& panel) const {
      auto energy = Base::energy(factor, a, panel);
      if (is("energy")) energy[0] *= 1.001;
      return energy;
    }
    std::vector<std::vector<double>> squares(const Matrix& a, const Panel& panel) const {
      auto squares = Base::squares(a, panel);
      if (is("squares")) squares[0].back() *= 1.001;
      return squares;
    }
    void set_grids(std::span<const gptq::Grids> grids, Panel& panel) const {
      Base::set_grids(grids, panel);
      if (is("set_grids")) panel.scales(0, 0) *= 2;
    }
    Matrix gather(const Matrix& m, std::span<const Index> order) const {
      Matrix out = Base::gather(m, order);
      if (is("gather")) nudge(out);
      return out;
    }
    void solve_factor(const Matrix& factor, Matrix& m) const {
      Base::solve_factor(factor, m);
      if (is("solve_factor")) nudge(m);
    }
    template <class F>
    void observe(const Panel& panel, Index first, Index last, const F& f) const {
      Base::observe(panel, first, last, [&](auto targets, auto codes, auto scales, auto zeros) {
        if (is("observe: targets")) targets = panel.weight.view();
        if (is("observe: scales")) scales = zeros;
        f(targets, codes, scales, zeros);
      });
    }
  };

  Matrix zeros(Index rows, Index cols) const {
    Matrix m = Reference::zeros(rows, cols);
    if (is("zeros")) nudge(m);
    return m;
  }
  template <class T>
  Matrix upload(gptq::MatrixView<const T> from) const {
    Matrix m = Reference::upload(from);
    if (is("upload")) nudge(m);
    return m;
  }
  template <class T>
  void download(const Matrix& from, gptq::MatrixView<T> to) const {
    Reference::download(from, to);
    if (is("download") && to.rows() > 0) to(0, 0) += T(1);
  }
  template <class T>
  double largest(gptq::MatrixView<const T> m) const {
    const double most = Reference::largest(m);
    if (is("largest: size")) return most * 0.99;
    return is("largest: finite") && !std::isfinite(most) ? 1 : most;
  }
  template <class T>
  void accumulate(Matrix& sum, gptq::MatrixView<const T> x, const float* weights) const {
    if (is("accumulate: sum")) sum = Reference::zeros(sum.rows(), sum.cols());
    Reference::accumulate(sum, x, is("accumulate: weights") ? nullptr : weights);
  }
  template <class T>
  void accumulate_cross(Matrix& sum, gptq::MatrixView<const T> a,
                        gptq::MatrixView<const T> b) const {
    Reference::accumulate_cross(sum, a, b);
    if (is("accumulate_cross")) nudge(sum);
  }
  void add(Matrix& sum, const Matrix& other) const { Reference::add(sum, is("add") ? sum : other); }
  std::vector<double> diagonal(const Matrix& m) const {
    auto values = Reference::diagonal(m);
    if (is("diagonal")) values.back() *= 1.001;
    return values;
  }
  Matrix arrange(const Matrix& from, std::span<const Index> order, double factor,
                 std::span<const double> added) const {
    std::vector<double> more(added.begin(), added.end());
    if (is("arrange: added")) more.back() *= 1.1;
    std::vector<Index> other(order.begin(), order.end());
    if (is("arrange: order")) std::reverse(other.begin(), other.end());
    return Reference::arrange(from, other, is("arrange: factor") ? 1.001 * factor : factor, more);
  }
  Index factorize(Matrix& h) const {
    const Index failed = Reference::factorize(h);
    if (is("factorize: pivot") && failed >= 0) return failed + 1;
    if (is("factorize: factor")) nudge(h);
    return failed;
  }
  Index factorize_in_double(const Matrix& from, std::span<const Index> order, double factor,
                            std::span<const double> added, Matrix& r) const {
    const Index failed = Reference::factorize_in_double(from, order, factor, added, r);
    if (is("factorize_in_double")) nudge(r);
    return failed;
  }
  Matrix invert_triangular(const Matrix& r) const {
    Matrix inverse = Reference::invert_triangular(r);
    if (is("invert_triangular")) nudge(inverse);
    return inverse;
  }
  std::vector<Index> pivot_order(const Matrix& h) const {
    auto order = Reference::pivot_order(h);
    if (is("pivot_order")) std::reverse(order.begin(), order.end());
    return order;
  }
  template <class F>
  void for_panels(Index rows, F&& panel) const {
    Worker worker;
    worker.operation = operation;
    panel(worker, Index{0}, is("for_panels") ? rows - 1 : rows);
  }
  template <class F>
  void for_each(Index jobs, F&& job) const {
    Reference::for_each(is("for_each") ? jobs - 1 : jobs, job);
  }
  gptq::backend::Footprint footprint(Index rows, Index cols, const gptq::Params& params) const {
    auto footprint = Reference::footprint(rows, cols, params);
    if (is("footprint")) footprint.panel_rows = rows / 2;
    return footprint;
  }
};

}  // namespace

TEST_CASE("the suite notices any operation that is slightly wrong", "[conformance]") {
  CHECK_NOTHROW(test_backend(Broken{}, 1e-12));
  for (const char* operation : {"zeros",
                                "upload",
                                "download",
                                "largest: size",
                                "largest: finite",
                                "accumulate: sum",
                                "accumulate: weights",
                                "accumulate_cross",
                                "add",
                                "diagonal",
                                "arrange: added",
                                "arrange: order",
                                "arrange: factor",
                                "factorize: pivot",
                                "factorize: factor",
                                "factorize_in_double",
                                "invert_triangular",
                                "pivot_order",
                                "for_panels",
                                "for_each",
                                "footprint",
                                "load_panel: unit",
                                "load_panel: carry",
                                "fit: search",
                                "fit: base",
                                "solve: lazy batch",
                                "solve: left-looking",
                                "solve: carry",
                                "targets: left-looking",
                                "targets: lazy batch",
                                "find_errors",
                                "round: sparsity",
                                "round: carry",
                                "round: codes",
                                "store: codes",
                                "store: scales",
                                "store: zeros",
                                "propagate",
                                "multiply",
                                "sums: loss",
                                "sums: clipped",
                                "energy",
                                "squares",
                                "set_grids",
                                "gather",
                                "solve_factor",
                                "observe: targets",
                                "observe: scales"}) {
    INFO(operation);
    Broken backend;
    backend.operation = operation;
    CHECK_THROWS_AS(test_backend(backend, 1e-12), gptq::testing::Nonconforming);
  }
}
