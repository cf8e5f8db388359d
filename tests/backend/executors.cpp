// SPDX-License-Identifier: MIT

#include <gptq/core/concepts.hpp>
#include <gptq/exec/serial.hpp>
#include <gptq/exec/threads.hpp>

#include "../support/catch.hpp"
#include "../support/sanitized.hpp"

#include <sys/resource.h>  // setrlimit
#include <sys/wait.h>      // waitpid
#include <unistd.h>        // fork, setuid, alarm

#include <atomic>
#include <chrono>
#include <new>  // std::bad_alloc
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using gptq::Index;

template <class E>
  requires gptq::Executor<E>
static void test_executor(const E& executor) {
  for (const Index n : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> calls(static_cast<std::size_t>(n));
    executor.parallel_for(n, [&](Index i) { ++calls[static_cast<std::size_t>(i)]; });
    for (const auto& count : calls) CHECK(count == 1);
  }
  std::atomic<Index> total{0};
  executor.parallel_for(10, [&](Index) { executor.parallel_for(10, [&](Index) { ++total; }); });
  CHECK(total == 100);
  for (int round = 0; round < 20; ++round)
    CHECK(error_of<std::runtime_error>([&] {
            executor.parallel_for(100, [](Index i) {
              if (i % 10 == 3) throw std::runtime_error(std::to_string(i));
            });
          }) == "3");
  CHECK(executor.concurrency() >= 1);
}

TEST_CASE("exec::Serial runs everything once", "[executor]") {
  test_executor(gptq::exec::Serial{});
}

TEST_CASE("exec::Threads runs everything once and reports the first failure", "[executor]") {
  for (const int threads : {1, 2, 5}) test_executor(gptq::exec::Threads(threads));
  test_executor(gptq::exec::Threads{});
  CHECK(gptq::exec::Threads(3).concurrency() == 3);
  CHECK_THAT(error_of<gptq::InvalidArgument>([] { gptq::exec::Threads(-1); }),
             ContainsSubstring("threads = -1"));
}

TEST_CASE("what comes behind a failure is not begun", "[executor]") {
  std::atomic<int> calls{0};
  CHECK_THROWS_AS(gptq::exec::Threads(2).parallel_for(100000,
                                                      [&](Index) {
                                                        ++calls;
                                                        throw std::runtime_error("no");
                                                      }),
                  std::runtime_error);
  CHECK(calls <= 2);
}

TEST_CASE("copies of exec::Threads share their threads and can be used from several threads",
          "[executor]") {
  const gptq::exec::Threads first(3);
  const auto second = first;
  std::atomic<Index> total{0};
  std::vector<std::thread> users;
  for (int i = 0; i < 4; ++i)
    users.emplace_back(
        [&, i] { (i % 2 ? first : second).parallel_for(50, [&](Index) { ++total; }); });
  for (auto& user : users) user.join();
  CHECK(total == 200);
}

/// The exit status of f() in a process of its own that may have `threads` threads; 255: it did not
/// end in time. Where the limit cannot be set, none.
template <class F>
static std::optional<int> with_thread_limit(rlim_t threads, const F& f) {
  constexpr int no_limit = 99;
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    // Root has no limit; an ordinary user shares it with all that runs under that name.
    const bool own_user = getuid() == 0 && setuid(54321) == 0;
    const rlimit limit{threads, threads};
    if ((!own_user && threads > 1) || getuid() == 0 || setrlimit(RLIMIT_NPROC, &limit) != 0)
      _exit(no_limit);
    _exit(f());
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status)) return 255;
  if (WEXITSTATUS(status) == no_limit) return std::nullopt;
  return WEXITSTATUS(status);
}

TEST_CASE("where threads cannot be created, those that are there do the work and are counted",
          "[executor][fault4]") {
  if (test::sanitized) return skip("sanitizers have threads and memory of their own");
  for (const int granted : {1, 2, 5}) {
    const auto status = with_thread_limit(static_cast<rlim_t>(granted), [&] {
      const gptq::exec::Threads threads(16);
      if (threads.concurrency() != 16 || threads.asked() != 16) return 1;
      std::vector<int> calls(1000);
      threads.parallel_for(1000, [&](Index i) { ++calls[static_cast<std::size_t>(i)]; });
      if (std::accumulate(calls.begin(), calls.end(), 0) != 1000) return 2;
      if (threads.concurrency() != granted || threads.start() != granted) return 3;
      if (threads.asked() != 16) return 4;
      try {
        threads.parallel_for(100, [](Index i) {
          if (i >= 40) throw std::runtime_error(std::to_string(i));
        });
        return 5;
      } catch (const std::runtime_error& error) {
        return std::string(error.what()) == "40" ? 0 : 6;
      }
    });
    if (status) CHECK(*status == 0);
    else WARN("no limit for " << granted << " threads can be set here");
  }
}

TEST_CASE("no call is left running when a loop has failed", "[executor][fault28]") {
  const gptq::exec::Threads threads(4);
  std::atomic<int> running{0};
  for (int round = 0; round < 50; ++round) {
    CHECK_THROWS_AS(
        threads.parallel_for(64,
                             [&](Index i) {
                               ++running;
                               std::this_thread::sleep_for(std::chrono::microseconds(50 * (i % 4)));
                               --running;
                               if (i % 8 == 2) throw std::bad_alloc();
                             }),
        std::bad_alloc);
    REQUIRE(running == 0);
  }
}

TEST_CASE("threads are started when they are first needed, or when asked to", "[executor]") {
  const gptq::exec::Threads threads(3);
  CHECK(threads.concurrency() == 3);
  CHECK(threads.start() == 3);
  CHECK(threads.start() == 3);
  CHECK(gptq::exec::Threads(1).start() == 1);
}
