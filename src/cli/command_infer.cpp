#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "cli/command.h"
#include "cli/infer_options.h"
#include "cli/infer_results.h"
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
#include "efficientad/eval/regions.h"
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
  fs::path common = plain_path(images.front()).parent_path();
  for (const auto& image : images) {
    while (!is_below(plain_path(image), common) && common.has_relative_path()) {
      common = common.parent_path();
    }
  }
  return common;
}

/// A name for each image's results: its path below the folder that all images share, without the
/// ending; with the ending where images differ in nothing else.
std::vector<std::string> result_names(const std::vector<fs::path>& images) {
  const fs::path common = common_folder(images);
  const auto stem_of = [&](const fs::path& image) {
    const fs::path relative = plain_path(image).lexically_relative(common);
    return (relative.parent_path() / relative.stem()).string();
  };
  std::map<std::string, int64_t> count;
  for (const auto& image : images) ++count[stem_of(image)];
  std::vector<std::string> names;
  std::set<std::string> taken;
  for (const auto& image : images) {
    const std::string stem = stem_of(image);
    const std::string whole = plain_path(image).lexically_relative(common).string();
    std::string name = count[stem] > 1 ? whole : stem;
    for (int i = 2; taken.count(name) > 0; ++i) name = fmt::format("{}_{}", whole, i);
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

/// What became of an image.
struct Outcome {
  std::optional<ImageResult> scored{};
  /// It could not be read or scored, or its maps not be written.
  std::optional<Failure> failure{};
  /// Of memory, or of a GPU: the next images may fare no better.
  bool engine_failed = false;
};

/// Those of an earlier run, where this one was to write its own but does not.
void remove_pictures(const InferOptions& options, const std::string& name) {
  std::error_code ignored;
  const fs::path output = options.output;
  if (options.maps) fs::remove(output / map_file(name), ignored);
  if (options.heatmaps) fs::remove(output / heatmap_file(name), ignored);
}

/// Scores an image, and writes the maps that the options want.
Outcome judge_image(const Detector& detector, const LoadedImage& loaded, const std::string& path,
                    const InferOptions& options, const std::string& name) {
  if (!loaded.error.empty()) return {.failure = Failure{path, loaded.error}};
  const auto failed = [&](const std::exception& error) {
    return Failure{path, fmt::format("{}: {}", path, message_of(error))};
  };
  const auto start = Clock::now();
  Detection detection;
  double latency_ms = 0;
  try {
    detection = loaded.input_u8.defined()
                    ? detector.finish(detector.maps_of_bytes(loaded.input_u8.unsqueeze(0))[0],
                                      {loaded.image_u8.size(0), loaded.image_u8.size(1)})
                    : score_image(detector, loaded.image_u8,
                                  options.maps || options.heatmaps || options.regions);
    latency_ms = loaded.resize_ms + ms_since(start);
    require_finite(detection);
  } catch (const Error& error) {
    return {.failure = failed(error)};
  } catch (const std::exception& error) {
    return {.failure = failed(error), .engine_failed = true};
  }
  const fs::path output = options.output;
  Outcome outcome = {.scored = ImageResult{.path = path,
                                           .score = detection.score,
                                           .anomalous = detection.anomalous,
                                           .normal_share = detection.normal_share,
                                           .latency_ms = latency_ms}};
  outcome.scored->unlike_training = detector.bundle().unlike_training(loaded.image_u8);
  if (detection.map_at_image.defined()) {
    outcome.scored->peak_xy = peak_of(detection.map_at_image);
  }
  try {
    if (options.regions) {
      outcome.scored->regions =
          anomalous_regions(detection.map_at_image, detector.bundle().threshold);
    }
    // Those of an earlier run, with another threshold.
    if (options.only_anomalous && !detection.anomalous) {
      remove_pictures(options, name);
      return outcome;
    }
    if (options.maps) {
      write_tiff(output / map_file(name), detection.map_at_image);
      outcome.scored->map = map_file(name);
    }
    if (options.heatmaps) {
      write_image(output / heatmap_file(name),
                  draw_heatmap(loaded.image_u8, detection, detector.bundle().threshold, name));
      outcome.scored->heatmap = heatmap_file(name);
    }
  } catch (const std::exception& error) {
    outcome.failure = Failure{path, message_of(error)};
  }
  return outcome;
}

/// Deletes what a killed run left half written; says so if maps or pictures of an earlier run stay.
void tidy(const InferOptions& options) {
  const fs::path output = options.output;
  remove_leftovers(output);
  const auto look_into = [&](const char* name) {
    std::error_code ignored;
    const fs::path folder = output / name;
    bool full = false;
    remove_leftovers(folder);
    for (fs::recursive_directory_iterator entry(folder, ignored), end; entry != end;
         entry.increment(ignored)) {
      if (entry->is_directory(ignored)) {
        remove_leftovers(entry->path());
      } else {
        full = true;
      }
    }
    if (!full) return;
    spdlog::warn("{}: holds files of an earlier run; those of other images stay", folder.string());
  };
  if (options.maps) look_into("maps");
  if (options.heatmaps) look_into("heatmaps");
}

}  // namespace

int infer(const Arguments& arguments) {
  InferOptions options;
  const CommonFlags common = parse_options(
      arguments,
      "Score images: scores.csv with path, score, decision, latency (from the decoded image to the "
      "decision: resize, networks, map at the image's size) and the place of the map's maximum (on "
      "a GPU only if maps, heat maps or regions are wanted), summary.json with what they were made "
      "with, and, if wanted, heat maps and anomaly maps, named by the images' paths below the "
      "folder that they share. Images that cannot be read are listed in errors.csv and passed "
      "over; the exit status is then 1. While it runs, these files are written anew every minute "
      "with what is done.",
      options);
  require_usage(!options.only_anomalous || options.heatmaps || options.maps,
                "only_anomalous is for heatmaps and maps, neither of which is given");
  const InterruptGuard guard;
  const fs::path output = options.output;

  InputImages inputs = find_images(options.paths, output);
  const std::vector<std::string> names = result_names(inputs.images);
  set_threads(options.threads);
  const std::vector<torch::Device> devices = select_devices(options.device);
  const std::string engine = resolve_engine(options.engine, devices.front());
  const std::string precision = resolve_engine_precision(options.precision, engine);
  std::vector<std::unique_ptr<Detector>> detectors;
  std::vector<std::string> names_of_devices;
  for (const auto& device : devices) {
    spdlog::info("score {} images with {}, engine {} in {} on {}", inputs.images.size(),
                 options.model, engine, precision, describe_device(device));
    detectors.push_back(std::make_unique<Detector>(load_bundle(options.model), device, engine,
                                                   precision, options.shift_average));
    names_of_devices.push_back(describe_device(device));
  }
  warn_of_shift_average(options.model, detectors.front()->bundle(), options.shift_average);
  make_result_folder(output, ResultKind::kInference);
  const FolderLock lock(output, "another program is writing to it");
  tidy(options);
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
    Outcome outcome = judge_image(*detectors[place % detectors.size()], loaded,
                                  inputs.images[place].string(), options, names[place]);
    if (!outcome.scored) remove_pictures(options, names[place]);
    return outcome;
  };
  // While a GPU computes, what it gave before is drawn and written.
  const size_t side_by_side = options.callers > 0
                                  ? static_cast<size_t>(options.callers)
                                  : (devices.front().is_cuda() ? 2 * devices.size() : 1);
  std::deque<std::future<Outcome>> begun;
  InferenceResults results({.model = options.model,
                            .model_hash = hash_of_file(options.model),
                            .engine = engine,
                            .precision = precision,
                            .device = join(names_of_devices),
                            .shift_average = options.shift_average,
                            .threshold = detectors.front()->bundle().threshold,
                            .threshold_rule = detectors.front()->bundle().threshold_rule});
  results.failures = inputs.failures;
  int64_t done = 0;
  int64_t failed_in_a_row = 0;
  Progress progress("infer", total, "image");
  constexpr double kSaveEveryMs = 60'000;
  auto saved = Clock::now();
  const auto save = [&](bool complete) {
    results.write(options, complete);
    write_json(output / "options.json", options_to_json(options));
  };
  const auto take_first = [&] {
    const Outcome outcome = begun.front().get();
    begun.pop_front();
    if (outcome.scored) results.add(*outcome.scored);
    if (outcome.failure) {
      spdlog::error("{}", outcome.failure->reason);
      results.failures.push_back(*outcome.failure);
      if (outcome.scored) ++results.without_pictures;
    }
    failed_in_a_row = outcome.engine_failed ? failed_in_a_row + 1 : 0;
    require(failed_in_a_row < kFailuresInARow, "given up after {} images in a row; the last: {}",
            failed_in_a_row, outcome.failure ? outcome.failure->reason : "");
    progress.update(++done);
    // So that a long run that is killed leaves what it had.
    if (ms_since(saved) > kSaveEveryMs) {
      try {
        save(/*complete=*/false);
      } catch (const Error& error) {
        spdlog::warn("{}; going on", error.what());
      }
      saved = Clock::now();
    }
  };
  try {
    for (int64_t i = 0; i < total && !interrupt_requested(); ++i) {
      auto loaded = std::make_shared<LoadedImage>(loader.next().value());
      begun.push_back(std::async(side_by_side > 1 ? std::launch::async : std::launch::deferred,
                                 [&judge, i, loaded] { return judge(i, *loaded); }));
      if (begun.size() >= side_by_side) take_first();
    }
    while (!begun.empty()) take_first();
  } catch (...) {
    try {
      save(/*complete=*/false);
    } catch (const std::exception& error) {
      spdlog::error("{}", message_of(error));
    }
    throw;
  }
  if (done < total) {
    if (done == 0) throw Interrupted("interrupted before the first image; nothing is changed");
    save(/*complete=*/false);
    throw Interrupted(
        fmt::format("interrupted; the results of {} of {} images are kept", done, total));
  }
  progress.finish();
  save(/*complete=*/true);
  results.print(options, common.json);
  return results.failures.empty() ? 0 : 1;
}

}  // namespace efficientad::cli
