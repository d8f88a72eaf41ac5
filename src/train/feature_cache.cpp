#include "efficientad/train/feature_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

void write_all(int file, const void* data, int64_t bytes, const fs::path& path) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(file, at, static_cast<size_t>(bytes));
    if (written < 0 && errno == EINTR) continue;
    require(written > 0, "{}: cannot be written: {}", path.string(), std::strerror(errno));
    at += written;
    bytes -= written;
  }
}

}  // namespace

FeatureCache::FeatureCache(const fs::path& folder, const std::string& key, int64_t side,
                           int64_t grid, int64_t channels, bool replace)
    : path_(folder / "features.bin"),
      side_(side),
      grid_(grid),
      channels_(channels),
      record_bytes_(side * side * 3 + grid * grid * channels * 2) {
  make_folder(folder);
  const fs::path key_path = folder / "features.key";
  const bool same = fs::exists(key_path) && read_file(key_path) == key;
  if (!same) {
    std::error_code ignored;
    const uintmax_t bytes = fs::exists(path_, ignored) ? fs::file_size(path_, ignored) : 0;
    require(replace || bytes < static_cast<uintmax_t>(record_bytes_),
            "{}: holds features of other images, backbones or options; give another folder, or "
            "--overwrite to replace them",
            folder.string());
    fs::remove(path_, ignored);
    write_file(key_path, key);
  }
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  require(file_ >= 0, "{}: cannot be opened: {}", path_.string(), std::strerror(errno));
  struct stat info {};
  require(::fstat(file_, &info) == 0, "{}: {}", path_.string(), std::strerror(errno));
  count_ = info.st_size / record_bytes_;
}

FeatureCache::~FeatureCache() {
  if (file_ >= 0) ::close(file_);
}

void FeatureCache::remove() {
  ::close(file_);
  file_ = -1;
  std::error_code ignored;
  fs::remove(path_, ignored);
  fs::remove(path_.parent_path() / "features.key", ignored);
  // Not if anything else lies there.
  fs::remove(path_.parent_path(), ignored);
}

void FeatureCache::append(const torch::Tensor& image_u8, const torch::Tensor& target) {
  TORCH_CHECK(image_u8.numel() == side_ * side_ * 3 && image_u8.scalar_type() == torch::kUInt8);
  TORCH_CHECK(target.numel() == grid_ * grid_ * channels_ && target.size(2) == channels_);
  const torch::Tensor image = image_u8.contiguous();
  const torch::Tensor rows = target.to(torch::kFloat16).contiguous();
  const off_t start = static_cast<off_t>(count_ * record_bytes_);
  // A record that an earlier run left half written is overwritten.
  require(::lseek(file_, start, SEEK_SET) == start, "{}: {}", path_.string(), std::strerror(errno));
  write_all(file_, image.data_ptr(), static_cast<int64_t>(image.nbytes()), path_);
  write_all(file_, rows.data_ptr(), static_cast<int64_t>(rows.nbytes()), path_);
  ++count_;
}

void FeatureCache::window(int64_t index, int64_t offset, int64_t row_bytes, int64_t y,
                          int64_t begin, const torch::Tensor& to) const {
  TORCH_CHECK(to.is_contiguous() && to.device().is_cpu());
  const int64_t height = to.size(0);
  const auto bytes = static_cast<int64_t>(to.nbytes()) / std::max<int64_t>(height, 1);
  TORCH_CHECK(index >= 0 && index < count_ && begin >= 0 && begin + bytes <= row_bytes);
  auto* row_to = static_cast<char*>(to.data_ptr());
  for (int64_t row = 0; row < height; ++row, row_to += bytes) {
    const off_t at =
        static_cast<off_t>(index * record_bytes_ + offset + (y + row) * row_bytes + begin);
    const ssize_t read = ::pread(file_, row_to, static_cast<size_t>(bytes), at);
    require(read == bytes, "{}: cannot be read at byte {}", path_.string(), at);
  }
}

void FeatureCache::read_image(int64_t index, int64_t y, int64_t x, const torch::Tensor& to) const {
  TORCH_CHECK(y >= 0 && y + to.size(0) <= side_ && to.size(2) == 3 &&
              to.scalar_type() == torch::kUInt8);
  window(index, 0, side_ * 3, y, x * 3, to);
}

void FeatureCache::read_target(int64_t index, int64_t y, int64_t x, const torch::Tensor& to) const {
  TORCH_CHECK(y >= 0 && y + to.size(0) <= grid_ && to.size(2) == channels_ &&
              to.scalar_type() == torch::kFloat16);
  window(index, side_ * side_ * 3, grid_ * channels_ * 2, y, x * channels_ * 2, to);
}

torch::Tensor FeatureCache::image(int64_t index, int64_t y, int64_t x, int64_t height,
                                  int64_t width) const {
  const torch::Tensor image = torch::empty({height, width, 3}, torch::kUInt8);
  read_image(index, y, x, image);
  return image;
}

torch::Tensor FeatureCache::target(int64_t index, int64_t y, int64_t x, int64_t height,
                                   int64_t width) const {
  const torch::Tensor target = torch::empty({height, width, channels_}, torch::kFloat16);
  read_target(index, y, x, target);
  return target;
}

}  // namespace efficientad
