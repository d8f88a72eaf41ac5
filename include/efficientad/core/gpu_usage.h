#pragma once

#include <torch/types.h>

#include <optional>

namespace efficientad {

/// What a GPU was used for.
struct GpuUsage {
  /// Energy that it has taken since its driver was loaded, for all programs, in joules; nothing
  /// where NVML (libnvidia-ml.so.1, of the driver) does not tell. Updated some ten times a second.
  std::optional<double> joules;
  /// The most memory that this program's tensors and graphs held, MiB.
  double peak_memory_mib = 0;
};

/// Of a CUDA device; nothing for another, or without the CUDA part.
std::optional<GpuUsage> gpu_usage(torch::Device device);

}  // namespace efficientad
