// SPDX-License-Identifier: MIT

// Regular expressions as used by tokenizers (find_all) and module rules (re:EXPRESSION). The text
// ends at the end of the last mapped page, since the matching library is compiled without a
// sanitizer.

#include "harness.hpp"

#include <gptq/model/module_settings.hpp>
#include <gptq/model/tokenizer/regex.hpp>
#include <gptq/model/tokenizer/unicode.hpp>

#include <cstring>

#undef mmap
#undef munmap

namespace {

class BeforeGuardPage {
 public:
  explicit BeforeGuardPage(std::string_view text) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t used = (text.size() + page - 1) / page * page;
    size_ = used + page;
    data_ = static_cast<char*>(
        ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    fuzz::require(data_ != MAP_FAILED, "there is memory for the text");
    ::mprotect(data_ + used, page, PROT_NONE);
    char* const begin = data_ + used - text.size();
    std::memcpy(begin, text.data(), text.size());
    text_ = {begin, text.size()};
  }
  BeforeGuardPage(const BeforeGuardPage&) = delete;
  BeforeGuardPage& operator=(const BeforeGuardPage&) = delete;
  ~BeforeGuardPage() { ::munmap(data_, size_); }

  std::string_view text() const { return text_; }

 private:
  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::string_view text_;
};

bool within_character(std::string_view text, std::size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;
}

}  // namespace

void fuzz::expressions(Input input) {
  const auto given = parts(input);
  if (given.size() != 2) return;
  const std::string& pattern = given[0];
  const BeforeGuardPage guarded(given[1]);
  const std::string_view text = guarded.text();
  may_refuse([&] {
    gptq::model::unicode::require_utf8(text);
    may_refuse([&] {
      std::size_t at = 0;
      for (const auto& [begin, end] : gptq::model::Regex(pattern).find_all(text)) {
        require(at <= begin && begin <= end && end <= text.size(), "matches follow each other");
        require(!within_character(text, begin) && !within_character(text, end),
                "matches are whole characters");
        at = end;
      }
    });
    may_refuse([&] { gptq::model::NamePattern("re:" + pattern).matches(std::string(text)); });
  });
}
