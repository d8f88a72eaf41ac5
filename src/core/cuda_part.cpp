#include "efficientad/core/cuda_part.h"

#include <dlfcn.h>

#include <filesystem>
#include <memory>

#include "efficientad/core/recorder.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

/// Where this code's file is; empty if that cannot be told.
fs::path own_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&cuda_symbol), &info) == 0) return {};
  std::error_code ignored;
  // A program's file is named as it was called: perhaps by its name on the PATH alone, or from a
  // folder that the program has left since.
  const fs::path named = info.dli_fname;
  fs::path found;
  if (named.has_parent_path()) found = fs::canonical(named, ignored);
  if (found.empty()) found = fs::canonical("/proc/self/exe", ignored);
  return found.parent_path();
}

/// Opens the CUDA part; nullptr and why.
void* open_cuda_part(std::string& problem) {
  const fs::path own = own_folder();
  for (const fs::path& folder : {own, own / ".." / "lib"}) {
    const fs::path file = folder / kCudaPartFile;
    if (own.empty() || !fs::exists(file)) continue;
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
