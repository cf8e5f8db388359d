// SPDX-License-Identifier: MIT

// gptq: quantize, evaluate and inspect model folders and GGUF files.

#include "command.hpp"

#include <gptq/version.hpp>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <filesystem>
#include <new>

#include <malloc.h>  // mallopt

int main(int argc, char** argv) {
  namespace program = gptq::program;
  CLI::App app{
      "gptq makes the weights of a language model small: 2, 3, 4 or 8 bits each, chosen so that "
      "the outputs of its layers stay.\n"
      "A MODEL is a Hugging Face folder (config.json, *.safetensors, tokenizer.json) or a .gguf "
      "file of the Llama, Mistral,\n"
      "Qwen2 or Qwen3 kind."};
  app.name("gptq");
  app.set_version_flag("--version", fmt::format("gptq {}.{}.{}", gptq::version.major,
                                                gptq::version.minor, gptq::version.patch));
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  gptq quantize Qwen3-8B --out Qwen3-8B-int4 --calibration text.txt\n"
      "  gptq quantize model.gguf --out model-int3 --bits 3 --group-size 64 --asym --calibration "
      "text.jsonl\n"
      "  gptq eval Qwen3-8B-int4 --text test.txt --windows 40 --sequence-length 1024\n"
      "  gptq inspect Qwen3-8B-int4");
  program::add_quantize(app);
  program::add_eval(app);
  program::add_inspect(app);
  program::add_layer(app);

  program::catch_interrupts();
  // Tensors of a layer come and go: kept by the allocator, their pages need not be fetched again.
  mallopt(M_MMAP_THRESHOLD, 64 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  constexpr int usage_or_input_error = 2;
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : usage_or_input_error;
  } catch (const gptq::Cancelled&) {
    fmt::print(stderr, "gptq: interrupted; nothing was written\n");
    return 130;
  } catch (const gptq::Error& error) {
    fmt::print(stderr, "gptq: {}\n", error.what());
    return usage_or_input_error;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "gptq: out of memory (fewer --samples need less)\n");
    return usage_or_input_error;
  } catch (const std::filesystem::filesystem_error& error) {
    fmt::print(stderr, "gptq: {}\n", error.what());
    return usage_or_input_error;
  } catch (const nlohmann::json::exception& error) {
    fmt::print(stderr, "gptq: {}: {}\n", "a JSON file is not as expected", error.what());
    return usage_or_input_error;
  } catch (const std::exception& error) {
    fmt::print(stderr, "gptq: {}\n", error.what());
    return 1;
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::perror("gptq: standard output");
    return 1;
  }
  return 0;
}
