#pragma once

#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace efficientad {

/// Runs the same work on a GPU again and again: at first as it is, then as a CUDA graph that was
/// recorded of it, which spares the host the launching of every kernel. Until it is destroyed, what
/// this thread does on the GPU goes to the recorder's stream.
class Recorder {
 public:
  virtual ~Recorder() = default;
  /// `work` must do the same on the same memory each time, and not wait for the GPU. If it cannot
  /// be recorded, a warning says why, and it goes on as it is.
  virtual void run(const std::function<void()>& work) = 0;
  /// For use in the work: does all branches, side by side if the GPU can. What they read must live
  /// until the work ends.
  virtual void parallel(const std::vector<std::function<void()>>& branches) = 0;
};

/// As Recorder::parallel(); one after another if there is no recorder.
using Parallel = std::function<void(const std::vector<std::function<void()>>&)>;

/// One for a CUDA device, from the CUDA part (a library beside the program); nullptr, with the
/// reason in `problem`, if that cannot be loaded.
std::unique_ptr<Recorder> make_recorder(torch::Device device, std::string& problem);

}  // namespace efficientad
