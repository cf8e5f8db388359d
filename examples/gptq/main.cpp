// SPDX-License-Identifier: MIT

// gptq: quantize, evaluate and inspect model folders and GGUF files.

#include "command.hpp"

#include <gptq/version.hpp>

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>

#ifdef __GLIBC__
#include <malloc.h>  // mallopt
#endif
#include <unistd.h>  // _exit

namespace {

constexpr int usage_or_input_error = 2, interrupted_by_signal = 130;

/// Freed when memory runs out, so that there is enough to clean up with.
void* reserve = nullptr;

void on_memory_exhausted() {
  std::free(std::exchange(reserve, nullptr));
  throw std::bad_alloc();
}

/// If memory is still exhausted while an exception cleans up, nobody catches the next one.
[[noreturn]] void on_terminate() {
  constexpr char text[] =
      "gptq: out of memory, even for cleaning up; the next run there will do it\n";
  if (!reserve && ::write(STDERR_FILENO, text, sizeof text - 1) >= 0) ::_exit(usage_or_input_error);
  std::abort();
}

void declare(CLI::App& app) {
  namespace program = gptq::program;
  app.name("gptq");
  app.set_version_flag("--version", fmt::format("gptq {}.{}.{}", gptq::version.major,
                                                gptq::version.minor, gptq::version.patch));
  app.require_subcommand(1);
  program::add_quantize(app);
  program::add_eval(app);
  program::add_inspect(app);
  program::add_convert(app);
  program::add_check(app);
  program::add_layer(app);
  // After the subcommands, which would inherit it.
  app.footer(
      "Examples:\n"
      "  gptq quantize Qwen3-8B --out Qwen3-8B-int4 --calibration text.txt\n"
      "  gptq quantize model.gguf --out model-int3 --bits 3 --group-size 64 --asym --calibration "
      "text.jsonl\n"
      "  gptq eval Qwen3-8B-int4 --text test.txt --windows 40 --sequence-length 1024\n"
      "  gptq inspect Qwen3-8B-int4");
}

/// \return  the exit code
int run(CLI::App& app, int argc, char** argv) {
  using gptq::program::print_error;
  const auto asked = [&](const char* command) { return app.got_subcommand(command); };
  try {
    app.parse(argc, argv);
    return EXIT_SUCCESS;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? EXIT_SUCCESS : usage_or_input_error;
  } catch (const gptq::Cancelled&) {
    const bool writes = asked("quantize") || asked("convert") || asked("layer");
    print_error("gptq: interrupted{}\n", writes ? "; nothing was written" : "");
    return interrupted_by_signal;
  } catch (const std::bad_alloc&) {
    print_error("gptq: out of memory{}\n",
                asked("quantize")
                    ? " (fewer --samples, a shorter --sequence-length or --match layer need less)"
                : asked("eval") ? " (fewer --windows need less)"
                                : "");
  } catch (const nlohmann::json::exception& error) {
    print_error("gptq: a JSON file is malformed: {}\n", error.what());
  } catch (const gptq::Error& error) {
    print_error("gptq: {}\n", error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    print_error("gptq: {}\n", error.what());
  } catch (const std::exception& error) {
    print_error("gptq: {}\n", error.what());
    return EXIT_FAILURE;
  }
  return usage_or_input_error;
}

}  // namespace

int main(int argc, char** argv) {
  namespace program = gptq::program;
  program::reserve_standard_streams();
  program::catch_signals();
  program::remember_arguments(argv);
  reserve = std::malloc(std::size_t(4) << 20);
  std::set_new_handler(on_memory_exhausted);
  std::set_terminate(on_terminate);
#ifdef __GLIBC__
  // Layers' tensors come and go: if the allocator keeps the memory, pages need not be faulted in
  // again.
  mallopt(M_MMAP_THRESHOLD, 64 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
#endif
  CLI::App app{
      "gptq compresses the weights of a language model to 2, 3, 4 or 8 bits each, chosen so that "
      "the outputs of its layers change as little as possible.\n"
      "A MODEL is a Hugging Face folder (config.json, *.safetensors, tokenizer.json) or a .gguf "
      "file of the Llama, Mistral,\n"
      "Qwen2 or Qwen3 kind."};
  declare(app);
  const int code = run(app, argc, argv);
  return program::flush_output() || code != EXIT_SUCCESS ? code : EXIT_FAILURE;
}
