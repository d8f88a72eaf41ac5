#include "train/training_samples.h"

#include <fmt/format.h>
#include <torch/types.h>

#include <numeric>
#include <utility>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/random.h"
#include "efficientad/data/augment.h"
#include "efficientad/data/image.h"
#include "efficientad/data/resize.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

/// A stream of random numbers (see Rng).
constexpr uint64_t kFolds = 4;

/// At least ten images to calibrate on, each to become a copy of a training image, moved and
/// brightened a little. Held-out images would score higher, so that quantiles and threshold are
/// rather too low, but every image is learned from.
std::vector<Sample> repeated(const std::vector<Sample>& train) {
  constexpr size_t kLeast = 10;
  std::vector<Sample> many;
  while (many.size() < kLeast) many.insert(many.end(), train.begin(), train.end());
  return many;
}

/// Moves a part of the training images to `left_out`.
void leave_out(TrainingSamples& samples, const Fold& fold, int64_t seed) {
  const size_t count = samples.train.size();
  require(static_cast<int64_t>(count) >= 2 * fold.count,
          "{} training images are too few for cross_fit {}", count, fold.count);
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  Rng(static_cast<uint64_t>(seed), kFolds).shuffle(order);
  std::vector<Sample> kept;
  for (size_t i = 0; i < count; ++i) {
    const bool out = order[i] % fold.count == fold.index;
    (out ? samples.left_out : kept).push_back(std::move(samples.train[i]));
  }
  samples.train = std::move(kept);
}

}  // namespace

std::vector<fs::path> TrainingSamples::train_paths() const {
  std::vector<fs::path> paths;
  for (const auto& sample : train) paths.push_back(sample.image_path);
  return paths;
}

TrainingSamples choose_samples(const TrainOptions& options, Fold fold) {
  Dataset dataset = open_dataset(options.dataset, options.data, options.category,
                                 {.normal_dir = options.normal_dir}, DatasetPart::kTraining);
  require_apart(dataset, options.output);
  const bool has_own_validation = !dataset.validation.empty();
  keep_shots(dataset, options.shots, options.seed);
  const auto count = static_cast<double>(dataset.train.size());
  TrainingSamples samples;
  samples.altered = !has_own_validation && options.validation_fraction * count < 1;
  if (!samples.altered) split_validation(dataset, options.validation_fraction, options.seed);
  samples.layout = dataset.layout;
  samples.category = dataset.category;
  samples.train = std::move(dataset.train);
  samples.validation = std::move(dataset.validation);
  if (fold.count > 0) leave_out(samples, fold, options.seed);
  // After that, so that no copy of what the fold judges calibrates its model.
  if (samples.altered) samples.validation = repeated(samples.train);
  samples.validation_source = has_own_validation ? "the data set's own"
                              : samples.altered  ? "altered copies of the training images"
                                                 : "split off the training images";
  return samples;
}

std::string describe_images(const std::vector<Sample>& samples) {
  uint64_t hash = hash64(nullptr, 0);
  for (const auto& sample : samples) {
    const std::string name = sample.image_path.filename().string() + "\n";
    hash = hash64(name.data(), name.size(), hash);
    std::error_code ignored;
    const uintmax_t size = fs::file_size(sample.image_path, ignored);
    hash = hash64(&size, sizeof(size), hash);
  }
  return fmt::format("{} images, names and sizes {}", samples.size(), hex64(hash));
}

void check_validation(const TrainingSamples& samples) {
  for (const auto* list : {&samples.validation, &samples.left_out}) {
    for (const auto& sample : *list) {
      read_image(sample.image_path);
      if (interrupt_requested()) {
        throw Interrupted("interrupted before the first training step");
      }
    }
  }
}

Prefetcher<CalibrationImage> calibration_images(const std::vector<Sample>& samples, bool altered,
                                                const TrainOptions& options) {
  return {0, static_cast<int64_t>(samples.size()),
          [&samples, altered, size_hw = options.image_hw(),
           seed = static_cast<uint64_t>(options.seed)](int64_t i) {
            const torch::Tensor image = read_image(samples[static_cast<size_t>(i)].image_path);
            torch::Tensor input = to_float_chw(resize_pil_bilinear(image, size_hw));
            if (altered) input = augmented_copy(input, seed, static_cast<uint64_t>(i));
            return CalibrationImage{.image = input, .size_hw = {image.size(0), image.size(1)}};
          },
          static_cast<int>(options.workers)};
}

}  // namespace efficientad
