#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace efficientad {

/// Images and the teacher's targets for them, computed once and kept on disk: a file of records of
/// one size, each an image uint8 [side, side, 3] and a target float16 [grid, grid, channels], of
/// which crops are read without reading the rest. Records are appended one by one, so an
/// interrupted computation goes on where it was. Threads may read at once; one thread appends.
class FeatureCache {
 public:
  /// Opens `folder`/features.bin or begins it. `key` says what the records are (backbone, images,
  /// options). Records of another key are thrown away if `replace`; otherwise throws Error.
  FeatureCache(const std::filesystem::path& folder, const std::string& key, int64_t side,
               int64_t grid, int64_t channels, bool replace = false);
  ~FeatureCache();
  FeatureCache(const FeatureCache&) = delete;
  FeatureCache& operator=(const FeatureCache&) = delete;

  /// Whole records in the file.
  int64_t size() const { return count_; }

  /// Appends image uint8 [side, side, 3] and target [grid, grid, channels] (stored as float16).
  /// Throws Error if the disk is full; what was there before stays.
  void append(const torch::Tensor& image_u8, const torch::Tensor& target);

  /// Fills `to`, uint8 [height, width, 3], with image `index` from row y and column x on.
  void read_image(int64_t index, int64_t y, int64_t x, const torch::Tensor& to) const;
  /// The same of its target, `to` float16 [height, width, channels].
  void read_target(int64_t index, int64_t y, int64_t x, const torch::Tensor& to) const;
  /// Pixels [y, y + height) x [x, x + width) of image `index`: uint8 [height, width, 3].
  torch::Tensor image(int64_t index, int64_t y, int64_t x, int64_t height, int64_t width) const;
  /// The same of its target: float16 [height, width, channels].
  torch::Tensor target(int64_t index, int64_t y, int64_t x, int64_t height, int64_t width) const;

  /// Deletes the files, and the folder if it holds nothing else. Nothing can be read any more.
  void remove();

 private:
  void window(int64_t index, int64_t offset, int64_t row_bytes, int64_t y, int64_t begin,
              const torch::Tensor& to) const;

  std::filesystem::path path_;
  int64_t side_;
  int64_t grid_;
  int64_t channels_;
  int64_t record_bytes_;
  int64_t count_ = 0;
  int file_ = -1;
};

}  // namespace efficientad
