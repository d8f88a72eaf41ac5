#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <string>

namespace efficientad {

/// What a safetensors file holds: named tensors and string metadata.
struct TensorFile {
  std::map<std::string, torch::Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// Writes a safetensors file (8-byte little-endian header length, JSON header, raw data), whole or
/// not at all. Tensors of any device and layout, float32, float16, bfloat16, int64 or uint8; stored
/// contiguous, in name order, without gaps, as the format demands.
void write_safetensors(const std::filesystem::path& path, const TensorFile& file);

/// Reads a safetensors file. The file is mapped into memory and the tensors point into the mapping
/// (copy-on-write, alive as long as any of them); unaligned ones are copied. Nothing in the header
/// is trusted: lengths, types, shapes and offsets are checked against the file, and Error names the
/// file and what is wrong with it.
TensorFile read_safetensors(const std::filesystem::path& path);

/// The named tensor. Throws Error naming `path` if it is missing, or if `sizes` is not empty and
/// its shape is another one.
torch::Tensor take(const TensorFile& file, const std::string& name,
                   const std::filesystem::path& path, torch::IntArrayRef sizes = {});

}  // namespace efficientad
