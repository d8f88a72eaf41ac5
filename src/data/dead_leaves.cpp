#include "efficientad/data/dead_leaves.h"

#include <torch/types.h>

#include <algorithm>

#include "leaves.h"

namespace efficientad {

torch::Tensor dead_leaves_image(int64_t size, uint64_t seed, uint64_t index) {
  TORCH_CHECK(size >= 8 && size <= 8192, "dead leaves of ", size, " px");
  const std::vector<uint8_t> rgb = render_leaves(static_cast<int>(size), seed, index);
  torch::Tensor image = torch::empty({size, size, 3}, torch::kUInt8);
  std::copy(rgb.begin(), rgb.end(), image.data_ptr<uint8_t>());
  return image;
}

}  // namespace efficientad
