#pragma once

#include <torch/types.h>

#include <cstdint>

namespace efficientad {

/// A copy of an image [3, H, W] in 0..1, moved by up to 4 % of its sides (mirrored at the border),
/// its brightness times 0.9 to 1.1. Which, `seed` and `index` decide. For calibration where there
/// are too few images to keep some from training.
torch::Tensor augmented_copy(const torch::Tensor& image, uint64_t seed, uint64_t index);

}  // namespace efficientad
