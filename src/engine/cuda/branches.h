#pragma once

#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>
#include <functional>
#include <vector>

namespace efficientad::cuda {

/// Streams on which parts of some work may run side by side. One thread may use it at a time.
class Branches {
 public:
  explicit Branches(c10::DeviceIndex device) : device_(device) {
    constexpr size_t kStreams = 4;
    for (size_t i = 0; i < kStreams; ++i) {
      streams_.push_back(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device));
    }
  }

  /// The first on the current stream, the others beside it; what comes after waits for all. May be
  /// called by a branch.
  void run(const std::vector<std::function<void()>>& branches) {
    const size_t first = taken_;
    taken_ += branches.size() - 1;
    TORCH_CHECK(taken_ <= streams_.size(), "no streams left");
    const c10::cuda::CUDAStream current = c10::cuda::getCurrentCUDAStream(device_);
    at::cuda::CUDAEvent fork;
    fork.record(current);
    // All streams meet again, whatever happens: a recording cannot be ended otherwise.
    std::exception_ptr problem;
    const auto attempt = [&](const std::function<void()>& branch) {
      try {
        branch();
      } catch (...) {
        problem = std::current_exception();
      }
    };
    attempt(branches.front());
    for (size_t i = 1; i < branches.size() && !problem; ++i) {
      const c10::cuda::CUDAStream side = streams_[first + i - 1];
      fork.block(side);
      const c10::cuda::CUDAStreamGuard guard(side);
      attempt(branches[i]);
      at::cuda::CUDAEvent join;
      join.record(side);
      join.block(current);
    }
    taken_ = first;
    if (problem) std::rethrow_exception(problem);
  }

 private:
  c10::DeviceIndex device_;
  std::vector<c10::cuda::CUDAStream> streams_;
  size_t taken_ = 0;
};

}  // namespace efficientad::cuda
