#include "efficientad/data/image.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstring>
#include <iostream>
#include <mutex>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <set>
#include <streambuf>
#include <string_view>

#include "codecs.h"
#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/log.h"
#include "text.h"

namespace efficientad {
namespace {

using internal::Depth;
using internal::Extent;
using internal::Raster;

namespace fs = std::filesystem;

constexpr std::array<const char*, 7> kEndings = {".png", ".jpg",  ".jpeg", ".bmp",
                                                 ".tif", ".tiff", ".webp"};
/// OpenCV's codecs fail without a message beyond these.
constexpr int64_t kMaxJpegSide = 65500;
constexpr int64_t kMaxWebpSide = 16383;

enum class Format { kPng, kJpeg, kBmp, kTiff, kWebp, kUnknown };

/// By the first bytes, whatever the file's ending says.
Format format_of(std::string_view file) {
  using namespace std::string_view_literals;
  if (file.starts_with("\x89PNG\r\n\x1a\n"sv)) return Format::kPng;
  if (file.starts_with("\xff\xd8\xff"sv)) return Format::kJpeg;
  if (file.starts_with("BM"sv)) return Format::kBmp;
  for (const auto signature : {"II*\0"sv, "MM\0*"sv, "II+\0"sv, "MM\0+"sv}) {
    if (file.starts_with(signature)) return Format::kTiff;
  }
  if (file.size() >= 12 && file.starts_with("RIFF"sv) && file.substr(8, 4) == "WEBP"sv) {
    return Format::kWebp;
  }
  return Format::kUnknown;
}

uint32_t little_endian(std::string_view file, size_t offset, int size) {
  require(offset + static_cast<size_t>(size) <= file.size(), "the file is truncated");
  uint32_t value = 0;
  for (int i = size - 1; i >= 0; --i) {
    value = (value << 8) | static_cast<uint8_t>(file[offset + static_cast<size_t>(i)]);
  }
  return value;
}

/// The size in a BMP's header; Error if the file is too short for its pixels.
Extent bmp_extent(std::string_view file) {
  const size_t pixels = little_endian(file, 10, 4);
  const uint32_t header = little_endian(file, 14, 4);
  Extent extent;
  int64_t bits = 0;
  uint32_t compression = 0;
  if (header == 12) {
    extent.width = little_endian(file, 18, 2);
    extent.height = little_endian(file, 20, 2);
    bits = little_endian(file, 24, 2);
  } else {
    require(header >= 36, "damaged BMP file (a header of {} bytes)", header);
    extent.width = static_cast<int32_t>(little_endian(file, 18, 4));
    // Negative for rows stored from the top.
    extent.height = std::abs(int64_t{static_cast<int32_t>(little_endian(file, 22, 4))});
    bits = little_endian(file, 28, 2);
    compression = little_endian(file, 30, 4);
  }
  internal::check_extent(extent.height, extent.width);
  require(bits == 1 || bits == 4 || bits == 8 || bits == 16 || bits == 24 || bits == 32,
          "damaged BMP file ({} bits a pixel)", bits);
  const bool run_length = compression == 1 || compression == 2;
  const int64_t row_bytes = (extent.width * bits + 31) / 32 * 4;
  const int64_t needed = run_length ? 1 : row_bytes * extent.height;
  require(static_cast<int64_t>(pixels) + needed <= static_cast<int64_t>(file.size()),
          "the file is truncated");
  return extent;
}

/// The EXIF orientation of a WebP; Error if its chunks do not all lie within the file.
int webp_orientation(std::string_view file) {
  const size_t end = size_t{little_endian(file, 4, 4)} + 8;
  require(end <= file.size(), "the file is truncated");
  int orientation = 1;
  for (size_t at = 12; at + 8 <= end;) {
    const size_t size = little_endian(file, at + 4, 4);
    require(size <= end - at - 8, "the file is truncated");
    if (file.substr(at, 4) == "EXIF") {
      orientation = internal::exif_orientation(file.substr(at + 8, size));
    }
    require(file.substr(at, 4) != "ANIM", "animated WebP files cannot be read");
    at += 8 + size + size % 2;
  }
  return orientation;
}

/// While one lives, what OpenCV 4.6 writes to std::cerr in this thread about images it cannot
/// decode is dropped; the Error says it. (The stream, not the file descriptor: logging goes on.)
class QuietCerr {
 public:
  QuietCerr() {
    // Stays for good: taken out again, it could miss what another thread is writing.
    static std::once_flag once;
    std::call_once(once, [] { std::cerr.rdbuf(new Filter(std::cerr.rdbuf())); });
    quiet = true;
  }
  ~QuietCerr() { quiet = false; }
  QuietCerr(const QuietCerr&) = delete;
  QuietCerr& operator=(const QuietCerr&) = delete;

 private:
  static thread_local bool quiet;

  /// Hands on what threads write that are not quiet.
  class Filter : public std::streambuf {
   public:
    explicit Filter(std::streambuf* to) : to_(to) {}

   private:
    int overflow(int c) override {
      if (quiet || to_ == nullptr) return traits_type::not_eof(c);
      return c == EOF ? to_->pubsync() : to_->sputc(static_cast<char>(c));
    }
    std::streamsize xsputn(const char* text, std::streamsize count) override {
      return quiet || to_ == nullptr ? count : to_->sputn(text, count);
    }
    int sync() override { return quiet || to_ == nullptr ? 0 : to_->pubsync(); }

    std::streambuf* to_;
  };
};

thread_local bool QuietCerr::quiet = false;

/// Pixels of the formats that OpenCV reads for us, as stored (BGR, no orientation).
cv::Mat opencv_decode(std::string_view file) {
  require(file.size() < (size_t{1} << 31), "files of 2 GiB and more cannot be read");
  const cv::Mat bytes(1, static_cast<int>(file.size()), CV_8U, const_cast<char*>(file.data()));
  cv::Mat mat;
  try {
    const QuietCerr quiet;
    mat = cv::imdecode(bytes, cv::IMREAD_UNCHANGED);
  } catch (const cv::Exception& error) {
    throw Error(fmt::format("the image cannot be decoded ({})", error.err));
  }
  require(!mat.empty(), "the image is damaged or of a kind that cannot be decoded");
  return mat;
}

/// uint8 [height, width, channels] RGB of an OpenCV matrix.
torch::Tensor pixels_of(const cv::Mat& mat) {
  require(mat.depth() == CV_8U, "its samples are not of 8 bits");
  const int64_t channels = mat.channels();
  torch::Tensor pixels = torch::empty({mat.rows, mat.cols, channels}, torch::kUInt8);
  uint8_t* to = pixels.data_ptr<uint8_t>();
  for (int y = 0; y < mat.rows; ++y) {
    const auto* from = mat.ptr<uint8_t>(y);
    std::copy(from, from + mat.cols * channels, to);
    if (channels >= 3) {
      for (int x = 0; x < mat.cols; ++x) std::swap(to[x * channels], to[x * channels + 2]);
    }
    to += mat.cols * channels;
  }
  return pixels;
}

Raster decode(std::string_view file, Depth depth) {
  switch (format_of(file)) {
    case Format::kPng:
      return internal::decode_png(file, depth);
    case Format::kJpeg:
      return internal::decode_jpeg(file);
    case Format::kBmp: {
      const Extent extent = bmp_extent(file);
      return {.pixels = pixels_of(opencv_decode(file)), .orientation = extent.orientation};
    }
    case Format::kTiff:
      return internal::decode_tiff(file, depth);
    case Format::kWebp: {
      const int orientation = webp_orientation(file);
      return {.pixels = pixels_of(opencv_decode(file)), .orientation = orientation};
    }
    case Format::kUnknown:
      break;
  }
  require(!file.empty(), "the file is empty");
  throw Error("not a PNG, JPEG, BMP, TIFF or WebP image");
}

/// Turns [height, width, channels] the right way up.
torch::Tensor upright(const torch::Tensor& pixels, int orientation) {
  switch (orientation) {
    case 2:
      return pixels.flip({1});
    case 3:
      return pixels.flip({0, 1});
    case 4:
      return pixels.flip({0});
    case 5:
      return pixels.transpose(0, 1).contiguous();
    case 6:
      return pixels.transpose(0, 1).flip({1});
    case 7:
      return pixels.transpose(0, 1).flip({0, 1});
    case 8:
      return pixels.transpose(0, 1).flip({0});
    default:
      return pixels;
  }
}

/// Reads `path` whole and runs `work` on the bytes; the file's name is put before its errors.
template <class Work>
auto with_file(const fs::path& path, Work&& work) {
  const std::string file = read_file(path);
  try {
    return work(std::string_view(file));
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", path.string(), error.what()));
  } catch (const std::bad_alloc&) {
    throw Error(fmt::format("{}: not enough memory for this image", path.string()));
  } catch (const c10::Error& error) {
    // What LibTorch throws where it has no memory for a tensor is of no type of its own.
    if (std::string_view(error.what_without_backtrace()).find("memory") == std::string_view::npos) {
      throw;
    }
    throw Error(fmt::format("{}: not enough memory for this image", path.string()));
  }
}

/// Once in a program's life, if of 16 bits the upper four are never used.
void warn_of_unused_bits(const fs::path& path, int highest) {
  constexpr int kLeast = 1 << 12;
  static std::atomic<bool> warned = false;
  if (highest <= 0 || highest >= kLeast || warned.exchange(true)) return;
  spdlog::warn(
      "{}: has 16 bits a sample, but its largest value is {}, and the upper 8 bits are what is "
      "looked at: {} grey levels; if the camera gives {} bits, bring its values to 8 or 16 first",
      path.string(), highest, (highest >> 8) + 1, highest < 1024 ? 10 : 12);
}

std::string lower_ending(const fs::path& path) {
  return internal::lower_case(path.extension().string());
}

/// Collects the images of a folder; with `recursive`, of the folders in it too, each once: first
/// those that are there, then those that links lead to.
class Listing {
 public:
  Listing(const fs::path& folder, bool recursive) : recursive_(recursive) {
    add(folder);
    for (size_t i = 0; i < links_.size(); ++i) add(fs::path(links_[i]));
    std::sort(images.begin(), images.end());
  }

  std::vector<fs::path> images;

 private:
  void add(const fs::path& folder) {
    if (!known_.insert(fs::canonical(folder)).second) return;
    std::vector<fs::path> links;
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().filename().string().starts_with(".")) continue;
      std::error_code unreadable;
      if (entry.is_directory(unreadable)) {
        if (!recursive_) continue;
        if (entry.is_symlink(unreadable)) {
          links.push_back(entry.path());
        } else {
          add(entry.path());
        }
        continue;
      }
      // Who reads what a broken link should lead to will be told.
      const bool file = entry.is_regular_file(unreadable) ||
                        (entry.is_symlink(unreadable) && !entry.exists(unreadable));
      if (file && has_image_ending(entry.path())) images.push_back(entry.path());
    }
    std::sort(links.begin(), links.end());
    links_.insert(links_.end(), links.begin(), links.end());
  }

  bool recursive_;
  /// Folders without links in their paths.
  std::set<fs::path> known_;
  std::vector<fs::path> links_;
};

/// Encodes in memory and writes whole or not at all.
void write_encoded(const fs::path& path, const std::string& ending, const cv::Mat& mat,
                   const std::vector<int>& parameters) {
  std::vector<uint8_t> bytes;
  bool encoded = false;
  try {
    const QuietCerr quiet;
    encoded = cv::imencode(ending, mat, bytes, parameters);
  } catch (const cv::Exception& error) {
    throw Error(fmt::format("{}: the image cannot be encoded ({})", path.string(), error.err));
  }
  require(encoded, "{}: the image cannot be encoded", path.string());
  write_file(path, std::string(bytes.begin(), bytes.end()));
}

}  // namespace

void internal::check_extent(int64_t height, int64_t width) {
  require(height > 0 && width > 0, "damaged file: its size is {}x{} px", width, height);
  require(height <= kMaxPixels / width, "it has {}x{} px; images of more than {} px are refused",
          width, height, kMaxPixels);
}

torch::Tensor read_image(const fs::path& path) {
  return with_file(path, [&](std::string_view file) {
    const Raster raster = decode(file, Depth::kScaled);
    warn_of_unused_bits(path, raster.highest_of_16_bits);
    torch::Tensor pixels = raster.pixels;
    if (pixels.size(2) == 2) pixels = pixels.narrow(2, 0, 1);
    if (pixels.size(2) == 4) pixels = pixels.narrow(2, 0, 3);
    if (pixels.size(2) == 1) pixels = pixels.expand({-1, -1, 3});
    require(pixels.size(2) == 3, "it has {} channels, expected 1 to 4", pixels.size(2));
    return upright(pixels, raster.orientation).contiguous();
  });
}

std::array<int64_t, 2> read_image_size(const fs::path& path) {
  return with_file(path, [](std::string_view file) -> std::array<int64_t, 2> {
    Extent extent;
    switch (format_of(file)) {
      case Format::kPng:
        extent = internal::png_extent(file);
        break;
      case Format::kJpeg:
        extent = internal::jpeg_extent(file);
        break;
      case Format::kBmp:
        extent = bmp_extent(file);
        break;
      case Format::kTiff:
        extent = internal::tiff_extent(file);
        break;
      default: {
        const Raster raster = decode(file, Depth::kScaled);
        extent = {raster.pixels.size(0), raster.pixels.size(1), raster.orientation};
      }
    }
    if (extent.orientation >= 5) std::swap(extent.height, extent.width);
    return {extent.height, extent.width};
  });
}

torch::Tensor read_mask(const fs::path& path) {
  return with_file(path, [](std::string_view file) {
    const Raster raster = decode(file, Depth::kOwnValues);
    torch::Tensor pixels = raster.pixels;
    const int64_t channels = pixels.size(2);
    if (channels == 2 || channels == 4) pixels = pixels.narrow(2, 0, channels - 1);
    return upright(pixels.amax(2, /*keepdim=*/true), raster.orientation).squeeze(2).contiguous();
  });
}

void write_image(const fs::path& path, const torch::Tensor& image_u8) {
  TORCH_CHECK(image_u8.scalar_type() == torch::kUInt8 &&
                  (image_u8.dim() == 2 || (image_u8.dim() == 3 && image_u8.size(2) == 3)) &&
                  image_u8.numel() > 0,
              "write_image() takes uint8 [height, width] or [height, width, 3], got ",
              image_u8.scalar_type(), " ", image_u8.sizes());
  const std::string ending = lower_ending(path);
  require(has_image_ending(path), "{}: cannot write images with the ending \"{}\"; known are {}",
          path.string(), ending, join({kEndings.begin(), kEndings.end()}));
  const int64_t limit = ending == ".jpg" || ending == ".jpeg" ? kMaxJpegSide
                        : ending == ".webp"                   ? kMaxWebpSide
                                                              : INT32_MAX;
  require(image_u8.size(0) <= limit && image_u8.size(1) <= limit,
          "{}: the image has {}x{} px, but this format holds at most {} px a side", path.string(),
          image_u8.size(1), image_u8.size(0), limit);
  const bool colour = image_u8.dim() == 3;
  const torch::Tensor stored =
      (colour ? image_u8.flip({2}) : image_u8).to(torch::kCPU).contiguous();
  const cv::Mat mat(static_cast<int>(stored.size(0)), static_cast<int>(stored.size(1)),
                    colour ? CV_8UC3 : CV_8UC1, stored.data_ptr<uint8_t>());
  write_encoded(path, ending, mat, {});
}

void write_tiff(const fs::path& path, const torch::Tensor& map) {
  TORCH_CHECK(map.scalar_type() == torch::kFloat && map.dim() == 2 && map.numel() > 0,
              "write_tiff() takes float32 [height, width], got ", map.scalar_type(), " ",
              map.sizes());
  const torch::Tensor stored = map.detach().to(torch::kCPU).contiguous();
  const cv::Mat mat(static_cast<int>(stored.size(0)), static_cast<int>(stored.size(1)), CV_32FC1,
                    stored.data_ptr<float>());
  // Uncompressed: evaluation scripts read these with tifffile, which alone knows no LZW.
  write_encoded(path, ".tiff", mat, {cv::IMWRITE_TIFF_COMPRESSION, 1});
}

torch::Tensor read_tiff(const fs::path& path) {
  return with_file(path, [](std::string_view file) {
    require(format_of(file) == Format::kTiff, "not a TIFF file");
    return internal::decode_tiff_floats(file);
  });
}

bool has_image_ending(const fs::path& path) {
  return std::find(kEndings.begin(), kEndings.end(), lower_ending(path)) != kEndings.end();
}

std::vector<fs::path> list_images(const fs::path& folder, bool recursive) {
  std::error_code error;
  require(fs::exists(folder, error), "{}: there is no such folder", folder.string());
  require(fs::is_directory(folder, error), "{} is no folder", folder.string());
  try {
    return Listing(folder, recursive).images;
  } catch (const fs::filesystem_error& failure) {
    throw Error(fmt::format("{}: the folder cannot be read ({})", folder.string(),
                            failure.code().message()));
  }
}

}  // namespace efficientad
