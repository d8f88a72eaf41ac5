#include <cstdio>

#include "cli/bench_options.h"
#include "cli/collect_options.h"
#include "cli/command.h"
#include "cli/eval_options.h"
#include "cli/infer_options.h"
#include "cli/probe_shift_options.h"
#include "cli/serve_options.h"
#include "cli/sweep_options.h"
#include "cli/threshold_options.h"
#include "cli/verify_options.h"
#include "efficientad/data/synth.h"
#include "efficientad/train/distiller.h"
#include "efficientad/train/train_options.h"

namespace efficientad::cli {

namespace {

struct NoOptions {
  template <class Visitor>
  void visit(Visitor&&) {}
};

/// One command's options as a Markdown table.
template <class Options>
void print_table(const std::string& command) {
  fmt::print("## efficientad {}\n\n| option | default | meaning | where the default comes from |\n",
             command);
  fmt::print("|---|---|---|---|\n");
  Options options;
  const auto defaults = options_to_json(options);
  for (const auto& [name, field, info] : list_options(options)) {
    std::string help = info.help;
    if (!info.choices.empty()) help += "; one of " + join(info.choices);
    fmt::print("| `{}` | {} | {} | {} |\n", name,
               info.required ? "required" : fmt::format("`{}`", dump_json(defaults.at(name))), help,
               info.source.empty() ? "–" : info.source);
  }
  fmt::print("\n");
}

}  // namespace

int options_table(const Arguments& arguments) {
  NoOptions none;
  parse_options(arguments, "Print the table of all options (configs/README.md).", none);
  fmt::print(
      "# Options\n\n"
      "Made by `efficientad options-table`; a test compares. An option is a key of a JSON file for "
      "`--config` and, with hyphens for underscores, a flag (`--batch-size 2`). Order: defaults, "
      "then the file, then flags. The resolved options are written beside the results; that file "
      "given to `--config`, with another `--output`, repeats the run. A switch is `--padding` or "
      "`--no-penalty`, without a value. \"paper\" is Batzner, Heckler, König, WACV 2024.\n\n"
      "- `train_paper_small.json`, `train_paper_medium.json`: the paper's losses, optimiser and "
      "steps, with this project's teacher and, unless `penalty_images` is given, procedural "
      "penalty "
      "images.\n"
      "- `train_fast.json`: minutes instead of hours on two cores: other batches, optimiser, "
      "schedule and "
      "initial weights, crops, `hard_quantile` 0.99, an autoencoder that does not follow the "
      "student, bfloat16 where that is faster; its models bring images under one exposure "
      "(`equalize_exposure`).\n"
      "- `train_demo.json`: what `scripts/demo.sh` trains with.\n\n");
  print_table<TrainOptions>("train");
  print_table<DistillOptions>("distill");
  print_table<EvalOptions>("eval");
  print_table<CheckOptions>("dataset");
  print_table<SweepOptions>("sweep");
  print_table<CollectOptions>("collect");
  print_table<InferOptions>("infer");
  print_table<ServeOptions>("serve");
  print_table<ThresholdOptions>("threshold");
  print_table<BenchOptions>("bench");
  print_table<VerifyOptions>("verify");
  print_table<ProbeShiftOptions>("probe-shift");
  print_table<SynthOptions>("synth");
  return 0;
}

}  // namespace efficientad::cli
