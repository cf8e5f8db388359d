// SPDX-License-Identifier: MIT
#pragma once

// What the commands of the program share: their declarations, printing, human-readable units,
// progress, signals.

#include <gptq/core/precision.hpp>
#include <gptq/core/progress.hpp>
#include <gptq/exec/threads.hpp>
#include <gptq/model/calibration_text.hpp>
#include <gptq/model/model_files.hpp>
#include <gptq/model/working_bytes.hpp>

#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>  // std::forward
#include <vector>

namespace gptq::program {

/// Each adds its subcommand, whose callback does the work and throws on errors.
void add_quantize(CLI::App& app);
void add_eval(CLI::App& app);
void add_inspect(CLI::App& app);
void add_layer(CLI::App& app);
void add_convert(CLI::App& app);
void add_check(CLI::App& app);

/// Writes to standard output or error. Failed writes do not end the work: the exit code reports
/// lost results, see `flush_output`.
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

/// Prints a line for each note.
void print_notes(const std::vector<std::string>& notes);

/// \return  whether all of standard output could be written; if not, says so
bool flush_output();

/// Opens standard input, output and error if they are closed, so that no other file gets their
/// numbers and with them the printed text.
void reserve_standard_streams();

/// "5GB", "500MB" or plain bytes.
/// \param option  for the message
/// \throws InvalidArgument  it is none of these
std::uint64_t parse_size(const char* option, const std::string& text);
/// "98.3 MB", in powers of 1000.
std::string bytes_text(std::uint64_t bytes);
/// "memory: at most 1.2 GB: ..."
std::string memory_text(const model::WorkingBytes& bytes);

/// "1 window", "2 windows".
std::string counted(Index count, const char* noun);

/// "1:02:03" or "2:03".
std::string duration_text(double seconds);

/// The peak memory of this process, in bytes.
std::uint64_t peak_memory();

/// Makes Ctrl-C, SIGTERM and SIGHUP request a clean stop instead of killing at once, unless they
/// were ignored (nohup), and SIGBUS name the file that was cut short while it was being read.
void catch_signals();
bool interrupted();

/// Replaces this process by another program from the same folder, with the same arguments.
/// \param arguments  those of main; remembered by the first call
void remember_arguments(char** arguments);
/// \throws InvalidArgument  there is no such program
[[noreturn]] void run_beside(const std::string& program, const std::string& reason);

/// A bar with the time left on a terminal, a line per step in a pipe, nothing if quiet; stops on
/// Ctrl-C.
Progress progress_display(bool quiet);

/// How to compute: the same options for every command that does.
struct ComputeOptions {
  std::string precision = "split", backend = "cpu";
  int threads = 0, device = 0;
  bool quiet = false;

  /// Declares --backend, --device, --precision, --threads and --quiet; `this` must outlive the
  /// command.
  void declare(CLI::App& command);
  /// For the decoder's products.
  Precision products() const;
  /// For Hessians of its activations, whose operands are never rounded to 16 bits.
  Precision hessian_products() const {
    return precision == "single" ? Precision::single : Precision::split;
  }
};

/// model::open_model, compiled once for both programs, without the effort that numeric code is
/// worth.
model::ModelFiles open_model(const std::filesystem::path& path);

/// Limits a window to the model's context, and says so.
void cut_to_context(Index& sequence_length, const model::Sizes& sizes);

/// Tokens in that many windows; the largest number if the product overflows.
std::size_t token_count(Index windows, Index sequence_length);

/// A text to run through a model, and how it is cut into windows.
struct TextOptions {
  std::string file, tokens;  ///< a text, or ids, which are taken as they are
  std::string bos = "window";
  bool bos_given = false;

  /// Declares --bos; `this` must outlive the command.
  void declare(CLI::App& command);
};

/// The ids of a text file, or of a file of ids if that is given. Says how BOS tokens were added.
/// \param windows  how many windows of `sequence_length` are needed; there may be more; 0: all
std::vector<model::TokenId> load_tokens(const model::ModelFiles& model, const TextOptions& text,
                                        Index windows, Index sequence_length);

/// "Q4_1 x 210, F32 x 61": how the tensors of a model are stored.
std::string stored_types(const io::TensorSource& source);
std::string counts_text(const std::map<std::string, int>& counts);

}  // namespace gptq::program
