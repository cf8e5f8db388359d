// SPDX-License-Identifier: MIT
#pragma once

// Effort: bounds what encoding one text may cost in steps and memory, so that neither a tokenizer
// nor a text can hang the caller, and lets the caller stop it.

#include <gptq/model/tokenizer/unsupported.hpp>

#include <oniguruma.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <new>  // std::bad_alloc
#include <string>
#include <string_view>
#include <utility>  // std::move

namespace gptq::model {

/// Polled during long work; if it returns true, the work throws Cancelled.
using Stop = std::function<bool()>;

/// What one text may cost. Not to be shared between threads.
class Effort {
 public:
  /// \param bytes  size of the text. It may cost 10⁷ + 1000 · bytes regular-expression retries
  /// beyond the few that each search has free: common tokenizers need none of them, and 1000 per
  /// byte take about 5 seconds per megabyte. The text may grow to 64 times its size plus one
  /// mebibyte.
  explicit Effort(std::size_t bytes, Stop stop = {})
      : retries_(10'000'000 + 1000 * std::uint64_t{bytes}),
        size_((std::size_t{1} << 20) + 64 * bytes),
        stop_(std::move(stop)),
        parameters_(onig_new_match_param(), onig_free_match_param) {
    if (!parameters_) throw std::bad_alloc();
    onig_region_init(&region_);
    onig_initialize_match_param(parameters_.get());
  }

  Effort(const Effort&) = delete;
  Effort& operator=(const Effort&) = delete;
  ~Effort() { onig_region_free(&region_, 0); }

  /// \throws Cancelled  the caller wants to stop
  void pause() const {
    if (stop_ && stop_()) throw Cancelled();
  }

  /// A small step, such as a word; polls `stop` now and then.
  void step() {
    if ((++steps_ & 0x3ff) == 0) pause();
  }

  /// Charges for retries of a regular expression.
  /// \throws FormatError  the text has used up its budget
  void charge(std::uint64_t retries, const std::string& pattern, std::string_view rest) {
    pause();
    spent_ += retries;
    gptq::detail::require<FormatError>(
        spent_ <= retries_, "the regular expression ", pattern, " takes more than ", retries_,
        " steps, at \"", rest.substr(0, whole_characters(rest, 40)), "\"; ", tokenize_elsewhere);
  }

  /// \throws FormatError  the text has grown too much
  void require_size(std::size_t bytes) const {
    gptq::detail::require<FormatError>(bytes <= size_,
                                       "the tokenizer's rules turn the text into more than ", size_,
                                       " bytes; ", tokenize_elsewhere);
  }

  OnigRegion& region() { return region_; }
  OnigMatchParam& parameters() { return *parameters_; }

 private:
  /// At most `bytes` of the text, without a partial character at the end.
  static std::size_t whole_characters(std::string_view text, std::size_t bytes) {
    if (text.size() <= bytes) return text.size();
    while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) --bytes;
    return bytes;
  }

  std::uint64_t retries_, spent_ = 0, steps_ = 0;
  std::size_t size_;
  Stop stop_;
  OnigRegion region_{};  // memory reused by matches
  std::unique_ptr<OnigMatchParam, void (*)(OnigMatchParam*)> parameters_;
};

}  // namespace gptq::model
