#pragma once

#include <torch/nn/functional/upsampling.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "efficientad/core/file.h"
#include "efficientad/data/image.h"
#include "efficientad/eval/evaluate.h"
#include "efficientad/eval/report.h"

namespace efficientad {

/// A kind of defect, and part of its images' paths, that a page must not take for its own text.
inline constexpr const char* kRudeName = "</script><b id=\"rude\">&'\"<!--";

/// An evaluation that no model made, of `count` images in `root`, half of them good: enough to draw
/// a report from. `files` different images are written, each of `side` px and grain that compresses
/// as badly as that of photographs; the samples share them. The threshold is 0.3.
struct SampleEvaluation {
  Dataset dataset;
  ModelBundle bundle;
  Evaluation evaluation;
};

inline SampleEvaluation sample_evaluation(const std::filesystem::path& root, int count, int files,
                                          int64_t side) {
  namespace F = torch::nn::functional;
  const auto smooth = [&](int64_t channels, int64_t grid) {
    return F::interpolate(torch::rand({1, channels, grid, grid}),
                          F::InterpolateFuncOptions()
                              .size(std::vector<int64_t>{side, side})
                              .mode(torch::kBilinear)
                              .align_corners(false))[0];
  };
  const auto path_of = [&](const char* what, int i) {
    return root / (std::string(what) + "_" + std::to_string(i % files) + ".png");
  };
  for (int i = 0; i < files; ++i) {
    const auto image =
        0.6 * smooth(3, 5) + 0.3 * smooth(1, side / 3) + 0.1 * torch::rand({3, side, side});
    write_image(path_of("image", i), (255 * image).permute({1, 2, 0}).to(torch::kUInt8));
    write_image(path_of("mask", i), (smooth(1, 4)[0] > 0.8).to(torch::kUInt8) * 255);
    write_tiff(path_of("map", i).replace_extension(".tiff"), 0.9 * smooth(1, 7)[0] - 0.2);
  }
  SampleEvaluation sample;
  sample.dataset.category = "nut";
  sample.dataset.layout = "mvtec";
  sample.dataset.root = root;
  sample.dataset.train.resize(7);
  const char* const kinds[] = {"good", "crack", "good", kRudeName, "good", "stain"};
  for (int i = 0; i < count; ++i) {
    const std::string kind = kinds[i % 6];
    const bool good = kind == "good";
    // Spread evenly, good ones lower.
    const double spread = std::fmod(0.618033988749895 * i, 1.0);
    const double score = good ? 0.05 + 0.3 * spread : 0.1 + 0.9 * spread * spread;
    Sample image = {.image_path = path_of("image", i), .defect = kind, .id = std::to_string(i)};
    if (!good) image.mask_paths = {path_of("mask", i)};
    sample.evaluation.images.push_back({.sample = image,
                                        .map_path = path_of("map", i).replace_extension(".tiff"),
                                        .score = score,
                                        .called_anomalous = score > 0.3,
                                        .normal_share = spread});
  }
  evaluate_scores(sample.evaluation);
  sample.bundle.threshold = 0.3;
  sample.bundle.threshold_rule = "a rule";
  sample.bundle.options = {{"steps", 3}, {"note", kRudeName}};
  sample.bundle.provenance = {{"made_by", kRudeName}};
  std::string log = "step,seconds,loss_hard,loss_penalty,loss_ae,loss_stae,learning_rate\n";
  for (int i = 1; i <= 1000; ++i) {
    log += fmt::format("{},{},{},{},{},{},1e-4\n", i, 0.1 * i, 9 * std::exp(-0.004 * i) + 0.5,
                       i % 2 ? 0.0 : 0.002, 1 - 0.0004 * i, 0.0001 * i);
  }
  write_file(root / "train_log.csv", log);
  return sample;
}

/// The report of a sample, after its evaluation was changed; `threshold` false: as of maps that
/// something else made.
inline nlohmann::ordered_json report_of(const SampleEvaluation& sample, bool threshold = true) {
  return make_report(sample.evaluation, sample.dataset, threshold ? &sample.bundle : nullptr,
                     {{"data", "parts"}});
}

}  // namespace efficientad
