#pragma once

#include <torch/nn/modules/conv.h>

#include <functional>

#include "efficientad/core/random.h"

namespace efficientad {

/// Layer-sequential unit-variance initialisation (Mishkin and Matas 2016) of one convolution, with
/// its outputs centred as well: orthogonal weights, then each filter scaled and its bias set so
/// that what `output` gives has mean 0 and variance 1 over images and positions. `output` runs the
/// convolution as it then is, on images like those it is for, without an activation behind it, and
/// gives [N, out_channels, h, w]. A filter that hardly varies (by less than a 20th of its root mean
/// square, as over one image) is scaled as if it varied so much; one that gives 0 keeps its
/// weights.
void initialize_unit_variance(torch::nn::Conv2dImpl& convolution, Rng& rng,
                              const std::function<torch::Tensor()>& output);

}  // namespace efficientad
