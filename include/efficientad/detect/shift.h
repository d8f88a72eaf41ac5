#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace efficientad {

/// Distance of the maps' cells, and side of the square that a cell sees, in px of the networks'
/// input (paper, section 3.1).
inline constexpr int64_t kMapStride = 4;
inline constexpr int64_t kReceptiveField = 33;

/// By how many px content lies further down and further right.
struct Shift {
  int64_t dy = 0;
  int64_t dx = 0;
};

/// What comes in at the side that content moves away from: the outermost row or column again, or
/// the image mirrored there.
enum class Fill { kReplicate, kReflect };

/// The content of an image, or of a map, moved by `shift`; what moves out is lost. `dim_h` is the
/// dimension of rows, the next that of columns: 2 for [N, C, H, W], 1 for [N, H, W, C]. Any type;
/// the shift must be smaller than the image.
torch::Tensor shift_content(const torch::Tensor& image, int64_t dim_h, Shift shift, Fill fill);

/// `count` shifts (1, 2, 4, 8 or 16) that lie evenly in a cell of the maps, -2 to 1 px both ways,
/// the first of them none. Throws UsageError for another count.
std::vector<Shift> shifts_of_average(int64_t count);

}  // namespace efficientad
