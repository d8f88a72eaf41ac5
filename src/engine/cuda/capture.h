#pragma once

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include <functional>
#include <memory>

namespace efficientad::cuda {

/// A graph of `work`, recorded on the current stream. Throws what `work` or the recording throws;
/// then the recording is over, and what it allocated is free again.
inline std::unique_ptr<at::cuda::CUDAGraph> capture(c10::DeviceIndex device,
                                                    cudaStreamCaptureMode mode,
                                                    const std::function<void()>& work) {
  // What the runs before left behind; a graph has memory of its own.
  c10::cuda::CUDACachingAllocator::emptyCache();
  auto graph = std::make_unique<at::cuda::CUDAGraph>();
  const at::cuda::MempoolId_t pool = at::cuda::graph_pool_handle();
  try {
    graph->capture_begin(pool, mode);
    work();
    graph->capture_end();
    return graph;
  } catch (...) {
    try {
      graph->capture_end();
    } catch (const std::exception&) {
      // It is invalid. LibTorch then leaves the pool in use, which would keep the allocator from
      // freeing anything, and holds a pointer to the graph.
      const auto attempt = [](const std::function<void()>& call) {
        try {
          call();
        } catch (const std::exception&) {
          // It had not begun, or was over already.
        }
      };
      attempt([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool); });
      attempt([&] { c10::cuda::CUDACachingAllocator::releasePool(device, pool); });
    }
    throw;
  }
}

}  // namespace efficientad::cuda
