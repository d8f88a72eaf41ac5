#include "cli/command.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/json.h"
#include "efficientad/core/progress.h"
#include "efficientad/data/synth.h"

namespace efficientad::cli {

int synth(const Arguments& arguments) {
  SynthOptions options;
  const CommonFlags common = parse_options(
      arguments,
      "Make the procedural data set: a tray of small parts with structural and logical defects, in "
      "MVTec LOCO layout.",
      options);
  const InterruptGuard guard;
  Progress progress("synth", options.images, "image");
  make_synth_dataset(options, [&](int64_t done, int64_t) { progress.update(done); });
  progress.finish();
  if (common.json) {
    fmt::print("{}\n",
               dump_json(nlohmann::ordered_json{{"output", options.output}, {"category", "tray"}}));
  } else {
    fmt::print("{}\n", (std::filesystem::path(options.output) / "tray").string());
  }
  return 0;
}

}  // namespace efficientad::cli
