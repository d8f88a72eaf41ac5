#include "efficientad/core/buffer.h"

#include <torch/types.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace efficientad {

torch::Tensor make_buffer(int64_t size) {
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t bytes = static_cast<size_t>(size) * sizeof(float);
  if (bytes < kHugePage / 2) return torch::zeros({size}, torch::kFloat32);
  const size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* memory = std::aligned_alloc(kHugePage, rounded);
  if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  ::madvise(memory, rounded, MADV_HUGEPAGE);  // Advice: it may be declined.
#endif
  std::memset(memory, 0, bytes);
  return torch::from_blob(
      memory, {size}, [](void* p) { std::free(p); }, torch::kFloat32);
}

void release_freed_memory() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

void keep_freed_memory() {
#if defined(__GLIBC__)
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
}

}  // namespace efficientad
