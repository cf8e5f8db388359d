// SPDX-License-Identifier: MIT

// What the program does when something around it goes wrong: closed descriptors, full disks,
// signals, places that are taken. docs/reliability.md lists the promises.

#include "../support/demo.hpp"

#include <regex>

using test::calibration;
using test::check_refused;
using test::demo;
using test::DemoCopy;
using test::program;
using test::TemporaryFolder;

namespace {

const std::string gptq_program = GPTQ_PROGRAM;

std::string rtn(const std::string& out, const std::string& more = "") {
  return "quantize " + demo.string() + " --method rtn --out " + out + more;
}

/// A run of more than a second, for what happens in its course.
std::string long_run(const std::string& model, const std::string& out) {
  return gptq_program + " quantize " + model + " --quiet --threads 1 --out " + out +
         " --calibration " + (demo / "calibration.txt").string() +
         " --samples 30 --sequence-length 256";
}

/// The weights as a run makes them that nothing disturbs.
const std::string& undisturbed() {
  static const std::string weights = [] {
    const TemporaryFolder folder;
    REQUIRE(program(rtn((folder / "out").string())).code == 0);
    return gptq::io::read_file(folder / "out" / "model.safetensors");
  }();
  return weights;
}

bool written(const std::filesystem::path& out) {
  return gptq::io::read_file(out / "model.safetensors") == undisturbed();
}

}  // namespace

TEST_CASE("closed descriptors: printed text ends up in no file", "[program][fault1]") {
  for (const char* closed : {"2>&-", ">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"}) {
    const TemporaryFolder folder;
    const auto out = folder / "out";
    const auto outcome =
        test::run("bash -c '" + gptq_program + " " + rtn(out.string()) + " " + closed + "'");
    INFO(closed);
    CHECK(outcome.code == 0);
    CHECK(written(out));
  }
}

TEST_CASE("progress that cannot be written does not end a run", "[program][fault3]") {
  const TemporaryFolder folder;
  const auto out = folder / "out";
  CHECK(test::run("bash -c '" + gptq_program + " " + rtn(out.string()) + " 2>/dev/full'").code ==
        0);
  CHECK(written(out));
  CHECK(test::run("bash -c '" + gptq_program + " inspect /nonexistent 2>/dev/full'").code == 2);
}

TEST_CASE("figures that cannot be printed cost neither the model nor the report",
          "[program][fault17]") {
  const TemporaryFolder folder;
  const auto out = folder / "out", report = folder / "report.json";
  const auto outcome =
      test::run("bash -c '" + gptq_program + " " +
                rtn(out.string(), " --report " + report.string()) + " >/dev/full'");
  CHECK(outcome.code == 1);
  CHECK_THAT(outcome.output, ContainsSubstring("standard output: No space left on device"));
  CHECK(written(out));
  CHECK(nlohmann::json::parse(gptq::io::read_file(report))["modules"].size() == 28);
  // A reader that has seen enough is not worth an error message.
  CHECK_THAT(test::run(gptq_program + " inspect " + out.string() + " | head -n 1").output,
             !ContainsSubstring("pipe"));
}

TEST_CASE("signals that were ignored stay ignored", "[program][fault5]") {
  for (const char* signal : {"HUP", "INT"}) {
    const TemporaryFolder folder;
    const auto out = folder / "out";
    const auto outcome = test::run(std::string("bash -c 'trap \"\" ") + signal + "; " +
                                   long_run(demo.string(), out.string()) + " & sleep 0.3; kill -" +
                                   signal + " $!; wait $!'");
    INFO(signal << ": " << outcome.output);
    CHECK(outcome.code == 0);
    CHECK(std::filesystem::exists(out / "config.json"));
  }
}

TEST_CASE("a killed run leaves nothing in the way", "[program][fault6]") {
  const TemporaryFolder folder;
  const auto out = folder / "out";
  const auto killed =
      test::run("timeout --foreground --signal=KILL 0.4 " + gptq_program + " quantize " +
                demo.string() + " --quiet --threads 1 --out " + out.string() + " --calibration " +
                (demo / "calibration.txt").string() + " --samples 400 --sequence-length 256");
  CHECK(killed.code == 137);
  REQUIRE(std::filesystem::exists(out / ".partial"));
  const auto again = program(rtn(out.string()));
  CHECK(again.code == 0);
  CHECK_THAT(again.output, ContainsSubstring("note: removed what an interrupted run left"));
  CHECK(written(out));
  CHECK_FALSE(std::filesystem::exists(out / ".partial"));
}

TEST_CASE("two runs into one folder: one is refused", "[program][fault14]") {
  const TemporaryFolder folder;
  const auto out = folder / "out";
  const auto outcome = test::run(
      "bash -c '" + long_run(demo.string(), out.string()) + " & sleep 0.3; " + gptq_program + " " +
      rtn(out.string(), " --overwrite") + "; echo second: $?; wait $!; echo first: $?'");
  INFO(outcome.output);
  CHECK_THAT(outcome.output, ContainsSubstring("another run is writing here") &&
                                 ContainsSubstring("second: 2") && ContainsSubstring("first: 0"));
}

TEST_CASE("a file that is cut short while being read is named", "[program][fault8]") {
  const DemoCopy model;
  const TemporaryFolder folder;
  const auto out = folder / "out";
  const auto outcome =
      test::run("bash -c '" + long_run(model.path(), out.string()) +
                " & sleep 0.5; truncate -s 20000 " + model.path() + "/model.safetensors; wait $!'");
  INFO(outcome.output);
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.output, ContainsSubstring("model.safetensors") &&
                                 (ContainsSubstring("was cut short") ||
                                  ContainsSubstring("changed while it was being read")));
  CHECK_FALSE(std::filesystem::exists(out / "config.json"));
}

TEST_CASE("a report replaces reports and nothing else", "[program][fault12]") {
  const DemoCopy model;
  const std::string config = gptq::io::read_file(model.folder / "config.json");
  for (const std::string& precious :
       {model.path() + "/config.json", model.path() + "/model.safetensors"})
    check_refused(model.path() + " --method rtn --report " + precious,
                  ContainsSubstring("exists and is not a gptq report"));
  CHECK(gptq::io::read_file(model.folder / "config.json") == config);

  const TemporaryFolder folder;
  const auto out = folder / "out";
  CHECK(program(rtn(out.string(), " --report " + (out / "report.json").string())).code == 0);
  CHECK(written(out));
  const auto modules = [&] {
    return nlohmann::json::parse(gptq::io::read_file(out / "report.json"))["modules"].size();
  };
  CHECK(modules() == 28);
  // Our own reports may be replaced, the model's files may not.
  CHECK(program(rtn(out.string(),
                    " --overwrite --skip 're:.*q_proj' --report " + (out / "report.json").string()))
            .code == 0);
  CHECK(modules() == 24);
  const auto other = folder / "other";
  const auto clash = program(rtn(other.string(), " --report " + (other / "config.json").string()));
  CHECK(clash.code == 2);
  CHECK_THAT(clash.output, ContainsSubstring("a file of the model has that name"));
  CHECK_FALSE(std::filesystem::exists(other));
}

TEST_CASE("the report's path is checked before any work", "[program][fault12]") {
  const TemporaryFolder folder;
  const auto out = folder / "out";
  for (const auto& [report, problem] : {std::pair{"", "a file name is needed"},
                                        {"reports/", "a file name is needed"},
                                        {"out", "exists and is not a file"},
                                        {"out/.partial/new/report.json", "would be deleted"},
                                        {"no_folder/report.json", "No such file"}}) {
    const auto outcome = program(
        rtn(out.string(), " --report '" + (*report ? (folder / report).string() : "") + "'"));
    INFO(report);
    CHECK(outcome.code == 2);
    CHECK_THAT(outcome.output, ContainsSubstring(problem));
    CHECK_FALSE(std::filesystem::exists(out));
  }
}

TEST_CASE("files being read are neither replaced nor deleted", "[program][fault23]") {
  const TemporaryFolder folder;
  const auto out = folder / "out";
  std::filesystem::create_directory(out);
  // A text with the name of a model file.
  std::filesystem::copy_file(demo / "calibration.txt", out / "vocab.json");
  const auto text = program("quantize " + demo.string() + " --overwrite --out " + out.string() +
                            " --calibration " + (out / "vocab.json").string());
  CHECK(text.code == 2);
  CHECK_THAT(text.output,
             ContainsSubstring((out / "vocab.json").string() + " would be replaced or deleted"));
  CHECK(folder.names().size() == 1);
}

TEST_CASE("unknown weights are not deleted with a model", "[program][fault22]") {
  const TemporaryFolder folder;
  const auto out = folder / "out";
  std::filesystem::create_directory(out);
  gptq::io::write_file(out / "lora.safetensors", "mine");
  const auto refused = program(rtn(out.string(), " --overwrite"));
  CHECK(refused.code == 2);
  CHECK_THAT(refused.output, ContainsSubstring("lora.safetensors is not known to belong to"));
  CHECK(gptq::io::read_file(out / "lora.safetensors") == "mine");
  // An index says whose they are.
  gptq::io::write_file(out / "model.safetensors.index.json",
                       R"({"weight_map": {"a": "lora.safetensors"}})");
  const auto outcome = program(rtn(out.string(), " --overwrite"));
  CHECK(outcome.code == 0);
  CHECK_THAT(outcome.output, ContainsSubstring("also removed: lora.safetensors"));
  CHECK(written(out));
}

TEST_CASE("files that cannot be replaced in a single step are reported", "[program][fault13]") {
  const TemporaryFolder folder;
  const auto out = folder / "out";
  REQUIRE(program(rtn(out.string())).code == 0);
  const auto outcome =
      test::run("cd " + out.string() + " && " + gptq_program + " " + rtn(".", " --overwrite"));
  CHECK(outcome.code == 0);
  CHECK_THAT(outcome.output,
             ContainsSubstring("one by one and not in a single step, because it is the "
                               "working directory"));
  CHECK(written(out));
}

TEST_CASE("a broken link as the output is refused and kept", "[program][fault22]") {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("nowhere", folder / "link");
  const auto outcome = program(rtn((folder / "link").string()));
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.output, ContainsSubstring("is a broken link"));
  CHECK(std::filesystem::is_symlink(folder / "link"));
}

TEST_CASE("a model whose files are links into the output is preserved", "[program][fault23]") {
  const DemoCopy files;
  const TemporaryFolder links;
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"})
    std::filesystem::create_symlink(files.folder / name, links / name);
  const std::string before = gptq::io::read_file(files.folder / "model.safetensors");
  const auto outcome = program("quantize " + links.path().string() +
                               " --method rtn --overwrite --out " + files.path());
  CHECK(outcome.code == 2);
  CHECK_THAT(outcome.output, ContainsSubstring("it would be overwritten while it is read"));
  CHECK(gptq::io::read_file(files.folder / "model.safetensors") == before);
}

TEST_CASE("an overwritten folder loses the whole old model and nothing else", "[program]") {
  const TemporaryFolder folder;
  const auto out = folder / "out";
  REQUIRE(program(rtn(out.string())).code == 0);
  for (const char* name : {"pytorch_model.bin", "gptq_model-4bit-128g.safetensors", "notes.txt",
                           "adapter_model.safetensors"})
    gptq::io::write_file(out / name, "old");
  const auto outcome = program(rtn(out.string(), " --overwrite"));
  CHECK(outcome.code == 0);
  CHECK_THAT(outcome.output, ContainsSubstring("gptq_model-4bit-128g.safetensors") &&
                                 ContainsSubstring("pytorch_model.bin") &&
                                 !ContainsSubstring("notes.txt"));
  CHECK(written(out));
  CHECK_FALSE(std::filesystem::exists(out / "pytorch_model.bin"));
  CHECK_FALSE(std::filesystem::exists(out / "gptq_model-4bit-128g.safetensors"));
  CHECK(gptq::io::read_file(out / "notes.txt") == "old");
  CHECK(gptq::io::read_file(out / "adapter_model.safetensors") == "old");
}

TEST_CASE("a group size larger than every weight is refused", "[program][fault20]") {
  for (const char* size : {"9223372036854775807", "9223372036854775808", "1000000"})
    check_refused(demo.string() + " --method rtn --allow-tail-group --group-size " + size,
                  ContainsSubstring("group") && ContainsSubstring(size));
}

TEST_CASE("too few calibration tokens are reported with a sufficient number", "[program]") {
  const TemporaryFolder folder;
  const auto outcome =
      program("quantize " + demo.string() + " --quiet --out " + (folder / "out").string() +
              " --calibration " + (demo / "calibration.txt").string() +
              " --samples 1 --sequence-length 32");
  CHECK_THAT(outcome.output,
             ContainsSubstring("warning: 32 calibration tokens are too few for modules "
                               "of up to 640 inputs") &&
                 ContainsSubstring("use at least 1280 tokens"));
}

TEST_CASE("options without effect and rules are reported before any work", "[program]") {
  const TemporaryFolder folder;
  int count = 0;
  const auto output = [&](const std::string& options) {
    return program("quantize " + demo.string() + " --quiet --out " +
                   (folder / std::to_string(++count)).string() + calibration() + options)
        .output;
  };
  CHECK_THAT(output(" --match layer --match-strength 0.3"),
             ContainsSubstring("note: --match layer ignores --match-strength"));
  CHECK_THAT(output(" --sequential none --match model"),
             ContainsSubstring("--match model and --match-strength have no effect"));
  CHECK_THAT(output(" --positive-scales --range minmax"),
             ContainsSubstring("--positive-scales has no effect"));
  CHECK_THAT(output(" --allow-tail-group"), ContainsSubstring("--allow-tail-group has no effect"));
  CHECK_THAT(program(rtn((folder / "rtn").string(), " --precision single")).output,
             ContainsSubstring("--precision has no effect"));
  CHECK_THAT(output(" --skip 're:.*\\.1\\.mlp'"),
             ContainsSubstring("--skip re:.*\\.1\\.mlp applies to 3 modules "
                               "(model.layers.1.mlp.gate_proj to model.layers.1.mlp.down_proj)") &&
                 ContainsSubstring("25 modules quantized, 3 skipped"));
  check_refused(demo.string() + calibration() + " --tokens ids.txt",
                ContainsSubstring("--calibration and --tokens are mutually exclusive"));
}

TEST_CASE("rules reach engines under the names of fused modules", "[program]") {
  const TemporaryFolder folder;
  const auto out = folder / "out";
  REQUIRE(program(rtn(out.string(),
                      " --override 're:.*mlp\\.(gate|up)_proj=bits:8' --skip "
                      "'re:model\\.layers\\.[03]\\.self_attn\\.[qkv]_proj'"))
              .code == 0);
  const auto config = nlohmann::json::parse(gptq::io::read_file(out / "config.json"));
  const auto& dynamic = config["quantization_config"]["dynamic"];
  CHECK(dynamic["+:^model\\.layers\\.(0|1|2|3)\\.mlp\\.gate_up_proj$"]["bits"] == 8);
  CHECK(dynamic.contains("-:^model\\.layers\\.(0|3)\\.self_attn\\.qkv_proj$"));
}

TEST_CASE("the help of a command has its own examples", "[program]") {
  CHECK_THAT(program("inspect --help").output,
             ContainsSubstring("gptq inspect model.gguf") && !ContainsSubstring("gptq quantize"));
}
