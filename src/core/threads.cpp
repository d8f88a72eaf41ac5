// None of LibTorch's headers with inline functions here: these differ with and without OpenMP.
#include "efficientad/core/threads.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

namespace at {
int get_num_threads();
}

namespace efficientad {

void use_one_thread_here() {
  // LibTorch sets the number itself when a thread first asks for it.
  at::get_num_threads();
  omp_set_num_threads(1);
}

void on_threads(int64_t threads, const std::function<void(int64_t)>& work) {
  if (threads <= 1 || omp_in_parallel() != 0) {
    for (int64_t i = 0; i < threads; ++i) work(i);
    return;
  }
  // An exception that left a thread of the pool would end the program.
  std::exception_ptr thrown;
  std::mutex mutex;
#pragma omp parallel for num_threads(static_cast <int>(threads)) schedule(static, 1)
  for (int64_t i = 0; i < threads; ++i) {
    try {
      work(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!thrown) thrown = std::current_exception();
    }
  }
  if (thrown) std::rethrow_exception(thrown);
}

void run_tasks(int64_t tasks, int64_t threads, const std::function<void(int64_t, int64_t)>& run) {
  std::atomic<int64_t> next = 0;
  on_threads(std::min(threads, tasks), [&](int64_t thread) {
    for (int64_t task = next++; task < tasks; task = next++) run(task, thread);
  });
}

}  // namespace efficientad
