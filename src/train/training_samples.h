#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "efficientad/data/dataset.h"
#include "efficientad/data/loader.h"
#include "efficientad/detect/calibration.h"
#include "efficientad/train/train_options.h"

namespace efficientad {

/// One of the parts of the training images for cross-fitting; count 0: no cross-fitting.
struct Fold {
  int64_t index = 0;
  int64_t count = 0;
};

/// A data set's images as a training uses them.
struct TrainingSamples {
  std::string layout;
  std::string category;
  std::vector<Sample> train;
  /// To calibrate on.
  std::vector<Sample> validation;
  /// Those of the fold, which the model is to judge.
  std::vector<Sample> left_out;
  /// Where `validation` comes from.
  std::string validation_source;
  /// `validation` are training images, each to be altered: there are so few that none can be
  /// spared.
  bool altered = false;

  std::vector<std::filesystem::path> train_paths() const;
};

/// Opens the data set and chooses. Throws Error if it cannot be used, or has too few images.
TrainingSamples choose_samples(const TrainOptions& options, Fold fold);

/// Number, names and sizes, to tell whether they are the same as before.
std::string describe_images(const std::vector<Sample>& samples);

/// Reads those that are needed last: one that cannot be read should not show after hours of
/// training. Throws Error, or Interrupted.
void check_validation(const TrainingSamples& samples);

/// Images as the networks want them, in the background; `altered`: copies, each moved and
/// brightened a little. `samples` must live as long.
Prefetcher<CalibrationImage> calibration_images(const std::vector<Sample>& samples, bool altered,
                                                const TrainOptions& options);

}  // namespace efficientad
