#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <set>

#include "cli/command.h"
#include "cli/infer_options.h"
#include "cli/input_images.h"
#include "efficientad/core/device.h"
#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/log.h"
#include "efficientad/core/progress.h"
#include "efficientad/data/image.h"
#include "efficientad/data/loader.h"
#include "efficientad/data/resize.h"
#include "efficientad/detect/detector.h"
#include "efficientad/eval/heatmap.h"
#include "efficientad/eval/report.h"
#include "efficientad/eval/score_image.h"

namespace efficientad::cli {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// The deepest folder above all images.
fs::path common_folder(const std::vector<fs::path>& images) {
  fs::path common = plain(images.front()).parent_path();
  for (const auto& image : images) {
    while (!is_below(plain(image), common) && common.has_relative_path()) {
      common = common.parent_path();
    }
  }
  return common;
}

/// A name for each image's results: its path below the folder that all images share, without the
/// ending; with the ending where two images differ in nothing else.
std::vector<std::string> result_names(const std::vector<fs::path>& images) {
  const fs::path common = common_folder(images);
  std::vector<std::string> names;
  std::set<std::string> taken;
  for (const auto& image : images) {
    const fs::path relative = plain(image).lexically_relative(common);
    const std::string stem = (relative.parent_path() / relative.stem()).string();
    std::string name = stem;
    if (taken.count(name) > 0) name = relative.string();
    for (int i = 2; taken.count(name) > 0; ++i) name = fmt::format("{}_{}", stem, i);
    taken.insert(name);
    names.push_back(name);
  }
  return names;
}

/// An image ready for the networks, or the reason why not.
struct LoadedImage {
  torch::Tensor image_u8;
  /// At the networks' size, unless the detector does that.
  torch::Tensor input_u8;
  double resize_ms = 0;
  std::string error;
};

LoadedImage load(const fs::path& path, const Detector& detector) {
  LoadedImage loaded;
  try {
    loaded.image_u8 = read_image(path);
    if (detector.judges_frames()) return loaded;
    const auto start = Clock::now();
    loaded.input_u8 = resize_pil_bilinear(loaded.image_u8, detector.input_hw());
    loaded.resize_ms = ms_since(start);
  } catch (const std::exception& error) {
    loaded.error = message_of(error);
  }
  return loaded;
}

/// An image's result.
struct Scored {
  std::string path;
  double score = 0;
  bool anomalous = false;
  std::optional<double> normal_share{};
  double latency_ms = 0;
};

/// What became of an image.
struct Outcome {
  std::optional<Scored> scored{};
  /// It could not be read, or its maps not be written.
  std::optional<Failure> failure{};
};

/// Scores an image, and writes the maps that the options want.
Outcome judge_image(const Detector& detector, const LoadedImage& loaded, const std::string& path,
                    const InferOptions& options, const std::string& name) {
  if (!loaded.error.empty()) return {.failure = Failure{path, loaded.error}};
  const auto start = Clock::now();
  const Detection detection =
      loaded.input_u8.defined()
          ? detector.finish(detector.maps_of_bytes(loaded.input_u8.unsqueeze(0))[0],
                            {loaded.image_u8.size(0), loaded.image_u8.size(1)})
          : score_image(detector, loaded.image_u8, options.maps || options.heatmaps);
  const double latency_ms = loaded.resize_ms + ms_since(start);
  if (!std::isfinite(detection.score)) {
    return {.failure = Failure{
                path, fmt::format("{}: the model gives no finite number; its weights or statistics "
                                  "are damaged",
                                  path)}};
  }
  Outcome outcome = {.scored = Scored{path, detection.score, detection.anomalous,
                                      detection.normal_share, latency_ms}};
  const fs::path output = options.output;
  try {
    if (options.maps) write_tiff(output / "maps" / (name + ".tiff"), detection.map_at_image);
    if (options.heatmaps) {
      write_image(output / "heatmaps" / (name + ".png"),
                  draw_heatmap(loaded.image_u8, detection, detector.bundle().threshold, name));
    }
  } catch (const std::exception& error) {
    outcome.failure = Failure{path, message_of(error)};
  }
  return outcome;
}

void write_scores(const fs::path& output, const std::vector<Scored>& results,
                  const std::vector<Failure>& failures) {
  std::string scores = csv_line({"path", "score", "decision", "latency_ms", "normal_share"});
  for (const auto& result : results) {
    scores += csv_line({result.path, fmt::format("{:.9g}", result.score),
                        decision_name(result.anomalous), fmt::format("{:.3f}", result.latency_ms),
                        result.normal_share ? fmt::format("{:.6g}", *result.normal_share) : ""});
  }
  write_file(output / "scores.csv", scores);
  if (failures.empty()) {
    // One of an earlier run would be taken for this one's.
    std::error_code ignored;
    fs::remove(output / "errors.csv", ignored);
    return;
  }
  std::string errors = csv_line({"path", "error"});
  for (const auto& failure : failures) errors += csv_line({failure.path, failure.reason});
  write_file(output / "errors.csv", errors);
}

double median_latency(const std::vector<Scored>& results) {
  std::vector<double> values;
  for (const auto& result : results) values.push_back(result.latency_ms);
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void print_results(const InferOptions& options, const std::vector<Scored>& results,
                   const std::vector<Failure>& failures, double threshold, bool json) {
  const auto anomalous =
      std::count_if(results.begin(), results.end(), [](const Scored& r) { return r.anomalous; });
  const fs::path output = options.output;
  if (json) {
    const nlohmann::ordered_json line = {
        {"output", options.output}, {"images", results.size()},
        {"anomalous", anomalous},   {"unreadable", failures.size()},
        {"threshold", threshold},   {"median_latency_ms", median_latency(results)}};
    fmt::print("{}\n", dump_json(line));
    return;
  }
  constexpr size_t kRows = 40;
  size_t width = 4;
  for (size_t i = 0; i < std::min(results.size(), kRows); ++i) {
    width = std::max(width, printable(results[i].path).size());
  }
  if (!results.empty()) {
    fmt::print("{:{}}  {:>10}  {:9}  {:>10}\n", "path", width, "score", "decision", "latency ms");
  }
  for (size_t i = 0; i < std::min(results.size(), kRows); ++i) {
    const auto& result = results[i];
    fmt::print("{:{}}  {:>10.4f}  {:9}  {:>10.1f}\n", printable(result.path), width, result.score,
               decision_name(result.anomalous), result.latency_ms);
  }
  if (results.size() > kRows) fmt::print("… {} more in scores.csv\n", results.size() - kRows);
  if (results.empty()) {
    fmt::print("no image scored\n");
  } else {
    fmt::print("\n{} images scored, {} anomalous (score above {:.4g}); median latency {:.1f} ms\n",
               results.size(), anomalous, threshold, median_latency(results));
  }
  fmt::print("scores: {}\n", (output / "scores.csv").string());
  if (options.heatmaps) fmt::print("heat maps: {}\n", (output / "heatmaps").string());
  if (options.maps) fmt::print("anomaly maps: {}\n", (output / "maps").string());
  if (!failures.empty()) {
    fmt::print("{} could not be read, or their maps not be written: {}\n", failures.size(),
               (output / "errors.csv").string());
  }
}

}  // namespace

int infer(const Arguments& arguments) {
  InferOptions options;
  const CommonFlags common = parse_options(
      arguments,
      "Score images: scores.csv with path, score, decision and latency (from the decoded image to "
      "the decision: resize, networks, map at the image's size), and, if wanted, heat maps and "
      "anomaly maps, named by the images' paths below the folder that they share. Images that "
      "cannot be read are listed in errors.csv and passed over; the exit status is then 1. While "
      "it runs, these files are written anew every minute with what is done.",
      options);
  const InterruptGuard guard;
  const fs::path output = options.output;

  InputImages inputs = find_images(options.paths, output);
  const std::vector<std::string> names = result_names(inputs.images);
  set_threads(options.threads);
  const std::vector<torch::Device> devices = select_devices(options.device);
  const std::string engine = resolve_engine(options.engine, devices.front());
  const std::string precision = resolve_engine_precision(options.precision, engine);
  std::vector<std::unique_ptr<Detector>> detectors;
  for (const auto& device : devices) {
    spdlog::info("score {} images with {}, engine {} in {} on {}", inputs.images.size(),
                 options.model, engine, precision, describe_device(device));
    detectors.push_back(std::make_unique<Detector>(load_bundle(options.model), device, engine,
                                                   precision, options.shift_average));
  }
  warn_of_shift_average(options.model, detectors.front()->bundle(), options.shift_average);
  make_result_folder(output);
  const FolderLock lock(output, "another program is writing to it");
  remove_leftovers(output);
  const double threshold = detectors.front()->bundle().threshold;
  const auto input_hw = detectors.front()->input_hw();
  for (const auto& failure : inputs.failures) spdlog::error("{}: {}", failure.path, failure.reason);

  // The first call of the networks also sets up what LibTorch keeps; no image should pay for it.
  const torch::Tensor blank = torch::zeros({input_hw[0], input_hw[1], 3}, torch::kUInt8);
  for (const auto& detector : detectors) score_image(*detector, blank, /*want_map=*/false);

  const auto total = static_cast<int64_t>(inputs.images.size());
  // A GPU is faster than one thread can read.
  const int readers = devices.front().is_cuda() ? std::max(2, at::get_num_threads() / 2) : 1;
  Prefetcher<LoadedImage> loader(
      0, total,
      [&](int64_t i) { return load(inputs.images[static_cast<size_t>(i)], *detectors.front()); },
      readers, /*ahead=*/std::max(8, 4 * readers));
  const auto judge = [&](int64_t i, const LoadedImage& loaded) {
    const auto place = static_cast<size_t>(i);
    return judge_image(*detectors[place % detectors.size()], loaded, inputs.images[place].string(),
                       options, names[place]);
  };
  // While a GPU computes, what it gave before is drawn and written.
  const size_t side_by_side = options.callers > 0
                                  ? static_cast<size_t>(options.callers)
                                  : (devices.front().is_cuda() ? 2 * devices.size() : 1);
  std::deque<std::future<Outcome>> begun;
  std::vector<Scored> results;
  std::vector<Failure> failures = inputs.failures;
  int64_t done = 0;
  Progress progress("infer", total, "image");
  constexpr double kSaveEveryMs = 60'000;
  auto saved = Clock::now();
  const auto save = [&] {
    write_scores(output, results, failures);
    write_json(output / "options.json", options_to_json(options));
  };
  const auto take_first = [&] {
    const Outcome outcome = begun.front().get();
    begun.pop_front();
    if (outcome.scored) results.push_back(*outcome.scored);
    if (outcome.failure) {
      spdlog::error("{}", outcome.failure->reason);
      failures.push_back(*outcome.failure);
    }
    progress.update(++done);
    // So that a long run that is killed leaves what it had.
    if (ms_since(saved) > kSaveEveryMs) {
      try {
        save();
      } catch (const Error& error) {
        spdlog::warn("{}; going on", error.what());
      }
      saved = Clock::now();
    }
  };
  for (int64_t i = 0; i < total && !interrupt_requested(); ++i) {
    auto loaded = std::make_shared<LoadedImage>(loader.next().value());
    begun.push_back(std::async(side_by_side > 1 ? std::launch::async : std::launch::deferred,
                               [&judge, i, loaded] { return judge(i, *loaded); }));
    if (begun.size() >= side_by_side) take_first();
  }
  while (!begun.empty()) take_first();
  if (done < total) {
    save();
    throw Interrupted(
        fmt::format("interrupted; the results of {} of {} images are kept", done, total));
  }
  progress.finish();
  save();
  print_results(options, results, failures, threshold, common.json);
  return failures.empty() ? 0 : 1;
}

}  // namespace efficientad::cli
