// SPDX-License-Identifier: MIT
#pragma once

// Every exception that gptq throws. The message says what is wrong, where (file, tensor, row,
// column), and the offending value; the type says whose fault it is.

#include <cstdint>
#include <initializer_list>
#include <sstream>    // std::ostringstream
#include <stdexcept>  // std::runtime_error
#include <string>
#include <type_traits>  // std::is_array_v

namespace gptq {

/// Base of every exception thrown by the library.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The caller asked for something impossible: a bad shape, range or option.
class InvalidArgument : public Error {
  using Error::Error;
};

/// The numbers make it impossible: NaN in the input, a Hessian that cannot be factored, a scale out
/// of range.
class NumericalError : public Error {
  using Error::Error;
};

/// A scale that its storage type cannot represent: the weights it is for are too large or too
/// small.
class ScaleError : public NumericalError {
 public:
  /// \param advice  the remedy, which depends on who the caller is
  ScaleError(const std::string& problem, const std::string& advice)
      : NumericalError(problem + ": " + advice), problem_(problem) {}

  const std::string& problem() const { return problem_; }

 private:
  std::string problem_;
};

/// A file is not what it claims to be.
class FormatError : public Error {
  using Error::Error;
};

/// The operating system refused: a file that cannot be opened, a full disk.
class IoError : public Error {
  using Error::Error;
};

/// A backend ran out of memory. (Host memory: std::bad_alloc.)
class OutOfMemory : public Error {
  using Error::Error;
};

/// The caller's progress callback asked to stop. Nothing was written.
class Cancelled : public Error {
 public:
  Cancelled() : Error("cancelled") {}
};

namespace detail {

/// Anything that can be streamed. Its type is forgotten, so that a message costs its callers, of
/// which there are many, little code.
class Part {
 public:
  template <class T>
    requires(!std::is_array_v<T>)
  Part(const T& value) : value_(&value), write_(&write<T>) {}
  Part(const char* text) : value_(text), write_(&write_text) {}

  friend std::ostream& operator<<(std::ostream& out, const Part& part) {
    part.write_(out, part.value_);
    return out;
  }

 private:
  template <class T>
  static void write(std::ostream& out, const void* value) {
    out << *static_cast<const T*>(value);
  }
  static void write_text(std::ostream& out, const void* text) {
    out << static_cast<const char*>(text);
  }

  const void* value_;
  void (*write_)(std::ostream&, const void*);
};

[[gnu::cold]] inline std::string joined(std::initializer_list<Part> parts) {
  std::ostringstream text;
  for (const Part& part : parts) text << part;
  return text.str();
}

/// Concatenates anything that can be streamed.
template <class... Parts>
[[gnu::cold]] std::string message(const Parts&... parts) {
  return joined({Part(parts)...});
}

/// Bytes in MiB, rounded up.
inline std::int64_t mib(std::int64_t bytes) { return (bytes + (std::int64_t{1} << 20) - 1) >> 20; }

/// f(); if it runs out of memory, advice() is appended to the message.
template <class F, class Advice>
auto advised(const F& f, const Advice& advice) {
  try {
    return f();
  } catch (const OutOfMemory& error) {
    throw OutOfMemory(message(error.what(), "; ", advice()));
  }
}

template <class Exception, class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void fail(const Parts&... parts) {
  throw Exception(message(parts...));
}

template <class Exception = InvalidArgument, class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) fail<Exception>(parts...);
}

}  // namespace detail
}  // namespace gptq
