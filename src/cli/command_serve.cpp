#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>

#include "cli/command.h"
#include "cli/serve_options.h"
#include "efficientad/core/device.h"
#include "efficientad/core/file.h"
#include "efficientad/core/json.h"
#include "efficientad/core/log.h"
#include "efficientad/core/version.h"
#include "efficientad/data/image.h"
#include "efficientad/detect/detector.h"
#include "efficientad/eval/heatmap.h"
#include "efficientad/eval/regions.h"
#include "efficientad/eval/report.h"
#include "efficientad/eval/score_image.h"

namespace efficientad::cli {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

using Clock = std::chrono::steady_clock;

/// One line on stdout, at once.
void answer(const Json& line) {
  fmt::print("{}\n", dump_json(line));
  require(std::fflush(stdout) == 0, "the standard output cannot be written to");
}

/// What there is to say of an image; of its heat map, which is to be `file`, too.
Json judge(const Detector& detector, const std::string& path, const fs::path& file) {
  const torch::Tensor image_u8 = read_image(path);
  const auto start = Clock::now();
  const Detection detection = score_image(detector, image_u8);
  const std::chrono::duration<double, std::milli> latency = Clock::now() - start;
  require_finite(detection);
  const double threshold = detector.bundle().threshold;
  const auto [peak_x, peak_y] = peak_of(detection.map_at_image);
  Json line = {{"path", path},
               {"score", detection.score},
               {"decision", decision_name(detection.anomalous)},
               {"normal_share", nullptr},
               {"latency_ms", latency.count()},
               {"peak_x", peak_x},
               {"peak_y", peak_y},
               {"regions", Json::array()}};
  for (const auto& region : anomalous_regions(detection.map_at_image, threshold)) {
    line["regions"].push_back(region_json(region));
  }
  if (detection.normal_share) line["normal_share"] = *detection.normal_share;
  const auto unlike = detector.bundle().unlike_training(image_u8);
  if (!unlike.empty()) line["unlike_training"] = unlike;
  if (!file.empty() && detection.anomalous) {
    try {
      write_image(file, draw_heatmap(image_u8, detection, threshold, file.stem().string()));
      line["heatmap"] = file.string();
    } catch (const std::exception& error) {
      line["heatmap_error"] = message_of(error);
    }
  }
  return line;
}

/// One more than the highest number that a heat map of an earlier run begins with.
int64_t first_free_number(const fs::path& folder) {
  int64_t first = 1;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    int64_t number = 0;
    const auto [end, problem] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (problem == std::errc() && *end == '_') first = std::max(first, number + 1);
  }
  return first;
}

}  // namespace

int serve(const Arguments& arguments) {
  ServeOptions options;
  parse_options(arguments,
                "Stay loaded and score images as they come: reads a path a line from stdin and "
                "answers each with a line of JSON on stdout, at once, with score, decision, "
                "latency (from the decoded image to the decision) and where the map is above the "
                "threshold; of an image that cannot be judged, the error. The first line says that "
                "it is ready. Ends with stdin; the exit status is 1 if an image could not be "
                "judged, or its heat map not be written.",
                options);
  set_threads(options.threads);
  const torch::Device device = select_device(options.device);
  const std::string engine = resolve_engine(options.engine, device);
  const std::string precision = resolve_engine_precision(options.precision, engine);
  const Detector detector(load_bundle(options.model), device, engine, precision,
                          options.shift_average);
  warn_of_shift_average(options.model, detector.bundle(), options.shift_average);
  int64_t number = 1;
  std::optional<FolderLock> lock;
  if (!options.heatmaps.empty()) {
    make_folder(options.heatmaps);
    lock.emplace(options.heatmaps, "another program is writing to it");
    remove_leftovers(options.heatmaps);
    number = first_free_number(options.heatmaps);
  }
  // What is set up with the first image is no image's time.
  const auto [height, width] = detector.input_hw();
  score_image(detector, torch::zeros({height, width, 3}, torch::kUInt8));
  answer({{"ready", true},
          {"program", std::string("efficientad ") + version()},
          {"model", options.model},
          {"model_hash", hash_of_file(options.model)},
          {"engine", engine},
          {"precision", precision},
          {"device", describe_device(device)},
          {"threshold", detector.bundle().threshold},
          {"threshold_rule", detector.bundle().threshold_rule}});
  bool failed = false;
  int64_t failed_in_a_row = 0;
  for (std::string path; std::getline(std::cin, path);) {
    if (path.ends_with('\r')) path.pop_back();
    fs::path heatmap;
    if (lock) {
      heatmap = fs::path(options.heatmaps) /
                fmt::format("{:06}_{}.png", number++, fs::path(path).stem().string());
    }
    try {
      require(!path.empty() && path.find('\0') == std::string::npos, "the line is no path");
      const Json line = judge(detector, path, heatmap);
      answer(line);
      failed = failed || line.contains("heatmap_error");
      failed_in_a_row = 0;
      continue;
    } catch (const Error& error) {
      answer({{"path", path}, {"error", message_of(error)}});
      failed_in_a_row = 0;
    } catch (const std::exception& error) {
      answer({{"path", path}, {"error", message_of(error)}});
      // Whoever started it can start it again.
      require(++failed_in_a_row < kFailuresInARow, "given up after {} images in a row: {}",
              failed_in_a_row, message_of(error));
    }
    failed = true;
  }
  require(std::cin.eof(), "stdin cannot be read");
  return failed ? 1 : 0;
}

}  // namespace efficientad::cli
