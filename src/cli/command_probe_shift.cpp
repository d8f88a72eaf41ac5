#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "cli/command.h"
#include "cli/input_images.h"
#include "cli/probe_shift_options.h"
#include "efficientad/core/device.h"
#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/json.h"
#include "efficientad/core/log.h"
#include "efficientad/core/median.h"
#include "efficientad/core/progress.h"
#include "efficientad/data/image.h"
#include "efficientad/detect/detector.h"
#include "efficientad/eval/report.h"
#include "efficientad/eval/shift_probe.h"
#include "eval/line_plot.h"

namespace efficientad::cli {

namespace {

namespace fs = std::filesystem;
using efficientad::internal::LinePlot;
using efficientad::internal::PlotPoint;
using Json = nlohmann::ordered_json;

/// Over which shifts the images are moved, and what came of each image.
struct Scan {
  std::string name;
  std::vector<Shift> shifts;
  std::vector<std::vector<ShiftedResult>> of_images{};
};

std::vector<Scan> scans_of(const std::string& name) {
  std::vector<Scan> scans;
  if (name != "field") scans.push_back({"stride", stride_shifts()});
  if (name != "stride") scans.push_back({"field", field_shifts()});
  return scans;
}

std::optional<Defect> defect_of(const ProbeShiftOptions& options, std::array<int64_t, 2> input_hw) {
  if (!options.defect.empty()) {
    const torch::Tensor image = read_image(options.defect);
    const torch::Tensor mask = read_mask(options.mask);
    require(image.size(0) == mask.size(0) && image.size(1) == mask.size(1),
            "{} is {}x{}, but its image {} is {}x{}", options.mask, mask.size(1), mask.size(0),
            options.defect, image.size(1), image.size(0));
    require((mask > 0).any().item<bool>(), "{}: the mask is empty", options.mask);
    return cut_defect(image, mask, input_hw);
  }
  if (options.synthetic == "none") return std::nullopt;
  return synthetic_defect(options.synthetic, options.size, options.contrast);
}

/// `count` of the images, evenly spread.
std::vector<fs::path> spread(const std::vector<fs::path>& images, int64_t count) {
  const auto total = static_cast<int64_t>(images.size());
  if (count == 0 || count >= total) return images;
  std::vector<fs::path> chosen;
  for (int64_t i = 0; i < count; ++i) {
    chosen.push_back(images[static_cast<size_t>((2 * i + 1) * total / (2 * count))]);
  }
  return chosen;
}

double mean_of(const std::vector<double>& values) {
  double mean = 0;
  for (const double value : values) mean += value / static_cast<double>(values.size());
  return mean;
}

double deviation_of(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(values.size()));
}

/// A scan's figures over the images. `normal_std`: deviation of the model's normal scores, if
/// known.
Json summary_of(const Scan& scan, double threshold, std::optional<double> normal_std) {
  std::vector<double> mean;
  std::vector<double> deviation;
  std::vector<double> range;
  std::vector<double> range_of_distance;
  std::vector<double> drift;
  std::vector<double> largest_drift;
  std::vector<double> difference;
  std::vector<double> distance;
  std::vector<double> largest_distance;
  int64_t images_with_both = 0;
  int64_t other_decisions = 0;
  int64_t places = 0;
  for (const auto& results : scan.of_images) {
    const ShiftVariation one = variation_of(results);
    mean.push_back(one.score_mean);
    deviation.push_back(one.score_std);
    range.push_back(one.score_max - one.score_min);
    constexpr double kLeast = 1e-12;
    range_of_distance.push_back(range.back() /
                                std::max(std::abs(one.score_mean - threshold), kLeast));
    drift.push_back(one.peak_drift_mean);
    largest_drift.push_back(one.peak_drift_max);
    difference.push_back(one.map_difference_mean);
    if (one.peak_distance_mean) {
      distance.push_back(*one.peak_distance_mean);
      largest_distance.push_back(*one.peak_distance_max);
    }
    images_with_both += one.other_decisions > 0 ? 1 : 0;
    other_decisions += one.other_decisions;
    places += one.places;
  }
  const auto largest = [](const std::vector<double>& values) {
    return *std::max_element(values.begin(), values.end());
  };
  Json json = {{"places", scan.shifts.size()},
               {"score_mean", mean_of(mean)},
               {"score_std", mean_of(deviation)},
               {"score_std_between_images", deviation_of(mean)},
               {"score_std_of_normal_std", nullptr},
               {"score_range", mean_of(range)},
               {"score_range_max", largest(range)},
               {"score_range_of_distance_to_threshold", median(range_of_distance)},
               {"images_with_both_decisions", images_with_both},
               {"other_decisions", other_decisions},
               {"decisions", places},
               {"peak_drift_px", median(drift)},
               {"peak_drift_px_max", largest(largest_drift)},
               {"peak_distance_px", nullptr},
               {"peak_distance_px_max", nullptr},
               {"map_difference", mean_of(difference)}};
  if (normal_std && *normal_std > 0) {
    json["score_std_of_normal_std"] = mean_of(deviation) / *normal_std;
  }
  if (!distance.empty()) {
    json["peak_distance_px"] = mean_of(distance);
    json["peak_distance_px_max"] = largest(largest_distance);
  }
  return json;
}

std::string table_of(const Scan& scan, const Json& summary) {
  const auto figure = [&](const char* key) {
    return summary.at(key).is_null() ? std::string("unknown")
                                     : fmt::format("{:.4g}", summary.at(key).get<double>());
  };
  std::string table = fmt::format(
      "{}\n"
      "  score: deviation over the places   {} (mean of the images; between them: {})\n"
      "         of that of normal scores    {}\n"
      "         highest - lowest            {} (largest: {})\n"
      "         of the way to the threshold {} (median)\n"
      "  decisions other than unmoved       {} of {}, in {} of {} images\n"
      "  maximum of the map drifts by       {} px (median; largest: {})\n",
      scan.name == "stride" ? fmt::format("one stride: {} places, 4x4 px", scan.shifts.size())
                            : fmt::format("one receptive field: {} places, 33 px right, down, both",
                                          scan.shifts.size()),
      figure("score_std"), figure("score_std_between_images"), figure("score_std_of_normal_std"),
      figure("score_range"), figure("score_range_max"),
      figure("score_range_of_distance_to_threshold"), summary.at("other_decisions").get<int64_t>(),
      summary.at("decisions").get<int64_t>(),
      summary.at("images_with_both_decisions").get<int64_t>(), scan.of_images.size(),
      figure("peak_drift_px"), figure("peak_drift_px_max"));
  if (!summary.at("peak_distance_px").is_null()) {
    table += fmt::format("         and lies off the defect by  {} px (largest: {})\n",
                         figure("peak_distance_px"), figure("peak_distance_px_max"));
  }
  return table + fmt::format("  map differs from the unmoved by    {} of its range\n",
                             figure("map_difference"));
}

std::string places_csv(const std::vector<fs::path>& images, const std::vector<Scan>& scans) {
  std::string csv = csv_line({"path", "scan", "dy", "dx", "score", "score_anywhere", "decision",
                              "peak_y", "peak_x", "peak_distance", "map_difference"});
  for (const auto& scan : scans) {
    for (size_t i = 0; i < scan.of_images.size(); ++i) {
      for (const auto& result : scan.of_images[i]) {
        csv +=
            csv_line({images[i].string(), scan.name, std::to_string(result.shift.dy),
                      std::to_string(result.shift.dx), fmt::format("{:.9g}", result.score),
                      fmt::format("{:.9g}", result.score_anywhere), decision_name(result.anomalous),
                      fmt::format("{:g}", result.peak_y), fmt::format("{:g}", result.peak_x),
                      result.peak_distance ? fmt::format("{:.4g}", *result.peak_distance) : "",
                      fmt::format("{:.6g}", result.map_difference)});
      }
    }
  }
  return csv;
}

/// The scores of the first images over shifts to the right, with the threshold: an SVG picture.
std::string curve_svg(const Scan& scan, double threshold) {
  constexpr size_t kCurves = 8;
  LinePlot plot = {.x_label = "shift to the right, px of the networks' input (dashed: threshold)",
                   .y_label = "score",
                   .x_high = 0,
                   .y_low = threshold,
                   .y_high = threshold,
                   .y_mark = threshold};
  for (size_t i = 0; i < std::min(kCurves, scan.of_images.size()); ++i) {
    auto& points = plot.lines.emplace_back().points;
    for (const auto& result : scan.of_images[i]) {
      if (result.shift.dy != 0) continue;
      points.push_back({.x = static_cast<double>(result.shift.dx), .y = result.score});
      plot.x_low = std::min(plot.x_low, points.back().x);
      plot.x_high = std::max(plot.x_high, points.back().x);
      plot.y_low = std::min(plot.y_low, result.score);
      plot.y_high = std::max(plot.y_high, result.score);
    }
    std::sort(points.begin(), points.end(),
              [](const PlotPoint& a, const PlotPoint& b) { return a.x < b.x; });
  }
  if (plot.y_high <= plot.y_low) plot.y_high = plot.y_low + 1;
  // A cell of the maps apart; in a scan of one cell, a pixel.
  const auto first = static_cast<int64_t>(plot.x_low);
  const auto last = static_cast<int64_t>(plot.x_high);
  const int64_t step = last - first > kMapStride ? kMapStride : 1;
  for (int64_t dx = first; dx <= last; ++dx) {
    if (dx % step == 0) plot.x_ticks.push_back({static_cast<double>(dx), std::to_string(dx)});
  }
  return svg_file_of(plot);
}

}  // namespace

int probe_shift(const Arguments& arguments) {
  ProbeShiftOptions options;
  const CommonFlags common = parse_options(
      arguments,
      "Move images, or a defect in them, pixel by pixel, and tell how the score and the place of "
      "the map's maximum vary. The maps have a cell every 4 px, which sees 33 px. Shifts are in px "
      "of the networks' input. Images that cannot be used are passed over; the exit status is "
      "then 1.",
      options);
  require_usage(options.defect.empty() == options.mask.empty(),
                "a defect needs its mask, and a mask its defect: give --defect and --mask");
  require_usage(options.defect.empty() || options.synthetic == "none",
                "a defect comes from a file or is drawn: give one of --defect and --synthetic");
  const ProbeShiftOptions defaults;
  require_usage(options.synthetic != "none" ||
                    (options.size == defaults.size && options.contrast == defaults.contrast),
                "size and contrast are of a drawn defect: give --synthetic too");
  const InterruptGuard guard;
  const fs::path output = options.output;
  InputImages inputs = find_images(
      options.paths, options.output.empty() ? std::nullopt : std::optional<fs::path>(output));
  const std::vector<fs::path> images = spread(inputs.images, options.images);
  ModelBundle bundle = load_bundle(options.model);
  const std::optional<Defect> defect = defect_of(options, bundle.image_hw);
  if (!options.output.empty()) make_result_folder(output, ResultKind::kShifts);
  set_threads(options.threads);
  const torch::Device device = select_device(options.device);
  const std::string engine = resolve_engine(options.engine, device);
  const std::string precision = resolve_engine_precision(options.precision, engine);
  warn_of_shift_average(options.model, bundle, options.shift_average);
  const Detector detector(std::move(bundle), device, engine, precision, options.shift_average);
  const double threshold = detector.bundle().threshold;
  std::optional<double> normal_std;
  if (detector.bundle().normal_scores.size() > 1) {
    normal_std = deviation_of(detector.bundle().normal_scores);
  }

  std::vector<Scan> scans = scans_of(options.scan);
  std::vector<fs::path> used;
  std::vector<Failure> failures = inputs.failures;
  Progress progress("probe-shift", static_cast<int64_t>(images.size()), "image");
  for (size_t i = 0; i < images.size(); ++i) {
    if (interrupt_requested()) throw Interrupted("interrupted; nothing was written");
    torch::Tensor image_u8;
    try {
      image_u8 = read_image(images[i]);
    } catch (const Error& error) {
      failures.push_back({images[i].string(), message_of(error)});
      continue;
    }
    for (auto& scan : scans) {
      scan.of_images.push_back(defect ? probe_defect(detector, image_u8, *defect, scan.shifts)
                                      : probe_crop(detector, image_u8, scan.shifts));
    }
    used.push_back(images[i]);
    progress.update(static_cast<int64_t>(i) + 1);
  }
  progress.finish();
  for (const auto& failure : failures) spdlog::error("{}: {}", failure.path, failure.reason);
  require(!used.empty(), "no image could be read");

  Json result = {{"model", options.model},
                 {"moved", defect ? "defect" : "content"},
                 {"images", used.size()},
                 {"unreadable", failures.size()},
                 {"shift_average", options.shift_average},
                 {"threshold", threshold},
                 {"normal_score_std", nullptr}};
  if (normal_std) result["normal_score_std"] = *normal_std;
  std::string tables;
  for (const auto& scan : scans) {
    result[scan.name] = summary_of(scan, threshold, normal_std);
    tables += fmt::format("\n{}", table_of(scan, result[scan.name]));
  }
  if (!options.output.empty()) {
    write_file(output / "shifts.csv", places_csv(used, scans));
    write_file(output / "curve.svg", curve_svg(scans.back(), threshold));
    write_json(output / "options.json", options_to_json(options));
  }
  if (common.json) {
    fmt::print("{}\n", dump_json(result));
  } else {
    const std::string averaged =
        options.shift_average == 1
            ? "no average over shifts"
            : fmt::format("maps are means over {} shifts", options.shift_average);
    fmt::print(
        "{} of {} image{} moved; scores are of what lies {} px or more inside the image in every "
        "place; {}; "
        "threshold {:.4g}\n{}",
        defect ? "the defect" : "the content", used.size(), used.size() == 1 ? "" : "s",
        kProbeInside, averaged, threshold, tables);
    if (!options.output.empty()) {
      fmt::print("\nevery place: {}\ncurve: {}\n", (output / "shifts.csv").string(),
                 (output / "curve.svg").string());
    }
    if (!failures.empty()) fmt::print("{} could not be read\n", failures.size());
  }
  return failures.empty() ? 0 : 1;
}

}  // namespace efficientad::cli
