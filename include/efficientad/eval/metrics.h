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
};

/// The metrics of a set of scores. Ties are handled exactly. Throws Error for a NaN score.
RankingMetrics ranking_metrics(std::vector<Scored> items);

/// The AUROC as the evaluation script of MVTec LOCO AD computes it, to compare with published
/// figures. It differs from RankingMetrics::auroc where scores tie: of each group of equal scores
/// the script puts the curve's point behind the first (lowest rank, good before anomalous) instead
/// of behind the last. Without ties both are the same. Empty unless both classes are there.
std::optional<double> auroc_of_loco_script(std::vector<Scored> items);

/// Takes the pixels of one map: `count` scores and, for each, whether it is defective (not zero).
using PixelVisitor =
    std::function<void(const float* scores, const uint8_t* defective, int64_t count)>;

/// Calls the visitor once for each map of a set. Called several times, it must give the same pixels
/// each time, in any order.
using PixelSource = std::function<void(const PixelVisitor& visit)>;

/// Memory pixel_metrics() may take for its counts.
inline constexpr int64_t kPixelMemory = int64_t{1} << 30;

/// The metrics over all pixels of all maps of `source`, exact: no binning, ties included. The maps
/// are never held: the first pass counts pixels by the upper half of their scores' bits, further
/// passes sort within those 65536 classes, as many classes at once as `memory_bytes` permit (2
/// bytes a pixel; one further pass is enough for 5 * 10^8 pixels in kPixelMemory). Throws Error for
/// a NaN score, Interrupted if the user asks to stop.
RankingMetrics pixel_metrics(const PixelSource& source, int64_t memory_bytes = kPixelMemory);

}  // namespace efficientad
