// SPDX-License-Identifier: MIT
#pragma once

// Every exception that gptq throws. The message says what is wrong, where (file, tensor, row,
// column), and the offending value; the type says whose fault it is.

#include <cstdint>
#include <new>        // std::bad_alloc
#include <sstream>    // std::ostringstream
#include <stdexcept>  // std::runtime_error
#include <string>

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

/// Concatenates anything that can be streamed.
template <class... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  if (!text) throw std::bad_alloc();  // which streams keep to themselves
  return text.str();
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

template <class Exception = InvalidArgument, class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) throw Exception(message(parts...));
}

}  // namespace detail
}  // namespace gptq
