#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace efficientad {

/// Dropout: each value of [N, C, h, w] becomes 0 with probability `p`, else it is divided by 1 - p.
/// Which ones depends on the seed of its image and the value's place alone, so that a batch may be
/// shared out among processes. `seeds` has one seed an image; empty, or not on the CPU: LibTorch's
/// dropout, from its own generator. float32 or bfloat16. `p` in [0, 1), a multiple of 1 / 65536 (or
/// rounded to one).
torch::Tensor dropout(const torch::Tensor& x, double p, const std::vector<uint64_t>& seeds);

}  // namespace efficientad
