#pragma once

#include <cstdint>
#include <string>

#include "efficientad/core/log.h"
#include "efficientad/core/options.h"
#include "efficientad/detect/detector.h"

namespace efficientad::cli {

/// So many images in a row that the engine fails on, for lack of memory or because the GPU is gone,
/// end a run.
inline constexpr int64_t kFailuresInARow = 3;

/// Where and with what the maps are computed: options that several commands have.
struct EngineOptions {
  std::string engine = "auto";
  std::string device = "auto";
  std::string precision = "auto";
  int64_t threads = 0;
  int64_t shift_average = 1;

  template <class Visitor>
  void visit(Visitor&& visitor) {
    visitor("engine", engine,
            OptionInfo{.help = "what computes the maps; auto: cpu on a CPU, cuda on a GPU",
                       .choices = kEngines});
    visitor("device", device,
            OptionInfo{.help = "auto, cpu, cuda or cuda:N; for infer also cuda:all, every GPU"});
    visitor("precision", precision,
            OptionInfo{.help = "number type of weights and activations: auto (fp16 with engine "
                               "cuda, else fp32), fp32, or with engine cuda fp16 or bf16",
                       .choices = kEnginePrecisions});
    visitor("threads", threads,
            OptionInfo{.help = "CPU threads of an operation; 0: as many as cores",
                       .minimum = 0,
                       .maximum = 1024});
    visitor("shift_average", shift_average,
            OptionInfo{.help = "maps are means over this many shifts of an image by up to 2 px (1, "
                               "2, 4, 8 or 16), for as many times the time: less depends on where "
                               "a defect lies (docs/shift.md)",
                       .source = "paper: no average",
                       .minimum = 1,
                       .maximum = 16});
  }
};

/// Warns if an image's score would be set against those of another shift average.
inline void warn_of_shift_average(const std::string& model, const ModelBundle& bundle,
                                  int64_t shift_average) {
  const auto warn = [&](const char* what, int64_t other, const char* how) {
    spdlog::warn(
        "{}: its {} of --shift-average {}; this run's scores, with {}, are {}; \"efficientad "
        "threshold{}\" makes new ones",
        model, what, other, shift_average, shift_average > other ? "lower" : "higher", how);
  };
  const int64_t of_threshold = bundle.threshold_shift_average;
  const int64_t of_normal = bundle.normal_scores_shift_average;
  const bool threshold = of_threshold != 0 && of_threshold != shift_average;
  const bool normal = !bundle.normal_scores.empty() && of_normal != shift_average;
  if (threshold && normal && of_threshold == of_normal) {
    warn("threshold and its normal images' scores are", of_normal, " --normal-images");
    return;
  }
  if (threshold) warn("threshold is", of_threshold, "");
  if (normal) {
    warn("normal images' scores (of which normal_share tells) are", of_normal, " --normal-images");
  }
}

}  // namespace efficientad::cli
