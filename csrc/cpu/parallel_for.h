// Units of work spread over threads.
#pragma once

#include <stdint.h>

#include <functional>

namespace deeplab_fast {

// How many workers `parallel_for` uses: no more than units, at least 1.
int workers_for(int64_t units, int threads);

// Calls work(worker, unit) once for each unit, 0 <= worker < workers_for(units, threads); the calling thread
// is worker 0. Which worker gets which unit is chance: results must not depend on it. The first exception is
// thrown on once all threads have ended.
void parallel_for(int64_t units, int threads, const std::function<void(int worker, int64_t unit)>& work);

}  // namespace deeplab_fast
