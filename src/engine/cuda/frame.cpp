#include "engine/cuda/frame.h"

#include "efficientad/core/resize_taps.h"

namespace efficientad::cuda {

namespace {

DeviceTaps taps_of(int64_t in_size, int64_t out_size, torch::Device device) {
  if (in_size == out_size) return {};
  const ResizeTaps taps = make_resize_taps(in_size, out_size);
  return {.first = torch::tensor(taps.first).to(device, torch::kInt32),
          .count = torch::tensor(taps.count).to(device, torch::kInt32),
          .weights =
              torch::tensor(taps.weights, torch::kInt32).view({out_size, taps.stride}).to(device)};
}

}  // namespace

FrameBuffers::FrameBuffers(std::array<int64_t, 2> frame_hw, std::array<int64_t, 2> input_hw,
                           torch::Device device) {
  const auto bytes = torch::dtype(torch::kUInt8).device(device);
  frame = torch::empty({frame_hw[0], frame_hw[1], 3}, bytes);
  to_width = taps_of(frame_hw[1], input_hw[1], device);
  to_height = taps_of(frame_hw[0], input_hw[0], device);
  if (to_width.first.defined() && to_height.first.defined()) {
    narrowed = torch::empty({frame_hw[0], input_hw[1], 3}, bytes);
  }
  greatest = torch::zeros({1}, torch::dtype(torch::kInt32).device(device));
}

void FrameBuffers::make_room_for_map() {
  if (map_at_image.defined()) return;
  map_at_image = torch::empty({frame.size(0), frame.size(1)},
                              torch::dtype(torch::kFloat32).device(frame.device()));
}

void resize_frame(const Operations& operations, const FrameBuffers& buffers,
                  const torch::Tensor& images) {
  const torch::Tensor image = images[0];
  const bool wide = buffers.to_width.first.defined();
  const bool high = buffers.to_height.first.defined();
  if (!wide && !high) {
    operations.copy(image, buffers.frame);
    return;
  }
  if (wide)
    operations.resize_width(buffers.frame, buffers.to_width, high ? buffers.narrowed : image);
  if (high)
    operations.resize_height(wide ? buffers.narrowed : buffers.frame, buffers.to_height, image);
}

void finish_frame(const Operations& operations, const torch::Tensor& map, bool want_map,
                  const FrameBuffers& buffers) {
  operations.upsample_map(map, {buffers.frame.size(0), buffers.frame.size(1)},
                          want_map ? buffers.map_at_image : torch::Tensor(), buffers.greatest);
}

}  // namespace efficientad::cuda
