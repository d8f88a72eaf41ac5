#pragma once

#include <string>

namespace at {
class Tensor;
}
namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace efficientad {

class Recorder;

namespace cuda {
class Session;
}

/// The library with all code that needs CUDA to be linked. The program opens it only where there is
/// a GPU, so that it runs everywhere.
inline constexpr const char* kCudaPartFile = "libefficientad_cuda.so";

// What the CUDA part exports. A name ends in its version, so that another release's is not mistaken
// for it.

/// Of a CUDA device.
inline constexpr const char* kMakeRecorder = "efficientad_make_recorder_1";
using MakeRecorder = Recorder*(int device);

/// Of a CUDA device.
inline constexpr const char* kMakeSession = "efficientad_make_session_4";
using MakeSession = cuda::Session*(int device);

/// 2x2 means of relu(x + bias) to `to`: channels-last [N, C, H, W], float32, float16 or bfloat16;
/// bias float32 [C].
inline constexpr const char* kReluPool = "efficientad_relu_pool_1";
using ReluPoolForward = void(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& to);

/// What that passes back, to `x_gradient`, and added to `bias_gradient` (float32).
inline constexpr const char* kReluPoolBack = "efficientad_relu_pool_back_1";
using ReluPoolBack = void(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& gradient,
                          const at::Tensor& x_gradient, const at::Tensor& bias_gradient);

/// Why there is no NCCL to use, in `problem`, which stays as it is otherwise.
inline constexpr const char* kNcclProblem = "efficientad_nccl_problem_1";
using NcclProblem = void(std::string* problem);

/// A process group of NCCL, tried out between the processes' CUDA devices, with a reference that
/// the caller owns; nullptr, and why in `problem`, if there is none. `store` is borrowed.
inline constexpr const char* kMakeNccl = "efficientad_make_nccl_2";
using MakeNccl = c10d::Backend*(c10d::Store* store, int device, int rank, int size, double seconds,
                                std::string* problem);

/// Of a CUDA device: see GpuUsage; joules is NaN where they are not told.
inline constexpr const char* kReadGpuUsage = "efficientad_gpu_usage_1";
using ReadGpuUsage = void(int device, double* joules, double* peak_bytes);

/// What the CUDA part exports as `name`; nullptr, with the reason in `problem`, if it cannot be
/// loaded.
void* cuda_symbol(const char* name, std::string& problem);

}  // namespace efficientad
