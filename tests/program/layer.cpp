// SPDX-License-Identifier: MIT

// gptq layer: the core through files, as other languages use it.

#include <gptq/io/safetensors_writer.hpp>

#include "../support/catch.hpp"
#include "../support/command.hpp"
#include "../support/files.hpp"
#include "../support/tensors.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>
#include <tuple>

using gptq::Index;
using gptq::io::DType;
using gptq::io::Safetensors;
using test::numbers;
using test::TemporaryFolder;

namespace {

test::Outcome layer(const std::string& arguments) {
  return test::run(std::string(GPTQ_PROGRAM) + " layer " + arguments);
}

std::string golden(const std::string& name) {
  return (test::data_folder() / "golden" / (name + ".safetensors")).string();
}

void write(const std::filesystem::path& path,
           const std::vector<std::tuple<std::string, gptq::io::Shape, std::vector<float>>>& all) {
  std::vector<gptq::io::TensorBytes> tensors;
  for (const auto& [name, shape, values] : all)
    tensors.push_back({name, DType::F32, shape, std::as_bytes(std::span(values))});
  gptq::io::write_safetensors(path, tensors);
}

}  // namespace

TEST_CASE("the paper's own results come out of the program", "[program][golden]") {
  const TemporaryFolder folder;
  for (const char* name :
       {"row_asym_b4", "row_sym_b8", "g32_sym_b4_block32", "g32_sym_b4_tail", "g32_sym_b4_dead",
        "g32_sym_b4_outlier_rankdef", "g32_asym_b4_block128_stale", "g32_asym_b3_act",
        "g32_asym_b4_act_static", "g16_asym_b2_mse"}) {
    INFO(name);
    const Safetensors expected(golden(name));
    const auto s = nlohmann::json::parse(expected.metadata().at("settings"));
    const std::string out = (folder / name).string();
    const auto outcome =
        layer(golden(name) + " --out " + out + " --parity paper --bits " + s["bits"].dump() +
              " --group-size " + s["group_size"].dump() + " --block-size " +
              s["block_size"].dump() + " --sequences " + s["sequences"].dump() + " --damping " +
              s["percdamp"].dump() + (s["sym"].get<bool>() ? " --sym" : " --asym") +
              (s["act_order"].get<bool>() ? " --order act" : "") +
              (s["static_groups"].get<bool>() ? " --groups static" : "") +
              (s["mse"].get<bool>() ? " --range mse" : ""));
    INFO(outcome.output);
    REQUIRE(outcome.code == 0);
    const Safetensors file(out);
    const auto codes = numbers<std::uint8_t>(file, "codes"),
               golden_codes = numbers<std::uint8_t>(expected, "codes");
    REQUIRE(codes.size() == golden_codes.size());
    // A tie may go either way and changes the rest of its row; tests/golden proves them.
    std::set<std::size_t> rows;
    const auto in = static_cast<std::size_t>(expected.at("W").shape[1]);
    for (std::size_t i = 0; i < codes.size(); ++i)
      if (codes[i] != golden_codes[i]) rows.insert(i / in);
    CHECK(rows.size() <= 1);
    CHECK(numbers<std::int32_t>(file, "g_idx") == numbers<std::int32_t>(expected, "g_idx"));
    const auto q = numbers<float>(file, "Q"), golden_q = numbers<float>(expected, "Q");
    for (std::size_t i = 0; i < q.size(); ++i)
      if (rows.count(i / in) == 0) CHECK(q[i] == Approx(golden_q[i]).epsilon(1e-5).margin(1e-7));
    const auto report = nlohmann::json::parse(outcome.output);
    CHECK(report["paper_error"].get<double>() ==
          Approx(s["error"].get<double>()).epsilon(rows.empty() ? 2e-5 : 5e-3));
  }
}

TEST_CASE("H works as well as X, and X takes precedence", "[program]") {
  const TemporaryFolder folder;
  const Safetensors file(golden("g32_asym_b4_act_static"));
  const auto w = numbers<float>(file, "W"), h = numbers<float>(file, "H");
  write(folder / "h", {{"W", file.at("W").shape, w}, {"H", file.at("H").shape, h}});
  const std::string flags = " --bits 4 --group-size 32 --asym --order group-aware";
  REQUIRE(layer((folder / "h").string() + flags + " --out " + (folder / "a").string()).code == 0);
  REQUIRE(
      layer(golden("g32_asym_b4_act_static") + flags + " --out " + (folder / "b").string()).code ==
      0);
  CHECK(numbers<std::uint8_t>(Safetensors(folder / "a"), "codes") ==
        numbers<std::uint8_t>(Safetensors(folder / "b"), "codes"));
  // An H unrelated to X changes nothing.
  auto other = h;
  for (float& x : other) x = 0;
  const auto in = static_cast<std::size_t>(file.at("H").shape[0]);
  for (std::size_t i = 0; i < in; ++i) other[i * in + i] = static_cast<float>(1 + i);
  write(folder / "both", {{"W", file.at("W").shape, w},
                          {"X", file.at("X").shape, numbers<float>(file, "X")},
                          {"H", file.at("H").shape, other}});
  write(folder / "other", {{"W", file.at("W").shape, w}, {"H", file.at("H").shape, other}});
  const auto codes = [&](const char* name) {
    const std::string out = (folder / (std::string(name) + ".out")).string();
    REQUIRE(layer((folder / name).string() + flags + " --overwrite --out " + out).code == 0);
    return numbers<std::uint8_t>(Safetensors(out), "codes");
  };
  CHECK(codes("both") == numbers<std::uint8_t>(Safetensors(folder / "b"), "codes"));
  CHECK(codes("other") != codes("both"));
  const auto sliced =
      layer((folder / "h").string() + " --sequences 4 --out " + (folder / "c").string());
  CHECK(sliced.code == 2);
  CHECK_THAT(sliced.output, ContainsSubstring("--sequences 4") && ContainsSubstring("only H"));
  const auto again = layer((folder / "h").string() + flags + " --out " + (folder / "a").string());
  CHECK(again.code == 2);
  CHECK_THAT(again.output, ContainsSubstring("--overwrite"));
}

TEST_CASE("msModelSlim's int8 comes out of the program", "[program]") {
  const TemporaryFolder folder;
  const Safetensors in(golden("row_sym_b8"));
  const auto w = numbers<float>(in, "W");
  const auto rows = static_cast<std::size_t>(in.at("W").shape[0]), cols = w.size() / rows;
  for (const char* scope : {"", " --group-size 32"}) {
    const std::string out = (folder / "out").string();
    const auto outcome =
        layer(golden("row_sym_b8") + " --parity msmodelslim --overwrite" + scope + " --out " + out);
    INFO(outcome.output);
    REQUIRE(outcome.code == 0);
    // The first group's scale comes from the original weight.
    const auto scale = numbers<float>(Safetensors(out), "scale");
    const std::size_t groups = scale.size() / rows, size = cols / groups;
    for (std::size_t r = 0; r < rows; ++r) {
      float largest = 0;
      for (std::size_t c = 0; c < size; ++c) largest = std::max(largest, std::abs(w[r * cols + c]));
      CHECK(scale[r * groups] == Approx(largest / 127));
    }
  }
}

TEST_CASE("a note says what --parity requests but --solver cannot do", "[program]") {
  const TemporaryFolder folder;
  const auto says = [&](const std::string& flags) {
    return layer(golden("g32_asym_b4_block128_stale") + " --parity paper --overwrite --asym " +
                 flags + " --out " + (folder / "out").string())
        .output;
  };
  const auto note = ContainsSubstring("note: --parity paper takes scales from a partly corrected");
  CHECK_THAT(says("--group-size 32 --solver left-looking"), note);
  CHECK_THAT(says("--group-size 32 --solver lazy-batch"), !note);
  CHECK_THAT(says("--group-size 32 --block-size 32 --solver left-looking"), !note);
  CHECK_THAT(says("--solver left-looking"), !note);
}

TEST_CASE("a GPU is used if there is one, and its absence reported if not", "[program]") {
  const TemporaryFolder folder;
  const std::string in = golden("row_asym_b4"), out = (folder / "cuda").string();
  const auto outcome = layer(in + " --asym --group-size 32 --backend cuda --out " + out);
  INFO(outcome.output);
  if (outcome.code != 0) {
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.output, ContainsSubstring("no CUDA device can be used") ||
                                   ContainsSubstring("gptq-cuda: cannot be started"));
    CHECK_FALSE(std::filesystem::exists(out));
    return;
  }
  const std::string expected = (folder / "cpu").string();
  REQUIRE(layer(in + " --asym --group-size 32 --out " + expected).code == 0);
  const auto a = numbers<std::uint8_t>(Safetensors(out), "codes"),
             b = numbers<std::uint8_t>(Safetensors(expected), "codes");
  std::size_t different = 0;
  for (std::size_t i = 0; i < a.size(); ++i) different += a[i] != b[i];
  CHECK(different <= a.size() / 100);
}

TEST_CASE("two of every four inputs can be pruned", "[program]") {
  const TemporaryFolder folder;
  const std::string in = golden("g32_sym_b4_block32"), out = (folder / "sparse").string();
  const auto outcome = layer(in + " --group-size 32 --sparsity 2:4 --out " + out);
  INFO(outcome.output);
  REQUIRE(outcome.code == 0);
  const auto report = nlohmann::json::parse(outcome.output);
  CHECK(report["relative_error"] < report["rtn_relative_error"]);
  const auto weights = numbers<float>(Safetensors(out), "Q");
  for (std::size_t i = 0; i < weights.size(); i += 4)
    CHECK(std::count(weights.begin() + std::ptrdiff_t(i), weights.begin() + std::ptrdiff_t(i + 4),
                     0.0f) >= 2);
  for (const char* wrong : {"2", "0:4", "2:4:8", "two"})
    CHECK(layer(in + " --sparsity " + wrong + " --out " + (folder / "b").string()).code == 2);
  const auto told = layer(in + " --group-size 32 --parity llm-compressor --sparsity 2:4 --out " +
                          (folder / "c").string());
  CHECK_THAT(told.output, ContainsSubstring("note: --sparsity rounds inputs in natural order"));
  const auto act = layer(in + " --sparsity 2:4 --order act --out " + (folder / "b").string());
  CHECK(act.code == 2);
  CHECK_THAT(act.output, ContainsSubstring("sparsity needs Order::natural"));
}

TEST_CASE("invalid layers are refused with tensor and value", "[program]") {
  const TemporaryFolder folder;
  const std::string in = (folder / "in").string(), out = " --out " + (folder / "out").string();
  const std::vector<float> w(8, 1.0f), x(16, 1.0f);
  const auto refused = [&](const std::string& flags, const std::string& says) {
    const auto outcome = layer(in + out + flags);
    INFO(outcome.output);
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.output, ContainsSubstring(says));
    CHECK_FALSE(std::filesystem::exists(folder / "out"));
  };
  write(in, {{"W", {2, 4}, w}});
  refused("", "has neither X");
  write(in, {{"W", {2, 4}, w}, {"X", {2, 8}, x}});
  refused("", "tensor X is F32 [2, 8]");
  write(in, {{"W", {2, 4}, w}, {"X", {4, 4}, x}});
  refused(" --sequences 3", "does not divide the 4 tokens");
  refused(" --solver left-looking --order sideways", "sideways");
  auto bad = x;
  bad[5] = NAN;
  write(in, {{"W", {2, 4}, w}, {"X", {4, 4}, bad}});
  refused("", "activations(1, 1) = nan");
  bad = x;
  bad[1] = 7;
  write(in, {{"W", {2, 4}, w}, {"H", {4, 4}, bad}});
  refused("", "H is not symmetric");
  refused(" --parity upstream", "upstream");
  write(in, {{"W", {8}, w}});
  refused("", "tensor W is F32 [8]; expected F32 [out, in]");
  write(in, {{"W", {2, 4}, w}, {"X", {16}, x}});
  refused("", "tensor X is F32 [16]; expected F32 [tokens, 4]");
  write(in, {{"W", {2, 4}, w}, {"H", {2, 8}, x}});
  refused("", "tensor H is F32 [2, 8]; expected F32 [4, 4]");
  bad = x;
  bad[5] = -1;
  write(in, {{"W", {2, 4}, w}, {"H", {4, 4}, bad}});
  refused("", in + ": H(1, 1) = -1 is negative");
  write(in, {{"W", {2, 4}, w}, {"X", {4, 4}, x}});
  refused(" --precision bfloat16", "--precision bfloat16 is for decoders");
  refused(" --device 1", "requires --backend cuda");
  CHECK_THAT(layer(in + " --out " + (folder / "no/such/out").string()).output,
             ContainsSubstring("there is no folder"));
  for (const std::string& none : {(folder / "").string(), std::string("''")})
    CHECK_THAT(layer(in + " --overwrite --out " + none).output,
               ContainsSubstring("a file name is needed"));
  CHECK_THAT(layer(in + " --overwrite --out " + folder.path().string()).output,
             ContainsSubstring("is a folder"));
  std::filesystem::create_directory(folder / ".out.gptq-partial");
  refused("", "cannot create: Is a directory");
}

TEST_CASE("a Hessian with an element that is not finite is refused with its place",
          "[program][fault29]") {
  const TemporaryFolder folder;
  const std::string in = (folder / "in").string();
  const auto said = [&](std::size_t at, float value) {
    std::vector<float> h(16);
    for (std::size_t i = 0; i < 4; ++i) h[5 * i] = 1;
    h[at] = value;
    write(in, {{"W", {2, 4}, std::vector<float>(8, 1.0f)}, {"H", {4, 4}, h}});
    const auto outcome = layer(in + " --out " + (folder / "out").string());
    CHECK(outcome.code == 2);
    return outcome.output;
  };
  CHECK_THAT(said(10, NAN), ContainsSubstring(in + ": H(2, 2) = nan is not finite"));
  CHECK_THAT(said(0, -NAN), ContainsSubstring(in + ": H(0, 0) = nan is not finite"));
  CHECK_THAT(said(6, NAN), ContainsSubstring(in + ": H(1, 2) = nan is not finite"));
  CHECK_THAT(said(9, NAN), ContainsSubstring(in + ": H(2, 1) = nan is not finite"));
  CHECK_THAT(said(5, INFINITY), ContainsSubstring(in + ": H(1, 1) = inf is not finite"));
}

TEST_CASE("reported errors are those of the result, however large or small H is",
          "[program][fault29]") {
  const TemporaryFolder folder;
  const std::string in = (folder / "in").string(), out = (folder / "out").string();
  std::vector<float> w(32 * 64);
  for (std::size_t i = 0; i < w.size(); ++i)
    w[i] = static_cast<float>(std::sin(0.7 * static_cast<double>(i * i % 1013)));
  for (const float size : {1e-44f, 1e-38f, 1e-20f, 1.0f, 1e20f, 1e38f})
    for (const char* flags : {"", " --parity paper", " --parity msmodelslim",
                              " --bits 2 --asym --order min-pivot", " --solver lazy-batch"}) {
      INFO(size << flags);
      std::vector<float> h(64 * 64);
      for (std::size_t i = 0; i < 64; ++i) h[65 * i] = size * static_cast<float>(1 + i % 3);
      write(in, {{"W", {32, 64}, w}, {"H", {64, 64}, h}});
      const auto outcome = layer(in + " --overwrite --group-size 32 --out " + out + flags);
      INFO(outcome.output);
      REQUIRE(outcome.code == 0);
      const auto q = numbers<float>(Safetensors(out), "Q");
      double missed = 0, all = 0;
      for (std::size_t i = 0; i < w.size(); ++i) {
        const double cost = static_cast<double>(h[65 * (i % 64)]) / static_cast<double>(size);
        const double d = static_cast<double>(w[i]) - static_cast<double>(q[i]);
        missed += cost * d * d;
        all += cost * static_cast<double>(w[i]) * static_cast<double>(w[i]);
      }
      const auto report = nlohmann::json::parse(outcome.output);
      CHECK(report["relative_error"].get<double>() == Approx(missed / all).epsilon(1e-3));
      CHECK(report["loss"].get<double>() ==
            Approx(missed * static_cast<double>(size)).epsilon(1e-3));
      CHECK(report["relative_error"].get<double>() <=
            1.0001 * report["rtn_relative_error"].get<double>());
    }
}

TEST_CASE("a weight whose scales vanish is refused, and what dead inputs keep is written",
          "[program][fault18]") {
  const TemporaryFolder folder;
  const std::string in = (folder / "in").string(), out = (folder / "out").string();
  std::vector<float> w(2 * 32), x(8 * 32, 1.0f);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = 1e-11f * static_cast<float>(i % 7);
  write(in, {{"W", {2, 32}, w}, {"X", {8, 32}, x}});
  const auto outcome = layer(in + " --group-size 32 --out " + out);
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.output,
             ContainsSubstring("row 0, group 0 of W, up to 6e-11, are too small for scales"));
  CHECK_THAT(outcome.output, ContainsSubstring(in + ": the weights of") &&
                                 ContainsSubstring("--scale-type bf16 and fp32"));
  CHECK_FALSE(std::filesystem::exists(out));
  for (const char* type : {"bf16", "fp32"}) {
    const auto other =
        layer(in + " --group-size 32 --overwrite --scale-type " + type + " --out " + out);
    REQUIRE(other.code == 0);
    CHECK(numbers<float>(Safetensors(out), "Q")[6] == Approx(6e-11).epsilon(0.1));
    CHECK(nlohmann::json::parse(other.output)["relative_error"].get<double>() < 0.05);
  }
  for (float& value : w) value *= 1e10f;
  for (std::size_t t = 0; t < 8; ++t) x[32 * t + 3] = 0;
  write(in, {{"W", {2, 32}, w}, {"X", {8, 32}, x}});
  const auto third = [&](const std::string& flags) {
    REQUIRE(layer(in + " --overwrite --group-size 32 --out " + out + flags).code == 0);
    return numbers<float>(Safetensors(out), "Q")[3];
  };
  CHECK(third("") == Approx(0.3).epsilon(0.15));
  CHECK(third(" --parity paper") == 0);
}
