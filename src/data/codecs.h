#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string_view>

namespace efficientad::internal {

// PNG, JPEG and TIFF are read with libpng, libjpeg and libtiff themselves: OpenCV's readers give
// half-grey images for truncated files, do not report damage that the libraries find, and leave
// them printing to stderr. Everything here works on a file in memory and throws Error without the
// file's name, which the caller puts in front.

/// Pixels as a file holds them, before orientation, alpha and depth are dealt with.
struct Raster {
  /// uint8 [height, width, channels]: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA. 16-bit samples have
  /// been brought to 8 bits (see Depth).
  torch::Tensor pixels;
  /// EXIF orientation, 1 to 8.
  int orientation = 1;
  /// The largest sample of a file with 16 bits a sample; -1 for others.
  int highest_of_16_bits = -1;
};

/// How 16-bit samples become uint8. (Those of fewer than 8 bits are always spread over 0..255.)
enum class Depth {
  /// Of 16 bits the low byte is dropped, as in OpenCV.
  kScaled,
  /// 16-bit values stay as they are, but those above 255 become 255.
  kOwnValues,
};

/// Height and width as stored, and the EXIF orientation.
struct Extent {
  int64_t height = 0;
  int64_t width = 0;
  int orientation = 1;
};

/// Images with more pixels are refused: a damaged or hostile header shall not take all memory.
inline constexpr int64_t kMaxPixels = int64_t{1} << 28;

/// Throws Error unless 0 < height * width <= kMaxPixels.
void check_extent(int64_t height, int64_t width);

Raster decode_png(std::string_view file, Depth depth);
Extent png_extent(std::string_view file);

Raster decode_jpeg(std::string_view file);
Extent jpeg_extent(std::string_view file);

Raster decode_tiff(std::string_view file, Depth depth);
/// float32 [height, width] of a file with one channel of such samples.
torch::Tensor decode_tiff_floats(std::string_view file);
Extent tiff_extent(std::string_view file);

/// The orientation of an EXIF block (with or without "Exif\0\0" before it); 1 where it has none or
/// is broken: nobody would miss an image for that.
int exif_orientation(std::string_view block);

/// The sample in 8 bits.
inline uint8_t narrow(uint16_t value, Depth depth) {
  if (depth == Depth::kScaled) return static_cast<uint8_t>(value >> 8);
  return static_cast<uint8_t>(value > 255 ? 255 : value);
}

}  // namespace efficientad::internal
