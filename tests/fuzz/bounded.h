// What one input may take: CPU time of the process, and memory beyond what it had.
#pragma once

#include <sanitizer/allocator_interface.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace deeplab_fast {

namespace allocated {

inline std::atomic<long long> now{0}, peak{0};

inline void add(const volatile void* memory, size_t bytes) {
  if (memory == nullptr) return;
  const long long sum = now += static_cast<long long>(bytes);
  for (long long old = peak; old < sum && !peak.compare_exchange_weak(old, sum);) {
  }
}

inline void remove(const volatile void* memory) {
  if (memory != nullptr) now -= static_cast<long long>(__sanitizer_get_allocated_size(memory));
}

inline const bool counted = __sanitizer_install_malloc_and_free_hooks(add, remove) != 0;

}  // namespace allocated

// Aborts at its end where the block took more: a finding. Sanitizers make all of it slower.
class Bounded {
 public:
  Bounded(double cpu_seconds, int megabytes)
      : cpu_seconds_(cpu_seconds), megabytes_(megabytes), begin_(cpu()), before_(allocated::now) {
    allocated::peak = before_;
  }
  Bounded(const Bounded&) = delete;

  ~Bounded() {
    const double took = cpu() - begin_;
    const double used = static_cast<double>(allocated::peak - before_) / (1 << 20);
    if (took <= cpu_seconds_ && used <= megabytes_) return;
    std::fprintf(stderr, "FINDING: took %.1f s of CPU time and %.0f MB; expected at most %g s and %d MB\n",
                 took, used, cpu_seconds_, megabytes_);
    std::abort();
  }

 private:
  static double cpu() {
    timespec now;
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }

  const double cpu_seconds_;
  const int megabytes_;
  const double begin_;
  const long long before_;
};

}  // namespace deeplab_fast
