#include <tiffio.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>

#include "codecs.h"
#include "efficientad/core/error.h"

namespace efficientad::internal {
namespace {

/// Numbers of either byte order at checked places.
class ByteReader {
 public:
  ByteReader(std::string_view bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}

  uint64_t number(uint64_t offset, uint64_t size) const {
    require(offset <= bytes_.size() && size <= bytes_.size() - offset, "the file is truncated");
    uint64_t value = 0;
    for (uint64_t i = 0; i < size; ++i) {
      const uint64_t at = big_endian_ ? offset + i : offset + size - 1 - i;
      value = (value << 8) | static_cast<uint8_t>(bytes_[at]);
    }
    return value;
  }

 private:
  std::string_view bytes_;
  bool big_endian_;
};

/// What libtiff last complained of in a file.
using Complaint = std::array<char, 300>;

/// Handlers of one file; 1: the process's handler, which prints, is not called.
int record_complaint(TIFF*, void* to, const char*, const char* format, va_list arguments) {
  auto& complaint = *static_cast<Complaint*>(to);
  std::vsnprintf(complaint.data(), complaint.size(), format, arguments);
  return 1;
}
int drop_warning(TIFF*, void*, const char*, const char*, va_list) { return 1; }

/// A file in memory as libtiff's client functions want it.
struct Source {
  std::string_view file;
  uint64_t offset = 0;
};

tmsize_t read_source(thandle_t handle, void* to, tmsize_t count) {
  auto* source = static_cast<Source*>(handle);
  if (count < 0 || source->offset >= source->file.size()) return 0;
  const uint64_t left = source->file.size() - source->offset;
  const auto taken = std::min(static_cast<uint64_t>(count), left);
  std::memcpy(to, source->file.data() + source->offset, taken);
  source->offset += taken;
  return static_cast<tmsize_t>(taken);
}
tmsize_t write_source(thandle_t, void*, tmsize_t) { return 0; }
toff_t seek_source(thandle_t handle, toff_t offset, int whence) {
  auto* source = static_cast<Source*>(handle);
  if (whence == SEEK_CUR) offset += source->offset;
  if (whence == SEEK_END) offset += source->file.size();
  return source->offset = offset;
}
int close_source(thandle_t) { return 0; }
toff_t size_source(thandle_t handle) { return static_cast<Source*>(handle)->file.size(); }

/// libtiff on a file in memory. It prints nothing.
class TiffReader {
 public:
  explicit TiffReader(std::string_view file) : source_{.file = file} {
    const std::unique_ptr<TIFFOpenOptions, FreeOptions> options(TIFFOpenOptionsAlloc());
    TIFFOpenOptionsSetErrorHandlerExtR(options.get(), record_complaint, &complaint_);
    TIFFOpenOptionsSetWarningHandlerExtR(options.get(), drop_warning, nullptr);
    tiff_.reset(TIFFClientOpenExt("image", "rm", &source_, read_source, write_source, seek_source,
                                  close_source, size_source, nullptr, nullptr, options.get()));
    if (tiff_ == nullptr) fail();
    height_ = tag<uint32_t>(TIFFTAG_IMAGELENGTH);
    width_ = tag<uint32_t>(TIFFTAG_IMAGEWIDTH);
    check_extent(height_, width_);
    bits_ = tag<uint16_t>(TIFFTAG_BITSPERSAMPLE);
    samples_ = tag<uint16_t>(TIFFTAG_SAMPLESPERPIXEL);
    format_ = tag<uint16_t>(TIFFTAG_SAMPLEFORMAT);
    photometric_ = tag<uint16_t>(TIFFTAG_PHOTOMETRIC);
  }

  /// Size and orientation as stored.
  Extent extent() {
    const int orientation = tag<uint16_t>(TIFFTAG_ORIENTATION);
    return {height_, width_, orientation >= 1 && orientation <= 8 ? orientation : 1};
  }

  bool one_float_channel() const {
    return bits_ == 32 && samples_ == 1 && format_ == SAMPLEFORMAT_IEEEFP;
  }

  Raster read_pixels(Depth depth) {
    require(format_ == SAMPLEFORMAT_UINT || format_ == SAMPLEFORMAT_VOID,
            "its samples are no unsigned whole numbers, expected 8 or 16 bits");
    require(samples_ >= 1 && samples_ <= 4, "it has {} channels, expected 1 to 4", samples_);
    Raster raster;
    raster.orientation = extent().orientation;
    const bool grey =
        photometric_ == PHOTOMETRIC_MINISBLACK || photometric_ == PHOTOMETRIC_MINISWHITE;
    if ((bits_ != 8 && bits_ != 16) || (!grey && photometric_ != PHOTOMETRIC_RGB)) {
      raster.pixels = read_as_rgb();
      return raster;
    }
    if (bits_ == 8) {
      raster.pixels = torch::empty({height_, width_, samples_}, torch::kUInt8);
      read_samples(raster.pixels.data_ptr<uint8_t>());
    } else {
      const torch::Tensor wide = torch::empty({height_, width_, samples_}, torch::kShort);
      auto* from = reinterpret_cast<uint16_t*>(wide.data_ptr<int16_t>());
      read_samples(from);
      raster.pixels = torch::empty({height_, width_, samples_}, torch::kUInt8);
      uint8_t* to = raster.pixels.data_ptr<uint8_t>();
      for (int64_t i = 0; i < raster.pixels.numel(); ++i) {
        to[i] = narrow(from[i], depth);
        raster.highest_of_16_bits = std::max<int>(raster.highest_of_16_bits, from[i]);
      }
    }
    if (photometric_ == PHOTOMETRIC_MINISWHITE) {
      raster.pixels.narrow(2, 0, 1).bitwise_not_();
    }
    return raster;
  }

  torch::Tensor read_floats() {
    torch::Tensor map = torch::empty({height_, width_}, torch::kFloat);
    read_samples(map.data_ptr<float>());
    return map;
  }

 private:
  struct Close {
    void operator()(TIFF* tiff) const { TIFFClose(tiff); }
  };
  struct FreeOptions {
    void operator()(TIFFOpenOptions* options) const { TIFFOpenOptionsFree(options); }
  };

  [[noreturn]] void fail() const {
    throw Error(fmt::format("damaged TIFF file ({})",
                            complaint_[0] != '\0' ? complaint_.data() : "no details"));
  }

  template <class T>
  T tag(uint32_t name) {
    T value = 0;
    if (TIFFGetFieldDefaulted(tiff_.get(), name, &value) != 1) value = 0;
    return value;
  }

  /// The samples of all strips or tiles, [height, width, samples], in this machine's byte order.
  template <class T>
  void read_samples(T* to) {
    TIFF* tiff = tiff_.get();
    const bool tiled = TIFFIsTiled(tiff) != 0;
    const bool planes = tag<uint16_t>(TIFFTAG_PLANARCONFIG) == PLANARCONFIG_SEPARATE;
    const int64_t block_width = tiled ? tag<uint32_t>(TIFFTAG_TILEWIDTH) : width_;
    const int64_t block_height =
        tiled ? tag<uint32_t>(TIFFTAG_TILELENGTH)
              : std::min<int64_t>(tag<uint32_t>(TIFFTAG_ROWSPERSTRIP), height_);
    check_extent(block_height, block_width);
    const int64_t block_samples = planes ? 1 : samples_;
    const int64_t row_samples = block_width * block_samples;
    std::vector<T> block(static_cast<size_t>(block_height * row_samples));
    for (int64_t plane = 0; plane < (planes ? samples_ : 1); ++plane) {
      for (int64_t y = 0; y < height_; y += block_height) {
        const int64_t rows = std::min(block_height, height_ - y);
        for (int64_t x = 0; x < width_; x += block_width) {
          const auto left = static_cast<uint32_t>(x);
          const auto top = static_cast<uint32_t>(y);
          const auto part = static_cast<uint16_t>(plane);
          const auto size = static_cast<tmsize_t>((tiled ? block_height : rows) * row_samples *
                                                  static_cast<int64_t>(sizeof(T)));
          const tmsize_t got =
              tiled ? TIFFReadEncodedTile(tiff, TIFFComputeTile(tiff, left, top, 0, part),
                                          block.data(), size)
                    : TIFFReadEncodedStrip(tiff, TIFFComputeStrip(tiff, top, part), block.data(),
                                           size);
          if (got < size) fail();
          const int64_t columns = std::min(block_width, width_ - x);
          for (int64_t row = 0; row < rows; ++row) {
            const T* from = block.data() + row * row_samples;
            T* out = to + ((y + row) * width_ + x) * samples_ + plane;
            if (!planes) {
              std::copy(from, from + columns * samples_, out);
              continue;
            }
            for (int64_t column = 0; column < columns; ++column)
              out[column * samples_] = from[column];
          }
        }
      }
    }
  }

  /// Palettes, few bits, YCbCr and the like, converted by libtiff.
  torch::Tensor read_as_rgb() {
    TIFFRGBAImage image;
    char message[1024] = {};
    if (TIFFRGBAImageBegin(&image, tiff_.get(), /*stop=*/1, message) == 0) {
      throw Error(fmt::format("this kind of TIFF file cannot be read ({})", message));
    }
    // Rows as stored; the caller turns the image.
    image.orientation = ORIENTATION_TOPLEFT;
    image.req_orientation = ORIENTATION_TOPLEFT;
    const torch::Tensor packed = torch::empty({height_, width_}, torch::kInt);
    auto* from = reinterpret_cast<uint32_t*>(packed.data_ptr<int32_t>());
    const int done = TIFFRGBAImageGet(&image, from, static_cast<uint32_t>(width_),
                                      static_cast<uint32_t>(height_));
    TIFFRGBAImageEnd(&image);
    if (done == 0) fail();
    torch::Tensor pixels = torch::empty({height_, width_, 3}, torch::kUInt8);
    uint8_t* to = pixels.data_ptr<uint8_t>();
    for (int64_t i = 0; i < height_ * width_; ++i, to += 3) {
      to[0] = static_cast<uint8_t>(TIFFGetR(from[i]));
      to[1] = static_cast<uint8_t>(TIFFGetG(from[i]));
      to[2] = static_cast<uint8_t>(TIFFGetB(from[i]));
    }
    return pixels;
  }

  Source source_;
  Complaint complaint_{};
  std::unique_ptr<TIFF, Close> tiff_;
  int64_t height_ = 0;
  int64_t width_ = 0;
  int64_t samples_ = 0;
  int bits_ = 0;
  int format_ = 0;
  int photometric_ = 0;
};

}  // namespace

Raster decode_tiff(std::string_view file, Depth depth) {
  return TiffReader(file).read_pixels(depth);
}

torch::Tensor decode_tiff_floats(std::string_view file) {
  TiffReader reader(file);
  require(reader.one_float_channel(), "expected one channel of 32-bit floats");
  return reader.read_floats();
}

Extent tiff_extent(std::string_view file) { return TiffReader(file).extent(); }

int exif_orientation(std::string_view block) {
  using namespace std::string_view_literals;
  if (block.starts_with("Exif\0\0"sv)) block.remove_prefix(6);
  const ByteReader reader(block, /*big_endian=*/block.starts_with("MM"));
  try {
    const uint64_t directory = reader.number(4, 4);
    const uint64_t entries = reader.number(directory, 2);
    for (uint64_t i = 0; i < entries; ++i) {
      const uint64_t entry = directory + 2 + i * 12;
      if (reader.number(entry, 2) != TIFFTAG_ORIENTATION) continue;
      const uint64_t orientation = reader.number(entry + 8, 2);
      return orientation >= 1 && orientation <= 8 ? static_cast<int>(orientation) : 1;
    }
  } catch (const Error&) {
    return 1;
  }
  return 1;
}

}  // namespace efficientad::internal
