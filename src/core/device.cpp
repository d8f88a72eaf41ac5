#include "efficientad/core/device.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>

#include "efficientad/core/error.h"
#include "efficientad/core/log.h"

namespace efficientad {

namespace {

/// Loads libtorch_cuda once; what went wrong, or an empty string. It registers itself with the
/// part of LibTorch that we link, which must not have been asked about CUDA before.
const std::string& load_cuda() {
  static const std::string problem = [] {
    // RTLD_GLOBAL: its libraries (c10_cuda and so on) are found through its own run path.
    if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr) return std::string();
    Dl_info info;
    if (dladdr(reinterpret_cast<const void*>(&at::get_num_threads), &info) != 0 &&
        info.dli_fname != nullptr) {
      std::string path = info.dli_fname;
      path = path.substr(0, path.rfind('/') + 1) + "libtorch_cuda.so";
      if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr) return std::string();
    }
    const char* error = dlerror();
    return std::string(error != nullptr ? error : "libtorch_cuda.so not found");
  }();
  return problem;
}

std::string cuda_problem() {
  const std::string& problem = load_cuda();
  if (!problem.empty()) return "the CUDA part of LibTorch cannot be loaded (" + problem + ")";
  if (!at::hasCUDA()) return "LibTorch finds no CUDA driver or no GPU";
  return "";
}

int64_t device_count() { return static_cast<int64_t>(at::detail::getCUDAHooks().deviceCount()); }

/// The GPU of a process that was told none: of several on a machine (torchrun, Slurm, Open MPI)
/// each has its own.
torch::Device own_gpu() {
  int64_t index = 0;
  for (const char* name : {"LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || std::getenv("MASTER_ADDR") == nullptr) continue;
    index = std::strtol(value, nullptr, 10);
    break;
  }
  const int64_t count = std::max<int64_t>(1, device_count());
  return torch::Device(torch::kCUDA,
                       static_cast<c10::DeviceIndex>(std::max<int64_t>(0, index) % count));
}

}  // namespace

torch::Device select_device(const std::string& name) {
  if (name == "cpu") return torch::kCPU;
  if (name == "auto") {
    // Looking for a driver first spares machines without a GPU the loading of gigabytes.
    void* driver = dlopen("libcuda.so.1", RTLD_LAZY);
    const std::string problem = driver == nullptr ? "no NVIDIA driver" : cuda_problem();
    if (problem.empty()) {
      const torch::Device device = own_gpu();
      spdlog::info("device: {}", device.str());
      return device;
    }
    spdlog::info("device: cpu ({})", problem);
    return torch::kCPU;
  }
  torch::Device device = torch::kCPU;
  try {
    device = torch::Device(name);
  } catch (const c10::Error&) {
    throw UsageError(fmt::format("device \"{}\" is none of auto, cpu, cuda, cuda:N", name));
  }
  require_usage(device.is_cuda(), "device \"{}\" is none of auto, cpu, cuda, cuda:N", name);
  const std::string problem = cuda_problem();
  require(problem.empty(), "device {} cannot be used: {}; use --device cpu", name, problem);
  const int64_t count = device_count();
  require(device.index() < count, "device {} does not exist: there are {} CUDA devices", name,
          count);
  return device.has_index() ? device : own_gpu();
}

std::vector<torch::Device> select_devices(const std::string& name) {
  if (name != "cuda:all") return {select_device(name)};
  const std::string problem = cuda_problem();
  require(problem.empty(), "device {} cannot be used: {}; use --device cpu", name, problem);
  std::vector<torch::Device> devices;
  for (int64_t i = 0; i < device_count(); ++i) {
    devices.emplace_back(torch::kCUDA, static_cast<c10::DeviceIndex>(i));
  }
  return devices;
}

void set_threads(int64_t threads) {
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
}

std::string describe_device(const torch::Device& device) {
  if (device.is_cpu()) {
    return fmt::format("cpu ({} threads, {})", at::get_num_threads(), at::get_cpu_capability());
  }
  return device.str();
}

}  // namespace efficientad
