#include "efficientad/core/gpu_usage.h"

#include <cmath>
#include <string>

#include "efficientad/core/cuda_part.h"

namespace efficientad {

std::optional<GpuUsage> gpu_usage(torch::Device device) {
  if (!device.is_cuda()) return std::nullopt;
  std::string problem;
  const auto read = reinterpret_cast<ReadGpuUsage*>(cuda_symbol(kReadGpuUsage, problem));
  if (read == nullptr) return std::nullopt;
  double joules = NAN;
  double peak_bytes = 0;
  read(device.index(), &joules, &peak_bytes);
  constexpr double kMiB = 1024 * 1024;
  return GpuUsage{.joules = std::isnan(joules) ? std::nullopt : std::optional<double>(joules),
                  .peak_memory_mib = peak_bytes / kMiB};
}

}  // namespace efficientad
