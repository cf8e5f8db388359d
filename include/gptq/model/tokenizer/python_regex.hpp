// SPDX-License-Identifier: MIT
#pragma once

// Regular expressions that Python's re and Oniguruma read the same way: engines written in Python
// match the rules that are written to files.

#include <gptq/core/error.hpp>

#include <string>
#include <string_view>

namespace gptq::model {

namespace detail {

/// Reads an expression from left to right and refuses what the two read differently, and what
/// Python before 3.11 does not know.
class PythonRegexReader {
 public:
  explicit PythonRegexReader(std::string_view pattern) : all_(pattern), rest_(pattern) {}

  void read() {
    alternatives(0);
    if (!rest_.empty()) fail(") without a (");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw InvalidArgument(gptq::detail::message("the regular expression ", all_, ": ", what,
                                                " at position ", all_.size() - rest_.size(),
                                                " is not supported: Python's re, which engines "
                                                "use for such rules, does not read it this way"));
  }

  bool skip(std::string_view text) {
    if (rest_.substr(0, text.size()) != text) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
  static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  }

  void alternatives(int depth) {
    if (depth > 50) fail("a group nested deeper than 50 levels");
    while (!rest_.empty() && rest_.front() != ')')
      if (!skip("|")) {
        const bool repeatable = atom(depth);
        quantifier(repeatable);
      }
  }

  /// Reads one item. \returns whether a quantifier may follow it
  bool atom(int depth) {
    switch (rest_.front()) {
      case '\\': return escape(false);
      case '[': characters(); return true;
      case '(': return group(depth);
      case '^':
      case '$': rest_.remove_prefix(1); return false;
      case '*':
      case '+':
      case '?': fail("a quantifier with nothing to repeat");
      case '{':
        if (is_interval()) fail("a quantifier with nothing to repeat");
        [[fallthrough]];
      default: rest_.remove_prefix(1); return true;
    }
  }

  /// {n}, {n,}, {,m}, {n,m} or {,} at the start of what is left.
  bool is_interval() const {
    std::size_t at = 1;
    const auto digits = [&] {
      const std::size_t begin = at;
      while (at < rest_.size() && is_digit(rest_[at])) ++at;
      return at > begin;
    };
    const bool lower = digits();
    if (at < rest_.size() && rest_[at] == ',') {
      ++at;
      digits();
    } else if (!lower) {
      return false;
    }
    return at < rest_.size() && rest_[at] == '}';
  }

  static int number(std::string_view digits) {
    int value = 0;
    for (const char digit : digits) value = 10 * value + (digit - '0');
    return value;
  }

  void quantifier(bool repeatable) {
    if (rest_.empty()) return;
    const bool interval = rest_.front() == '{' && is_interval();
    if (!interval && std::string_view("*+?").find(rest_.front()) == std::string_view::npos) {
      if (rest_.front() == '{') fail("a { that is not the start of an interval (write \\{)");
      return;
    }
    if (!repeatable) fail("a quantifier after an assertion");
    if (lookbehind_ > 0) fail("a quantifier in a look-behind");
    if (interval) {
      const std::string_view inside = rest_.substr(1, rest_.find('}') - 1);
      if (inside.front() == ',') fail("an interval without a lower limit");
      const auto comma = inside.find(',');
      for (const auto digits :
           {inside.substr(0, comma),
            comma == inside.npos ? std::string_view() : inside.substr(comma + 1)})
        if (digits.size() > 4) fail("an interval of more than 9999");
      if (comma != inside.npos && comma + 1 < inside.size() &&
          number(inside.substr(comma + 1)) < number(inside.substr(0, comma)))
        fail("an interval whose upper limit is less than its lower one");
      rest_.remove_prefix(inside.size() + 2);
      if (!rest_.empty() && rest_.front() == '?' && comma == inside.npos) fail("a lazy {n}");
    } else {
      rest_.remove_prefix(1);
    }
    skip("?");  // lazy
    if (!rest_.empty() && (std::string_view("*+?").find(rest_.front()) != std::string_view::npos ||
                           (rest_.front() == '{' && is_interval())))
      fail("a quantifier after a quantifier");
  }

  /// \param inside  inside [ and ]
  /// \return whether a quantifier may follow, or, inside brackets, whether it is one character
  bool escape(bool inside) {
    if (rest_.size() < 2) fail("a \\ at the end");
    const char c = rest_[1];
    const auto take = [&](std::size_t count) { rest_.remove_prefix(count); };
    if (std::string_view("dDwWsS").find(c) != std::string_view::npos) {
      take(2);
      return !inside;
    }
    if (std::string_view("nrtfva").find(c) != std::string_view::npos) {
      take(2);
      return true;
    }
    if (!inside && std::string_view("bA").find(c) != std::string_view::npos) {
      take(2);
      return false;
    }
    if (c == 'x') {
      if (rest_.size() < 4 || !is_hex(rest_[2]) || !is_hex(rest_[3]) || rest_[2] > '7')
        fail("\\x without two digits up to 7f");
      take(4);
      return true;
    }
    if (!is_letter(c) && !is_digit(c) && static_cast<unsigned char>(c) < 0x80 && c != '\n') {
      take(2);
      return true;
    }
    fail(std::string("\\") + c);
  }

  void characters() {
    rest_.remove_prefix(1);
    skip("^");
    if (!rest_.empty() && rest_.front() == ']') fail("[] or [^]");
    bool range_start = false;  // the previous item is a single character
    while (!rest_.empty() && rest_.front() != ']') {
      const char c = rest_.front();
      if (c == '[') fail("[ inside [...] (write \\[)");
      if (rest_.size() > 1 && rest_[1] == c &&
          std::string_view("&-|~").find(c) != std::string_view::npos)
        fail(std::string(2, c) + " inside [...]");
      if (c == '-') {
        rest_.remove_prefix(1);
        const bool last = !rest_.empty() && rest_.front() == ']';
        if (!range_start && !last)
          fail("a - that is neither a range nor last inside [...] (write \\-)");
        if (last) break;
        if (rest_.empty()) break;
        if (rest_.front() == '[' || rest_.front() == '-') fail("a range to [ or - inside [...]");
        if (rest_.front() == '\\') {
          if (!escape(true)) fail("a range to a class of characters");
        } else {
          rest_.remove_prefix(1);
        }
        range_start = false;
        continue;
      }
      if (c == '\\') {
        range_start = escape(true);
      } else {
        rest_.remove_prefix(1);
        // The rest of a multi-byte character.
        while (!rest_.empty() && (static_cast<unsigned char>(rest_.front()) & 0xc0) == 0x80)
          rest_.remove_prefix(1);
        range_start = true;
      }
    }
    if (!skip("]")) fail("[ without a ]");
  }

  bool group(int depth) {
    const bool at_start = rest_.size() == all_.size();
    bool repeatable = true, behind = false;
    rest_.remove_prefix(1);
    if (skip("?")) {
      if (skip("=") || skip("!")) {
        repeatable = false;
      } else if (skip("<=") || skip("<!")) {
        repeatable = false;
        behind = true;
      } else if (skip("P<")) {
        const auto end = rest_.find('>');
        const std::string_view name = rest_.substr(0, end);
        bool good = end != rest_.npos && !name.empty() && !is_digit(name.front());
        for (const char c : name) good = good && (is_letter(c) || is_digit(c) || c == '_');
        if (!good) fail("the name of a group");
        rest_.remove_prefix(end + 1);
      } else if (skip("i)") || skip("s)")) {
        if (!at_start) fail("a flag after the start");
        require_ascii();
        return false;
      } else if (skip("i:")) {
        require_ascii();
      } else if (!skip(":") && !skip("s:")) {
        fail("(?" + std::string(rest_.substr(0, 1)));
      }
    } else if (!rest_.empty() && rest_.front() == '*') {
      fail("(*");
    }
    lookbehind_ += behind;
    const std::size_t begin = all_.size() - rest_.size();
    alternatives(depth + 1);
    if (behind && all_.substr(begin, all_.size() - rest_.size() - begin).find('|') != all_.npos)
      fail("| in a look-behind");
    lookbehind_ -= behind;
    if (!skip(")")) fail("( without a )");
    return repeatable;
  }

  /// The two agree on case-insensitive letters for ASCII only.
  void require_ascii() const {
    for (const char c : all_)
      if (static_cast<unsigned char>(c) >= 0x80) fail("(?i with letters beyond ASCII");
  }

  std::string_view all_, rest_;
  int lookbehind_ = 0;
};

}  // namespace detail

/// \throws InvalidArgument  Python's re refuses part of the expression or reads it differently;
/// names the part and its byte position
inline void require_python_regex(std::string_view pattern) {
  detail::PythonRegexReader(pattern).read();
}

}  // namespace gptq::model
