// SPDX-License-Identifier: MIT

#include <gptq/exec/concept.hpp>
#include <gptq/exec/serial.hpp>
#include <gptq/exec/threads.hpp>
#include <gptq/gptq.hpp>

#include "../support/catch.hpp"
#include "../support/files.hpp"
#include "../support/sanitized.hpp"

#include <sys/resource.h>  // setrlimit
#include <sys/wait.h>      // waitpid
#include <unistd.h>        // fork, setuid, alarm

#include <atomic>
#include <chrono>
#include <fstream>
#include <limits>
#include <new>  // std::bad_alloc
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using gptq::Index;

template <class E>
  requires gptq::exec::Executor<E>
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

namespace {

/// Threads of this process, as the kernel counts them.
int threads_of_process() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("Threads:")) return std::stoi(line.substr(8));
  return 0;
}

}  // namespace

TEST_CASE("Hessians that name no backend share the threads of the process", "[executor]") {
  const int before = threads_of_process();
  std::vector<gptq::Hessian<gptq::backend::Cpu>> hessians;
  const std::vector<float> x(64 * 32, 0.5f);
  for (int i = 0; i < 128; ++i) {
    hessians.emplace_back(32);
    hessians.back().add(gptq::MatrixView<const float>(x.data(), 64, 32));
  }
  CHECK(threads_of_process() <= before + gptq::exec::processors() + 1);
  const gptq::exec::Threads a, b, own(2);
  CHECK(a.start() == b.concurrency());
  CHECK(own.start() == 2);
}

TEST_CASE("a container's quota of processor time counts as processors", "[executor]") {
  const auto quota = [](const std::string& groups,
                        const std::vector<std::pair<std::string, std::string>>& files) {
    const test::TemporaryFolder root;
    const auto write = [&](const std::string& path, const std::string& text) {
      const auto file = root.path() / path;
      std::filesystem::create_directories(file.parent_path());
      std::ofstream(file) << text;
    };
    write("proc/self/cgroup", groups);
    for (const auto& [path, text] : files) write("sys/fs/cgroup/" + path, text);
    return gptq::exec::detail::cpu_quota(root.path().string());
  };
  const double none = std::numeric_limits<double>::infinity();
  CHECK(quota("0::/\n", {}) == none);
  CHECK(quota("", {}) == none);
  CHECK(quota("0::/\n", {{"cpu.max", "max 100000\n"}}) == none);
  CHECK(quota("0::/\n", {{"cpu.max", "150000 100000\n"}}) == 1.5);
  // The group, its parent, and a container that sees its own group as the root.
  CHECK(quota("0::/a/b\n", {{"a/b/cpu.max", "400000 100000\n"}, {"cpu.max", "max 100000"}}) == 4);
  CHECK(quota("0::/a/b\n", {{"a/b/cpu.max", "max 100000\n"}, {"a/cpu.max", "50000 100000"}}) ==
        0.5);
  CHECK(quota("0::/docker/123\n", {{"cpu.max", "200000 100000\n"}}) == 2);
  // cgroups version 1.
  const std::string first = "12:pids:/x\n4:cpu,cpuacct:/x\n1:name=systemd:/x\n";
  CHECK(quota(first, {{"cpu,cpuacct/x/cpu.cfs_quota_us", "250000\n"},
                      {"cpu,cpuacct/x/cpu.cfs_period_us", "100000\n"}}) == 2.5);
  CHECK(quota(first, {{"cpu,cpuacct/cpu.cfs_quota_us", "-1\n"},
                      {"cpu,cpuacct/cpu.cfs_period_us", "100000\n"}}) == none);
  CHECK(gptq::exec::processors() >= 1);
}

TEST_CASE("calls after a failure are not begun", "[executor]") {
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

/// The exit status of f() in a child process that may have `threads` threads; 255: it did not end
/// in time. Empty if the limit cannot be set.
template <class F>
static std::optional<int> with_thread_limit(rlim_t threads, const F& f) {
  constexpr int no_limit = 99;
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    // Root has no limit; an ordinary user shares it with all of the user's processes.
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

TEST_CASE("if threads cannot be created, those that exist do the work and are counted",
          "[executor][fault4]") {
  if (test::sanitized) return skip("sanitizers use threads and memory of their own");
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

TEST_CASE("no call is still running when a failed loop returns", "[executor][fault28]") {
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
