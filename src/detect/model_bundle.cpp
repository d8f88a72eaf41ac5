#include "efficientad/detect/model_bundle.h"

#include <torch/nn/modules/conv.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "efficientad/core/error.h"
#include "efficientad/core/json.h"
#include "efficientad/core/safetensors.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kChannels = 384;

/// The ranges of a (const) ImageRange by their names in the file.
template <class Images>
auto ranges(Images& images) {
  return std::array{std::pair{"aspect_ratios", &images.aspect_ratios},
                    std::pair{"brightness", &images.brightness},
                    std::pair{"contrast", &images.contrast}};
}

void add_parameters(const torch::nn::Module& module, const std::string& prefix,
                    torch::ScalarType type, TensorFile& file) {
  for (const auto& item : module.named_parameters()) {
    file.tensors[prefix + item.key()] = item.value().detach().to(torch::kCPU, type);
  }
}

bool fits_float16(const torch::nn::Module& module) {
  for (const auto& item : module.named_parameters()) {
    const torch::Tensor value = item.value().detach();
    if (!torch::equal(value, value.to(torch::kFloat16).to(torch::kFloat32))) return false;
  }
  return true;
}

/// The tensor as float32; Error if it holds NaN or infinity or no floats.
torch::Tensor take_finite(const TensorFile& file, const std::string& name, const fs::path& path,
                          torch::IntArrayRef sizes) {
  const torch::Tensor stored = take(file, name, path, sizes);
  require(stored.is_floating_point(), "{}: tensor {} holds no floating-point numbers",
          path.string(), name);
  const torch::Tensor value = stored.to(torch::kFloat32);
  require(torch::isfinite(value).all().item<bool>(),
          "{}: tensor {} holds values that are not finite", path.string(), name);
  return value;
}

void take_parameters(const TensorFile& file, const std::string& prefix, const fs::path& path,
                     torch::nn::Module& module, std::set<std::string>& known) {
  const torch::NoGradGuard no_grad;
  for (auto& item : module.named_parameters()) {
    const std::string name = prefix + item.key();
    item.value().copy_(take_finite(file, name, path, item.value().sizes()));
    known.insert(name);
  }
}

void refuse_unknown(const TensorFile& file, const std::set<std::string>& known,
                    const fs::path& path) {
  for (const auto& [name, tensor] : file.tensors) {
    require(known.count(name) > 0, "{}: has a tensor {} that does not belong there", path.string(),
            name);
  }
}

std::string metadata_of(const TensorFile& file, const std::string& key, const fs::path& path) {
  const auto found = file.metadata.find(key);
  require(found != file.metadata.end(), "{}: its metadata has no {}", path.string(), key);
  return found->second;
}

void check_format(const TensorFile& file, const std::string& wanted, const fs::path& path) {
  const auto describe = [](const std::string& format) -> std::string {
    if (format == kTeacherFormat) return "a teacher (made by efficientad distill)";
    if (format == kModelFormat) return "a trained model (made by efficientad train)";
    return "some other safetensors file";
  };
  const auto found = file.metadata.find("format");
  const std::string format = found == file.metadata.end() ? "" : found->second;
  require(format == wanted, "{}: {} is needed, but this is {}", path.string(), describe(wanted),
          describe(format));
  const std::string version = metadata_of(file, "format_version", path);
  require(version == kFormatVersion,
          "{}: has format version {}, but this program reads version {}; it was written by another "
          "release",
          path.string(), version, kFormatVersion);
}

std::string model_size_of(const TensorFile& file, const fs::path& path) {
  const std::string model_size = metadata_of(file, "model_size", path);
  require(model_size == "small" || model_size == "medium",
          "{}: model_size is \"{}\", but must be small or medium", path.string(), model_size);
  return model_size;
}

Pdn make_pdn(const std::string& model_size, int64_t out_channels, bool padding) {
  Pdn network(
      PdnOptions{.model_size = model_size, .out_channels = out_channels, .padding = padding});
  network->eval();
  return network;
}

Pdn make_teacher(const std::string& model_size, bool padding) {
  Pdn network = make_pdn(model_size, kChannels, padding);
  for (auto& parameter : network->parameters()) parameter.set_requires_grad(false);
  return network;
}

/// JSON of a metadata value.
nlohmann::ordered_json json_of(const TensorFile& file, const std::string& key,
                               const fs::path& path) {
  auto json = parse_json<nlohmann::ordered_json>(
      metadata_of(file, key, path), fmt::format("{}: its metadata {}", path.string(), key));
  require(json.is_object(), "{}: its metadata {} is no JSON object", path.string(), key);
  return json;
}

template <class T>
T field(const nlohmann::ordered_json& json, const std::string& key, const fs::path& path) {
  const auto found = json.find(key);
  bool fits = found != json.end();
  if constexpr (std::is_same_v<T, bool>) fits = fits && found->is_boolean();
  if constexpr (std::is_same_v<T, int64_t>) fits = fits && found->is_number_integer();
  if constexpr (std::is_same_v<T, double>) fits = fits && found->is_number();
  if constexpr (std::is_same_v<T, std::string>) fits = fits && found->is_string();
  if constexpr (std::is_same_v<T, std::array<double, 2>>) {
    fits = fits && found->is_array() && found->size() == 2 && (*found)[0].is_number() &&
           (*found)[1].is_number();
  }
  require(fits, "{}: its metadata detector has no valid {}", path.string(), key);
  return found->template get<T>();
}

}  // namespace

void save_teacher(const fs::path& path, const Teacher& teacher) {
  TensorFile file;
  file.metadata = teacher.metadata;
  file.metadata["format"] = kTeacherFormat;
  file.metadata["format_version"] = kFormatVersion;
  file.metadata["model_size"] = teacher.network->options().model_size;
  add_parameters(*teacher.network, "", torch::kFloat16, file);
  write_safetensors(path, file);
}

Teacher load_teacher(const fs::path& path, const std::string& model_size, bool padding) {
  const TensorFile file = read_safetensors(path);
  check_format(file, kTeacherFormat, path);
  const std::string found = model_size_of(file, path);
  require(model_size.empty() || found == model_size,
          "{}: is a teacher of size {}, but the model size is {}; give another teacher or "
          "--model-size {}",
          path.string(), found, model_size, found);
  Teacher teacher{.network = make_teacher(found, padding), .metadata = file.metadata};
  std::set<std::string> known;
  take_parameters(file, "", path, *teacher.network, known);
  refuse_unknown(file, known, path);
  return teacher;
}

Teacher random_teacher(const std::string& model_size, bool padding, int64_t seed) {
  torch::manual_seed(static_cast<uint64_t>(seed));
  return {.network = make_teacher(model_size, padding),
          .metadata = {{"backbone", fmt::format("none: random weights, seed {}", seed)},
                       {"model_size", model_size}}};
}

void save_bundle(const fs::path& path, const ModelBundle& bundle) {
  TensorFile file;
  add_parameters(*bundle.teacher, "teacher.",
                 fits_float16(*bundle.teacher) ? torch::kFloat16 : torch::kFloat32, file);
  add_parameters(*bundle.student, "student.", torch::kFloat32, file);
  add_parameters(*bundle.autoencoder, "autoencoder.", torch::kFloat32, file);
  file.tensors["teacher_mean"] = bundle.teacher_mean;
  file.tensors["teacher_std"] = bundle.teacher_std;
  file.metadata["format"] = kModelFormat;
  file.metadata["format_version"] = kFormatVersion;
  file.metadata["model_size"] = bundle.model_size;
  nlohmann::ordered_json detector = {
      {"image_height", bundle.image_hw[0]},
      {"image_width", bundle.image_hw[1]},
      {"padding", bundle.padding},
      {"autoencoder_input", bundle.autoencoder_input},
      {"equalize_exposure", bundle.equalize_exposure},
      {"q_a_st", bundle.quantiles.q_a_st},
      {"q_b_st", bundle.quantiles.q_b_st},
      {"q_a_ae", bundle.quantiles.q_a_ae},
      {"q_b_ae", bundle.quantiles.q_b_ae},
      {"threshold", bundle.threshold},
      {"threshold_rule", bundle.threshold_rule},
      {"threshold_shift_average", bundle.threshold_shift_average},
      {"normal_scores", bundle.normal_scores},
      {"normal_scores_held_out", bundle.normal_images != NormalImages::kTrainedOn},
      {"normal_scores_cross_fitted", bundle.normal_images == NormalImages::kCrossFitted},
      {"normal_scores_shift_average", bundle.normal_scores_shift_average}};
  for (const auto& [name, range] : ranges(bundle.image_range)) {
    if (*range) detector[name] = **range;
  }
  file.metadata["detector"] = dump_json(detector);
  file.metadata["options"] =
      bundle.options.is_null() ? std::string("{}") : dump_json(bundle.options);
  file.metadata["provenance"] = dump_json(nlohmann::ordered_json(bundle.provenance));
  write_safetensors(path, file);
}

ModelBundle load_bundle(const fs::path& path) {
  const TensorFile file = read_safetensors(path);
  check_format(file, kModelFormat, path);
  ModelBundle bundle;
  bundle.model_size = model_size_of(file, path);

  const auto detector = json_of(file, "detector", path);
  bundle.padding = field<bool>(detector, "padding", path);
  bundle.image_hw = {field<int64_t>(detector, "image_height", path),
                     field<int64_t>(detector, "image_width", path)};
  for (const int64_t side : bundle.image_hw) {
    constexpr int64_t kLeastSide = 64;
    constexpr int64_t kMostSide = 1 << 15;
    require(side >= kLeastSide && side <= kMostSide, "{}: an image side of {} px is impossible",
            path.string(), side);
  }
  for (const auto& [name, range] : ranges(bundle.image_range)) {
    if (!detector.contains(name)) continue;
    *range = field<std::array<double, 2>>(detector, name, path);
    // So older models say that they do not know.
    if ((**range)[1] <= 0) range->reset();
  }
  bundle.autoencoder_input = field<std::string>(detector, "autoencoder_input", path);
  require(bundle.autoencoder_input == "fixed" || bundle.autoencoder_input == "full",
          "{}: autoencoder_input is \"{}\", but must be fixed or full", path.string(),
          bundle.autoencoder_input);
  bundle.equalize_exposure = field<bool>(detector, "equalize_exposure", path);
  bundle.quantiles = {.q_a_st = field<double>(detector, "q_a_st", path),
                      .q_b_st = field<double>(detector, "q_b_st", path),
                      .q_a_ae = field<double>(detector, "q_a_ae", path),
                      .q_b_ae = field<double>(detector, "q_b_ae", path)};
  require(bundle.quantiles.q_a_st <= bundle.quantiles.q_b_st &&
              bundle.quantiles.q_a_ae <= bundle.quantiles.q_b_ae,
          "{}: its metadata is damaged: a quantile q_a is above q_b", path.string());
  bundle.threshold = field<double>(detector, "threshold", path);
  bundle.threshold_rule = field<std::string>(detector, "threshold_rule", path);
  if (const auto scores = detector.find("normal_scores"); scores != detector.end()) {
    require(scores->is_array(), "{}: its normal_scores are no list", path.string());
    for (const auto& score : *scores) {
      require(score.is_number(), "{}: one of its normal_scores is no number", path.string());
      bundle.normal_scores.push_back(score.get<double>());
    }
    require(std::is_sorted(bundle.normal_scores.begin(), bundle.normal_scores.end()),
            "{}: its normal_scores are not in order", path.string());
  }
  // Models of earlier versions do not say.
  if (detector.contains("normal_scores_held_out") &&
      !field<bool>(detector, "normal_scores_held_out", path)) {
    bundle.normal_images = NormalImages::kTrainedOn;
  }
  const bool cross_fitted = detector.contains("normal_scores_cross_fitted")
                                ? field<bool>(detector, "normal_scores_cross_fitted", path)
                                : bundle.threshold_rule.find("cross-fitted") != std::string::npos;
  if (cross_fitted && bundle.normal_images == NormalImages::kHeldOut) {
    bundle.normal_images = NormalImages::kCrossFitted;
  }
  if (detector.contains("normal_scores_shift_average")) {
    bundle.normal_scores_shift_average =
        field<int64_t>(detector, "normal_scores_shift_average", path);
  }
  bundle.threshold_shift_average =
      detector.contains("threshold_shift_average")
          ? field<int64_t>(detector, "threshold_shift_average", path)
      : (bundle.threshold_rule.find("normal images") != std::string::npos ||
         bundle.threshold_rule.find("training images") != std::string::npos)
          ? bundle.normal_scores_shift_average
          : 0;
  bundle.options = json_of(file, "options", path);
  const auto provenance = json_of(file, "provenance", path);
  for (const auto& [key, value] : provenance.items()) {
    require(value.is_string(), "{}: its provenance {} is no string", path.string(), key);
    bundle.provenance[key] = value.get<std::string>();
  }

  bundle.teacher = make_teacher(bundle.model_size, bundle.padding);
  bundle.student = make_pdn(bundle.model_size, 2 * kChannels, bundle.padding);
  bundle.autoencoder = Autoencoder(kChannels);
  bundle.autoencoder->eval();
  std::set<std::string> known = {"teacher_mean", "teacher_std"};
  take_parameters(file, "teacher.", path, *bundle.teacher, known);
  take_parameters(file, "student.", path, *bundle.student, known);
  take_parameters(file, "autoencoder.", path, *bundle.autoencoder, known);
  refuse_unknown(file, known, path);
  bundle.teacher_mean = take_finite(file, "teacher_mean", path, {1, kChannels, 1, 1}).clone();
  bundle.teacher_std = take_finite(file, "teacher_std", path, {1, kChannels, 1, 1}).clone();
  require((bundle.teacher_std > 0).all().item<bool>(),
          "{}: teacher_std holds values that are not positive", path.string());
  return bundle;
}

}  // namespace efficientad
