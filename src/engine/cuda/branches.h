#pragma once

#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/ScopeExit.h>

#include <deque>
#include <exception>
#include <functional>
#include <vector>

#include "engine/cuda/own_stream.h"
#include "engine/cuda/schedule.h"

namespace efficientad::cuda {

/// Streams on which parts of some work may run side by side. One thread may use it at a time.
class Branches {
 public:
  explicit Branches(c10::DeviceIndex device) : device_(device) {
    constexpr size_t kStreams = 4;
    for (size_t i = 0; i < kStreams; ++i) streams_.emplace_back(device, /*high_priority=*/false);
  }

  /// All of them, in the schedule's order of their depth: a branch may call it too. What comes
  /// after on the current stream waits for all.
  void run(const std::vector<std::function<void()>>& branches, const Schedule& schedule = {}) {
    const BranchOrder order = depth_ == 0 ? schedule.outer : schedule.inner;
    const bool in_turn = order == BranchOrder::kInTurn;
    const size_t ahead = order == BranchOrder::kLastAhead ? branches.size() - 1 : 0;
    const size_t first = taken_;
    const size_t taken = in_turn ? first : first + branches.size() - 1;
    TORCH_CHECK(taken <= streams_.size(), "no streams left");
    const auto as_before = c10::make_scope_exit([this, first] {
      taken_ = first;
      --depth_;
    });
    taken_ = taken;
    ++depth_;
    const c10::cuda::CUDAStream current = c10::cuda::getCurrentCUDAStream(device_);
    at::cuda::CUDAEvent fork;
    if (!in_turn) fork.record(current);
    // The first problem is the one to tell. All streams that were forked meet again all the same: a
    // recording cannot be ended otherwise.
    std::exception_ptr problem;
    const auto attempt = [&](const std::function<void()>& step) {
      try {
        step();
      } catch (...) {
        if (!problem) problem = std::current_exception();
      }
    };
    attempt(branches[ahead]);
    size_t next = first;
    for (size_t i = 0; i < branches.size() && !problem; ++i) {
      if (i == ahead) continue;
      if (in_turn) {
        attempt(branches[i]);
        continue;
      }
      const c10::cuda::CUDAStream side = streams_[next++].get();
      const c10::cuda::CUDAStreamGuard guard(side);
      attempt([&] {
        fork.block(side);
        branches[i]();
      });
      attempt([&] {
        at::cuda::CUDAEvent join;
        join.record(side);
        join.block(current);
      });
    }
    if (problem) std::rethrow_exception(problem);
  }

 private:
  c10::DeviceIndex device_;
  std::deque<OwnStream> streams_;
  size_t taken_ = 0;
  int depth_ = 0;
};

}  // namespace efficientad::cuda
