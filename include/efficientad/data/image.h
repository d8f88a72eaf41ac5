#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace efficientad {

/// Reads an image file as RGB: uint8 [height, width, 3]. PNG (8 and 16 bit, grey, RGB, RGBA,
/// palette), JPEG (its EXIF orientation applied), BMP, TIFF and WebP. Grey is repeated to three
/// channels, 16 bits are scaled to 8 by dropping the low byte (as OpenCV does; if a file uses the
/// lower 12 bits only, that is logged as a warning, once), alpha is dropped, CMYK JPEGs are
/// converted as Pillow does, of several pages the first is read. The format is told by the first
/// bytes, not by the ending. Throws Error if the file is missing, no image, truncated, damaged or
/// has more than 2^28 pixels. May be called from any thread.
torch::Tensor read_image(const std::filesystem::path& path);

/// Height and width of read_image(path), without decoding the pixels where the format allows.
std::array<int64_t, 2> read_image_size(const std::filesystem::path& path);

/// Reads a mask: uint8 [height, width] with the file's own values (16 bits are not scaled, but
/// values above 255 become 255; a palette is looked up; of several channels the largest, but alpha
/// is dropped). Turned as read_image() turns images. Throws Error as read_image() does.
torch::Tensor read_mask(const std::filesystem::path& path);

/// Writes uint8 [height, width, 3] RGB or [height, width] grey as PNG, JPEG, ... by the ending of
/// `path`; whole or not at all.
void write_image(const std::filesystem::path& path, const torch::Tensor& image_u8);

/// Writes float32 [height, width] as a one-channel 32-bit float TIFF, uncompressed; whole or not at
/// all. Every bit comes back, NaN and infinity too.
void write_tiff(const std::filesystem::path& path, const torch::Tensor& map);

/// Reads a one-channel float32 TIFF: float32 [height, width].
torch::Tensor read_tiff(const std::filesystem::path& path);

/// True if the file's ending is one that read_image() knows (any case).
bool has_image_ending(const std::filesystem::path& path);

/// The image files directly in `folder` (or, with `recursive`, below it; links to folders are
/// followed, but none is searched twice), sorted by path. Hidden files and folders are passed over,
/// links to missing files are not. Throws Error if the folder is missing, no folder or not
/// readable.
std::vector<std::filesystem::path> list_images(const std::filesystem::path& folder,
                                               bool recursive = false);

}  // namespace efficientad
