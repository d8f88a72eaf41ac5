#pragma once

#include <string>

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace efficientad {

class Recorder;

/// The library with all code that needs CUDA to be linked. The program opens it only where there is
/// a GPU, so that it runs everywhere.
inline constexpr const char* kCudaPartFile = "libefficientad_cuda.so";

// What the CUDA part exports. A name ends in its version, so that another release's is not mistaken
// for it.

/// Of a CUDA device.
inline constexpr const char* kMakeRecorder = "efficientad_make_recorder_1";
using MakeRecorder = Recorder*(int device);

/// A process group of NCCL, with a reference that the caller owns; nullptr, and why in `problem`,
/// if there is none. `store` is borrowed.
inline constexpr const char* kMakeNccl = "efficientad_make_nccl_1";
using MakeNccl = c10d::Backend*(c10d::Store* store, int rank, int size, double seconds,
                                std::string* problem);

/// What the CUDA part exports as `name`; nullptr, with the reason in `problem`, if it cannot be
/// loaded.
void* cuda_symbol(const char* name, std::string& problem);

}  // namespace efficientad
