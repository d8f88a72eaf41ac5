#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "efficientad/data/dataset.h"
#include "efficientad/detect/detector.h"
#include "efficientad/eval/metrics.h"

namespace efficientad {

/// A test image and what the detector made of it.
struct EvaluatedImage {
  Sample sample;
  /// Its anomaly map: float32 TIFF of the image's size.
  std::filesystem::path map_path = {};
  double score = 0;
  /// The maxima of the student-teacher and the autoencoder map, where they are known.
  std::optional<double> score_st = {};
  std::optional<double> score_ae = {};
  /// The detector's decision.
  bool called_anomalous = false;
};

/// A detector's results on the test images of a data set. A figure that the set does not define
/// (one class only, no masks) is empty.
struct Evaluation {
  std::vector<EvaluatedImage> images;
  RankingMetrics image_metrics;
  /// Image AUROC of either map alone: which of the two is to blame.
  std::optional<double> auroc_st;
  std::optional<double> auroc_ae;
  /// Image AUROC of the good images and those of one kind of defect, and the mean over the kinds.
  std::map<std::string, std::optional<double>> auroc_by_defect;
  std::optional<double> auroc_by_defect_mean;
  /// The same two as MVTec LOCO's evaluation script computes them (see auroc_of_loco_script()).
  std::map<std::string, std::optional<double>> loco_auroc_by_defect;
  std::optional<double> loco_auroc_by_defect_mean;
  RankingMetrics pixel_metrics;
  /// Why there are no pixel metrics; empty where there are.
  std::string no_pixel_metrics;
};

struct EvaluateSettings {
  /// Maps go to <output>/anomaly_maps/<category>/test/<defect>/<id>.tiff.
  std::filesystem::path output;
  /// Images a call of the networks.
  int64_t batch_size = 8;
  /// Threads that read and resize images in the background.
  int loader_threads = 1;
  /// Called after each batch: images done, and all.
  std::function<void(int64_t done, int64_t total)> progress = {};
};

/// <category folder>/test/<defect>/<id>.tiff, as MVTec's evaluation scripts expect it.
std::filesystem::path anomaly_map_path(const std::filesystem::path& category_folder,
                                       const Sample& sample);

/// Checks that every mask of the test images has its image's size, reading headers only. Throws
/// Error like "000_mask.png is 900x900, but its image 000.png is 1024x1024" (width x height).
void check_mask_sizes(const Dataset& dataset);

/// Runs the detector over the test images, writes their anomaly maps and computes all metrics.
/// Throws Error for a set without test images, a mask of another size (before any work), an image
/// that cannot be read or a map with NaN; Interrupted if the user asks to stop (maps written until
/// then are whole).
Evaluation evaluate(const Detector& detector, const Dataset& dataset,
                    const EvaluateSettings& settings);

/// Computes the image metrics of an evaluation from its images' scores.
void evaluate_scores(Evaluation& evaluation);

/// Computes the pixel metrics of an evaluation from its map files and masks (a pixel is defective
/// where any of its image's masks is above zero), or sets the reason why there are none. The maps
/// are read twice or more, in background threads, and never held together.
void evaluate_pixels(Evaluation& evaluation, int loader_threads = 1);

}  // namespace efficientad
