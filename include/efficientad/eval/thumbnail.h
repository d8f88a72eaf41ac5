#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>

namespace efficientad {

/// How thumbnails are made.
struct ThumbnailSettings {
  /// Longer side in px; smaller images are not enlarged.
  int64_t side = 256;
  /// Most bytes of an image's two pictures together: their quality, and then their size, is lowered
  /// until they fit.
  int64_t max_bytes = 30000;
  /// Where the map's scale begins, and the value that decides: 0 and the threshold for the maps of
  /// a model of ours.
  double map_low = 0;
  double map_limit = 1;
  /// Whether the maps are of a model of ours.
  bool normalized = true;
};

/// A small picture of an image and of what was found in it. The outlines are lines, no pixels, so
/// that they stay sharp when they are enlarged and can be shown or not.
struct Thumbnail {
  /// JPEG files: the image, and the same with the colours of its map over it (see draw_heatmap()).
  std::string image;
  std::string heatmap;
  /// Size of the plane of the outlines; their longer side is kOutlineSide.
  int64_t width = 0;
  int64_t height = 0;
  /// SVG path data of the outlines of the mask and of the pixels above map_limit; empty where there
  /// are none. At most kOutlineBytes each: of very many parts the small ones are left out.
  std::string mask_outline;
  std::string found_outline;
};

inline constexpr int64_t kOutlineSide = 256;
inline constexpr size_t kOutlineBytes = 900;

/// `image_u8`: uint8 [height, width, 3] RGB; `map`: float32 [height, width]; `mask`: uint8
/// [height, width], not zero where defective, or undefined. All on the CPU. May be called from any
/// thread.
Thumbnail make_thumbnail(const torch::Tensor& image_u8, const torch::Tensor& map,
                         const torch::Tensor& mask, const ThumbnailSettings& settings);

}  // namespace efficientad
