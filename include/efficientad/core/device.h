#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

namespace efficientad {

/// The device named by `name`: "cpu", "cuda", "cuda:N", or "auto" (CUDA where it works, else the
/// CPU, and logs which). The CUDA part of LibTorch is loaded at run time on the first call that
/// asks for it; a program that does not link it must not ask LibTorch about CUDA before that.
/// Throws Error, saying what is missing, if CUDA was asked for and cannot be used.
torch::Device select_device(const std::string& name);

/// All GPUs for "cuda:all", else the one device of select_device().
std::vector<torch::Device> select_devices(const std::string& name);

/// Threads LibTorch uses inside an operation; 0 leaves its default (the physical cores). For this
/// thread and those that use LibTorch for the first time afterwards.
void set_threads(int64_t threads);

/// A line about the device for logs and provenance, for example "cpu (2 threads, AVX512)".
std::string describe_device(const torch::Device& device);

}  // namespace efficientad
