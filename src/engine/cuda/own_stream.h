#pragma once

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <tuple>

namespace efficientad::cuda {

/// A stream that nobody else uses, until this is destroyed. (LibTorch's come round again after 32,
/// and who records a graph on one that another thread works on breaks both.)
class OwnStream {
 public:
  OwnStream(c10::DeviceIndex device, bool high_priority)
      : stream_(made_on(device, high_priority)),
        c10_(c10::cuda::getStreamFromExternal(stream_, device)) {}

  /// What is queued on it ends all the same.
  ~OwnStream() { C10_CUDA_IGNORE_ERROR(cudaStreamDestroy(stream_)); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

  c10::cuda::CUDAStream get() const { return c10_; }

 private:
  static cudaStream_t made_on(c10::DeviceIndex device, bool high_priority) {
    const c10::cuda::CUDAGuard guard(device);
    // Those of LibTorch's own.
    const auto [low, high] = c10::cuda::CUDAStream::priority_range();
    cudaStream_t stream = nullptr;
    C10_CUDA_CHECK(
        cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, high_priority ? high : low));
    return stream;
  }

  cudaStream_t stream_;
  c10::cuda::CUDAStream c10_;
};

}  // namespace efficientad::cuda
