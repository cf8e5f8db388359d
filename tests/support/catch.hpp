// SPDX-License-Identifier: MIT
#pragma once

// Catch2, version 2 (Debian 12) or 3.

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;
#else
#include <catch2/catch.hpp>
inline auto ContainsSubstring(const std::string& text) { return Catch::Matchers::Contains(text); }
#endif

#include <iostream>
#include <string>

/// Called first by a test that cannot run here; CTest reports the test as skipped.
inline void skip(const std::string& reason) { std::cout << "SKIPPED: " << reason << std::endl; }

/// The message of the exception that `f` throws; fails if it throws none or another type.
template <class Exception, class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Exception& error) {
    return error.what();
  }
  FAIL("no exception was thrown");
  return {};
}
