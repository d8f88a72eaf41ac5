#pragma once

#include <torch/types.h>

#include <cstdint>

namespace efficientad {

/// float32 zeros, contiguous and aligned to 64 bytes; on huge pages where the system has them and
/// they are worth it: the kernels walk along 64 places of a buffer at once, which small pages make
/// slow.
torch::Tensor make_buffer(int64_t size);

/// Gives memory that was freed, and that the allocator keeps, back to the system (glibc only).
void release_freed_memory();

/// From now on the allocator keeps what is freed for later (glibc only): where large tensors come
/// and go all the time, as in training, the system would else clear their pages anew each time,
/// which costs a sixth of a step. For the whole process.
void keep_freed_memory();

}  // namespace efficientad
