#include "efficientad/core/recorder.h"

#include <dlfcn.h>

#include <filesystem>

#include "efficientad/core/cuda_part.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

/// Where this code's file is.
fs::path own_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&make_recorder), &info) == 0) return {};
  std::error_code ignored;
  const fs::path file = fs::canonical(info.dli_fname, ignored);
  return file.parent_path();
}

/// The CUDA part, opened once; `problem` says what went wrong.
void* cuda_part(std::string& problem) {
  static std::string why;
  static void* const handle = [] {
    for (const fs::path& folder : {own_folder(), own_folder() / ".." / "lib"}) {
      const fs::path file = folder / kCudaPartFile;
      if (!fs::exists(file)) continue;
      void* opened = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (opened == nullptr) why = dlerror();
      return opened;
    }
    why = std::string(kCudaPartFile) + " is not beside the program";
    return static_cast<void*>(nullptr);
  }();
  problem = why;
  return handle;
}

}  // namespace

std::unique_ptr<Recorder> make_recorder(torch::Device device, std::string& problem) {
  void* const part = cuda_part(problem);
  if (part == nullptr) return nullptr;
  const auto make = reinterpret_cast<MakeRecorder*>(dlsym(part, kMakeRecorder));
  if (make == nullptr) {
    problem = std::string(kCudaPartFile) + " is of another release";
    return nullptr;
  }
  return std::unique_ptr<Recorder>(make(device.index()));
}

}  // namespace efficientad
