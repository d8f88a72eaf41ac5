#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <array>
#include <cmath>

#include "efficientad/core/cuda_part.h"

namespace {

/// The little of NVML that is needed, as nvml.h declares it: the driver brings the library, but not
/// the header.
class Nvml {
 public:
  Nvml() {
    void* const library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return;
    const auto start = reinterpret_cast<int (*)()>(dlsym(library, "nvmlInit_v2"));
    find_ = reinterpret_cast<Find*>(dlsym(library, "nvmlDeviceGetHandleByPciBusId_v2"));
    energy_ = reinterpret_cast<Energy*>(dlsym(library, "nvmlDeviceGetTotalEnergyConsumption"));
    usable_ = start != nullptr && find_ != nullptr && energy_ != nullptr && start() == 0;
  }

  /// NaN where it is not told.
  double joules(int device) const {
    std::array<char, 32> bus_id = {};
    void* handle = nullptr;
    unsigned long long millijoules = 0;
    if (!usable_ ||
        cudaDeviceGetPCIBusId(bus_id.data(), static_cast<int>(bus_id.size()), device) !=
            cudaSuccess ||
        find_(bus_id.data(), &handle) != 0 || energy_(handle, &millijoules) != 0) {
      return NAN;
    }
    return static_cast<double>(millijoules) / 1000;
  }

 private:
  using Find = int(const char* bus_id, void** device);
  using Energy = int(void* device, unsigned long long* millijoules);

  Find* find_ = nullptr;
  Energy* energy_ = nullptr;
  bool usable_ = false;
};

}  // namespace

extern "C" void efficientad_gpu_usage_1(int device, double* joules, double* peak_bytes) {
  static const Nvml nvml;
  *joules = nvml.joules(device);
  *peak_bytes = 0;
  // Before the first allocation there are no figures to ask for.
  if (!c10::cuda::CUDACachingAllocator::get()->initialized()) return;
  const auto stats =
      c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(device));
  *peak_bytes = static_cast<double>(stats.reserved_bytes[0].peak);
}
