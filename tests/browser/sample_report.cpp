// sample_report FOLDER COUNT [maps]: writes FOLDER/report.html of an evaluation that no model made,
// of COUNT images, for a browser to open. maps: without a threshold.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "efficientad/eval/html_report.h"
#include "eval/sample_evaluation.h"

int main(int argc, char** argv) {
  using namespace efficientad;
  if (argc < 3) return 2;
  torch::manual_seed(0);
  const std::filesystem::path folder = argv[1];
  const int count = std::atoi(argv[2]);
  const bool threshold = argc < 4 || std::strcmp(argv[3], "maps") != 0;
  SampleEvaluation sample = sample_evaluation(folder, count, /*files=*/std::min(count, 60),
                                              /*side=*/300);
  evaluate_pixels(sample.evaluation, sample.dataset);
  const std::string page =
      html_report(sample.evaluation, sample.dataset, report_of(sample, threshold),
                  {.train_log = folder / "train_log.csv", .threads = 2});
  write_file(folder / "report.html", page);
  std::printf("%zu images, %zu bytes\n", sample.evaluation.images.size(), page.size());
  return 0;
}
