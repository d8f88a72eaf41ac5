// No header of LibTorch here: its inline functions differ with and without OpenMP.
#include "engine/cpu/threads.h"

#include <omp.h>

namespace efficientad::cpu {

void on_threads(int64_t threads, const std::function<void(int64_t)>& work) {
  if (threads <= 1 || omp_in_parallel() != 0) {
    for (int64_t i = 0; i < threads; ++i) work(i);
    return;
  }
#pragma omp parallel for num_threads(static_cast <int>(threads)) schedule(static, 1)
  for (int64_t i = 0; i < threads; ++i) work(i);
}

}  // namespace efficientad::cpu
