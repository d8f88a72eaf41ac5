#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "efficientad/detect/anomaly_map.h"
#include "efficientad/detect/image_range.h"
#include "efficientad/detect/threshold.h"
#include "efficientad/nn/autoencoder.h"
#include "efficientad/nn/pdn.h"

namespace efficientad {

/// Values of the metadata key "format", which tells the kinds of file apart, and of
/// "format_version".
inline constexpr const char* kTeacherFormat = "efficientad-teacher";
inline constexpr const char* kModelFormat = "efficientad-model";
inline constexpr const char* kFormatVersion = "1";

/// A distilled (or random) teacher and what is known of it.
struct Teacher {
  Pdn network = nullptr;
  /// Provenance and figures, as in the file's metadata.
  std::map<std::string, std::string> metadata;
};

/// Writes weights as float16 with metadata (format "efficientad-teacher", version 1, model_size).
void save_teacher(const std::filesystem::path& path, const Teacher& teacher);

/// Reads a teacher file: float32 network in eval mode, without gradient, on the CPU; `padding` as
/// wanted (the weights do not depend on it). Throws Error if the file is no teacher, is damaged, or
/// its model size is not `model_size` (empty: any).
Teacher load_teacher(const std::filesystem::path& path, const std::string& model_size,
                     bool padding);

/// A teacher with random weights drawn from `seed`: what a detector is worth without a good one.
Teacher random_teacher(const std::string& model_size, bool padding, int64_t seed);

/// Everything a trained detector is, in one file.
struct ModelBundle {
  std::string model_size = "small";
  bool padding = false;
  std::array<int64_t, 2> image_hw = {256, 256};
  /// Of the images it was trained and calibrated on (sizes of up to 5,000 of each, grey levels of
  /// up to 300); models of earlier releases do not know it.
  ImageRange image_range;
  /// "fixed" or "full".
  std::string autoencoder_input = "fixed";
  /// Images are brought under one exposure first: equalize_exposure().
  bool equalize_exposure = false;
  Pdn teacher = nullptr;
  Pdn student = nullptr;
  Autoencoder autoencoder = nullptr;
  /// Teacher statistics, float32 [1, 384, 1, 1].
  torch::Tensor teacher_mean;
  torch::Tensor teacher_std;
  MapQuantiles quantiles;
  /// Image scores above it are called anomalous, and how it was chosen.
  double threshold = 0;
  std::string threshold_rule;
  /// The shift average of the scores that it was chosen from (see Detector); 0: not known.
  int64_t threshold_shift_average = 1;
  /// Scores of normal images, ascending; empty in models of earlier releases.
  std::vector<double> normal_scores;
  /// Of what images they are.
  NormalImages normal_images = NormalImages::kHeldOut;
  /// The shift average that they were taken with.
  int64_t normal_scores_shift_average = 1;
  /// Resolved options of the training and where things came from.
  nlohmann::ordered_json options;
  std::map<std::string, std::string> provenance;

  /// In what an image, uint8 [H, W, 3] on the CPU, is unlike those of the training (see
  /// ImageRange::unlike()): if it is, its score means little.
  std::vector<std::string> unlike_training(const torch::Tensor& image_u8) const {
    return image_range.unlike(image_u8, equalize_exposure);
  }
};

/// Writes the bundle as one safetensors file, whole or not at all: float32, but the teacher as
/// float16 where that loses nothing (it came from a float16 file).
void save_bundle(const std::filesystem::path& path, const ModelBundle& bundle);

/// Reads a bundle; networks in eval mode on the CPU. Throws Error if the file is no model, of a
/// later format, truncated or inconsistent.
ModelBundle load_bundle(const std::filesystem::path& path);

}  // namespace efficientad
