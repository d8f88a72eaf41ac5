#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cli/command.h"
#include "cli/input_images.h"
#include "cli/verify_options.h"
#include "efficientad/core/device.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/log.h"
#include "efficientad/core/progress.h"
#include "efficientad/data/dead_leaves.h"
#include "efficientad/data/image.h"
#include "efficientad/data/resize.h"
#include "efficientad/detect/detector.h"
#include "efficientad/eval/score_image.h"

namespace efficientad::cli {

namespace {

/// Numbers of both engines, to be compared as shares of the reference's range.
class Comparison {
 public:
  void add(double expected, double actual) {
    low_ = std::min(low_, expected);
    high_ = std::max(high_, expected);
    // A difference that is no number must not pass.
    double difference = std::abs(actual - expected);
    if (!std::isfinite(difference)) difference = std::numeric_limits<double>::infinity();
    largest_ = std::max(largest_, difference);
    ++counts_[bin_of(static_cast<float>(difference))];
    ++count_;
  }

  double range() const { return high_ - low_; }
  double largest(double range) const { return largest_ / range; }
  /// What 99 % of the differences do not exceed, or up to 1 % more.
  double percentile_99(double range) const {
    const auto rank = static_cast<int64_t>(std::ceil(0.99 * static_cast<double>(count_)));
    int64_t below = 0;
    for (size_t bin = 0; bin < counts_.size(); ++bin) {
      below += counts_[bin];
      if (below >= rank) return std::min<double>(upper_end_of(bin), largest_) / range;
    }
    return largest(range);
  }

 private:
  /// Numbers that agree in sign, exponent and 7 bits after the first; ascending from zero.
  static constexpr int kDropped = 16;

  static size_t bin_of(float value) { return std::bit_cast<uint32_t>(value) >> kDropped; }
  static float upper_end_of(size_t bin) {
    if (bin == 0) return 0;
    const auto most = static_cast<uint32_t>(bin << kDropped) | ((1U << kDropped) - 1);
    const auto end = std::bit_cast<float>(most);
    return std::isnan(end) ? std::numeric_limits<float>::infinity() : end;
  }

  double low_ = std::numeric_limits<double>::infinity();
  double high_ = -std::numeric_limits<double>::infinity();
  double largest_ = 0;
  int64_t count_ = 0;
  std::vector<int64_t> counts_ = std::vector<int64_t>(size_t{1} << kDropped);
};

/// Images by index: of files, or procedural.
struct Images {
  InputImages files;
  int64_t count() const {
    constexpr int64_t kProcedural = 10;
    return files.images.empty() ? kProcedural : static_cast<int64_t>(files.images.size());
  }
  torch::Tensor read(int64_t index) const {
    constexpr int64_t kSide = 512;
    if (files.images.empty()) {
      return dead_leaves_image(kSide, /*seed=*/0, static_cast<uint64_t>(index));
    }
    return read_image(files.images[static_cast<size_t>(index)]);
  }
};

/// If `asked` is negative, that of the precision.
double tolerance_of(double asked, const std::string& precision) {
  if (asked >= 0) return asked;
  if (precision == "bf16") return 0.08;
  return precision == "fp16" ? 0.01 : 0.001;
}

}  // namespace

int verify(const Arguments& arguments) {
  VerifyOptions options;
  const CommonFlags common = parse_options(
      arguments,
      "Compare the fast engine with the reference (LibTorch's own operations, float32) on images: "
      "differences of maps and scores as shares of the range of the reference's. Exit status 1 if "
      "one is beyond the tolerance, or an image cannot be read.",
      options);
  require_usage(options.tolerance >= 0 || options.tolerance == -1,
                "tolerance is {}, but must be -1 or from 0 to 1", options.tolerance);
  const InterruptGuard guard;
  Images images;
  if (!options.paths.empty()) images.files = find_images(options.paths, std::nullopt);
  set_threads(options.threads);
  const torch::Device device = select_device(options.device);
  const std::string engine = resolve_engine(options.engine, device);
  const Detector reference(load_bundle(options.model), torch::kCPU, "reference", "fp32",
                           options.shift_average);
  const std::string precision = resolve_engine_precision(options.precision, engine);
  const Detector fast(load_bundle(options.model), device, engine, precision, options.shift_average);
  const auto input_hw = fast.input_hw();

  Comparison maps;
  Comparison scores;
  std::vector<Failure> failures = images.files.failures;
  std::vector<torch::Tensor> inputs;
  std::vector<std::array<int64_t, 2>> sizes;
  // As infer has them, if the engine resizes them.
  std::vector<torch::Tensor> frames;
  int64_t compared = 0;
  const auto add = [&](const Detection& expected, const Detection& actual) {
    const torch::Tensor expected_map = expected.map_at_image.contiguous();
    const torch::Tensor actual_map = actual.map_at_image.contiguous();
    const auto* e = expected_map.data_ptr<float>();
    const auto* a = actual_map.data_ptr<float>();
    for (int64_t k = 0; k < expected_map.numel(); ++k) maps.add(e[k], a[k]);
    scores.add(expected.score, actual.score);
  };
  const auto compare = [&] {
    const torch::Tensor batch = torch::stack(inputs);
    const torch::Tensor of_fast = fast.maps_of_bytes(batch);
    for (size_t j = 0; j < sizes.size(); ++j) {
      const auto at = static_cast<int64_t>(j);
      const Detection expected =
          reference.finish(reference.maps_of_bytes(batch.narrow(0, at, 1))[0], sizes[j]);
      add(expected, fast.finish(of_fast[at], sizes[j]));
      if (!frames.empty()) add(expected, score_image(fast, frames[j]));
      ++compared;
    }
    inputs.clear();
    sizes.clear();
    frames.clear();
  };
  Progress progress("verify", images.count(), "image");
  for (int64_t i = 0; i < images.count(); ++i) {
    if (interrupt_requested()) throw Interrupted("interrupted; nothing was verified");
    torch::Tensor image_u8;
    try {
      image_u8 = images.read(i);
    } catch (const Error& error) {
      failures.push_back({"", error.what()});
      continue;
    }
    inputs.push_back(resize_pil_bilinear(image_u8, input_hw));
    sizes.push_back({image_u8.size(0), image_u8.size(1)});
    if (fast.judges_frames()) frames.push_back(image_u8);
    if (static_cast<int64_t>(inputs.size()) == options.batch) compare();
    progress.update(i + 1);
  }
  if (!inputs.empty()) compare();
  progress.finish();
  for (const auto& failure : failures) {
    spdlog::error("{}{}{}", failure.path, failure.path.empty() ? "" : ": ", failure.reason);
  }
  require(compared > 0, "no image could be read");

  require(maps.range() > 0,
          "the reference's map is the same number everywhere ({} image{}): there is no range to "
          "compare with; give photographs of what the model was trained on",
          compared, compared == 1 ? "" : "s");
  // A few scores that are nearly equal have no range to speak of; the maps' is the scale of scores
  // too.
  constexpr double kLeastShare = 0.1;
  const double map_range = maps.range();
  const double score_range = scores.range() > kLeastShare * map_range ? scores.range() : map_range;
  const double worst_map = maps.largest(map_range);
  const double worst_score = scores.largest(score_range);
  const double tolerance = tolerance_of(options.tolerance, precision);
  const bool equal = worst_map <= tolerance && worst_score <= tolerance;
  if (common.json) {
    const nlohmann::ordered_json line = {
        {"engine", engine},
        {"device", describe_device(device)},
        {"precision", precision},
        {"batch", options.batch},
        {"images", compared},
        {"map_range", map_range},
        {"map_difference_max", worst_map},
        {"map_difference_p99", maps.percentile_99(map_range)},
        {"score_range", score_range},
        {"score_difference_max", worst_score},
        {"score_difference_p99", scores.percentile_99(score_range)},
        {"unreadable", failures.size()},
        {"tolerance", tolerance},
        {"equal", equal}};
    fmt::print("{}\n", dump_json(line));
  } else {
    fmt::print(
        "engine {} in {} on {} against the reference, {} image{}\n"
        "differences as shares of the reference's range:\n"
        "          largest    99 % are below   range\n"
        "  maps    {:<9.2e}  {:<15.2e}  {:.4g}\n"
        "  scores  {:<9.2e}  {:<15.2e}  {:.4g}\n"
        "{}: tolerance {:g}\n",
        engine, precision, describe_device(device), compared, compared == 1 ? "" : "s", worst_map,
        maps.percentile_99(map_range), map_range, worst_score, scores.percentile_99(score_range),
        score_range, equal ? "equal" : "NOT equal", tolerance);
    if (!failures.empty()) fmt::print("{} could not be read\n", failures.size());
  }
  return equal && failures.empty() ? 0 : 1;
}

}  // namespace efficientad::cli
