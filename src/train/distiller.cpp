#include "efficientad/train/distiller.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/nn/modules/conv.h>
#include <torch/utils.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>

#include "efficientad/core/device.h"
#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/json.h"
#include "efficientad/core/log.h"
#include "efficientad/core/precision.h"
#include "efficientad/core/random.h"
#include "efficientad/core/safetensors.h"
#include "efficientad/core/version.h"
#include "efficientad/data/color_jitter.h"
#include "efficientad/data/image.h"
#include "efficientad/data/loader.h"
#include "efficientad/data/resize.h"
#include "efficientad/nn/backbone.h"
#include "efficientad/nn/convolution.h"
#include "efficientad/nn/imagenet.h"
#include "efficientad/nn/initialization.h"
#include "efficientad/nn/statistics.h"
#include "efficientad/train/feature_cache.h"
#include "efficientad/train/optimizer.h"
#include "efficientad/train/ranks.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kChannels = 384;
constexpr int64_t kGrid = kDistillSide / 4 - 8;
constexpr int64_t kImagesForStatistics = 64;
constexpr int64_t kImagesForTargetStatistics = 1000;
/// A further view of an image shows at least so much of each of its sides.
constexpr double kSmallestView = 0.5;
constexpr auto kCheckpointFormat = "efficientad-distill-checkpoint";

/// Streams of the random generator.
enum Stream : uint64_t { kOrder = 1, kProjection, kImage, kCrops, kWeights };

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void stop_if_interrupted(const char* how_to_go_on) {
  if (interrupt_requested()) throw Interrupted(how_to_go_on);
}

/// A picture at both sizes: uint8 [side, side, 3] for the PDN, [2 side, 2 side, 3] for the
/// backbone.
struct Picture {
  torch::Tensor small_u8;
  torch::Tensor large_u8;
};

/// Columns of a random orthogonal matrix: float64 [channels, wanted].
torch::Tensor random_orthogonal(int64_t channels, int64_t wanted, Rng& rng) {
  const int64_t side = std::max(channels, wanted);
  torch::Tensor random = torch::empty({side, side}, torch::kFloat64);
  for (int64_t i = 0; i < random.numel(); ++i) random.data_ptr<double>()[i] = rng.normal();
  return std::get<0>(torch::linalg_qr(random)).narrow(0, 0, channels).narrow(1, 0, wanted);
}

/// The matrix of an adaptive average pooling over channels: float64 [channels, wanted].
torch::Tensor channel_pooling(int64_t channels, int64_t wanted) {
  return torch::adaptive_avg_pool1d(torch::eye(channels, torch::kFloat64).unsqueeze(0), wanted)[0];
}

class Target {
 public:
  explicit Target(const DistillOptions& options, const torch::Device& device,
                  const std::string& precision)
      : options_(options), device_(device), precision_(precision) {
    const size_t count = options.backbone.size();
    require_usage(options.taps.empty() || options.taps.size() == count,
                  "taps has {} entries, but there are {} backbones", options.taps.size(), count);
    require_usage(kChannels % count == 0, "{} backbones cannot share {} channels", count,
                  kChannels);
    for (size_t i = 0; i < count; ++i) {
      parts_.push_back(
          {open_backbone(options.backbone[i], options.taps.empty() ? "" : options.taps[i]), {}});
      parts_.back().backbone->to(device);
    }
  }

  std::map<std::string, std::string> provenance() const {
    std::map<std::string, std::string> all;
    for (const auto& part : parts_) {
      for (const auto& [key, value] : part.backbone->provenance()) {
        all[key] = all.count(key) > 0 ? all[key] + "; " + value : value;
      }
    }
    return all;
  }

  /// Channel statistics and projections of each feature map, from a few pictures.
  void prepare(const std::function<Picture(int64_t)>& picture, int64_t count) {
    if (options_.target == "patch") return;
    std::vector<std::vector<ChannelStatistics>> statistics(parts_.size());
    for (int64_t i = 0; i < count; ++i) {
      stop_if_interrupted("interrupted before any features were computed");
      const Picture image = picture(i);
      for (size_t p = 0; p < parts_.size(); ++p) {
        const auto maps = features(parts_[p], {image});
        statistics[p].resize(maps.size());
        for (size_t m = 0; m < maps.size(); ++m) statistics[p][m].add(maps[m].cpu());
      }
    }
    Rng rng(static_cast<uint64_t>(options_.seed), kProjection);
    for (size_t p = 0; p < parts_.size(); ++p) {
      const auto maps = static_cast<int64_t>(statistics[p].size());
      const int64_t share = kChannels / static_cast<int64_t>(parts_.size());
      for (int64_t m = 0; m < maps; ++m) {
        const auto& measured = statistics[p][static_cast<size_t>(m)];
        const int64_t channels = measured.mean().size(1);
        const int64_t wanted = share / maps + (m < share % maps ? 1 : 0);
        const torch::Tensor mix = options_.target == "average"
                                      ? channel_pooling(channels, wanted)
                                      : random_orthogonal(channels, wanted, rng);
        // (x - mean) / std, then the mixing of channels, as one 1x1 convolution.
        const torch::Tensor weight =
            mix.t().to(torch::kFloat32) / measured.std().flatten().unsqueeze(0);
        Projection projection;
        projection.bias = -weight.mv(measured.mean().flatten()).to(device_);
        projection.weight = weight.view({wanted, channels, 1, 1}).contiguous().to(device_);
        parts_[p].projections.push_back(projection);
      }
    }
  }

  /// One picture or more: float16 [N, kGrid, kGrid, kChannels] on the CPU, not yet normalised.
  torch::Tensor operator()(const std::vector<Picture>& pictures) const {
    std::vector<torch::Tensor> joined;
    const int64_t cells = kDistillSide / 4;
    for (const auto& part : parts_) {
      const auto maps = features(part, pictures);
      torch::Tensor grid;
      if (options_.target == "patch") {
        grid =
            to_grid(patch_features(maps, kChannels / static_cast<int64_t>(parts_.size())), cells);
      } else {
        std::vector<torch::Tensor> projected;
        for (size_t m = 0; m < maps.size(); ++m) {
          projected.push_back(to_grid(
              torch::conv2d(maps[m], part.projections[m].weight, part.projections[m].bias), cells));
        }
        grid = torch::cat(projected, /*dim=*/1);
      }
      const int64_t offset = part.backbone->grid_offset();
      joined.push_back(grid.slice(2, offset, offset + kGrid).slice(3, offset, offset + kGrid));
    }
    return torch::cat(joined, /*dim=*/1)
        .permute({0, 2, 3, 1})
        .to(torch::kFloat16)
        .contiguous()
        .cpu();
  }

 private:
  struct Projection {
    torch::Tensor weight;
    torch::Tensor bias;
  };
  struct Part {
    std::unique_ptr<Backbone> backbone;
    std::vector<Projection> projections;
  };

  std::vector<torch::Tensor> features(const Part& part,
                                      const std::vector<Picture>& pictures) const {
    std::vector<torch::Tensor> images;
    for (const auto& picture : pictures) images.push_back(picture.large_u8);
    const torch::Tensor x =
        torch::stack(images).to(device_).permute({0, 3, 1, 2}).to(torch::kFloat32).div(255);
    std::vector<torch::Tensor> maps;
    {
      const Autocast autocast(precision_, device_);
      maps = part.backbone->features(x);
    }
    for (auto& map : maps) {
      map = map.to(torch::kFloat32);
      if (options_.target == "average") {
        map = torch::avg_pool2d(map, /*kernel_size=*/3, /*stride=*/1, /*padding=*/1,
                                /*ceil_mode=*/false, /*count_include_pad=*/false);
      }
    }
    return maps;
  }

  const DistillOptions& options_;
  torch::Device device_;
  std::string precision_;
  std::vector<Part> parts_;
};

/// A random part of an image, uint8 [height, width, 3]: of each side kSmallestView to all of it.
torch::Tensor part_of(const torch::Tensor& image, Rng& rng) {
  torch::Tensor part = image;
  for (const int64_t dim : {0, 1}) {
    const int64_t side = image.size(dim);
    const auto kept = std::clamp<int64_t>(
        std::llround(rng.uniform(kSmallestView, 1) * static_cast<double>(side)), 1, side);
    part = part.narrow(dim, rng.below(side - kept + 1), kept);
  }
  return part.contiguous();
}

/// The picture under another exposure: brightness times up to `largest` or its inverse, contrast
/// times up to its square root, drawn log-uniformly. uint8 [height, width, 3].
torch::Tensor jitter_exposure(const torch::Tensor& image_u8, double largest, Rng& rng) {
  const double limit = std::log(largest);
  const double brightness = std::exp(rng.uniform(-limit, limit));
  const double contrast = std::exp(rng.uniform(-limit / 2, limit / 2));
  const torch::Tensor image = to_float_chw(image_u8);
  return adjust_contrast(adjust_brightness(image, brightness), contrast)
      .mul(255)
      .round()
      .to(torch::kUInt8)
      .permute({1, 2, 0});
}

/// How many pictures' features are computed together.
int64_t pictures_together(const DistillOptions& options, const torch::Device& device) {
  if (options.feature_batch > 0) return options.feature_batch;
  // The paper's target takes gigabytes of memory for so many.
  constexpr int64_t kOnAGpu = 16;
  return device.is_cuda() && options.target != "patch" ? kOnAGpu : 1;
}

/// Each layer for unit variance on `batch`; the last one begins small, near the target's mean.
void initialize(Pdn& pdn, const torch::Tensor& batch, uint64_t seed) {
  constexpr double kLastScale = 0.3;
  torch::NoGradGuard no_grad;
  Rng rng(seed, kWeights);
  std::vector<torch::nn::Conv2dImpl*> convs;
  for (const auto& module : pdn->children()) {
    convs.push_back(module->as<torch::nn::Conv2d>());
  }
  for (size_t i = 0; i < convs.size(); ++i) {
    initialize_unit_variance(*convs[i], rng,
                             [&] { return pdn->layer_output(batch, static_cast<int64_t>(i)); });
  }
  convs.back()->weight.mul_(kLastScale);
  convs.back()->bias.zero_();
}

/// The uint8 items of all processes, one after another.
torch::Tensor gathered(const torch::Tensor& own, Ranks& ranks) {
  if (ranks.alone()) return own;
  std::vector<int64_t> sizes = own.sizes().vec();
  sizes.insert(sizes.begin(), ranks.size());
  const torch::Tensor all = torch::zeros(sizes);
  all[ranks.rank()].copy_(own);
  ranks.sum({all});
  return all.flatten(0, 1).to(torch::kUInt8);
}

std::string metadata_of(const TensorFile& file, const std::string& name, const fs::path& path) {
  const auto found = file.metadata.find(name);
  require(found != file.metadata.end(), "{}: not a checkpoint of a distillation", path.string());
  return found->second;
}

/// Reads a checkpoint, which must be one of these options and inputs.
TensorFile checkpoint_of(const fs::path& path, const std::string& options,
                         const std::string& inputs) {
  TensorFile file = read_safetensors(path);
  require(metadata_of(file, "format", path) == kCheckpointFormat,
          "{}: not a checkpoint of a distillation", path.string());
  const std::string before = metadata_of(file, "options", path);
  require_usage(before == options, "{}: was made with other options; resume with {}", path.string(),
                before);
  // Those of earlier releases do not say.
  const auto found = file.metadata.find("inputs");
  require(found == file.metadata.end() || found->second == inputs,
          "{}: was made with other images or backbones; bring those back, or begin anew with "
          "--overwrite",
          path.string());
  return file;
}

}  // namespace

DistillResult distill(const DistillOptions& options,
                      const std::function<void(const DistillProgress&)>& progress) {
  check_options(options);
  require_usage(options.crop_size % 4 == 0, "crop_size is {}, but must be a multiple of 4",
                options.crop_size);
  const auto seed = static_cast<uint64_t>(options.seed);
  const FastConvolutions fast(true);
  set_threads(options.threads);
  const torch::Device device = select_device(options.device);
  if (device.is_cuda()) at::globalContext().setBenchmarkCuDNN(true);
  // A GPU is faster than one thread can read.
  const int readers = device.is_cuda() ? std::max(2, at::get_num_threads() / 2) : 1;
  const std::string precision = resolve_precision(options.precision, device);
  const fs::path output = options.output;
  fs::path cache_folder = options.cache.empty() ? output.string() + ".cache" : options.cache;
  const fs::path checkpoint_path = output.string() + ".checkpoint";
  const fs::path log_path = output.string() + ".log.csv";
  require(options.resume || options.overwrite || !fs::exists(output),
          "{}: exists already; give another output file, or --overwrite to replace it",
          output.string());
  require(options.resume || options.overwrite || !fs::exists(checkpoint_path),
          "{}: is the checkpoint of an earlier run; --resume goes on from it, --overwrite replaces "
          "it",
          checkpoint_path.string());
  require_usage(!(options.resume && options.overwrite),
                "resume and overwrite contradict each other: give one of them");
  require(output.has_filename() && !fs::is_directory(output),
          "{}: is a folder; output is the file to write", output.string());
  for (const auto& file : options.backbone) {
    require(fs::is_regular_file(file), "{}: no such file", file);
  }
  if (output.has_parent_path()) make_folder(output.parent_path());

  // Every process has its share of the training images and of each batch; the first also has the
  // held-out images, and is the only one that writes.
  Ranks ranks;
  if (!ranks.alone()) {
    cache_folder /= fmt::format("rank_{}_of_{}", ranks.rank(), ranks.size());
    ranks.use(device);
  }

  std::vector<fs::path> files;
  for (const auto& folder : options.images) {
    const auto found = list_images(folder, /*recursive=*/true);
    require(!found.empty(), "{}: there are no images in it", folder);
    files.insert(files.end(), found.begin(), found.end());
  }
  Rng(seed, kOrder).shuffle(files);
  if (options.max_images > 0 && static_cast<int64_t>(files.size()) > options.max_images) {
    files.resize(static_cast<size_t>(options.max_images));
  }
  const auto count = static_cast<int64_t>(files.size());
  require(count > options.held_out, "{} images are too few with {} of them held out", count,
          options.held_out);
  // The training images, then a further view of each, and so on; then the images held out.
  const int64_t train_images = count - options.held_out;
  const int64_t train_count = train_images * options.views;
  const int64_t item_count = train_count + options.held_out;
  const auto file_of = [&](int64_t index) {
    return index < train_count ? index % train_images : train_images + index - train_count;
  };
  const int64_t whole_batch = options.batch_size * ranks.size();
  require(ranks.alone() || train_count >= whole_batch,
          "{} pictures to train on are too few for {} processes with batches of {}", train_count,
          ranks.size(), options.batch_size);
  // Of this process, by their places in its cache.
  std::vector<int64_t> own;
  for (int64_t i = ranks.rank(); i < train_count; i += ranks.size()) own.push_back(i);
  if (ranks.first()) {
    for (int64_t i = train_count; i < item_count; ++i) own.push_back(i);
  }
  const auto own_count = static_cast<int64_t>(own.size());
  const auto place = [&](int64_t index) {
    return index < train_count ? index / ranks.size()
                               : own_count - options.held_out + index - train_count;
  };

  // The file's image, or that of the next one of its part (to train on, or held out) that can be
  // read: of a million files some are broken.
  const auto readable = [&](int64_t file) {
    const int64_t begin = file < train_images ? 0 : train_images;
    const int64_t files_there = file < train_images ? train_images : options.held_out;
    for (int64_t i = 0; i < files_there; ++i) {
      const int64_t place_of_file = begin + (file - begin + i) % files_there;
      try {
        return read_image(files[static_cast<size_t>(place_of_file)]);
      } catch (const Error& error) {
        spdlog::warn("passed over: {}", message_of(error));
      }
    }
    throw Error("none of the images can be read");
  };
  // Every decision about a picture depends on its index alone.
  const auto picture = [&](int64_t index) {
    const auto file = static_cast<uint64_t>(file_of(index));
    const auto view = static_cast<uint64_t>(index < train_count ? index / train_images : 0);
    Rng rng(seed, kImage, file + (view << 32));
    torch::Tensor image = readable(file_of(index));
    if (view > 0) image = part_of(image, rng);
    if (rng.chance(options.grey_probability)) {
      image = (to_grey(image.permute({2, 0, 1}).to(torch::kFloat32)).permute({1, 2, 0}))
                  .round()
                  .to(torch::kUInt8);
    }
    if (options.flip && rng.chance(0.5)) image = image.flip(1).contiguous();
    return Picture{resize_pil_bilinear(image, {kDistillSide, kDistillSide}),
                   resize_pil_bilinear(image, {2 * kDistillSide, 2 * kDistillSide})};
  };

  torch::manual_seed(mix64(seed, kWeights, 0));
  std::string key = "features 1\n" + options.target + "\n" + std::to_string(options.seed) + "\n" +
                    precision + (options.flip ? "\nflip" : "\n") +
                    std::to_string(options.grey_probability) + "\n" + join(options.taps) + "\n";
  for (const auto& file : options.backbone) key += hash_of_file(file) + "\n";
  if (options.views > 1) key += std::to_string(options.views) + " views\n";
  // What a checkpoint belongs to, beside the options.
  uint64_t inputs_hash = hash64(key.data(), key.size());
  for (const auto& file : files) {
    inputs_hash = hash64(file.native().data(), file.native().size() + 1, inputs_hash);
  }
  const std::string inputs = hex64(inputs_hash);
  nlohmann::ordered_json resolved = options_to_json(options);
  resolved["precision"] = precision;
  if (!ranks.alone()) resolved["processes"] = ranks.size();
  for (const char* volatile_option : {"output", "cache", "keep_cache", "feature_batch", "resume",
                                      "overwrite", "device", "threads", "checkpoint_minutes"}) {
    resolved.erase(volatile_option);
  }

  std::optional<TensorFile> checkpoint;
  if (options.resume && fs::exists(checkpoint_path)) {
    checkpoint = checkpoint_of(checkpoint_path, dump_json(resolved), inputs);
  } else if (options.resume) {
    // One that was stopped while it computed features has begun; of several processes, some may
    // not have.
    require(!fs::exists(output) && (!ranks.alone() || fs::exists(cache_folder / "features.key")),
            "{}: there is no checkpoint to resume from", checkpoint_path.string());
    spdlog::info("{}: was stopped before its first checkpoint; its features are kept",
                 output.string());
  }

  for (const int64_t index : own) key += files[static_cast<size_t>(file_of(index))].string() + "\n";
  std::map<std::string, std::string> provenance;
  std::optional<FolderLock> lock;
  std::optional<FeatureCache> opened;
  {
    torch::NoGradGuard no_grad;
    Target target(options, device, precision);
    provenance = target.provenance();
    std::string problem;
    try {
      make_folder(cache_folder);
      lock.emplace(cache_folder, "another distillation is using it");
      opened.emplace(cache_folder, key, kDistillSide, kGrid, kChannels, options.overwrite);
    } catch (const Error& error) {
      problem = error.what();
    }
    // None should compute for hours what another cannot use.
    const torch::Tensor failed = torch::full({1}, problem.empty() ? 0.0f : 1.0f);
    ranks.sum({failed});
    if (problem.empty() && failed.item<float>() > 0) {
      problem = "another process of this job cannot use its features";
    }
    require(problem.empty(), "{}", problem);
    FeatureCache& cache = *opened;
    if (cache.size() < own_count) {
      target.prepare(picture, std::min(item_count, kImagesForStatistics));
      const int64_t together = pictures_together(options, device);
      Prefetcher<Picture> pictures(
          cache.size(), own_count, [&](int64_t i) { return picture(own[static_cast<size_t>(i)]); },
          readers, /*ahead=*/2 * together);
      while (cache.size() < own_count) {
        std::vector<Picture> batch;
        while (static_cast<int64_t>(batch.size()) < together) {
          auto item = pictures.next();
          if (!item) break;
          batch.push_back(std::move(*item));
        }
        const torch::Tensor targets = target(batch);
        for (size_t i = 0; i < batch.size(); ++i) {
          cache.append(batch[i].small_u8, targets[static_cast<int64_t>(i)]);
        }
        if (ranks.first()) progress({"features", cache.size(), own_count, 0});
        stop_if_interrupted("interrupted; the features so far are kept, run it again to go on");
      }
    }
  }
  FeatureCache& cache = *opened;

  // Mean and deviation of each target channel (paper: over 10,000 images).
  ChannelStatistics statistics;
  const int64_t stride = std::max<int64_t>(1, train_count / kImagesForTargetStatistics);
  for (int64_t i = 0; i < train_count; i += stride) {
    if (i % ranks.size() != ranks.rank()) continue;
    statistics.add(cache.target(place(i), 0, 0, kGrid, kGrid)
                       .to(torch::kFloat32)
                       .permute({2, 0, 1})
                       .unsqueeze(0));
  }
  statistics = merged(statistics, kChannels, ranks);
  const torch::Tensor target_mean = statistics.mean().to(device);
  const torch::Tensor target_std = statistics.std().to(device);

  const int64_t crop = options.crop_size;
  const int64_t crop_grid = crop / 4 - 8;
  struct Batch {
    torch::Tensor images;
    torch::Tensor targets;
  };
  // Item k of a whole batch is one of the pictures whose number is k more than a multiple of the
  // whole batch's size (any, if there are fewer): so the batch is the same however many processes
  // share it.
  const auto make_batch = [&](int64_t step) {
    const torch::Tensor images = torch::empty({options.batch_size, crop, crop, 3}, torch::kUInt8);
    const torch::Tensor targets =
        torch::empty({options.batch_size, crop_grid, crop_grid, kChannels}, torch::kFloat16);
    for (int64_t i = 0; i < options.batch_size; ++i) {
      const int64_t k = ranks.rank() + i * ranks.size();
      Rng rng(seed, kCrops, static_cast<uint64_t>(step * whole_batch + k));
      const int64_t choices = (train_count - k + whole_batch - 1) / whole_batch;
      const int64_t index = train_count >= whole_batch ? k + whole_batch * rng.below(choices)
                                                       : rng.below(train_count);
      const int64_t y = rng.below((kDistillSide - crop) / 4 + 1);
      const int64_t x = rng.below((kDistillSide - crop) / 4 + 1);
      cache.read_image(place(index), 4 * y, 4 * x, images[i]);
      if (options.exposure_jitter > 1) {
        images[i].copy_(jitter_exposure(images[i], options.exposure_jitter, rng));
      }
      cache.read_target(place(index), y, x, targets[i]);
    }
    return Batch{images.permute({0, 3, 1, 2}), targets.permute({0, 3, 1, 2})};
  };
  const auto on_device = [&](const torch::Tensor& images_u8) {
    return imagenet_normalize(images_u8.to(device).to(torch::kFloat32) / 255.0)
        .contiguous(torch::MemoryFormat::ChannelsLast);
  };
  const auto normalized = [&](const torch::Tensor& targets) {
    return (targets.to(device).to(torch::kFloat32) - target_mean) / target_std;
  };

  Pdn pdn(PdnOptions{options.model_size, kChannels, /*padding=*/false});
  pdn->to(device);
  initialize(pdn, on_device(gathered(make_batch(0).images, ranks)), seed);
  for (auto& parameter : pdn->parameters()) {
    if (parameter.dim() == 4) {
      parameter.set_data(parameter.contiguous(torch::MemoryFormat::ChannelsLast));
    }
  }
  std::vector<std::pair<std::string, torch::Tensor>> parameters;
  for (const auto& item : pdn->named_parameters())
    parameters.emplace_back(item.key(), item.value());
  Optimizer optimizer(parameters, {.kind = options.optimizer,
                                   .muon = {{"", options.muon_learning_rate}},
                                   .learning_rate = options.learning_rate,
                                   .weight_decay = options.weight_decay,
                                   .precision = precision});

  int64_t first_step = 0;
  double seconds_before = 0;
  std::string log = "step,seconds,loss,learning_rate_factor\n";
  if (checkpoint) {
    torch::NoGradGuard no_grad;
    std::map<std::string, torch::Tensor> state;
    for (auto& [name, parameter] : parameters) {
      parameter.copy_(take(*checkpoint, "teacher." + name, checkpoint_path, parameter.sizes()));
    }
    for (const auto& [name, tensor] : checkpoint->tensors) {
      if (name.rfind("optimizer.", 0) == 0) state[name.substr(10)] = tensor;
    }
    optimizer.load_state(state, checkpoint_path.string());
    try {
      first_step = std::stoll(metadata_of(*checkpoint, "step", checkpoint_path));
      seconds_before = std::stod(metadata_of(*checkpoint, "seconds", checkpoint_path));
    } catch (const std::logic_error&) {
      throw Error(fmt::format("{}: its metadata is damaged", checkpoint_path.string()));
    }
    log = metadata_of(*checkpoint, "log", checkpoint_path);
    checkpoint.reset();
  } else if (options.overwrite && ranks.first()) {
    // An earlier run's, which --resume would take for this one's.
    std::error_code ignored;
    fs::remove(checkpoint_path, ignored);
  }

  const auto start = std::chrono::steady_clock::now();
  auto last_checkpoint = start;
  const auto save_checkpoint = [&](int64_t step) {
    TensorFile file;
    for (const auto& [name, parameter] : parameters) file.tensors["teacher." + name] = parameter;
    for (const auto& [name, tensor] : optimizer.state()) file.tensors["optimizer." + name] = tensor;
    file.metadata = {{"format", kCheckpointFormat},
                     {"format_version", "1"},
                     {"options", dump_json(resolved)},
                     {"inputs", inputs},
                     {"step", std::to_string(step)},
                     {"seconds", fmt::format("{:.3f}", seconds_before + seconds_since(start))},
                     {"log", log}};
    write_safetensors(checkpoint_path, file);
    write_file(log_path, log);
  };

  pdn->train();
  double loss_sum = 0;
  int64_t loss_count = 0;
  constexpr int64_t kLogEvery = 20;
  {
    Prefetcher<Batch> batches(first_step, options.steps, make_batch, readers);
    for (int64_t step = first_step; step < options.steps; ++step) {
      const auto batch = batches.next();
      const double factor =
          learning_rate_factor(options.schedule, options.warmup_fraction, step, options.steps);
      optimizer.set_learning_rate_factor(factor);
      const torch::Tensor images = on_device(batch->images);
      torch::Tensor prediction;
      {
        const Autocast autocast(precision, device);
        prediction = pdn->forward(images);
      }
      const torch::Tensor loss =
          torch::mse_loss(prediction.to(torch::kFloat32), normalized(batch->targets));
      optimizer.zero_grad();
      loss.backward();
      // What all processes agree on: gradients, the loss, and whether one of them is to stop.
      torch::Tensor shared =
          torch::tensor({loss.item<float>(), interrupt_requested() ? 1.0f : 0.0f});
      if (!ranks.alone()) {
        std::vector<torch::Tensor> sums = {shared};
        for (auto& [name, parameter] : parameters) sums.push_back(parameter.mutable_grad());
        try {
          ranks.sum(sums);
        } catch (const Error& error) {
          // By all that are left: the first may be the one that is gone.
          save_checkpoint(step);
          throw Error(fmt::format("{}; {} holds the first {} steps: start all again with --resume",
                                  error.what(), checkpoint_path.string(), step));
        }
        const auto share = 1 / static_cast<double>(ranks.size());
        for (auto& sum : sums) sum.mul_(share);
      }
      optimizer.step();
      const auto value = shared[0].item<double>();
      require(std::isfinite(value), "the loss is no number at step {}; try a smaller learning rate",
              step + 1);
      loss_sum += value;
      ++loss_count;
      if ((step + 1) % kLogEvery == 0 || step + 1 == options.steps) {
        log += fmt::format("{},{:.1f},{:.5f},{:.4f}\n", step + 1,
                           seconds_before + seconds_since(start),
                           loss_sum / static_cast<double>(loss_count), factor);
        loss_sum = 0;
        loss_count = 0;
      }
      if (ranks.first()) progress({"distill", step + 1, options.steps, value});
      const bool stop = ranks.alone() ? interrupt_requested() : shared[1].item<double>() > 0;
      if (stop || seconds_since(last_checkpoint) > 60 * options.checkpoint_minutes) {
        if (ranks.first()) save_checkpoint(step + 1);
        last_checkpoint = std::chrono::steady_clock::now();
      }
      if (stop) {
        // A launcher that sees one process end may end the others: not before that is written.
        ranks.meet();
        throw Interrupted(
            fmt::format("interrupted after step {}; the same command with --resume "
                        "goes on",
                        step + 1));
      }
    }
  }

  DistillResult result;
  if (!ranks.first()) {
    if (!options.keep_cache && options.cache.empty()) cache.remove();
    return result;
  }
  result.written = true;
  {
    torch::NoGradGuard no_grad;
    pdn->eval();
    torch::Tensor residual = torch::zeros({kChannels}, torch::kFloat64);
    ChannelStatistics held_out;
    for (int64_t i = train_count; i < item_count; ++i) {
      const torch::Tensor image = cache.image(place(i), 0, 0, kDistillSide, kDistillSide);
      const torch::Tensor wanted =
          normalized(cache.target(place(i), 0, 0, kGrid, kGrid).permute({2, 0, 1}).unsqueeze(0));
      const torch::Tensor made = pdn->forward(on_device(image.permute({2, 0, 1}).unsqueeze(0)));
      residual += (made - wanted).square().mean({0, 2, 3}).to(torch::kCPU, torch::kFloat64);
      held_out.add(wanted.cpu());
    }
    const torch::Tensor explained = 1 - residual / static_cast<double>(options.held_out) /
                                            held_out.std().flatten().square().to(torch::kFloat64);
    result.explained_variance = explained.mean().item<double>();
    result.explained_variance_shallow = explained.slice(0, 0, kChannels / 2).mean().item<double>();
    result.explained_variance_deep = explained.slice(0, kChannels / 2).mean().item<double>();
  }
  const double seconds = seconds_before + seconds_since(start);
  std::vector<std::string> folders;
  for (const auto& folder : options.images) {
    folders.push_back(fs::path(folder).lexically_normal().filename().string());
  }
  std::vector<std::string> backbones;
  for (const auto& file : options.backbone) backbones.push_back(fs::path(file).filename().string());
  nlohmann::ordered_json shared_options = resolved;
  shared_options["images"] = folders;
  shared_options["backbone"] = backbones;
  auto& metadata = result.teacher.metadata;
  metadata = provenance;
  metadata["options"] = dump_json(shared_options);
  metadata["images"] = fmt::format("{} images of {}", train_images, join(folders));
  metadata["steps"] = std::to_string(options.steps);
  metadata["seconds"] = fmt::format("{:.0f}", seconds);
  metadata["explained_variance"] = fmt::format("{:.4f}", result.explained_variance);
  metadata["explained_variance_shallow"] = fmt::format("{:.4f}", result.explained_variance_shallow);
  metadata["explained_variance_deep"] = fmt::format("{:.4f}", result.explained_variance_deep);
  metadata["held_out_images"] = std::to_string(options.held_out);
  metadata["made_by"] = std::string("efficientad ") + version();
  result.teacher.network = pdn;
  pdn->to(torch::kCPU);
  save_teacher(output, result.teacher);
  write_file(log_path, log);
  std::error_code ignored;
  fs::remove(checkpoint_path, ignored);
  if (!options.keep_cache && options.cache.empty()) cache.remove();
  return result;
}

}  // namespace efficientad
