#include <cstdio>
#include <memory>

#include "cli/command.h"
#include "efficientad/core/buffer.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/log.h"
#include "efficientad/core/progress.h"
#include "efficientad/train/distiller.h"

namespace efficientad::cli {

int distill(const Arguments& arguments) {
  DistillOptions options;
  const CommonFlags common = parse_options(
      arguments, "Distil a teacher network from an ImageNet backbone and plain photographs.",
      options);
  keep_freed_memory();
  const InterruptGuard guard;
  std::unique_ptr<Progress> progress;
  std::string stage;
  const DistillResult result = efficientad::distill(options, [&](const DistillProgress& now) {
    if (now.stage != stage) {
      progress.reset();
      stage = now.stage;
      progress = std::make_unique<Progress>(stage, now.total,
                                            stage == "features" ? "image" : "step", now.done - 1);
    }
    progress->update(now.done, stage == "features" ? "" : fmt::format("loss {:.3f}", now.loss));
  });
  progress.reset();
  if (!result.written) return 0;
  if (common.json) {
    nlohmann::ordered_json json = {
        {"output", options.output},
        {"explained_variance", result.explained_variance},
        {"explained_variance_shallow", result.explained_variance_shallow},
        {"explained_variance_deep", result.explained_variance_deep}};
    fmt::print("{}\n", dump_json(json));
  } else {
    fmt::print(
        "{}\nexplained variance on held-out images {:.3f} (finer half {:.3f}, coarser half "
        "{:.3f})\n",
        options.output, result.explained_variance, result.explained_variance_shallow,
        result.explained_variance_deep);
  }
  return 0;
}

}  // namespace efficientad::cli
