#pragma once

namespace efficientad {

// Of equalize_exposure(), for LibTorch's code and for kernels.

/// The mean that an image is brought to, of values in 0..1.
inline constexpr double kExposureMean = 0.45;
/// What its values are multiplied by at most.
inline constexpr double kLargestExposureFactor = 4;

}  // namespace efficientad
