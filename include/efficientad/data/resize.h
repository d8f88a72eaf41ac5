#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>

namespace efficientad {

/// Resizes uint8 [height, width, channels] (1 to 4 channels) as Pillow's `Image.resize(...,
/// BILINEAR)` does, to the last bit: a triangle filter whose support grows with the reduction
/// (antialiased), horizontal pass first, coefficients in 22-bit fixed point, each pass rounded to
/// 8 bits. (Pillow 13 goes through the columns first where the height shrinks much more than the
/// width, which differs by one level here and there; this is the order of all versions before it.)
/// `size_hw` is the wanted height and width; an image of that size is copied. Channels do not mix
/// (Pillow multiplies RGB by alpha first in RGBA images; images here have no alpha).
torch::Tensor resize_pil_bilinear(const torch::Tensor& image_u8, std::array<int64_t, 2> size_hw);

/// uint8 [height, width, 3] → float32 [3, height, width] in 0..1.
torch::Tensor to_float_chw(const torch::Tensor& image_u8);

}  // namespace efficientad
