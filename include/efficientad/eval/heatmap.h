#pragma once

#include <torch/types.h>

#include <string>

#include "efficientad/detect/detector.h"

namespace efficientad {

/// A picture in which a person sees at a glance what the detector found: the image, and beside it
/// (or below, for wide images) the same with its anomaly map over it and a white line around what
/// is above `threshold`; under them the decision, the score and the colour scale.
///
/// The colours mean the same in all pictures of a model: the scale runs from 0 (the 0.9-quantile of
/// normal pixels) to three thresholds. The map becomes visible where it leaves what normal pixels
/// have, at 0.1 (half the threshold, if that is lower), and is clear at the threshold or at 0.5,
/// whichever is lower: good images stay calm, and what lies below a high threshold shows too. What
/// made the decision is outlined.
///
/// `image_u8`: uint8 [height, width, 3]; `detection` of that image; `title` (the file's name) is
/// drawn into the strip. Returns uint8 [*, *, 3]; each panel's longer side is scaled to between 512
/// and 1024 px. May be called from any thread.
torch::Tensor draw_heatmap(const torch::Tensor& image_u8, const Detection& detection,
                           double threshold, const std::string& title);

}  // namespace efficientad
