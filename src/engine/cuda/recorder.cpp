#include "efficientad/core/recorder.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "efficientad/core/cuda_part.h"
#include "efficientad/core/log.h"
#include "engine/cuda/branches.h"
#include "engine/cuda/capture.h"

namespace efficientad {

namespace {

/// Libraries choose algorithms and allocate in the first runs, which a graph must not record.
constexpr int kRunsBefore = 3;

class CudaRecorder : public Recorder {
 public:
  explicit CudaRecorder(c10::DeviceIndex device)
      : guard_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device)), branches_(device) {
    // What was begun elsewhere is done before this stream goes on.
    c10::cuda::device_synchronize();
  }

  ~CudaRecorder() override {
    try {
      c10::cuda::device_synchronize();
    } catch (const std::exception& error) {
      spdlog::error("CUDA: {}", error.what());
    }
  }

  void run(const std::function<void()>& work) override {
    if (state_ == State::kUnable || runs_ < kRunsBefore) {
      ++runs_;
      work();
      return;
    }
    if (state_ == State::kNew && !record(work)) {
      work();
      return;
    }
    graph_->replay();
  }

  void parallel(const std::vector<std::function<void()>>& branches) override {
    branches_.run(branches);
  }

 private:
  enum class State { kNew, kRecorded, kUnable };

  bool record(const std::function<void()>& work) {
    c10::cuda::device_synchronize();
    try {
      graph_ = cuda::capture(guard_.current_device().index(), cudaStreamCaptureModeGlobal, work);
      state_ = State::kRecorded;
    } catch (const std::exception& error) {
      spdlog::warn("the step cannot be recorded as a CUDA graph and goes on without ({})",
                   error.what());
      state_ = State::kUnable;
    }
    return state_ == State::kRecorded;
  }

  c10::cuda::CUDAStreamGuard guard_;
  cuda::Branches branches_;
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
  State state_ = State::kNew;
  int runs_ = 0;
};

}  // namespace

}  // namespace efficientad

extern "C" efficientad::Recorder* efficientad_make_recorder_1(int device) {
  return new efficientad::CudaRecorder(static_cast<c10::DeviceIndex>(device));
}
