// SPDX-License-Identifier: MIT
#pragma once

// What the commands of the program share: their declarations, printing, units for people, progress,
// signals.

#include <gptq/core/precision.hpp>
#include <gptq/core/progress.hpp>
#include <gptq/exec/threads.hpp>
#include <gptq/model/calibration_text.hpp>
#include <gptq/model/model_files.hpp>

#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>  // std::forward
#include <vector>

namespace gptq::program {

/// Each adds its subcommand; its callback does the work and throws what goes wrong.
void add_quantize(CLI::App& app);
void add_eval(CLI::App& app);
void add_inspect(CLI::App& app);
void add_layer(CLI::App& app);

/// Writes to standard output or error. What cannot be written does not end the work: the exit
/// code tells of results that nobody got, see `flush_output`.
void write_output(std::string_view text);
void write_error(std::string_view text);

template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  write_output(fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void print_error(fmt::format_string<Args...> format, Args&&... args) {
  write_error(fmt::format(format, std::forward<Args>(args)...));
}

/// A line for each note.
void print_notes(const std::vector<std::string>& notes);

/// \return  whether all of standard output could be written; if not, says so
bool flush_output();

/// Opens what is closed of standard input, output and error, so that no file of the work gets
/// their numbers and with them what is printed.
void reserve_standard_streams();

/// "98.3 MB", powers of 1000 as on the shop shelf.
std::string bytes_text(std::uint64_t bytes);

/// "1 window", "2 windows".
std::string counted(Index count, const char* noun);

/// "1:02:03" or "2:03".
std::string duration_text(double seconds);

/// The largest memory this process has had, in bytes.
std::uint64_t peak_memory();

/// Makes Ctrl-C, SIGTERM and SIGHUP ask for an end instead of ending at once, where they were not
/// ignored (nohup), and SIGBUS name the file that was cut short while it was read.
void catch_signals();
bool interrupted();

/// Replaces this process by another program that lies beside it, with the same arguments.
/// \param arguments  what main was called with; remembered from the first call on
void remember_arguments(char** arguments);
/// \throws InvalidArgument  there is none
[[noreturn]] void run_beside(const std::string& program, const std::string& reason);

/// A bar with the time left on a terminal, a line per step in a pipe, nothing when quiet; stops on
/// Ctrl-C.
Progress progress_display(bool quiet);

/// How the work is done, the same options for every command that computes.
struct ComputeOptions {
  std::string precision = "split", backend = "cpu";
  int threads = 0, device = 0;
  bool quiet = false;

  /// Declares --backend, --device, --precision, --threads and --quiet; `this` must live as long as
  /// the command.
  void declare(CLI::App& command);
  /// Of the decoder's products.
  Precision products() const;
  /// Of Hessians from its activations: operands are not rounded to 16 bits once more.
  Precision hessian_products() const {
    return precision == "single" ? Precision::single : Precision::split;
  }
};

/// Shortens a window to the model's context, and says so.
void cut_to_context(Index& sequence_length, const model::ModelConfig& config);

/// Of so many windows; the largest number where that is beyond all numbers.
std::size_t token_count(Index windows, Index sequence_length);

/// Ids of a text file, or of a file of ids where that is given.
/// \param enough  how many are wanted; there may be more
std::vector<model::TokenId> load_tokens(const model::ModelFiles& model,
                                        const std::string& text_file, const std::string& token_file,
                                        std::size_t enough);

/// "Q4_1 x 210, F32 x 61": how the tensors of a model are stored.
std::string stored_types(const io::TensorSource& source);
std::string counts_text(const std::map<std::string, int>& counts);

}  // namespace gptq::program
