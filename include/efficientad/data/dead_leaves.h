#pragma once

#include <torch/types.h>

#include <cstdint>

namespace efficientad {

/// A procedural image with the statistics of natural ones ("dead leaves": occluding shapes whose
/// sizes follow a power law, Lee, Mumford and Huang 2001; each with a texture, shading and edge of
/// its own), uint8 [size, size, 3] RGB. Stands in for ImageNet in the student's penalty and needs
/// no download. The same seed and index give the same image. May be called from any thread.
torch::Tensor dead_leaves_image(int64_t size, uint64_t seed, uint64_t index);

}  // namespace efficientad
