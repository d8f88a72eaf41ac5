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
  /// The share of normal images that score lower, if the model knows it.
  std::optional<double> normal_share = {};
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
  /// AU-PRO by the limit of its false-positive rate, "0.3", "0.05" and "1.0" (MVTec AD's script).
  std::map<std::string, std::optional<double>> au_pro;
  /// MVTec LOCO only: AU-sPRO by kind of anomaly, each with the good images, and limit, "0.01" to
  /// "1.0"; and "mean" over the kinds.
  std::map<std::string, std::map<std::string, std::optional<double>>> au_spro;
  std::optional<double> aupimo;
  /// The curves of AU-PRO, and of AU-sPRO by kind of anomaly, to draw; see
  /// PixelMetrics::overlap_curve.
  std::vector<CurvePoint> pro_curve;
  std::map<std::string, std::vector<CurvePoint>> spro_curves;
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
  /// Called when all is computed, before an earlier evaluation's maps are replaced.
  std::function<void()> before_replacing = {};
};

/// <category folder>/test/<defect>/<id>.tiff, as MVTec's evaluation scripts expect it.
std::filesystem::path anomaly_map_path(const std::filesystem::path& category_folder,
                                       const Sample& sample);

/// Checks that every mask of the test images has its image's size, reading headers only. Throws
/// Error like "000_mask.png is 900x900, but its image 000.png is 1024x1024" (width x height).
void check_mask_sizes(const Dataset& dataset);

/// Runs the detector over the test images, writes their anomaly maps and computes all metrics.
/// Throws Error for a set without test images, a mask of another size or defects_config.json that
/// cannot be used (before any work), an image that cannot be read or a map with NaN or infinity;
/// Interrupted if the user asks to stop; then, as after an error, earlier maps are as they were.
Evaluation evaluate(const Detector& detector, const Dataset& dataset,
                    const EvaluateSettings& settings);

/// The same of anomaly maps that something else made: <maps>/<category>/test/<kind>/<id>.tiff, or
/// without <category>; an image's score is its map's maximum. Throws Error if a map is missing,
/// cannot be read, is not of its image's size, or holds NaN or infinity.
Evaluation evaluate_maps(const std::filesystem::path& maps, const Dataset& dataset,
                         const EvaluateSettings& settings);

/// Computes the image metrics of an evaluation from its images' scores.
void evaluate_scores(Evaluation& evaluation);

/// Computes the pixel metrics of an evaluation from its map files and masks (a pixel is defective
/// where any of its image's masks is above zero), or sets the reason why there are none. The maps
/// are read several times, in background threads, and never held together. `dataset` is the one
/// that the images are of; MVTec LOCO's defects_config.json is read from its folder.
void evaluate_pixels(Evaluation& evaluation, const Dataset& dataset, int loader_threads = 1);

}  // namespace efficientad
