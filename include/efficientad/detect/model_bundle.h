#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "efficientad/nn/autoencoder.h"
#include "efficientad/nn/pdn.h"

namespace efficientad {

/// 0.9- and 0.995-quantiles of a kind of map on normal images (paper, section 3.4).
struct MapQuantiles {
  double q_a_st = 0;
  double q_b_st = 0;
  double q_a_ae = 0;
  double q_b_ae = 0;
};

/// A distilled (or random) teacher and what is known of it.
struct Teacher {
  Pdn network = nullptr;
  /// Provenance and figures, as in the file's metadata.
  std::map<std::string, std::string> metadata;
};

/// Writes weights as float16 with metadata (format "efficientad-teacher", version 1, model_size).
void save_teacher(const std::filesystem::path& path, const Teacher& teacher);

/// Reads a teacher file; float32 network without padding in eval mode; `padding` as wanted. Throws
/// Error if it is no teacher file, is damaged, or its model size is not `model_size` (empty: any).
Teacher load_teacher(const std::filesystem::path& path, const std::string& model_size,
                     bool padding);

/// Everything a trained detector is, in one file.
struct ModelBundle {
  std::string model_size = "small";
  bool padding = false;
  std::array<int64_t, 2> image_hw = {256, 256};
  /// "fixed" or "full".
  std::string autoencoder_input = "fixed";
  Pdn teacher = nullptr;
  Pdn student = nullptr;
  Autoencoder autoencoder = nullptr;
  /// Teacher statistics, float32 [1, 384, 1, 1].
  torch::Tensor teacher_mean;
  torch::Tensor teacher_std;
  MapQuantiles quantiles;
  /// Image scores above it are called anomalous, and how it was chosen.
  double threshold = 0;
  std::string threshold_rule;
  /// Resolved options of the training and where things came from.
  nlohmann::ordered_json options;
  std::map<std::string, std::string> provenance;
};

/// Writes the bundle as one safetensors file, whole or not at all.
void save_bundle(const std::filesystem::path& path, const ModelBundle& bundle);

/// Reads a bundle; networks in eval mode on the CPU. Throws Error if the file is no model, of a
/// later format, truncated or inconsistent.
ModelBundle load_bundle(const std::filesystem::path& path);

}  // namespace efficientad
