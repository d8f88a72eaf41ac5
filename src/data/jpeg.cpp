#include <csetjmp>
#include <cstdio>
#include <cstring>

// jpeglib.h needs <cstdio> before it.
#include <jpeglib.h>
// The codes of libjpeg's messages.
#include <jerror.h>

#include "codecs.h"
#include "efficientad/core/error.h"

namespace efficientad::internal {
namespace {

/// Stray bytes before a marker that are let pass: many cameras pad there.
constexpr int kPaddingBytes = 64;

/// libjpeg on a file in memory. Its errors, and those of its warnings that mean lost pixels, become
/// Error; it prints nothing.
class JpegReader {
 public:
  explicit JpegReader(std::string_view file) : file_(file) {
    info_.err = jpeg_std_error(&errors_);
    errors_.error_exit = on_error;
    errors_.emit_message = on_message;
    errors_.output_message = on_output;
    info_.client_data = this;
    run([this] { jpeg_create_decompress(&info_); });
  }
  ~JpegReader() { jpeg_destroy_decompress(&info_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  Extent read_header() {
    run([this] {
      jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(file_.data()), file_.size());
      jpeg_save_markers(&info_, JPEG_APP0 + 1, 0xffff);
      jpeg_read_header(&info_, TRUE);
    });
    Extent extent;
    extent.height = info_.image_height;
    extent.width = info_.image_width;
    check_extent(extent.height, extent.width);
    for (auto* marker = info_.marker_list; marker != nullptr; marker = marker->next) {
      const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
      if (data.starts_with("Exif")) extent.orientation = exif_orientation(data);
    }
    return extent;
  }

  torch::Tensor read_pixels(const Extent& extent) {
    const bool cmyk = info_.jpeg_color_space == JCS_CMYK || info_.jpeg_color_space == JCS_YCCK;
    const bool grey = info_.jpeg_color_space == JCS_GRAYSCALE;
    const int64_t channels = grey ? 1 : cmyk ? 4 : 3;
    const torch::Tensor pixels =
        torch::empty({extent.height, extent.width, channels}, torch::kUInt8);
    uint8_t* rows = pixels.data_ptr<uint8_t>();
    run([&] {
      info_.out_color_space = grey ? JCS_GRAYSCALE : cmyk ? JCS_CMYK : JCS_RGB;
      jpeg_start_decompress(&info_);
      while (info_.output_scanline < info_.output_height) {
        JSAMPROW row = rows + info_.output_scanline * extent.width * channels;
        jpeg_read_scanlines(&info_, &row, 1);
      }
      jpeg_finish_decompress(&info_);
    });
    return cmyk ? rgb_of_cmyk(pixels) : pixels;
  }

 private:
  /// libjpeg leaves by longjmp: `work` must own nothing.
  template <class Work>
  void run(Work&& work) {
    if (setjmp(jump_) != 0) throw Error(fmt::format("damaged JPEG file ({})", message_));
    work();
  }

  /// Pillow's simple conversion. Like Pillow it takes the ink to be stored inverted, as Adobe's
  /// programs do, whether or not the file names them.
  static torch::Tensor rgb_of_cmyk(const torch::Tensor& cmyk) {
    const int64_t height = cmyk.size(0);
    const int64_t width = cmyk.size(1);
    const torch::Tensor rgb = torch::empty({height, width, 3}, torch::kUInt8);
    constexpr uint8_t kInvert = 255;
    const uint8_t* from = cmyk.data_ptr<uint8_t>();
    uint8_t* to = rgb.data_ptr<uint8_t>();
    for (int64_t i = 0; i < height * width; ++i, from += 4, to += 3) {
      const int light = 255 - (from[3] ^ kInvert);
      for (int c = 0; c < 3; ++c) {
        const int product = (from[c] ^ kInvert) * light + 128;
        const int absorbed = ((product >> 8) + product) >> 8;
        to[c] = static_cast<uint8_t>(light - absorbed);
      }
    }
    return rgb;
  }

  [[noreturn]] static void leave(j_common_ptr info) {
    auto* self = static_cast<JpegReader*>(info->client_data);
    if (info->err->msg_code == JWRN_JPEG_EOF) {
      std::strcpy(self->message_, "the file is truncated");
    } else {
      info->err->format_message(info, self->message_);
    }
    std::longjmp(self->jump_, 1);
  }
  static void on_error(j_common_ptr info) { leave(info); }
  static void on_message(j_common_ptr info, int level) {
    if (level >= 0) return;
    switch (info->err->msg_code) {
      case JWRN_EXTRANEOUS_DATA:
        if (info->err->msg_parm.i[0] > kPaddingBytes) leave(info);
        break;
      case JWRN_ARITH_BAD_CODE:
      case JWRN_HIT_MARKER:
      case JWRN_HUFF_BAD_CODE:
      case JWRN_JPEG_EOF:
      case JWRN_MUST_RESYNC:
        leave(info);
      default:
        break;
    }
  }
  static void on_output(j_common_ptr) {}

  std::string_view file_;
  jpeg_decompress_struct info_ = {};
  jpeg_error_mgr errors_ = {};
  std::jmp_buf jump_;
  char message_[JMSG_LENGTH_MAX] = {};
};

}  // namespace

Raster decode_jpeg(std::string_view file) {
  JpegReader reader(file);
  const Extent extent = reader.read_header();
  return {.pixels = reader.read_pixels(extent), .orientation = extent.orientation};
}

Extent jpeg_extent(std::string_view file) { return JpegReader(file).read_header(); }

}  // namespace efficientad::internal
