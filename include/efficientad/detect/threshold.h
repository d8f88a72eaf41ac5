#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace efficientad {

/// A threshold (scores above it are called anomalous) and how it was chosen.
struct Threshold {
  double value = 0;
  std::string rule;
};

/// With which confidence a false-positive rate is promised.
inline constexpr double kThresholdConfidence = 0.95;

/// How many of `count` normal images may score above a threshold that is one of their scores, so
/// that its false-positive rate on new images is at most `max_fpr` with kThresholdConfidence:
/// the largest m with P(Binomial(count, max_fpr) <= m) <= 1 - confidence (order statistics bound
/// any continuous distribution's quantiles). Empty if not even none may.
std::optional<int64_t> exceedances_allowed(int64_t count, double max_fpr);

/// The least number of normal images with which `max_fpr` can be promised: 299 for 1 %, 59 for 5 %.
int64_t normals_needed(double max_fpr);

/// The false-positive rate that the highest of `count` scores promises: 1 - 0.05^(1 / count).
double promised_fpr(int64_t count);

/// What a model has to do with normal images whose scores are known.
enum class NormalImages {
  /// It was not trained on them.
  kHeldOut,
  /// It was, but the scores are of other models, each trained on the others of them.
  kCrossFitted,
  /// It was, and they are its own scores: too low to say anything of other images.
  kTrainedOn,
};

/// The lowest of the scores of normal images that promises `max_fpr`, or the highest of them, with
/// what it promises instead, if they are too few. The promise holds for images that are drawn as
/// those were; of cross-fitted scores it is an estimate; of kTrainedOn the threshold is the
/// highest score, and nothing is promised. `which`: of the images, for the rule, as in "held-out
/// normal images". Throws Error if there are none, or one is not finite.
Threshold threshold_of_normal_scores(const std::vector<double>& scores, double max_fpr,
                                     const std::string& which,
                                     NormalImages images = NormalImages::kHeldOut);

/// An image's score and whether it shows a defect.
struct LabelledScore {
  double score = 0;
  bool anomalous = false;
};

/// The threshold with the largest F1, halfway between the scores that it parts. Throws Error unless
/// there are good and anomalous images.
Threshold threshold_of_best_f1(const std::vector<LabelledScore>& scores);

/// The threshold with the least cost, where a missed defect costs as much as `cost_ratio` false
/// alarms. Of several, the one furthest from the scores beside it. Throws as the other.
Threshold threshold_of_least_cost(const std::vector<LabelledScore>& scores, double cost_ratio);

/// The share of normal images that score lower than `score`, 0 to 1. `sorted`: theirs, ascending,
/// not empty.
double normal_share(const std::vector<double>& sorted, double score);

}  // namespace efficientad
