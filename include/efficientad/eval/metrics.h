#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace efficientad {

/// One image (or pixel): how anomalous it was found, and whether it is.
struct Scored {
  double score = 0;
  bool positive = false;
};

/// A point of a curve over all thresholds.
struct CurvePoint {
  double x = 0;
  double y = 0;
};

/// What a ranking of positives (anomalous) and negatives (good) by score is worth. A figure that
/// the classes do not define is empty, never NaN.
struct RankingMetrics {
  int64_t positives = 0;
  int64_t negatives = 0;
  /// Area under the ROC curve: the chance that a positive scores higher than a negative, ties
  /// counting one half. Empty unless both classes are there.
  std::optional<double> auroc;
  /// Sum over thresholds of (recall step) x precision, as scikit-learn's average_precision_score.
  /// Empty without positives.
  std::optional<double> average_precision;
  /// Largest F1 = 2 P R / (P + R) over all thresholds, as from scikit-learn's
  /// precision_recall_curve, and the threshold that gives it (score >= threshold is positive).
  /// Empty without positives.
  std::optional<double> f1_max;
  std::optional<double> f1_max_threshold;
  /// Share of the negatives that is called positive where at least 95 % (99 %) of the positives
  /// are. Empty unless both classes are there.
  std::optional<double> fpr_at_95_tpr;
  std::optional<double> fpr_at_99_tpr;
  /// The ROC curve to draw: the share of the negatives that is called positive (x) and that of the
  /// positives (y), from (0, 0) to (1, 1). Of the points at distinct scores so many that lines
  /// between them are within 1/250 of the curve, and 1/2000 in x below 0.05; some hundreds at most.
  /// Empty unless both classes are there.
  std::vector<CurvePoint> roc;
};

/// The metrics of a set of scores. Ties are handled exactly. Throws Error for a NaN score.
RankingMetrics ranking_metrics(std::vector<Scored> items);

/// The AUROC as the evaluation script of MVTec LOCO AD computes it, to compare with published
/// figures. It differs from RankingMetrics::auroc where scores tie: of each group of equal scores
/// the script puts the curve's point behind the first (lowest rank, good before anomalous) instead
/// of behind the last. Without ties both are the same. Empty unless both classes are there.
std::optional<double> auroc_of_loco_script(std::vector<Scored> items);

/// The pixels of one map.
struct MapPixels {
  const float* scores;
  /// Not zero where a pixel is defective.
  const uint8_t* defective;
  int64_t count;
  /// What a pixel that is found adds to the overlaps with the map's regions (see regions.h), whose
  /// number is `regions`; zero where it is not defective. May be nullptr.
  const float* overlap = nullptr;
  int64_t regions = 0;
};

using PixelVisitor = std::function<void(const MapPixels& map)>;

/// Calls the visitor once for each map of a set. Called several times, it must give the same pixels
/// each time, in any order.
using PixelSource = std::function<void(const PixelVisitor& visit)>;

/// Memory pixel_metrics() may take for its counts.
inline constexpr int64_t kPixelMemory = int64_t{1} << 30;

struct PixelMetrics : RankingMetrics {
  /// For each limit: the area under the curve of the regions' mean overlap over the false-positive
  /// rate (defect-free pixels that are found, of all such), from 0 to the limit, divided by the
  /// limit. As MVTec's scripts compute AU-PRO and AU-sPRO: trapezoids between the thresholds at
  /// distinct scores, the last one cut at the limit. Empty without regions or defect-free pixels.
  std::vector<double> overlap_areas;
  /// That curve to draw, thinned as RankingMetrics::roc is. Empty where the areas are.
  std::vector<CurvePoint> overlap_curve;
};

/// AUPIMO (Bertoldo et al. 2024): of each anomalous map, the share of its defective pixels that is
/// found, averaged over the logarithm of the false-positive rate from 1e-5 to 1e-4; that rate is
/// the mean over the normal maps of the share of their pixels that is found. Then the mean over the
/// anomalous maps. Exact: a step at each distinct score of the normal maps. A map is normal if it
/// has no defective pixel. `maps`: at least how many `source` gives. Empty without normal or
/// anomalous maps, or if those pixels of the normal maps that score highest are more than 1e-4 of
/// all. Two passes over the maps.
std::optional<double> aupimo(const PixelSource& source, int64_t maps);

/// The metrics over all pixels of all maps of `source`, exact: no binning, ties included. The maps
/// are never held: the first pass counts pixels by the upper half of their scores' bits, further
/// passes sort within those 65536 classes, as many classes at once as `memory_bytes` permit (2
/// bytes a pixel, 8 if it is defective; one further pass is enough for 5 * 10^8 good pixels in
/// kPixelMemory). `limits`: of the false-positive rate, in (0, 1], for the areas of overlap. Throws
/// Error for a NaN score, Interrupted if the user asks to stop.
PixelMetrics pixel_metrics(const PixelSource& source, const std::vector<double>& limits = {},
                           int64_t memory_bytes = kPixelMemory);

}  // namespace efficientad
