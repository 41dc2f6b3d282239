#include "parallel_for.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace deeplab_fast {

int workers_for(int64_t units, int threads) {
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(units, threads)));
}

void parallel_for(int64_t units, int threads, const std::function<void(int worker, int64_t unit)>& work) {
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto run = [&](int worker) {
    try {
      for (int64_t unit = next++; unit < units; unit = next++) work(worker, unit);
    } catch (...) {
      next = units;
      const std::lock_guard<std::mutex> guard(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  const int workers = workers_for(units, threads);
  std::vector<std::thread> others;
  others.reserve(workers - 1);
  try {
    for (int worker = 1; worker < workers; ++worker) others.emplace_back(run, worker);
  } catch (const std::system_error&) {
    // The system gives no more threads: those there are do all of it.
  }
  run(0);
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace deeplab_fast
