#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <vector>

#include "codecs.h"
#include "efficientad/core/error.h"

namespace efficientad::internal {
namespace {

/// libpng on a file in memory. Its errors become Error, its warnings (known wrong colour profiles,
/// odd text chunks) are dropped.
class PngReader {
 public:
  explicit PngReader(std::string_view file) : file_(file) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw Error("not enough memory to read a PNG file");
    }
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  /// Reads what stands before the pixels.
  Extent read_header() {
    run([this] {
      png_set_read_fn(png_, this, on_read);
      png_set_user_limits(png_, 0x7fffffff, 0x7fffffff);
      png_read_info(png_, info_);
    });
    Extent extent;
    extent.height = png_get_image_height(png_, info_);
    extent.width = png_get_image_width(png_, info_);
    check_extent(extent.height, extent.width);
    extent.orientation = orientation();
    return extent;
  }

  Raster read_pixels(const Extent& extent, Depth depth) {
    const int bits = png_get_bit_depth(png_, info_);
    const int colour = png_get_color_type(png_, info_);
    run([&] {
      if (colour == PNG_COLOR_TYPE_PALETTE) {
        png_set_palette_to_rgb(png_);
      } else if (bits < 8) {
        png_set_expand_gray_1_2_4_to_8(png_);
      }
      if (bits == 16 && is_little_endian()) png_set_swap(png_);
      png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
    });
    const int64_t channels = png_get_channels(png_, info_);
    const auto row_bytes = static_cast<int64_t>(png_get_rowbytes(png_, info_));
    const torch::Tensor stored = torch::empty({extent.height, row_bytes}, torch::kUInt8);
    std::vector<png_bytep> rows(static_cast<size_t>(extent.height));
    for (int64_t y = 0; y < extent.height; ++y) {
      rows[static_cast<size_t>(y)] = stored.data_ptr<uint8_t>() + y * row_bytes;
    }
    run([&] {
      png_read_image(png_, rows.data());
      png_read_end(png_, info_);
    });
    Raster raster;
    raster.orientation = orientation();
    if (bits < 16) {
      raster.pixels = stored.view({extent.height, extent.width, channels});
      return raster;
    }
    raster.pixels = torch::empty({extent.height, extent.width, channels}, torch::kUInt8);
    const uint8_t* from = stored.data_ptr<uint8_t>();
    uint8_t* to = raster.pixels.data_ptr<uint8_t>();
    for (int64_t i = 0; i < raster.pixels.numel(); ++i) {
      uint16_t value = 0;
      std::memcpy(&value, from + 2 * i, sizeof(value));
      to[i] = narrow(value, depth);
      raster.highest_of_16_bits = std::max<int>(raster.highest_of_16_bits, value);
    }
    return raster;
  }

 private:
  /// libpng leaves by longjmp: `work` must own nothing.
  template <class Work>
  void run(Work&& work) {
    if (setjmp(jump_) != 0) throw Error(fmt::format("damaged PNG file ({})", message_));
    work();
  }

  static bool is_little_endian() {
    const uint16_t one = 1;
    uint8_t first = 0;
    std::memcpy(&first, &one, 1);
    return first == 1;
  }

  int orientation() {
    png_bytep block = nullptr;
    png_uint_32 size = 0;
    if (png_get_eXIf_1(png_, info_, &size, &block) == 0) return 1;
    return exif_orientation({reinterpret_cast<const char*>(block), size});
  }

  static void on_error(png_structp png, png_const_charp message) {
    auto* self = static_cast<PngReader*>(png_get_error_ptr(png));
    std::snprintf(self->message_, sizeof(self->message_), "%s", message);
    std::longjmp(self->jump_, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}
  static void on_read(png_structp png, png_bytep to, png_size_t count) {
    auto* self = static_cast<PngReader*>(png_get_io_ptr(png));
    if (count > self->file_.size() - self->offset_) png_error(png, "the file is truncated");
    std::memcpy(to, self->file_.data() + self->offset_, count);
    self->offset_ += count;
  }

  std::string_view file_;
  size_t offset_ = 0;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::jmp_buf jump_;
  char message_[200] = {};
};

/// The content of the first chunk eXIf, which may also stand behind the pixels; empty without one.
std::string_view exif_chunk(std::string_view file) {
  constexpr size_t kSignature = 8;
  constexpr size_t kAround = 12;  // Length and name before the content, checksum after it.
  for (size_t at = kSignature; at + kAround <= file.size();) {
    size_t length = 0;
    for (size_t i = 0; i < 4; ++i) length = (length << 8) | static_cast<uint8_t>(file[at + i]);
    if (length > file.size() - at - kAround) break;
    if (file.substr(at + 4, 4) == "eXIf") return file.substr(at + 8, length);
    at += kAround + length;
  }
  return {};
}

}  // namespace

Raster decode_png(std::string_view file, Depth depth) {
  PngReader reader(file);
  const Extent extent = reader.read_header();
  return reader.read_pixels(extent, depth);
}

Extent png_extent(std::string_view file) {
  Extent extent = PngReader(file).read_header();
  if (extent.orientation == 1) extent.orientation = exif_orientation(exif_chunk(file));
  return extent;
}

}  // namespace efficientad::internal
