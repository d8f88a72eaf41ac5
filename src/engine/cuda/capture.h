#pragma once

#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include <functional>
#include <memory>
#include <mutex>

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
    const auto succeeds = [](const std::function<void()>& call) {
      try {
        call();
        return true;
      } catch (const std::exception&) {
        return false;
      }
    };
    // If it cannot be ended it is invalid, unless it was ended already and could not be made
    // executable, when it gives back its memory itself and can be asked for its pool.
    if (!succeeds([&] { graph->capture_end(); }) && !succeeds([&] { graph->pool(); })) {
      // LibTorch then leaves the pool in use, which would keep the allocators from freeing anything
      // and holds a pointer to the graph, and the generator of random numbers recording.
      succeeds([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool); });
      succeeds([&] { c10::cuda::CUDACachingAllocator::releasePool(device, pool); });
      succeeds([&] { at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(pool); });
      succeeds([&] { at::getHostAllocator(at::kCUDA)->release_pool(pool); });
      succeeds([&] {
        at::Generator generator = at::cuda::detail::getDefaultCUDAGenerator(device);
        const std::lock_guard lock(generator.mutex());
        generator.graphsafe_set_state(generator.clone());
      });
    }
    throw;
  }
}

}  // namespace efficientad::cuda
