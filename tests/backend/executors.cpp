// SPDX-License-Identifier: MIT

#include <gptq/core/concepts.hpp>
#include <gptq/exec/serial.hpp>
#include <gptq/exec/threads.hpp>

#include "../support/catch.hpp"

#include <atomic>
#include <numeric>
#include <stdexcept>
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
