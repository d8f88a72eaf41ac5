#include <string>
#include <vector>

#include "efficientad/core/cuda_part.h"

#ifdef USE_C10D_NCCL

#include <dlfcn.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

extern "C" void efficientad_nccl_problem_1(std::string* problem) {
  // Of the NCCL that LibTorch brings with it; no other is linked.
  const auto get_version =
      reinterpret_cast<decltype(&ncclGetVersion)>(::dlsym(RTLD_DEFAULT, "ncclGetVersion"));
  int version = 0;
  if (get_version == nullptr || get_version(&version) != ncclSuccess) {
    *problem = "this LibTorch brings no NCCL";
  } else if (version != NCCL_VERSION_CODE) {
    *problem = "this program was built for NCCL " + std::to_string(NCCL_VERSION_CODE) +
               ", but there is " + std::to_string(version);
  }
}

extern "C" c10d::Backend* efficientad_make_nccl_2(c10d::Store* store, int device, int rank,
                                                  int size, double seconds, std::string* problem) {
  try {
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = std::chrono::milliseconds(static_cast<int64_t>(1000 * seconds));
    auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(
        c10::intrusive_ptr<c10d::Store>::reclaim_copy(store), rank, size, options);
    // The processes meet now only. NCCL refuses two on one GPU, for example.
    std::vector<at::Tensor> trial = {at::ones(
        {1}, at::TensorOptions().device(at::kCUDA, static_cast<c10::DeviceIndex>(device)))};
    group->allreduce(trial)->wait();
    if (trial.front().item<float>() != static_cast<float>(size)) {
      *problem = "NCCL's sum over the processes is wrong";
      return nullptr;
    }
    return group.release();
  } catch (const std::exception& error) {
    *problem = error.what();
    return nullptr;
  }
}

#else

extern "C" void efficientad_nccl_problem_1(std::string* problem) {
  *problem = "this program was built without NCCL";
}

extern "C" c10d::Backend* efficientad_make_nccl_2(c10d::Store*, int, int, int, double,
                                                  std::string* problem) {
  efficientad_nccl_problem_1(problem);
  return nullptr;
}

#endif
