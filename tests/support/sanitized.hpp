// SPDX-License-Identifier: MIT
#pragma once

// Whether a sanitizer is active: tests that take seconds would then take minutes, so they do less.

namespace test {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define GPTQ_TEST_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GPTQ_TEST_SANITIZED 1
#endif

#ifdef GPTQ_TEST_SANITIZED
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace test
