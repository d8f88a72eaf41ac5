#include "cli/infer_results.h"

#include <algorithm>

#include "cli/command.h"
#include "efficientad/core/file.h"
#include "efficientad/core/json.h"
#include "efficientad/core/log.h"
#include "efficientad/core/median.h"
#include "efficientad/core/version.h"
#include "efficientad/data/csv.h"
#include "efficientad/eval/report.h"

namespace efficientad::cli {

namespace fs = std::filesystem;

namespace {

/// What ImageRange::unlike() says, for people.
const std::map<std::string, const char*> kUnlike = {
    {"shape",
     "its width and height are in another proportion than those of the images of the training"},
    {"dark", "it is less than half as bright as the darkest image of the training"},
    {"bright", "it is far brighter than the brightest image of the training"},
    {"flat", "it has less than half the contrast of any image of the training"}};

void remove_if_there(const fs::path& file) {
  std::error_code ignored;
  fs::remove(file, ignored);
}

std::string scores_csv(const std::vector<ImageResult>& results) {
  std::string csv = csv_line({"path", "score", "decision", "latency_ms", "normal_share", "peak_x",
                              "peak_y", "heatmap", "map", "unlike_training"});
  const auto peak = [](const ImageResult& result, size_t axis) {
    return result.peak_xy ? std::to_string((*result.peak_xy)[axis]) : "";
  };
  for (const auto& result : results) {
    csv += csv_line({result.path, fmt::format("{:.9g}", result.score),
                     decision_name(result.anomalous), fmt::format("{:.3f}", result.latency_ms),
                     result.normal_share ? fmt::format("{:.6g}", *result.normal_share) : "",
                     peak(result, 0), peak(result, 1), result.heatmap.string(), result.map.string(),
                     fmt::format("{}", fmt::join(result.unlike_training, " "))});
  }
  return csv;
}

std::string regions_csv(const std::vector<ImageResult>& results) {
  std::vector<std::string> names = {"path"};
  const nlohmann::ordered_json any = region_json({});
  for (const auto& [name, value] : any.items()) names.push_back(name);
  std::string csv = csv_line(names);
  for (const auto& result : results) {
    for (const auto& region : result.regions) {
      std::vector<std::string> fields = {result.path};
      const nlohmann::ordered_json members = region_json(region);
      for (const auto& [name, value] : members.items()) fields.push_back(value.dump());
      csv += csv_line(fields);
    }
  }
  return csv;
}

}  // namespace

fs::path map_file(const std::string& name) { return fs::path("maps") / (name + ".tiff"); }

fs::path heatmap_file(const std::string& name) { return fs::path("heatmaps") / (name + ".png"); }

void InferenceResults::add(ImageResult scored) {
  for (const auto& kind : scored.unlike_training) {
    if (++unlike_training_[kind] > 1) continue;
    spdlog::warn("{}: {}, so that its score means little; further ones are only counted",
                 scored.path, kUnlike.at(kind));
  }
  scored_.push_back(std::move(scored));
}

void InferenceResults::write(const InferOptions& options, bool complete) const {
  const fs::path output = options.output;
  write_file(output / "scores.csv", scores_csv(scored_));
  // Those of an earlier run would be taken for this one's.
  if (options.regions) {
    write_file(output / "regions.csv", regions_csv(scored_));
  } else {
    remove_if_there(output / "regions.csv");
  }
  if (failures.empty()) {
    remove_if_there(output / "errors.csv");
  } else {
    std::string errors = csv_line({"path", "error"});
    for (const auto& failure : failures) errors += csv_line({failure.path, failure.reason});
    write_file(output / "errors.csv", errors);
  }
  write_json(output / "summary.json", summary(options, complete));
}

int64_t InferenceResults::unlike_training() const {
  return std::count_if(scored_.begin(), scored_.end(),
                       [](const ImageResult& r) { return !r.unlike_training.empty(); });
}

int64_t InferenceResults::anomalous() const {
  return std::count_if(scored_.begin(), scored_.end(),
                       [](const ImageResult& r) { return r.anomalous; });
}

std::optional<double> InferenceResults::median_latency() const {
  std::vector<double> values;
  for (const auto& result : scored_) values.push_back(result.latency_ms);
  if (values.empty()) return std::nullopt;
  return median(std::move(values));
}

nlohmann::ordered_json InferenceResults::summary(const InferOptions& options, bool complete) const {
  const std::optional<double> latency = median_latency();
  return {{"program", std::string("efficientad ") + version()},
          {"output", options.output},
          {"model", with_.model},
          {"model_hash", with_.model_hash},
          {"engine", with_.engine},
          {"precision", with_.precision},
          {"device", with_.device},
          {"shift_average", with_.shift_average},
          {"threshold", with_.threshold},
          {"threshold_rule", with_.threshold_rule},
          {"complete", complete},
          {"images", scored_.size()},
          {"anomalous", anomalous()},
          {"unlike_training", unlike_training()},
          {"unreadable", static_cast<int64_t>(failures.size()) - without_pictures},
          {"without_pictures", without_pictures},
          {"median_latency_ms", latency ? nlohmann::ordered_json(*latency) : nullptr}};
}

void InferenceResults::print(const InferOptions& options, bool json) const {
  const fs::path output = options.output;
  if (json) {
    fmt::print("{}\n", dump_json(summary(options, /*complete=*/true)));
    return;
  }
  constexpr size_t kRows = 40;
  size_t width = 4;
  for (size_t i = 0; i < std::min(scored_.size(), kRows); ++i) {
    width = std::max(width, printable(scored_[i].path).size());
  }
  if (!scored_.empty()) {
    fmt::print("{:{}}  {:>10}  {:9}  {:>10}\n", "path", width, "score", "decision", "latency ms");
  }
  for (size_t i = 0; i < std::min(scored_.size(), kRows); ++i) {
    const auto& result = scored_[i];
    fmt::print("{:{}}  {:>10.4f}  {:9}  {:>10.1f}\n", printable(result.path), width, result.score,
               decision_name(result.anomalous), result.latency_ms);
  }
  if (scored_.size() > kRows) fmt::print("… {} more in scores.csv\n", scored_.size() - kRows);
  if (scored_.empty()) {
    fmt::print("no image scored\n");
  } else {
    fmt::print("\n{} images scored, {} anomalous (score above {:.4g}); median latency {:.1f} ms\n",
               scored_.size(), anomalous(), with_.threshold, median_latency().value_or(0));
    for (const auto& [kind, count] : unlike_training_) {
      fmt::print("{} of them: {}\n", count, kUnlike.at(kind));
    }
  }
  fmt::print("threshold: {}\nscores: {}\n", with_.threshold_rule, (output / "scores.csv").string());
  if (options.regions) fmt::print("regions: {}\n", (output / "regions.csv").string());
  if (options.heatmaps) fmt::print("heat maps: {}\n", (output / "heatmaps").string());
  if (options.maps) fmt::print("anomaly maps: {}\n", (output / "maps").string());
  if (!failures.empty()) {
    fmt::print("{} could not be read or scored, or their maps not be written: {}\n",
               failures.size(), (output / "errors.csv").string());
  }
}

}  // namespace efficientad::cli
