#include "efficientad/detect/shift.h"

#include <torch/types.h>

#include "efficientad/core/error.h"

namespace efficientad {

namespace {

/// Where each of `size` places takes its content from.
torch::Tensor sources(int64_t size, int64_t shift, Fill fill, torch::Device device) {
  TORCH_CHECK(shift > -size && shift < size, "a shift by ", shift, " px of an image of ", size);
  torch::Tensor index = torch::arange(size, torch::kInt64) - shift;
  if (fill == Fill::kReflect) {
    index = index.abs();
    index = (size - 1) - ((size - 1) - index).abs();
  }
  return index.clamp(0, size - 1).to(device);
}

}  // namespace

torch::Tensor shift_content(const torch::Tensor& image, int64_t dim_h, Shift shift, Fill fill) {
  torch::Tensor shifted = image;
  if (shift.dy != 0) {
    shifted =
        shifted.index_select(dim_h, sources(image.size(dim_h), shift.dy, fill, image.device()));
  }
  if (shift.dx != 0) {
    shifted = shifted.index_select(dim_h + 1,
                                   sources(image.size(dim_h + 1), shift.dx, fill, image.device()));
  }
  return shifted;
}

std::vector<Shift> shifts_of_average(int64_t count) {
  require_usage(count == 1 || count == 2 || count == 4 || count == 8 || count == 16,
                "shift_average is {}, but must be 1, 2, 4, 8 or 16", count);
  // Each step halves what is left between its neighbours: the cell's corner, its middle, the
  // middles of its edges, the middles of the four quarters, the rest.
  constexpr Shift kInCell[] = {{0, 0}, {2, 2}, {0, 2}, {2, 0}, {1, 1}, {3, 3}, {1, 3}, {3, 1},
                               {0, 1}, {0, 3}, {1, 0}, {1, 2}, {2, 1}, {2, 3}, {3, 0}, {3, 2}};
  std::vector<Shift> shifts;
  for (int64_t i = 0; i < count; ++i) {
    // The same place of a cell, by the shorter way: less content is lost at the border.
    const auto nearest = [](int64_t in_cell) {
      return in_cell < kMapStride / 2 ? in_cell : in_cell - kMapStride;
    };
    shifts.push_back({.dy = nearest(kInCell[i].dy), .dx = nearest(kInCell[i].dx)});
  }
  return shifts;
}

}  // namespace efficientad
