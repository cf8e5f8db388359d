// SPDX-License-Identifier: MIT
#pragma once

// How many processors this process may use: those that it is bound to, and what its container pays
// for.

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

/// Of a small file of the kernel's; empty where there is none.
inline std::string first_bytes(const std::string& path) {
  std::string text(4096, '\0');
  std::FILE* file = std::fopen(path.c_str(), "r");
  text.resize(file ? std::fread(text.data(), 1, text.size(), file) : 0);
  if (file) std::fclose(file);
  return text;
}

/// CPUs that a file such as cpu.max grants ("150000 100000": one and a half in every 100 ms).
inline double granted(const std::string& text) {
  double quota = 0, period = 0;
  return std::sscanf(text.c_str(), "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0
             ? quota / period
             : std::numeric_limits<double>::infinity();
}

/// CPUs that the control group of this process and those around it grant; infinity: no limit.
/// \param root  of the file system
inline double cpu_quota(const std::string& root = "") {
  double least = std::numeric_limits<double>::infinity();
  const std::string groups = first_bytes(root + "/proc/self/cgroup");
  for (std::size_t begin = 0, end; begin < groups.size(); begin = end + 1) {
    end = (std::min)(groups.find('\n', begin), groups.size());
    // "0::/path" in the second version of control groups, "4:cpu,cpuacct:/path" in the first.
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

/// Processors that this process may use, at least 1. A part of one counts as one.
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
