// SPDX-License-Identifier: MIT
#pragma once

// How many processors this process may use, given its CPU affinity and its container's quota.

#include <algorithm>  // std::min
#include <cmath>      // std::ceil
#include <cstdio>
#include <limits>
#include <string>
#include <thread>  // std::thread::hardware_concurrency

#ifdef __linux__
#include <sched.h>  // sched_getaffinity
#endif

namespace gptq::exec {

namespace detail {

/// The start of a small kernel file; empty if there is none.
inline std::string first_bytes(const std::string& path) {
  std::string text(4096, '\0');
  std::FILE* file = std::fopen(path.c_str(), "r");
  text.resize(file ? std::fread(text.data(), 1, text.size(), file) : 0);
  if (file) std::fclose(file);
  return text;
}

/// CPUs granted by a file such as cpu.max ("150000 100000": one and a half per 100 ms).
inline double granted(const std::string& text) {
  double quota = 0, period = 0;
  return std::sscanf(text.c_str(), "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0
             ? quota / period
             : std::numeric_limits<double>::infinity();
}

/// CPUs granted by this process's control group and its ancestors; infinity: no limit.
/// \param root  of the file system
inline double cpu_quota(const std::string& root = "") {
  double least = std::numeric_limits<double>::infinity();
  const std::string groups = first_bytes(root + "/proc/self/cgroup");
  for (std::size_t begin = 0, end; begin < groups.size(); begin = end + 1) {
    end = (std::min)(groups.find('\n', begin), groups.size());
    // "0::/path" in cgroups v2, "4:cpu,cpuacct:/path" in v1.
    const std::string line = groups.substr(begin, end - begin);
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && ("," + controllers + ",").find(",cpu,") == std::string::npos)
      continue;
    std::string path = line.substr(second + 1);
    for (bool more = true; more; path.resize(more ? path.rfind('/') : 0)) {
      more = path.find('/') != path.npos;
      const std::string folder = root + "/sys/fs/cgroup/" + controllers + path;
      least = (std::min)(
          least, granted(controllers.empty() ? first_bytes(folder + "/cpu.max")
                                             : first_bytes(folder + "/cpu.cfs_quota_us") + " " +
                                                   first_bytes(folder + "/cpu.cfs_period_us")));
    }
  }
  return least;
}

}  // namespace detail

/// Processors that this process may use, at least 1. Fractions are rounded up.
inline int processors() {
  int count = static_cast<int>(std::thread::hardware_concurrency());
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) count = CPU_COUNT(&set);
  if (const double quota = std::ceil(detail::cpu_quota()); quota < count)
    count = static_cast<int>(quota);
#endif
  return count > 0 ? count : 1;
}

}  // namespace gptq::exec
