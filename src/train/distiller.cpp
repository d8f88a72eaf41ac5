#include "efficientad/train/distiller.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/nn/modules/conv.h>
#include <torch/utils.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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
#include "efficientad/data/loader.h"
#include "efficientad/nn/convolution.h"
#include "efficientad/nn/imagenet.h"
#include "efficientad/nn/initialization.h"
#include "efficientad/nn/statistics.h"
#include "efficientad/train/feature_cache.h"
#include "efficientad/train/optimizer.h"
#include "efficientad/train/ranks.h"
#include "train/distill_pictures.h"
#include "train/distill_target.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kImagesForStatistics = 64;
constexpr int64_t kImagesForTargetStatistics = 1000;
constexpr auto kCheckpointFormat = "efficientad-distill-checkpoint";

// Streams of random numbers (see Rng).
constexpr uint64_t kCrops = 4;
constexpr uint64_t kWeights = 5;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
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

fs::path checkpoint_of_output(const fs::path& output) { return output.string() + ".checkpoint"; }

/// Of what the user named: Error, before anything is computed or written, if it cannot be used.
void check_files(const DistillOptions& options) {
  const fs::path output = options.output;
  const fs::path checkpoint = checkpoint_of_output(output);
  require(options.resume || options.overwrite || !fs::exists(output),
          "{}: exists already; give another output file, or --overwrite to replace it",
          output.string());
  require(options.resume || options.overwrite || !fs::exists(checkpoint),
          "{}: is the checkpoint of an earlier run; --resume goes on from it, --overwrite replaces "
          "it",
          checkpoint.string());
  require_usage(!(options.resume && options.overwrite),
                "resume and overwrite contradict each other: give one of them");
  require(output.has_filename() && !fs::is_directory(output),
          "{}: is a folder; output is the file to write", output.string());
  for (const auto& file : options.backbone) {
    require(fs::is_regular_file(file), "{}: no such file", file);
  }
}

/// A distillation, from its options to the teacher's file. Of several processes each computes the
/// features of its pictures and has its share of each batch; the first alone writes.
class Distillation {
 public:
  Distillation(const DistillOptions& options,
               const std::function<void(const DistillProgress&)>& progress)
      : options_(options),
        progress_(progress),
        seed_(static_cast<uint64_t>(options.seed)),
        device_(select_device(options.device)),
        precision_(resolve_precision(options.precision, device_)),
        output_(options.output),
        cache_folder_(options.cache.empty() ? options.output + ".cache" : options.cache) {
    if (device_.is_cuda()) at::globalContext().setBenchmarkCuDNN(true);
    if (output_.has_parent_path()) make_folder(output_.parent_path());
    if (!ranks_.alone()) {
      cache_folder_ /= fmt::format("rank_{}_of_{}", ranks_.rank(), ranks_.size());
      ranks_.use(device_);
    }
    pictures_ = std::make_unique<DistillPictures>(options_, ranks_.rank(), ranks_.size());
    torch::manual_seed(mix64(seed_, kWeights, 0));
    describe_inputs();
    open_checkpoint();
  }

  DistillResult run() {
    compute_features();
    measure_target();
    make_network();
    if (checkpoint_) {
      restore();
    } else if (options_.overwrite && ranks_.first()) {
      // An earlier run's, which --resume would take for this one's.
      std::error_code ignored;
      fs::remove(checkpoint_path(), ignored);
    }
    train();
    ranks_.finish();
    DistillResult result;
    if (ranks_.first()) {
      judge(result);
      write_teacher(result);
    }
    if (!options_.keep_cache && options_.cache.empty()) cache_->remove();
    return result;
  }

 private:
  struct Batch {
    torch::Tensor images;
    torch::Tensor targets;
  };

  fs::path checkpoint_path() const { return checkpoint_of_output(output_); }
  fs::path log_path() const { return output_.string() + ".log.csv"; }
  int64_t whole_batch() const { return options_.batch_size * ranks_.size(); }
  double seconds() const { return seconds_before_ + seconds_since(start_); }

  /// A GPU is faster than one thread can read.
  int readers() const { return device_.is_cuda() ? std::max(2, at::get_num_threads() / 2) : 1; }

  /// What features and checkpoint belong to.
  void describe_inputs() {
    key_ = "features 1\n" + options_.target + "\n" + std::to_string(options_.seed) + "\n" +
           precision_ + (options_.flip ? "\nflip" : "\n") +
           std::to_string(options_.grey_probability) + "\n" + join(options_.taps) + "\n";
    for (const auto& file : options_.backbone) key_ += hash_of_file(file) + "\n";
    if (options_.views > 1) key_ += std::to_string(options_.views) + " views\n";
    uint64_t hash = hash64(key_.data(), key_.size());
    for (const auto& file : pictures_->files()) {
      hash = hash64(file.native().data(), file.native().size() + 1, hash);
    }
    inputs_ = hex64(hash);
    for (const int64_t index : pictures_->own()) key_ += pictures_->file(index).string() + "\n";

    resolved_ = options_to_json(options_);
    resolved_["precision"] = precision_;
    if (!ranks_.alone()) resolved_["processes"] = ranks_.size();
    for (const char* no_matter : {"output", "cache", "keep_cache", "feature_batch", "resume",
                                  "overwrite", "device", "threads", "checkpoint_minutes"}) {
      resolved_.erase(no_matter);
    }
  }

  void open_checkpoint() {
    if (!options_.resume) return;
    if (fs::exists(checkpoint_path())) {
      checkpoint_ = checkpoint_of(checkpoint_path(), dump_json(resolved_), inputs_);
      return;
    }
    // One that was stopped while it computed features has begun; of several processes, some may
    // not have.
    require(!fs::exists(output_) && (!ranks_.alone() || fs::exists(cache_folder_ / "features.key")),
            "{}: there is no checkpoint to resume from", checkpoint_path().string());
    spdlog::info("{}: was stopped before its first checkpoint; its features are kept",
                 output_.string());
  }

  /// Those of this process's pictures that are not in its cache yet.
  void compute_features() {
    const torch::NoGradGuard no_grad;
    DistillTarget target(options_, device_, precision_);
    provenance_ = target.provenance();
    open_cache();
    const auto own_count = static_cast<int64_t>(pictures_->own().size());
    if (cache_->size() >= own_count) return;
    target.prepare([&](int64_t i) { return pictures_->picture(i); },
                   std::min(pictures_->count(), kImagesForStatistics));
    const int64_t together = pictures_together(options_, device_);
    Prefetcher<Picture> pictures(
        cache_->size(), own_count,
        [&](int64_t i) { return pictures_->picture(pictures_->own()[static_cast<size_t>(i)]); },
        readers(), /*ahead=*/2 * together);
    while (cache_->size() < own_count) {
      std::vector<Picture> batch;
      while (static_cast<int64_t>(batch.size()) < together) {
        auto item = pictures.next();
        if (!item) break;
        batch.push_back(std::move(*item));
      }
      const torch::Tensor targets = target(batch);
      for (size_t i = 0; i < batch.size(); ++i) {
        cache_->append(batch[i].small_u8, targets[static_cast<int64_t>(i)]);
      }
      report({"features", cache_->size(), own_count, 0});
      if (interrupt_requested()) {
        throw Interrupted("interrupted; the features so far are kept, run it again to go on");
      }
    }
  }

  /// All processes, or none: none should compute for hours what another cannot use.
  void open_cache() {
    std::string problem;
    try {
      make_folder(cache_folder_);
      cache_lock_.emplace(cache_folder_, "another distillation is using it");
      cache_.emplace(cache_folder_, key_, kDistillSide, kDistillGrid, kTeacherChannels,
                     options_.overwrite);
    } catch (const Error& error) {
      problem = error.what();
    }
    const torch::Tensor failed = torch::full({1}, problem.empty() ? 0.0f : 1.0f);
    ranks_.sum({failed});
    if (problem.empty() && failed.item<float>() > 0) {
      problem = "another process of this job cannot use its features";
    }
    require(problem.empty(), "{}", problem);
  }

  /// Mean and deviation of each target channel (paper: over 10,000 images).
  void measure_target() {
    ChannelStatistics statistics;
    const int64_t count = pictures_->train_count();
    const int64_t stride = std::max<int64_t>(1, count / kImagesForTargetStatistics);
    for (int64_t i = 0; i < count; i += stride) {
      if (i % ranks_.size() == ranks_.rank()) statistics.add(whole_target(i));
    }
    statistics = merged(statistics, kTeacherChannels, ranks_);
    target_mean_ = statistics.mean().to(device_);
    target_std_ = statistics.std().to(device_);
  }

  /// The target of one of this process's pictures: float32 [1, channels, grid, grid].
  torch::Tensor whole_target(int64_t index) const {
    return cache_->target(pictures_->place(index), 0, 0, kDistillGrid, kDistillGrid)
        .to(torch::kFloat32)
        .permute({2, 0, 1})
        .unsqueeze(0);
  }

  /// This process's share of a step's batch. Item k of a whole batch is one of the pictures whose
  /// number is k more than a multiple of the whole batch's size (any, if there are fewer): so the
  /// batch is the same however many processes share it.
  Batch make_batch(int64_t step) const {
    const int64_t crop = options_.crop_size;
    const int64_t grid = pdn_output_side(crop, /*padding=*/false);
    const torch::Tensor images = torch::empty({options_.batch_size, crop, crop, 3}, torch::kUInt8);
    const torch::Tensor targets =
        torch::empty({options_.batch_size, grid, grid, kTeacherChannels}, torch::kFloat16);
    const int64_t count = pictures_->train_count();
    for (int64_t i = 0; i < options_.batch_size; ++i) {
      const int64_t k = ranks_.rank() + i * ranks_.size();
      Rng rng(seed_, kCrops, static_cast<uint64_t>(step * whole_batch() + k));
      const int64_t choices = (count - k + whole_batch() - 1) / whole_batch();
      const int64_t index =
          count >= whole_batch() ? k + whole_batch() * rng.below(choices) : rng.below(count);
      const int64_t y = rng.below((kDistillSide - crop) / kPdnStride + 1);
      const int64_t x = rng.below((kDistillSide - crop) / kPdnStride + 1);
      cache_->read_image(pictures_->place(index), kPdnStride * y, kPdnStride * x, images[i]);
      if (options_.exposure_jitter > 1) {
        images[i].copy_(jitter_exposure(images[i], options_.exposure_jitter, rng));
      }
      cache_->read_target(pictures_->place(index), y, x, targets[i]);
    }
    return {images.permute({0, 3, 1, 2}), targets.permute({0, 3, 1, 2})};
  }

  torch::Tensor on_device(const torch::Tensor& images_u8) const {
    return imagenet_normalize(images_u8.to(device_).to(torch::kFloat32) / 255.0)
        .contiguous(torch::MemoryFormat::ChannelsLast);
  }

  torch::Tensor normalized(const torch::Tensor& targets) const {
    return (targets.to(device_).to(torch::kFloat32) - target_mean_) / target_std_;
  }

  void make_network() {
    pdn_ = Pdn(PdnOptions{options_.model_size, kTeacherChannels, /*padding=*/false});
    pdn_->to(device_);
    initialize(pdn_, on_device(gathered(make_batch(0).images, ranks_)), seed_);
    for (auto& parameter : pdn_->parameters()) {
      if (parameter.dim() == 4) {
        parameter.set_data(parameter.contiguous(torch::MemoryFormat::ChannelsLast));
      }
    }
    for (const auto& item : pdn_->named_parameters()) {
      parameters_.emplace_back(item.key(), item.value());
    }
    optimizer_.emplace(parameters_, OptimizerOptions{.kind = options_.optimizer,
                                                     .muon = {{"", options_.muon_learning_rate}},
                                                     .learning_rate = options_.learning_rate,
                                                     .weight_decay = options_.weight_decay,
                                                     .precision = precision_});
  }

  /// What the checkpoint holds, which is not needed after that.
  void restore() {
    const torch::NoGradGuard no_grad;
    std::map<std::string, torch::Tensor> state;
    for (auto& [name, parameter] : parameters_) {
      parameter.copy_(take(*checkpoint_, "teacher." + name, checkpoint_path(), parameter.sizes()));
    }
    for (const auto& [name, tensor] : checkpoint_->tensors) {
      if (name.rfind("optimizer.", 0) == 0) state[name.substr(10)] = tensor;
    }
    optimizer_->load_state(state, checkpoint_path().string());
    try {
      first_step_ = std::stoll(metadata_of(*checkpoint_, "step", checkpoint_path()));
      seconds_before_ = std::stod(metadata_of(*checkpoint_, "seconds", checkpoint_path()));
    } catch (const std::logic_error&) {
      throw Error(fmt::format("{}: its metadata is damaged", checkpoint_path().string()));
    }
    log_ = metadata_of(*checkpoint_, "log", checkpoint_path());
    checkpoint_.reset();
  }

  void save_checkpoint(int64_t step) const {
    TensorFile file;
    for (const auto& [name, parameter] : parameters_) file.tensors["teacher." + name] = parameter;
    for (const auto& [name, tensor] : optimizer_->state()) {
      file.tensors["optimizer." + name] = tensor;
    }
    file.metadata = {{"format", kCheckpointFormat},
                     {"format_version", "1"},
                     {"options", dump_json(resolved_)},
                     {"inputs", inputs_},
                     {"step", std::to_string(step)},
                     {"seconds", fmt::format("{:.3f}", seconds())},
                     {"log", log_}};
    write_safetensors(checkpoint_path(), file);
    write_file(log_path(), log_);
  }

  void train() {
    pdn_->train();
    start_ = Clock::now();
    auto last_checkpoint = start_;
    double loss_sum = 0;
    int64_t loss_count = 0;
    constexpr int64_t kLogEvery = 20;
    Prefetcher<Batch> batches(
        first_step_, options_.steps, [this](int64_t step) { return make_batch(step); }, readers());
    for (int64_t step = first_step_; step < options_.steps; ++step) {
      const double factor =
          learning_rate_factor(options_.schedule, options_.warmup_fraction, step, options_.steps);
      const auto [loss, agreed_to_stop] = train_step(*batches.next(), factor, step);
      require(std::isfinite(loss), "the loss is no number at step {}; try a smaller learning rate",
              step + 1);
      loss_sum += loss;
      ++loss_count;
      if ((step + 1) % kLogEvery == 0 || step + 1 == options_.steps) {
        log_ += fmt::format("{},{:.1f},{:.5f},{:.4f}\n", step + 1, seconds(),
                            loss_sum / static_cast<double>(loss_count), factor);
        loss_sum = 0;
        loss_count = 0;
      }
      report({"distill", step + 1, options_.steps, loss});
      const bool stop = ranks_.alone() ? interrupt_requested() : agreed_to_stop;
      if (stop || seconds_since(last_checkpoint) > 60 * options_.checkpoint_minutes) {
        if (ranks_.first()) save_checkpoint(step + 1);
        last_checkpoint = Clock::now();
      }
      if (stop) {
        // A launcher that sees one process end may end the others: not before that is written.
        ranks_.finish();
        throw Interrupted(fmt::format(
            "interrupted after step {}; the same command with --resume goes on", step + 1));
      }
    }
  }

  struct StepReport {
    double loss;
    /// A user of one of the processes asked to stop.
    bool agreed_to_stop;
  };

  StepReport train_step(const Batch& batch, double factor, int64_t step) {
    optimizer_->set_learning_rate_factor(factor);
    const torch::Tensor images = on_device(batch.images);
    torch::Tensor prediction;
    {
      const Autocast autocast(precision_, device_);
      prediction = pdn_->forward(images);
    }
    const torch::Tensor loss =
        torch::mse_loss(prediction.to(torch::kFloat32), normalized(batch.targets));
    optimizer_->zero_grad();
    loss.backward();
    // What all processes agree on: gradients, the loss, and whether one of them is to stop.
    torch::Tensor shared = torch::tensor({loss.item<float>(), interrupt_requested() ? 1.0f : 0.0f});
    if (!ranks_.alone()) {
      std::vector<torch::Tensor> sums = {shared};
      for (auto& [name, parameter] : parameters_) sums.push_back(parameter.mutable_grad());
      try {
        ranks_.sum(sums);
      } catch (const Error& error) {
        // By all that are left: the first may be the one that is gone.
        save_checkpoint(step);
        throw Error(fmt::format("{}; {} holds the first {} steps: start all again with --resume",
                                error.what(), checkpoint_path().string(), step));
      }
      const auto share = 1 / static_cast<double>(ranks_.size());
      for (auto& sum : sums) sum.mul_(share);
    }
    optimizer_->step();
    return {.loss = shared[0].item<double>(), .agreed_to_stop = shared[1].item<double>() > 0};
  }

  /// By the held-out pictures.
  void judge(DistillResult& result) {
    const torch::NoGradGuard no_grad;
    pdn_->eval();
    torch::Tensor residual = torch::zeros({kTeacherChannels}, torch::kFloat64);
    ChannelStatistics held_out;
    for (int64_t i = pictures_->train_count(); i < pictures_->count(); ++i) {
      const torch::Tensor image =
          cache_->image(pictures_->place(i), 0, 0, kDistillSide, kDistillSide);
      const torch::Tensor wanted = normalized(whole_target(i));
      const torch::Tensor made = pdn_->forward(on_device(image.permute({2, 0, 1}).unsqueeze(0)));
      residual += (made - wanted).square().mean({0, 2, 3}).to(torch::kCPU, torch::kFloat64);
      held_out.add(wanted.cpu());
    }
    const torch::Tensor explained = 1 - residual / static_cast<double>(options_.held_out) /
                                            held_out.std().flatten().square().to(torch::kFloat64);
    constexpr int64_t kHalf = kTeacherChannels / 2;
    result.explained_variance = explained.mean().item<double>();
    result.explained_variance_shallow = explained.slice(0, 0, kHalf).mean().item<double>();
    result.explained_variance_deep = explained.slice(0, kHalf).mean().item<double>();
  }

  void write_teacher(DistillResult& result) {
    const auto names_of = [](const std::vector<std::string>& paths) {
      std::vector<std::string> names;
      for (const auto& path : paths) {
        names.push_back(fs::path(path).lexically_normal().filename().string());
      }
      return names;
    };
    nlohmann::ordered_json shared_options = resolved_;
    shared_options["images"] = names_of(options_.images);
    shared_options["backbone"] = names_of(options_.backbone);
    const auto four_digits = [](double value) { return fmt::format("{:.4f}", value); };
    auto& metadata = result.teacher.metadata;
    metadata = provenance_;
    metadata["options"] = dump_json(shared_options);
    metadata["images"] =
        fmt::format("{} images of {}", pictures_->train_images(), join(names_of(options_.images)));
    metadata["steps"] = std::to_string(options_.steps);
    metadata["seconds"] = fmt::format("{:.0f}", seconds());
    metadata["explained_variance"] = four_digits(result.explained_variance);
    metadata["explained_variance_shallow"] = four_digits(result.explained_variance_shallow);
    metadata["explained_variance_deep"] = four_digits(result.explained_variance_deep);
    metadata["held_out_images"] = std::to_string(options_.held_out);
    metadata["made_by"] = std::string("efficientad ") + version();
    result.written = true;
    result.teacher.network = pdn_;
    pdn_->to(torch::kCPU);
    save_teacher(output_, result.teacher);
    write_file(log_path(), log_);
    std::error_code ignored;
    fs::remove(checkpoint_path(), ignored);
  }

  void report(const DistillProgress& now) const {
    if (ranks_.first() && progress_) progress_(now);
  }

  const DistillOptions& options_;
  const std::function<void(const DistillProgress&)>& progress_;
  const uint64_t seed_;
  const torch::Device device_;
  const std::string precision_;
  const fs::path output_;
  fs::path cache_folder_;
  Ranks ranks_;
  std::unique_ptr<DistillPictures> pictures_;
  /// Of the features.
  std::string key_;
  /// A hash of backbones and images.
  std::string inputs_;
  /// The options that make the result.
  nlohmann::ordered_json resolved_;
  /// Until it is restored.
  std::optional<TensorFile> checkpoint_;
  std::map<std::string, std::string> provenance_;
  std::optional<FolderLock> cache_lock_;
  std::optional<FeatureCache> cache_;
  torch::Tensor target_mean_;
  torch::Tensor target_std_;
  Pdn pdn_ = nullptr;
  std::vector<std::pair<std::string, torch::Tensor>> parameters_;
  std::optional<Optimizer> optimizer_;
  int64_t first_step_ = 0;
  double seconds_before_ = 0;
  Clock::time_point start_ = Clock::now();
  std::string log_ = "step,seconds,loss,learning_rate_factor\n";
};

}  // namespace

DistillResult distill(const DistillOptions& options,
                      const std::function<void(const DistillProgress&)>& progress) {
  check_options(options);
  require_usage(options.crop_size % 4 == 0, "crop_size is {}, but must be a multiple of 4",
                options.crop_size);
  check_files(options);
  set_threads(options.threads);
  const FastConvolutions fast(true);
  return Distillation(options, progress).run();
}

}  // namespace efficientad
