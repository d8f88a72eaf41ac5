#pragma once

#include "efficientad/core/recorder.h"

namespace efficientad {

/// The library with all code that needs CUDA to be linked. The program opens it only where there is
/// a GPU, so that it runs everywhere.
inline constexpr const char* kCudaPartFile = "libefficientad_cuda.so";

/// What the CUDA part exports, with its version, so that another release's is not mistaken for it.
inline constexpr const char* kMakeRecorder = "efficientad_make_recorder_1";
using MakeRecorder = Recorder*(int device);

}  // namespace efficientad
