#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/infer_options.h"
#include "cli/input_images.h"
#include "efficientad/eval/regions.h"

namespace efficientad::cli {

/// An image's result.
struct ImageResult {
  std::string path;
  double score = 0;
  bool anomalous = false;
  std::optional<double> normal_share{};
  double latency_ms = 0;
  /// Where the map is highest, if it is known.
  std::optional<std::array<int64_t, 2>> peak_xy{};
  /// See ModelBundle::unlike_training().
  std::vector<std::string> unlike_training{};
  std::vector<AnomalousRegion> regions{};
  /// Files that were written, in the output folder; empty: none.
  std::filesystem::path heatmap{};
  std::filesystem::path map{};
};

/// What scores were made with.
struct ScoredWith {
  std::string model;
  std::string model_hash;
  std::string engine;
  std::string precision;
  /// All of them.
  std::string device;
  int64_t shift_average = 1;
  double threshold = 0;
  std::string threshold_rule;
};

/// Where in the output folder an image's map and heat map are, by its name.
std::filesystem::path map_file(const std::string& name);
std::filesystem::path heatmap_file(const std::string& name);

/// What `infer` found.
class InferenceResults {
 public:
  explicit InferenceResults(ScoredWith with) : with_(std::move(with)) {}

  /// Warns of an image unlike those of the training, of the first of each kind.
  void add(ImageResult scored);

  /// scores.csv, summary.json, regions.csv if they are wanted, and errors.csv if there are
  /// failures. `complete`: nothing more is to come.
  void write(const InferOptions& options, bool complete) const;
  void print(const InferOptions& options, bool json) const;

  std::vector<Failure> failures;
  /// Of these, those that were scored, but whose maps could not be written.
  int64_t without_pictures = 0;

 private:
  nlohmann::ordered_json summary(const InferOptions& options, bool complete) const;
  int64_t anomalous() const;
  int64_t unlike_training() const;
  /// Empty if none was scored.
  std::optional<double> median_latency() const;

  ScoredWith with_;
  std::vector<ImageResult> scored_;
  /// Images by what is unlike in them.
  std::map<std::string, int64_t> unlike_training_;
};

}  // namespace efficientad::cli
