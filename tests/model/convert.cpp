// SPDX-License-Identifier: MIT

// Conversion: the same numbers in another format, or a refusal.

#include <gptq/io/safetensors.hpp>
#include <gptq/model/convert.hpp>

#include "../support/catch.hpp"
#include "../support/written_model.hpp"

#include <cstdint>
#include <cstring>  // std::memcpy
#include <map>

using gptq::Index;
using gptq::model::Override;
using test::of_type, test::uniform, test::WrittenModel;

namespace {

/// Converts a folder. \returns  the new model.safetensors
std::string converted(const std::filesystem::path& from, const std::string& format) {
  const test::TemporaryFolder folder;
  const auto model = gptq::model::open_model(from);
  gptq::model::PipelineOptions options;
  options.settings = gptq::model::stored_settings(model);
  options.format = gptq::model::make_format(format, gptq::io::DType::F32);
  gptq::model::require_fits(model.description, options.settings, *options.format);
  gptq::model::QuantizedFolder target(model, options, folder / "out", 1u << 30, false);
  gptq::model::convert(
      model, options.settings, *options.format, gptq::exec::Serial(),
      [&](const std::string& name, const auto& module) { target.write(name, module); });
  target.write_rest(model);
  target.commit();
  return gptq::io::read_file(folder / "out" / "model.safetensors");
}

std::string weights_file(const WrittenModel& written) {
  return gptq::io::read_file(written.out / "model.safetensors");
}

std::string conversion_refusal(const std::filesystem::path& from, const std::string& format) {
  return error_of<gptq::InvalidArgument>([&] { converted(from, format); });
}

}  // namespace

TEST_CASE("a converted model is what would have been written", "[convert]") {
  auto table = uniform(4, true);
  const std::vector<std::string> all{"gptq", "awq", "compressed-tensors", "mlx", "plain"};
  for (const std::string& from : all) {
    if (from == "plain") continue;
    const WrittenModel source(from, table);
    for (const std::string& to : all) {
      INFO(from << " to " << to);
      CHECK((converted(source.out, to) == weights_file(WrittenModel(to, table))));
    }
  }
}

TEST_CASE("modules with settings of their own, or unquantized, are converted as they are",
          "[convert]") {
  auto table = uniform(8, false);
  table.overrides.push_back(
      Override::parse("re:.*layers\\.1\\.mlp\\.down_proj=bits:2,group-size:64"));
  table.skips.emplace_back("model.layers.0.self_attn.q_proj");
  const WrittenModel source("gptq", table);
  CHECK((converted(source.out, "compressed-tensors") ==
         weights_file(WrittenModel("compressed-tensors", table))));
  const auto stored = gptq::model::stored_settings(source.open());
  CHECK(stored.base == table.base);
  CHECK_FALSE(stored.find("model.layers.0.self_attn.q_proj"));
  CHECK(stored.find("model.layers.1.mlp.down_proj") == table.find("model.layers.1.mlp.down_proj"));
}

TEST_CASE("numbers that are not integers are converted too", "[convert]") {
  for (const auto& [type, format] :
       std::map<std::string, std::string>{{"nf4", "bitsandbytes"},
                                          {"nvfp4", "compressed-tensors"},
                                          {"mxfp4", "compressed-tensors"}}) {
    INFO(type);
    const auto table = of_type(type);
    const WrittenModel source(format, table);
    CHECK((converted(source.out, format) == weights_file(source)));
    CHECK((converted(source.out, "plain") == weights_file(WrittenModel("plain", table))));
    CHECK(gptq::model::stored_settings(source.open()).base == table.base);
    CHECK_THAT(conversion_refusal(source.out, "gptq"),
               ContainsSubstring("holds no numbers of the type " + type));
  }
}

TEST_CASE("what another format cannot express is refused", "[convert]") {
  const WrittenModel three("gptq", uniform(3, false));
  CHECK_THAT(conversion_refusal(three.out, "awq"),
             ContainsSubstring("bits = 3 of model.layers.0.") &&
                 ContainsSubstring("with these settings: gptq, compressed-tensors, plain"));
  CHECK_THAT(conversion_refusal(WrittenModel("gptq", uniform(4, false)).out, "mlx"),
             ContainsSubstring("asymmetric grids"));
  CHECK_THAT(conversion_refusal(test::demo_folder(), "awq"),
             ContainsSubstring("no module is packed"));

  // Groups of inputs that are not adjacent: two inputs of different groups change places.
  const WrittenModel scattered("gptq", uniform(4, true));
  auto bytes = weights_file(scattered);
  {
    const gptq::io::Safetensors file(scattered.out / "model.safetensors");
    const auto index = file.tensors().at("model.layers.1.mlp.up_proj.g_idx").bytes;
    const auto at = static_cast<std::size_t>(index.data() - file.file().bytes().data());
    const std::int32_t one = 1, zero = 0;
    std::memcpy(&bytes[at], &one, 4);
    std::memcpy(&bytes[at + 4 * 32], &zero, 4);
  }
  gptq::io::write_file(scattered.out / "model.safetensors", bytes);
  CHECK_THAT(conversion_refusal(scattered.out, "awq"),
             ContainsSubstring("input 0 of model.layers.1.mlp.up_proj is in group 1"));
  CHECK(converted(scattered.out, "plain").size() > bytes.size());
}

TEST_CASE("a module that reads back as other numbers stops the run", "[convert]") {
  const test::TemporaryFolder folder;
  const WrittenModel source("gptq", uniform(4, true));
  const auto model = source.open();
  gptq::model::PipelineOptions options;
  options.settings = gptq::model::stored_settings(model);
  options.format = gptq::model::make_format("awq", gptq::io::DType::F32);
  {
    gptq::model::QuantizedFolder target(model, options, folder / "out", 1u << 30, false);
    gptq::model::convert(model, options.settings, *options.format, gptq::exec::Serial(),
                         [&](const std::string& name, gptq::model::QuantizedModule module) {
                           if (name == "model.layers.1.mlp.up_proj") module.first_row[5] += 1;
                           target.write(name, module);
                         });
    target.write_rest(model);
    CHECK_THAT(error_of<gptq::IoError>([&] { target.commit(); }),
               ContainsSubstring("model.layers.1.mlp.up_proj reads back as other numbers") &&
                   ContainsSubstring("at row 0, column 5"));
  }
  CHECK(folder.names().empty());
}
