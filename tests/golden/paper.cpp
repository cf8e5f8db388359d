// SPDX-License-Identifier: MIT

// Layers quantized with the paper's own PyTorch code: the same codes, scales and error.

#include "../support/catch.hpp"
#include "../support/layer.hpp"
#include "../support/tensors.hpp"

using gptq::Index;
using gptq::Params;
using gptq::io::Safetensors;
using test::numbers;
using Cpu = gptq::backend::Cpu;

namespace {

/// gptq::parity::paper() with the settings of a file.
Params settings_of(const nlohmann::json& settings) {
  Params params = gptq::parity::paper(
      settings["group_size"].get<Index>(),
      settings["static_groups"].get<bool>() ? gptq::Groups::static_ : gptq::Groups::dynamic);
  params.block_size = settings["block_size"].get<Index>();
  params.damping = settings["percdamp"].get<double>();
  params.order = settings["act_order"].get<bool>() ? gptq::Order::act : gptq::Order::natural;
  params.range = settings["mse"].get<bool>() ? gptq::Range::mse : gptq::Range::minmax;
  return params;
}

struct Golden {
  Safetensors file;
  nlohmann::json settings;
  Index out, in, tokens;
  std::vector<float> weight, x, scale, zero;
  std::vector<std::uint8_t> codes;
  std::vector<std::int32_t> group_index;

  explicit Golden(const std::string& name)
      : file(std::string(GPTQ_TEST_DATA_DIR) + "/golden/" + name + ".safetensors"),
        settings(nlohmann::json::parse(file.metadata().at("settings"))),
        out(file.at("W").shape[0]),
        in(file.at("W").shape[1]),
        tokens(file.at("X").shape[0]),
        weight(numbers<float>(file, "W")),
        x(numbers<float>(file, "X")),
        scale(numbers<float>(file, "scale")),
        zero(numbers<float>(file, "zero")),
        codes(numbers<std::uint8_t>(file, "codes")),
        group_index(numbers<std::int32_t>(file, "g_idx")) {}

  /// The activations in the slices that the file's Hessian was made from.
  template <class B>
  gptq::Hessian<B> hessian() const {
    gptq::Hessian<B> h(in);
    const Index sequences = settings["sequences"].get<Index>(), length = tokens / sequences;
    for (Index s = 0; s < sequences; ++s)
      h.add(gptq::MatrixView<const float>(x.data() + s * length * in, length, in));
    return h;
  }
  gptq::MatrixView<const float> w() const { return {weight.data(), out, in}; }

  /// Whether a row differs from the file. The first different code, in the file's order, must be a
  /// tie: given the same codes before it, its weight is halfway between two levels, as far as
  /// single precision can tell. Later differences follow from it.
  template <class S>
  bool row_parts_at_a_tie(Index r, const gptq::QuantizedMatrix<S>& q) const {
    const auto code = [&](Index c) { return codes[static_cast<std::size_t>(r * in + c)]; };
    bool same = true;
    for (Index c = 0; c < in; ++c) same = same && q.codes()(r, c) == code(c);
    if (same) return false;
    auto h = numbers<float>(file, "H");
    const auto perm = numbers<std::int32_t>(file, "perm");
    gptq::baseline::Dense damped(in, in);
    double mean = 0;
    for (Index i = 0; i < in; ++i) {
      auto& d = h[static_cast<std::size_t>(i * in + i)];
      if (d == 0.0f) d = 1;
      mean += static_cast<double>(d) / static_cast<double>(in);
    }
    for (Index i = 0; i < in; ++i)
      for (Index j = 0; j < in; ++j)
        damped(i, j) = static_cast<double>(h[static_cast<std::size_t>(i * in + j)]) +
                       (i == j ? settings["percdamp"].get<double>() * mean : 0.0);
    gptq::baseline::InverseHessian inverse(damped.view());
    std::vector<double> row(weight.begin() + r * in, weight.begin() + (r + 1) * in);
    for (const std::int32_t c : perm) {
      const auto g = static_cast<Index>(group_index[static_cast<std::size_t>(c)]);
      const auto at = static_cast<std::size_t>(r * q.groups() + g);
      const double s = static_cast<double>(scale[at]), z = static_cast<double>(zero[at]);
      if (q.codes()(r, c) != code(c)) {
        const double level = row[static_cast<std::size_t>(c)] / s + z;
        INFO("row " << r << ", column " << c << ", level " << level);
        CHECK(std::abs(level - std::floor(level) - 0.5) < 1e-4);
        return true;
      }
      inverse.set(row.data(), c, s * (code(c) - z));
    }
    return true;
  }
};

template <class S>
void compare(const std::string& name) {
  const Golden golden(name);
  auto params = settings_of(golden.settings);
  const bool either_form = !golden.settings.value("name", name).ends_with("stale");
  for (const auto solver : {gptq::Solver::lazy_batch, gptq::Solver::left_looking}) {
    if (solver == gptq::Solver::left_looking) {
      if (!either_form) continue;
      params.parity.stale_group_scales = false;
    }
    params.solver = solver;
    INFO(name << (solver == gptq::Solver::lazy_batch ? ", lazy batch" : ", left-looking"));
    const auto q = gptq::Quantizer<S, Cpu>(params).quantize(golden.w(), golden.hessian<Cpu>());
    const Index groups = q.groups();
    // Scales of the original weight take a division or two; others, the whole solve until then.
    const bool of_weight = groups == 1 || params.groups == gptq::Groups::static_;
    Index ties = 0;
    for (Index r = 0; r < golden.out; ++r) {
      ties += golden.row_parts_at_a_tie(r, q);
      for (Index g = 0; g < groups; ++g) {
        const auto at = static_cast<std::size_t>(r * groups + g);
        CHECK(q.scales()(r, g) == Approx(golden.scale[at]).epsilon(of_weight ? 2e-7 : 1e-5));
        CHECK(q.zeros()(r, g) == golden.zero[at]);
      }
    }
    CHECK(ties <= 1);
    CHECK(std::equal(q.group_index().begin(), q.group_index().end(), golden.group_index.begin()));
    CHECK(q.report().paper_error ==
          Approx(golden.settings["error"].get<double>()).epsilon(ties > 0 ? 5e-3 : 2e-5));
  }
}

}  // namespace

TEST_CASE("the paper's own code: one scale per row", "[golden]") {
  compare<gptq::scheme::Asymmetric<4>>("row_asym_b4");
  compare<gptq::scheme::Int8>("row_sym_b8");
}

TEST_CASE("the paper's own code: dynamic groups, blocks of one group", "[golden]") {
  compare<gptq::scheme::Int4>("g32_sym_b4_block32");
  compare<gptq::scheme::Int4>("g32_sym_b4_tail");
  compare<gptq::scheme::Int4>("g32_sym_b4_outlier_rankdef");
}

TEST_CASE("the paper's own code: dead columns", "[golden]") {
  compare<gptq::scheme::Int4>("g32_sym_b4_dead");
}

TEST_CASE("the paper's own code: dynamic groups fitted without the corrections of their own block",
          "[golden]") {
  compare<gptq::scheme::Asymmetric<4>>("g32_asym_b4_block128_stale");
}

TEST_CASE("the paper's own code: act order, groups by position and by column", "[golden]") {
  compare<gptq::scheme::Asymmetric<3>>("g32_asym_b3_act");
  compare<gptq::scheme::Asymmetric<4>>("g32_asym_b4_act_static");
}

TEST_CASE("the paper's own code: range search", "[golden]") {
  compare<gptq::scheme::Asymmetric<2>>("g16_asym_b2_mse");
}
