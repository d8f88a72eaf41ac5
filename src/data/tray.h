#pragma once

#include <cstdint>
#include <vector>

namespace efficientad {

/// What is wrong with a tray.
enum class TrayDefect {
  kNone,
  kScratch,
  kCrack,
  kStain,
  kDent,
  kBreak,
  kMissing,
  kExtra,
  kMisplaced,
  kWrongPart
};

/// A rendered tray.
struct TrayPicture {
  /// RGB, size * size * 3 bytes.
  std::vector<uint8_t> rgb;
  /// size * size bytes, 1 where the defect is; all zero without one.
  std::vector<uint8_t> mask;
};

/// Renders a moulded tray with its parts, seen from above, from a height field: key light with soft
/// shadows, ambient occlusion, reflections of a softbox, then lens and sensor.
///
/// The rules of a good tray (the bill of materials): four steel nuts, two brass washers, three caps
/// (red above yellow above blue), two wooden pegs, three screws with their heads to the left, two
/// rubber rings and a spring, each in its own compartment. `size` is the side in pixels.
TrayPicture render_tray(int size, TrayDefect defect, uint64_t seed, uint64_t stream,
                        uint64_t index);

}  // namespace efficientad
