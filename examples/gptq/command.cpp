// SPDX-License-Identifier: MIT

#include "command.hpp"

#include <gptq/core/stopwatch.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>  // fmt::join

#include <algorithm>  // std::min
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>  // std::strtoull
#include <cstring>  // std::strerror
#include <memory>

#include <fcntl.h>         // open
#include <sys/ioctl.h>     // TIOCGWINSZ
#include <sys/resource.h>  // getrusage
#include <unistd.h>        // isatty

namespace gptq::program {

namespace {

volatile std::sig_atomic_t interrupt_seen = 0;

/// The first signal requests a clean stop, the second one kills.
extern "C" void on_interrupt(int signal) {
  if (interrupt_seen) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  interrupt_seen = 1;
}

/// Writes using only what a signal handler may call.
void write_raw(const char* text, std::size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(STDERR_FILENO, text, size);
    if (written <= 0) return;
    text += written;
    size -= static_cast<std::size_t>(written);
  }
}

/// A page of a mapped file is gone: the file was cut short, or its disk failed. /proc/self/maps
/// says which file it was: "BEGIN-END rights offset device inode   PATH".
extern "C" void on_bus_error(int signal, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  char line[8192];
  std::size_t length = 0;
  for (char c; maps >= 0 && ::read(maps, &c, 1) == 1;) {
    if (c != '\n') {
      if (length < sizeof line - 1) line[length++] = c;
      continue;
    }
    line[length] = 0;
    char* end = nullptr;
    const auto first = std::strtoull(line, &end, 16), last = std::strtoull(end + 1, nullptr, 16);
    if (const char* path = std::strchr(line, '/'); path && address >= first && address < last) {
      const char* message = ": was cut short, or could not be read, while in use\n";
      write_raw("gptq: ", 6);
      write_raw(path, std::strlen(path));
      write_raw(message, std::strlen(message));
      ::_exit(2);
    }
    length = 0;
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

char** program_arguments = nullptr;

/// Draws on standard error, to keep standard output for results.
class Display {
 public:
  explicit Display(bool terminal) : terminal_(terminal) {}

  ~Display() {
    if (terminal_ && drawn_) write_error("\r\033[K");
  }

  void show(std::string_view stage, double done, double total) {
    if (total != total_ || done < done_) {  // a new stage
      last_ = -1;
      start_ = std::chrono::steady_clock::now();
    }
    total_ = total;
    done_ = done;
    const double share = total > 0 ? done / total : 0;
    const double elapsed =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const std::string left = share > 0.01 ? duration_text(elapsed / share * (1 - share)) : "-:--";
    if (terminal_) {
      constexpr int width = 30;
      const int full = static_cast<int>(share * width);
      const std::string line = fmt::format(
          "[{}{}] {:3.0f} %  {}  left {}", std::string(static_cast<std::size_t>(full), '#'),
          std::string(static_cast<std::size_t>(width - full), '.'), 100 * share, stage, left);
      write_error("\r\033[K" + line.substr(0, columns() - 1));
      drawn_ = true;
    } else if (static_cast<int>(done) > last_) {  // once per completed step
      last_ = static_cast<int>(done);
      print_error("{} ({:.0f} %, {} elapsed)\n", stage, 100 * share, duration_text(elapsed));
    }
  }

 private:
  /// A longer line would wrap and could not be overwritten.
  static std::size_t columns() {
    winsize size{};
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
  }

  bool terminal_, drawn_ = false;
  int last_ = -1;
  double total_ = 0, done_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

void write_output(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void write_error(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

void print_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) say("note: {}\n", note);
}

bool flush_output() {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return true;
  if (errno != EPIPE)  // e.g. head(1) has seen enough
    print_error("gptq: standard output: {}\n", errno ? std::strerror(errno) : "cannot be written");
  return false;
}

void reserve_standard_streams() {
  // open returns the lowest free number.
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(number, F_GETFD) == -1 && ::open("/dev/null", O_RDWR) != number) ::_exit(1);
}

std::uint64_t parse_size(const char* option, const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const std::uint64_t factor = unit == "GB"                   ? 1'000'000'000
                               : unit == "MB"                 ? 1'000'000
                               : unit == "KB" || unit == "kB" ? 1'000
                                                              : 1;
  const bool known = factor > 1 || unit.empty() || unit == "B";
  detail::require(
      error == std::errc{} && known && value > 0 && value <= (std::uint64_t(1) << 60) / factor,
      option, " = ", text, " is not a size (5GB, 500MB)");
  return value * factor;
}

std::string bytes_text(std::uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= 1e9) return fmt::format("{:.2f} GB", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.1f} MB", value / 1e6);
  if (value >= 1e3) return fmt::format("{:.1f} kB", value / 1e3);
  return fmt::format("{} bytes", bytes);
}

std::string counted(Index count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<long long>(seconds + 0.5);
  if (whole >= 3600)
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string memory_text(const model::WorkingBytes& bytes) {
  return fmt::format(
      "memory: at most {} for calibration: {} of a layer's weights, {} of values of all tokens, {} "
      "of those of a chunk, {} of statistics, {} to solve with",
      bytes_text(bytes.peak()), bytes_text(bytes.layer), bytes_text(bytes.streams),
      bytes_text(bytes.chunk), bytes_text(bytes.statistics), bytes_text(bytes.solve));
}

std::uint64_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    sigaction(signal, nullptr, &before);
    if (before.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);
  }
  // Then a closed pipe or a file size limit makes writes fail, which is reported and cleaned up.
  for (const int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

void remember_arguments(char** arguments) { program_arguments = arguments; }

void run_beside(const std::string& program, const std::string& reason) {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / program;
  if (!error) ::execv(path.c_str(), program_arguments);
  throw InvalidArgument(
      detail::message(path.string(), ": cannot be started (", std::strerror(errno), "): ", reason));
}

bool interrupted() { return interrupt_seen != 0; }

Progress progress_display(bool quiet) {
  const auto display = quiet ? nullptr : std::make_shared<Display>(isatty(STDERR_FILENO) != 0);
  return [display](std::string_view stage, double done, double total) {
    if (display) display->show(stage, done, total);
    return !interrupted();
  };
}

void ComputeOptions::declare(CLI::App& command) {
  command.add_option("--backend", backend, "Where to compute")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command.add_option("--device", device, "GPU of --backend cuda, counted from 0")
      ->check(CLI::Range(0, 1023))
      ->capture_default_str();
  command
      .add_option(
          "--precision", precision,
          "Large matrix products: of floats split into two bfloat16 parts, if the processor has "
          "matrix tiles or on a GPU; in single precision; or with the decoder's operands "
          "rounded to bfloat16 or, on a GPU, to float16")
      ->check(CLI::IsMember({"split", "single", "bfloat16", "float16"}))
      ->capture_default_str();
  command.add_option("--threads", threads, "Threads; 0: one per processor")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command.add_flag("--quiet", quiet, "Print only the outcome");
}

Precision ComputeOptions::products() const {
  if (precision == "bfloat16") return Precision::bfloat16;
  if (precision == "float16") return Precision::float16;
  return hessian_products();
}

model::ModelFiles open_model(const std::filesystem::path& path) { return model::open_model(path); }

void cut_to_context(Index& sequence_length, const model::Sizes& sizes) {
  if (sizes.context <= 0 || sequence_length <= sizes.context) return;
  say("note: the model's context is {} tokens: --sequence-length {} is reduced to that\n",
      sizes.context, sequence_length);
  sequence_length = sizes.context;
}

std::size_t token_count(Index windows, Index sequence_length) {
  const auto count = static_cast<std::size_t>(windows),
             length = static_cast<std::size_t>(sequence_length);
  return count > SIZE_MAX / length ? SIZE_MAX : count * length;
}

void TextOptions::declare(CLI::App& command) {
  command
      .add_option(
          "--bos", bos,
          "Where the tokens go that the tokenizer puts before a text: at the start of every "
          "window, of the text, or nowhere")
      ->check(CLI::IsMember({"window", "once", "none"}))
      ->capture_default_str()
      ->each([this](const std::string&) { bos_given = true; });
}

std::vector<model::TokenId> load_tokens(const model::ModelFiles& model, const TextOptions& text,
                                        Index windows, Index sequence_length) {
  if (!text.tokens.empty()) {
    if (text.bos_given) say("note: ids are taken as they are: --bos has no effect\n");
    auto ids = model::read_token_ids(text.tokens);
    model::require_token_ids(ids, model.description.sizes.vocabulary, text.tokens);
    return ids;
  }
  model::Tokenizer tokenizer = model::load_tokenizer(model);
  const std::vector<model::TokenId> prefix = tokenizer.prefix();
  if (prefix.empty() && text.bos_given)
    say("note: the tokenizer puts nothing before a text: --bos has no effect\n");
  const bool in_windows = text.bos == "window" && !prefix.empty();
  if (text.bos != "once") tokenizer.leave_out_surrounding_tokens();
  if (!prefix.empty())
    say("note: {} {}\n",
        in_windows           ? "every window begins with"
        : text.bos == "once" ? "the text begins with"
                             : "left out before the text, where the model saw it in training:",
        prefix.size() == 1 ? fmt::format("the BOS token, {}", prefix[0])
                           : fmt::format("the tokens {}", fmt::join(prefix, ", ")));
  const auto begun = static_cast<Index>(in_windows ? prefix.size() : 0);
  if (begun >= sequence_length) model::windows_with_prefix({}, prefix, sequence_length);  // throws
  const std::size_t enough =
      windows > 0 ? token_count(windows, sequence_length - begun) : model::Tokenizer::all;
  std::vector<std::string> notes;
  auto ids = model::tokenize_file(
      tokenizer, text.file, enough, [] { return interrupt_seen != 0; }, &notes);
  print_notes(notes);
  return in_windows ? model::windows_with_prefix(ids, prefix, sequence_length) : ids;
}

std::string stored_types(const io::TensorSource& source) {
  std::map<std::string, int> counts;
  for (const std::string& name : source.names()) ++counts[source.type_name(name)];
  return counts_text(counts);
}

std::string counts_text(const std::map<std::string, int>& counts) {
  std::string text;
  for (const auto& [type, count] : counts)
    text += fmt::format("{}{} x {}", text.empty() ? "" : ", ", type, count);
  return text;
}

}  // namespace gptq::program
