#include "efficientad/core/cuda_part.h"

#include <dlfcn.h>

#include <filesystem>
#include <memory>

#include "efficientad/core/recorder.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

/// Where this code's file is.
fs::path own_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&cuda_symbol), &info) == 0) return {};
  std::error_code ignored;
  // A program's file is named as it was called, which may be by its name on the PATH alone.
  const fs::path named = info.dli_fname;
  return fs::canonical(named.has_parent_path() ? named : "/proc/self/exe", ignored).parent_path();
}

/// Opens the CUDA part; nullptr and why.
void* open_cuda_part(std::string& problem) {
  for (const fs::path& folder : {own_folder(), own_folder() / ".." / "lib"}) {
    const fs::path file = folder / kCudaPartFile;
    if (!fs::exists(file)) continue;
    void* opened = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (opened == nullptr) problem = dlerror();
    return opened;
  }
  problem = std::string(kCudaPartFile) + " is not beside the program";
  return nullptr;
}

}  // namespace

void* cuda_symbol(const char* name, std::string& problem) {
  static std::string why;
  static void* const part = open_cuda_part(why);
  problem = why;
  if (part == nullptr) return nullptr;
  void* symbol = dlsym(part, name);
  if (symbol == nullptr) problem = std::string(kCudaPartFile) + " is of another release";
  return symbol;
}

std::unique_ptr<Recorder> make_recorder(torch::Device device, std::string& problem) {
  const auto make = reinterpret_cast<MakeRecorder*>(cuda_symbol(kMakeRecorder, problem));
  return std::unique_ptr<Recorder>(make == nullptr ? nullptr : make(device.index()));
}

}  // namespace efficientad
