#include <filesystem>

#include "cli/command.h"
#include "cli/eval_options.h"
#include "efficientad/core/device.h"
#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/log.h"
#include "efficientad/core/progress.h"
#include "efficientad/data/dataset.h"
#include "efficientad/detect/detector.h"
#include "efficientad/eval/evaluate.h"
#include "efficientad/eval/report.h"

namespace efficientad::cli {

int eval(const Arguments& arguments) {
  EvalOptions options;
  const CommonFlags common = parse_options(
      arguments,
      "Measure a detector on the test images of a data set: report.json, scores.csv and an anomaly "
      "map of each image.",
      options);
  const InterruptGuard guard;
  const std::filesystem::path output = options.output;

  const Dataset dataset = open_dataset(options.dataset, options.data, options.category,
                                       {.normal_dir = options.normal_dir,
                                        .abnormal_dir = options.abnormal_dir,
                                        .normal_test_dir = options.normal_test_dir,
                                        .mask_dir = options.mask_dir});
  ModelBundle bundle = load_bundle(options.model);
  make_result_folder(output);
  set_threads(options.threads);
  const torch::Device device = select_device(options.device);
  const std::string engine = resolve_engine(options.engine, device);
  spdlog::info("evaluate {} on {} test images of {}, engine {} on {}", options.model,
               dataset.test.size(), dataset.category, engine, describe_device(device));
  const Detector detector(std::move(bundle), device, engine);

  Progress progress("eval", static_cast<int64_t>(dataset.test.size()), "image");
  const Evaluation evaluation = evaluate(
      detector, dataset,
      {.output = output, .batch_size = options.batch_size, .progress = [&](int64_t done, int64_t) {
         progress.update(done);
       }});
  progress.finish();

  const auto resolved = options_to_json(options);
  const auto report = make_report(evaluation, dataset, detector.bundle(), resolved);
  write_json(output / "options.json", resolved);
  write_file(output / "scores.csv", scores_csv(evaluation));
  write_json(output / "report.json", report);
  if (common.json) {
    fmt::print("{}\n", dump_json(report));
  } else {
    fmt::print("{}\nreport: {}\nscores: {}\nanomaly maps: {}\n", report_table(report),
               (output / "report.json").string(), (output / "scores.csv").string(),
               (output / "anomaly_maps" / dataset.category).string());
  }
  return 0;
}

}  // namespace efficientad::cli
