#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>

#include "engine/cuda/operations.h"

namespace efficientad::cuda {

/// What it takes to bring a frame of one size to the networks' size, and their map back to its own.
struct FrameBuffers {
  /// Sizes as [height, width].
  FrameBuffers(std::array<int64_t, 2> frame_hw, std::array<int64_t, 2> input_hw,
               torch::Device device);

  /// Makes map_at_image, once.
  void make_room_for_map();

  /// uint8 [H, W, 3].
  torch::Tensor frame;
  /// Of the passes; one that has nothing to do has no taps.
  DeviceTaps to_width;
  DeviceTaps to_height;
  /// uint8 [H, w, 3]: what the first pass gives, if there are two.
  torch::Tensor narrowed;
  /// The frame's map, float32 [H, W], once there is room for it.
  torch::Tensor map_at_image;
  /// The greatest value of the map, as order_of() gives it: int32 [1].
  torch::Tensor greatest;
};

/// `buffers.frame` to `images` [1, h, w, 3] as resize_pil_bilinear() does, to the last bit.
void resize_frame(const Operations& operations, const FrameBuffers& buffers,
                  const torch::Tensor& images);

/// The map float32 [1, 1, h, w], resized bilinearly to the frame's size, to its greatest value and,
/// if `want_map`, to `map_at_image`.
void finish_frame(const Operations& operations, const torch::Tensor& map, bool want_map,
                  const FrameBuffers& buffers);

}  // namespace efficientad::cuda
