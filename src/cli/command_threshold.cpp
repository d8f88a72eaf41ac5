#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "cli/command.h"
#include "cli/input_images.h"
#include "cli/threshold_options.h"
#include "efficientad/core/device.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/json.h"
#include "efficientad/core/log.h"
#include "efficientad/core/progress.h"
#include "efficientad/data/csv.h"
#include "efficientad/data/image.h"
#include "efficientad/data/loader.h"
#include "efficientad/data/resize.h"
#include "efficientad/detect/calibration.h"
#include "efficientad/detect/detector.h"

namespace efficientad::cli {

namespace fs = std::filesystem;

namespace {

struct LoadedImage {
  torch::Tensor input;
  std::array<int64_t, 2> size_hw;
  GreyLevels levels;
};

/// The scores of images that are known to be normal. The highest are told: one that is far above
/// the others may show a defect. Widens what the model knows of its images.
std::vector<double> score_images(const ThresholdOptions& options, ModelBundle& bundle) {
  const InputImages inputs = find_images(options.normal_images, {});
  require(inputs.failures.empty(), "{}: {}", inputs.failures.empty() ? "" : inputs.failures[0].path,
          inputs.failures.empty() ? "" : inputs.failures[0].reason);
  set_threads(options.threads);
  const torch::Device device = select_device(options.device);
  const Detector detector(bundle, device, options.engine, options.precision, options.shift_average);
  const auto total = static_cast<int64_t>(inputs.images.size());
  Prefetcher<LoadedImage> loader(0, total, [&](int64_t i) {
    const torch::Tensor image = read_image(inputs.images[static_cast<size_t>(i)]);
    return LoadedImage{to_float_chw(resize_pil_bilinear(image, detector.input_hw())),
                       {image.size(0), image.size(1)},
                       grey_levels(image)};
  });
  std::vector<double> scores;
  Progress progress("score", total, "image");
  while (const auto loaded = loader.next()) {
    const torch::Tensor map = detector.maps(loaded->input.unsqueeze(0))[0];
    scores.push_back(detector.finish(map, loaded->size_hw).score);
    // Where it knows nothing, these alone would tell too little.
    ImageRange& range = bundle.image_range;
    if (range.aspect_ratios) range.add_size(loaded->size_hw);
    if (range.brightness && range.contrast) {
      range.add_levels(bundle.equalize_exposure ? equalized(loaded->levels) : loaded->levels);
    }
    progress.update(static_cast<int64_t>(scores.size()));
    if (interrupt_requested()) throw Interrupted("interrupted; nothing is changed");
  }
  progress.finish();
  std::vector<std::pair<double, size_t>> highest;
  for (size_t i = 0; i < scores.size(); ++i) highest.emplace_back(scores[i], i);
  std::sort(highest.rbegin(), highest.rend());
  constexpr size_t kTold = 3;
  highest.resize(std::min(kTold, highest.size()));
  for (const auto& [score, place] : highest) {
    spdlog::info("among the highest: {:.6g} {}", score, inputs.images[place].string());
  }
  return scores;
}

/// A number, with nothing before or after it.
std::optional<double> number_of(const std::string& text) {
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

auto labelled_rows(const std::string& file) {
  try {
    return read_csv(file, {"label", "score"});
  } catch (const Error& error) {
    throw Error(
        fmt::format("{}; it must be a scores.csv of eval (infer's has no labels)", error.what()));
  }
}

std::vector<LabelledScore> read_scores(const std::string& file) {
  require_usage(!file.empty(), "rules f1 and cost need --scores, a scores.csv made by eval");
  std::vector<LabelledScore> scores;
  for (const auto& row : labelled_rows(file)) {
    const std::string& text = row.at("score");
    const std::optional<double> score = number_of(text);
    require(score.has_value(), "{}: the score \"{}\" is no number", file, text);
    const std::string& label = row.at("label");
    require(label == "good" || label == "anomalous",
            "{}: the label \"{}\" is neither good nor anomalous", file, label);
    scores.push_back({.score = *score, .anomalous = label == "anomalous"});
  }
  return scores;
}

/// What scores.csv was made with, by the report.json beside it; 0 without one. Throws Error if it
/// is of another model.
int64_t shift_average_of_scores(const std::string& scores, const ModelBundle& bundle) {
  const fs::path file = fs::path(scores).parent_path() / "report.json";
  if (scores.empty() || !fs::exists(file)) return 0;
  const nlohmann::json report = read_json(file);
  const auto number = [&](const std::string& pointer) -> std::optional<double> {
    const nlohmann::json::json_pointer place(pointer);
    if (!report.contains(place) || !report.at(place).is_number()) return std::nullopt;
    return report.at(place).get<double>();
  };
  require(report.contains("model"), "{}: its scores are of no model (of maps that were given)",
          scores);
  // Every training has its own, and scores are in units of them.
  const std::string quantiles = "/model/quantiles/";
  for (const auto& [name, own] : {std::pair{"q_a_st", bundle.quantiles.q_a_st},
                                  {"q_b_st", bundle.quantiles.q_b_st},
                                  {"q_a_ae", bundle.quantiles.q_a_ae},
                                  {"q_b_ae", bundle.quantiles.q_b_ae}}) {
    require(number(quantiles + name).value_or(own) == own, "{}: its scores are of another model",
            scores);
  }
  return static_cast<int64_t>(number("/options/shift_average").value_or(0));
}

void set_threshold(const ThresholdOptions& options, ModelBundle& bundle) {
  if (options.rule == "fpr") {
    if (!options.normal_images.empty()) {
      // A threshold of means is one for means only; the model says so.
      const std::string which =
          options.shift_average == 1
              ? "normal images given to it"
              : fmt::format("normal images given to it, with --shift-average {}",
                            options.shift_average);
      set_normal_scores(bundle,
                        {.scores = score_images(options, bundle),
                         .which = which,
                         .shift_average = options.shift_average},
                        options.max_fpr);
      return;
    }
    require(!bundle.normal_scores.empty(),
            "{}: holds no scores of normal images (it is of an earlier release); give some with "
            "--normal-images",
            options.model);
    const char* which = "normal images it was not trained on";
    if (bundle.normal_images == NormalImages::kCrossFitted) which = "cross-fitted training images";
    if (bundle.normal_images == NormalImages::kTrainedOn) {
      which = "altered copies of training images";
    }
    const Threshold threshold = threshold_of_normal_scores(bundle.normal_scores, options.max_fpr,
                                                           which, bundle.normal_images);
    bundle.threshold = threshold.value;
    bundle.threshold_rule = threshold.rule;
    bundle.threshold_shift_average = bundle.normal_scores_shift_average;
    return;
  }
  Threshold threshold = {.value = 0, .rule = "given by hand"};
  if (options.rule == "value") {
    const std::optional<double> value = number_of(options.value);
    require_usage(value.has_value(), "value is \"{}\", which is no number", options.value);
    threshold.value = *value;
  }
  if (options.rule == "f1") threshold = threshold_of_best_f1(read_scores(options.scores));
  if (options.rule == "cost") {
    threshold = threshold_of_least_cost(read_scores(options.scores), options.cost_ratio);
  }
  require_usage(std::isfinite(threshold.value), "the threshold is {}, but must be finite",
                threshold.value);
  bundle.threshold = threshold.value;
  bundle.threshold_rule = threshold.rule;
  bundle.threshold_shift_average = shift_average_of_scores(options.scores, bundle);
}

}  // namespace

int threshold(const Arguments& arguments) {
  ThresholdOptions options;
  const CommonFlags common = parse_options(
      arguments,
      "Choose a model's threshold anew: from normal images alone, or with labelled defects. The "
      "model holds it, and how it came about.",
      options);
  require_usage(options.rule == "fpr" || options.normal_images.empty(),
                "normal_images are for the rule fpr");
  require_usage((options.rule == "value") == !options.value.empty(),
                "rule value and option value need each other: rule is {}{}", options.rule,
                options.value.empty() ? ", and no value is given" : "");
  require_usage(options.rule == "f1" || options.rule == "cost" || options.scores.empty(),
                "scores are for the rules f1 and cost, but rule is {}", options.rule);
  const ThresholdOptions defaults;
  require_usage(options.rule == "fpr" || options.max_fpr == defaults.max_fpr,
                "max_fpr is for the rule fpr, but rule is {}", options.rule);
  require_usage(options.rule == "cost" || options.cost_ratio == defaults.cost_ratio,
                "cost_ratio is for the rule cost, but rule is {}", options.rule);
  require_usage(options.shift_average == 1 || !options.normal_images.empty(),
                "shift_average needs images to score: give some with --normal-images");
  const InterruptGuard guard;
  ModelBundle bundle = load_bundle(options.model);
  const double before = bundle.threshold;
  set_threshold(options, bundle);
  const std::string output = options.output.empty() ? options.model : options.output;
  save_bundle(output, bundle);
  if (common.json) {
    fmt::print("{}\n", dump_json(nlohmann::ordered_json{{"model", output},
                                                        {"threshold", bundle.threshold},
                                                        {"threshold_rule", bundle.threshold_rule},
                                                        {"threshold_before", before}}));
  } else {
    fmt::print("{}\nthreshold {:.6g} (before: {:.6g}): {}\n", output, bundle.threshold, before,
               bundle.threshold_rule);
  }
  return 0;
}

}  // namespace efficientad::cli
