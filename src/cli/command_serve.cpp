#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>

#include "cli/command.h"
#include "cli/input_images.h"
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

Json json_of(const std::vector<AnomalousRegion>& regions) {
  Json list = Json::array();
  for (const auto& region : regions) {
    list.push_back({{"left", region.left},
                    {"top", region.top},
                    {"width", region.width},
                    {"height", region.height},
                    {"area", region.area},
                    {"peak", region.peak},
                    {"peak_x", region.peak_x},
                    {"peak_y", region.peak_y}});
  }
  return list;
}

/// What there is to say of the image that the `number`-th line names.
Json judge(const Detector& detector, const ServeOptions& options, const std::string& path,
           int64_t number) {
  const torch::Tensor image_u8 = read_image(path);
  const auto start = Clock::now();
  const Detection detection = score_image(detector, image_u8);
  const std::chrono::duration<double, std::milli> latency = Clock::now() - start;
  require(std::isfinite(detection.score),
          "{}: the model gives no finite number; its weights or statistics are damaged", path);
  const int64_t peak = detection.map_at_image.argmax().item<int64_t>();
  const int64_t width = detection.map_at_image.size(1);
  Json line = {
      {"path", path},
      {"score", detection.score},
      {"decision", decision_name(detection.anomalous)},
      {"normal_share", nullptr},
      {"latency_ms", latency.count()},
      {"peak_x", peak % width},
      {"peak_y", peak / width},
      {"regions", json_of(anomalous_regions(detection.map_at_image, detector.bundle().threshold))}};
  if (detection.normal_share) line["normal_share"] = *detection.normal_share;
  if (detector.bundle().is_of_another_shape({image_u8.size(0), image_u8.size(1)})) {
    line["of_another_shape"] = true;
  }
  if (!options.heatmaps.empty() && detection.anomalous) {
    const std::string name = fs::path(path).stem().string();
    const fs::path file = fs::path(options.heatmaps) / fmt::format("{:06}_{}.png", number, name);
    write_image(file, draw_heatmap(image_u8, detection, detector.bundle().threshold, name));
    line["heatmap"] = file.string();
  }
  return line;
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
                "judged.",
                options);
  set_threads(options.threads);
  const torch::Device device = select_device(options.device);
  const std::string engine = resolve_engine(options.engine, device);
  const std::string precision = resolve_engine_precision(options.precision, engine);
  const Detector detector(load_bundle(options.model), device, engine, precision,
                          options.shift_average);
  warn_of_shift_average(options.model, detector.bundle(), options.shift_average);
  if (!options.heatmaps.empty()) make_folder(options.heatmaps);
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
  int64_t number = 0;
  bool failed = false;
  for (std::string path; std::getline(std::cin, path);) {
    if (path.ends_with('\r')) path.pop_back();
    if (path.empty()) continue;
    ++number;
    Json line;
    try {
      line = judge(detector, options, path, number);
    } catch (const std::exception& error) {
      line = {{"path", path}, {"error", message_of(error)}};
      failed = true;
    }
    answer(line);
  }
  return failed ? 1 : 0;
}

}  // namespace efficientad::cli
