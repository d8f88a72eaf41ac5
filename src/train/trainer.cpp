#include "efficientad/train/trainer.h"

#include <torch/nn/modules/conv.h>
#include <torch/utils.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "efficientad/core/device.h"
#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/log.h"
#include "efficientad/core/precision.h"
#include "efficientad/core/random.h"
#include "efficientad/core/recorder.h"
#include "efficientad/core/version.h"
#include "efficientad/data/image.h"
#include "efficientad/data/loader.h"
#include "efficientad/data/resize.h"
#include "efficientad/detect/calibration.h"
#include "efficientad/nn/convolution.h"
#include "efficientad/nn/imagenet.h"
#include "efficientad/nn/statistics.h"
#include "efficientad/train/checkpoint.h"
#include "efficientad/train/device_images.h"
#include "efficientad/train/optimizer.h"
#include "efficientad/train/ranks.h"
#include "efficientad/train/teacher_outputs.h"
#include "efficientad/train/training_images.h"
#include "efficientad/train/training_step.h"
#include "train/training_folder.h"
#include "train/training_samples.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

// Streams of random numbers (see Rng).
constexpr uint64_t kInitialWeights = 1;
constexpr uint64_t kDropout = 2;
constexpr uint64_t kAutoencoderWeights = 3;

constexpr int64_t kLossTerms = 4;

using Clock = std::chrono::steady_clock;
using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Convolutions on the CPU are faster if channels are innermost in memory.
void use_channels_last(torch::nn::Module& module) {
  for (auto& parameter : module.parameters()) {
    if (parameter.dim() == 4) {
      parameter.set_data(parameter.detach().contiguous(torch::MemoryFormat::ChannelsLast));
    }
  }
}

std::string hash_of_weights(const torch::nn::Module& module) {
  uint64_t hash = hash64(nullptr, 0);
  for (const auto& parameter : module.parameters()) {
    const torch::Tensor value = parameter.detach().to(torch::kCPU).contiguous();
    hash = hash64(value.data_ptr(), value.nbytes(), hash);
  }
  return hex64(hash);
}

/// What repeats a run, or goes on with it by --resume.
void write_options(const TrainOptions& options) {
  TrainOptions resolved = options;
  resolved.resume = false;
  resolved.overwrite = false;
  write_json(TrainingFolder(options.output).options(), options_to_json(resolved));
}

/// One training run, or one process's part of it: the first of several writes all files.
class Run {
 public:
  Run(const TrainOptions& options, const Teacher& teacher, torch::Device device,
      const std::function<void(const TrainProgress&)>& progress, Ranks& ranks, Fold fold)
      : options_(options),
        device_(device),
        progress_(progress),
        precision_(resolve_precision(options.precision, device)),
        device_step_(options.device_step == "auto" ? device.is_cuda() && !options.plain_step
                                                   : options.device_step == "on"),
        folder_(options.output),
        samples_(choose_samples(options, fold)),
        teacher_metadata_(teacher.metadata),
        ranks_(ranks),
        fold_(fold) {
    images_ = std::make_unique<TrainingImages>(options, samples_.train_paths(), ranks.rank(),
                                               ranks.size());
    inputs_ = {{"the teacher's weights", hash_of_weights(*teacher.network)},
               {"the training set", describe_images(samples_.train)},
               {"the validation set", describe_images(samples_.validation)},
               {"the set of penalty images", images_->penalty_description()},
               {"the number of processes", std::to_string(ranks.size())}};
    make_networks(teacher);
    teacher_outputs_ = std::make_unique<TeacherOutputs>(
        networks_.teacher, device, precision_, options.image_hw(), options.equalize_exposure,
        images_->size(), options.plain_step ? 0 : options.teacher_cache_mb << 20);
    check_validation(samples_);
  }

  TrainResult run() {
    const FastConvolutions fast(!options_.plain_step);
    if (options_.resume) {
      start_averages();
      restore();
      if (step_ == options_.steps && fs::exists(folder_.model())) return finished_before();
    } else {
      if (ranks_.first()) folder_.begin_log();
      measure_teacher();
      if (options_.autoencoder_init == "lsuv") initialize_autoencoder();
      start_averages();
    }
    if (device_step_) set_up_device();
    train();
    recorder_.reset();
    // After a fold, the next one needs them.
    if (fold_.count == 0) ranks_.finish();
    if (!ranks_.first()) return {};
    TrainResult result = fold_.count > 0 ? finish_fold() : finish();
    folder_.remove_replaced();
    return result;
  }

 private:
  void make_networks(const Teacher& teacher) {
    const PdnOptions& found = teacher.network->options();
    TORCH_CHECK(found.model_size == options_.model_size && found.padding == options_.padding,
                "the teacher is not of the options' size and padding");
    torch::manual_seed(mix64(static_cast<uint64_t>(options_.seed), kInitialWeights, 0));
    networks_.student = Pdn(PdnOptions{.model_size = options_.model_size,
                                       .out_channels = 2 * found.out_channels,
                                       .padding = options_.padding});
    networks_.autoencoder = Autoencoder(found.out_channels);
    // A copy, because this one is moved and laid out anew.
    networks_.teacher = Pdn(found);
    {
      const torch::NoGradGuard no_grad;
      auto from = teacher.network->parameters();
      auto to = networks_.teacher->parameters();
      for (size_t i = 0; i < to.size(); ++i) {
        to[i].copy_(from[i]);
        to[i].set_requires_grad(false);
      }
    }
    networks_.teacher->eval();
    networks_.student->train();
    networks_.autoencoder->train();
    networks_.autoencoder_input = options_.autoencoder_input;
    for (torch::nn::Module* module :
         {static_cast<torch::nn::Module*>(networks_.teacher.get()),
          static_cast<torch::nn::Module*>(networks_.student.get()),
          static_cast<torch::nn::Module*>(networks_.autoencoder.get())}) {
      module->to(device_);
      use_channels_last(*module);
    }
    for (const auto& item : networks_.student->named_parameters()) {
      parameters_.emplace_back("student." + item.key(), item.value());
    }
    for (const auto& item : networks_.autoencoder->named_parameters()) {
      parameters_.emplace_back("autoencoder." + item.key(), item.value());
    }
    std::vector<MuonGroup> muon = {{"student.", options_.muon_learning_rate}};
    if (options_.autoencoder_muon_learning_rate > 0) {
      muon.push_back({"autoencoder.", options_.autoencoder_muon_learning_rate});
    }
    optimizer_ = std::make_unique<Optimizer>(
        parameters_, OptimizerOptions{.kind = options_.optimizer,
                                      .muon = std::move(muon),
                                      .learning_rate = options_.learning_rate,
                                      .weight_decay = options_.weight_decay,
                                      .precision = precision_,
                                      .recordable = device_step_});
  }

  /// All images go to the device if the budget allows it, and on a GPU the step is a CUDA graph.
  void set_up_device() {
    if (device_.is_cuda()) at::globalContext().setBenchmarkCuDNN(true);
    const auto [height, width] = options_.image_hw();
    const int64_t count = images_->size() + images_->penalty_size();
    const bool resident = count * height * width * 3 <= options_.cache_mb << 20;
    torch::Tensor train;
    torch::Tensor penalty;
    if (resident) {
      const auto all = [&](int64_t images, int64_t begin, const auto& image) {
        std::vector<torch::Tensor> parts;
        Prefetcher<torch::Tensor> prefetcher(0, images, image, static_cast<int>(options_.workers));
        while (const auto part = prefetcher.next()) {
          parts.push_back(*part);
          report({.stage = "images",
                  .done = begin + static_cast<int64_t>(parts.size()),
                  .total = count});
          if (interrupt_requested()) {
            throw Interrupted(
                "interrupted while reading images; the same command with --resume "
                "goes on");
          }
        }
        return torch::stack(parts);
      };
      train = all(images_->size(), 0, [this](int64_t i) { return images_->train_image(i); });
      if (images_->penalty_size() > 0) {
        penalty = all(images_->penalty_size(), images_->size(),
                      [this](int64_t i) { return images_->penalty_image(i); });
      }
    }
    device_images_ = std::make_unique<DeviceImages>(options_, device_, resident, train, penalty);
    if (resident) {
      const torch::Tensor outputs =
          teacher_outputs_->all([this](int64_t i) { return images_->train_image(i); });
      if (outputs.defined()) device_images_->keep_teacher(outputs);
    }
    teacher_outputs_.reset();
    if (!device_.is_cuda()) return;
    std::string problem;
    recorder_ = make_recorder(device_, problem);
    if (!recorder_) spdlog::warn("training without a CUDA graph: {}", problem);
  }

  void report(const TrainProgress& now) const {
    if (ranks_.first() && progress_) progress_(now);
  }

  /// Mean and deviation of the teacher's channels over all training images.
  void measure_teacher() {
    const torch::NoGradGuard no_grad;
    ChannelStatistics statistics;
    Prefetcher<torch::Tensor> images(
        0, (images_->size() - ranks_.rank() + ranks_.size() - 1) / ranks_.size(),
        [this](int64_t i) { return images_->train_image(ranks_.rank() + i * ranks_.size()); },
        static_cast<int>(options_.workers));
    for (int64_t i = ranks_.rank(); const auto image = images.next(); i += ranks_.size()) {
      statistics.add(teacher_outputs_->whole(i, *image).to(torch::kFloat32));
      report({.stage = "statistics",
              .done = std::min(i + ranks_.size(), images_->size()),
              .total = images_->size()});
      if (interrupt_requested()) {
        throw Interrupted("interrupted before the first training step; nothing to go on from");
      }
    }
    statistics = merged(statistics, networks_.teacher->options().out_channels, ranks_);
    networks_.teacher_mean = statistics.mean().to(device_);
    networks_.teacher_std = statistics.std().to(device_);
  }

  /// On training images that are spread evenly over the set; fewer if they are large.
  void initialize_autoencoder() {
    const auto [height, width] = options_.image_hw();
    constexpr int64_t kMost = 32;
    constexpr int64_t kFewest = 4;
    constexpr int64_t kPixels = kMost * kAutoencoderSide * kAutoencoderSide;
    const int64_t count =
        std::min(images_->size(), std::clamp(kPixels / (height * width), kFewest, kMost));
    std::vector<torch::Tensor> images;
    for (int64_t i = 0; i < count; ++i) {
      images.push_back(to_float_chw(images_->train_image(i * images_->size() / count)));
    }
    // Images that are few differ little, and scaling that to unit variance would amplify colour
    // jitter with it; so others are added.
    constexpr int64_t kDifferent = 8;
    for (int64_t i = count; i < std::min(kDifferent, kMost); ++i) {
      images.push_back(to_float_chw(images_->penalty_image(i)));
    }
    torch::Tensor batch =
        network_input(torch::stack(images), options_.equalize_exposure).to(device_);
    if (options_.autoencoder_input == "fixed") batch = autoencoder_input_fixed(batch);
    Rng rng(static_cast<uint64_t>(options_.seed), kAutoencoderWeights);
    networks_.autoencoder->initialize(
        batch,
        {pdn_output_side(height, options_.padding), pdn_output_side(width, options_.padding)}, rng);
  }

  void start_averages() {
    if (options_.ema_decay == 0) return;
    for (const auto& [name, parameter] : parameters_) {
      averages_.emplace_back(name, parameter.detach().clone());
    }
  }

  /// Throws Error unless a tensor of the checkpoint has this shape and finite values.
  void check_tensor(const torch::Tensor& tensor, const std::string& name,
                    torch::IntArrayRef sizes) const {
    require(tensor.sizes() == sizes && tensor.scalar_type() == torch::kFloat32,
            "{}: {} has another shape or type", folder_.checkpoint().string(), name);
    require(torch::isfinite(tensor).all().item<bool>(), "{}: {} holds values that are not finite",
            folder_.checkpoint().string(), name);
  }

  void restore() {
    const Checkpoint checkpoint = folder_.load();
    check_same_run(checkpoint, result_options(options_), inputs_, folder_.checkpoint());
    const torch::NoGradGuard no_grad;
    const auto copy = [&](NamedTensors& to, const std::map<std::string, torch::Tensor>& from) {
      for (auto& [name, tensor] : to) {
        const auto found = from.find(name);
        require(found != from.end(), "{}: {} is missing", folder_.checkpoint().string(), name);
        check_tensor(found->second, name, tensor.sizes());
        tensor.copy_(found->second);
      }
    };
    copy(parameters_, checkpoint.weights);
    copy(averages_, checkpoint.averages);
    optimizer_->load_state(checkpoint.optimizer, folder_.checkpoint().string());
    const std::vector<int64_t> a_channel = {1, networks_.teacher->options().out_channels, 1, 1};
    check_tensor(checkpoint.teacher_mean, "teacher_mean", a_channel);
    check_tensor(checkpoint.teacher_std, "teacher_std", a_channel);
    require((checkpoint.teacher_std > 0).all().item<bool>(),
            "{}: teacher_std holds values that are not positive", folder_.checkpoint().string());
    networks_.teacher_mean = checkpoint.teacher_mean.to(device_);
    networks_.teacher_std = checkpoint.teacher_std.to(device_);
    step_ = checkpoint.step;
    seconds_before_ = checkpoint.seconds;
    require(step_ >= 1 && step_ <= options_.steps, "{}: its step {} is not one of {}",
            folder_.checkpoint().string(), step_, options_.steps);
    if (ranks_.first()) folder_.cut_log(step_);
  }

  void save() {
    Checkpoint checkpoint;
    checkpoint.step = step_;
    checkpoint.seconds = seconds();
    checkpoint.weights = {parameters_.begin(), parameters_.end()};
    checkpoint.averages = {averages_.begin(), averages_.end()};
    checkpoint.optimizer = optimizer_->state();
    checkpoint.teacher_mean = networks_.teacher_mean;
    checkpoint.teacher_std = networks_.teacher_std;
    checkpoint.options = result_options(options_);
    checkpoint.inputs = inputs_;
    folder_.save(checkpoint);
    last_save_ = Clock::now();
  }

  double seconds() const { return seconds_before_ + seconds_since(start_); }

  void train() {
    std::ofstream log;
    if (ranks_.first()) log.open(folder_.log(), std::ios::app);
    start_ = last_save_ = Clock::now();
    first_step_ = step_;
    // The run that got so far may have been stopped while it made it.
    if (ranks_.first() && snapshot_is_due() && !fs::exists(folder_.snapshot(step_))) {
      write_snapshot();
    }
    Prefetcher<TrainingImages::Drawn> batches(
        step_, options_.steps, [this](int64_t step) { return images_->draw(step); },
        static_cast<int>(options_.workers));
    const double batch_factor = batch_learning_rate_factor(options_.batch_learning_rate,
                                                           options_.batch_size * ranks_.size());
    while (const auto drawn = batches.next()) {
      const double factor =
          batch_factor *
          learning_rate_factor(options_.schedule, options_.warmup_fraction, step_, options_.steps);
      const StepReport step = train_step(*drawn, factor);
      ++step_;
      if (!ranks_.first()) {
        if (!step.interrupted) continue;
        // A launcher that sees one process end may end the others: not before that is written.
        ranks_.finish();
        throw Interrupted("interrupted; the first process has written the checkpoint");
      }
      const LossValues& losses = step.losses;
      const double rate = factor * (options_.optimizer == "muon" ? options_.muon_learning_rate
                                                                 : options_.learning_rate);
      log << fmt::format("{},{:.2f},{:.6g},{:.6g},{:.6g},{:.6g},{:.6g}\n", step_, seconds(),
                         losses.hard, losses.penalty, losses.autoencoder,
                         losses.student_autoencoder, rate)
          << std::flush;
      require(log.good(), "{}: cannot be written (is the disk full?)", folder_.log().string());
      report({.stage = "train",
              .done = step_,
              .total = options_.steps,
              .losses = losses,
              .learning_rate = rate,
              .seconds = seconds()});
      constexpr double kSecondsPerMinute = 60;
      const bool interrupted = ranks_.alone() ? interrupt_requested() : step.interrupted;
      const bool snapshot = snapshot_is_due();
      if (interrupted || snapshot || step_ == options_.steps ||
          seconds_since(last_save_) >= kSecondsPerMinute * options_.checkpoint_minutes) {
        save();
      }
      if (snapshot && !interrupted) write_snapshot();
      if (interrupted) {
        ranks_.finish();
        throw Interrupted(
            fmt::format("interrupted after step {} of {}; {} is written: the same command with "
                        "--resume goes on",
                        step_, options_.steps, folder_.checkpoint().string()));
      }
    }
    seconds_before_ = seconds();
  }

  bool snapshot_is_due() const {
    return options_.snapshot_steps > 0 && step_ > 0 && step_ % options_.snapshot_steps == 0;
  }

  /// What a step tells: its losses, and whether the user wants to stop after it.
  struct StepReport {
    LossValues losses;
    bool interrupted;
  };

  StepReport train_step(const TrainingImages::Drawn& drawn, double factor) {
    // Of dropout on a GPU.
    torch::manual_seed(mix64(static_cast<uint64_t>(options_.seed), kDropout,
                             static_cast<uint64_t>(step_ * ranks_.size() + ranks_.rank())));
    if (device_images_) return train_step_on_device(drawn, factor);
    TrainBatch batch = images_->prepare(drawn, device_);
    batch.teacher = teacher_outputs_->of_crops(drawn.indices, drawn.images, batch);
    if (batch.plain.defined()) {
      std::vector<torch::Tensor> outputs;
      for (size_t i = drawn.indices.size() - static_cast<size_t>(batch.plain.size(0));
           i < drawn.indices.size(); ++i) {
        outputs.push_back(teacher_outputs_->whole(drawn.indices[i], drawn.images[i]));
      }
      batch.teacher_plain = torch::cat(outputs);
    }
    differentiate(batch);
    const StepReport now = agree();
    check_finite(now.losses);
    optimizer_->set_learning_rate_factor(factor);
    optimizer_->step();
    update_averages();
    return now;
  }

  /// The same where all work is on the device, and recorded on a GPU.
  StepReport train_step_on_device(const TrainingImages::Drawn& drawn, double factor) {
    device_images_->load(drawn);
    optimizer_->set_learning_rate_factor(factor);
    const auto work = [this] {
      differentiate(device_images_->batch());
      // The gradients of several processes meet on the host.
      if (ranks_.alone()) optimizer_->step();
    };
    if (recorder_) {
      recorder_->run(work);
    } else {
      work();
    }
    const StepReport now = agree();
    check_finite(now.losses);
    if (!ranks_.alone()) optimizer_->step();
    update_averages();
    return now;
  }

  /// Losses and gradients of a batch.
  void differentiate(const TrainBatch& batch) {
    Parallel parallel;
    if (recorder_) parallel = [this](const auto& branches) { recorder_->parallel(branches); };
    const Losses losses =
        options_.plain_step ? plain_training_losses(networks_, batch, options_.hard_quantile,
                                                    precision_, options_.student_guides_autoencoder)
                            : training_losses(networks_, batch, options_.hard_quantile, precision_,
                                              options_.student_guides_autoencoder, parallel);
    optimizer_->zero_grad();
    (losses.hard + options_.penalty_weight * losses.penalty + losses.autoencoder +
     losses.student_autoencoder)
        .backward();
    losses_ =
        torch::stack({losses.hard, losses.penalty, losses.autoencoder, losses.student_autoencoder})
            .detach();
  }

  void check_finite(const LossValues& values) const {
    require(
        std::isfinite(values.hard + values.penalty + values.autoencoder +
                      values.student_autoencoder),
        "the loss is not finite at step {} (hard {}, penalty {}, autoencoder {}, "
        "student-autoencoder {}): try a lower learning rate, warmup_fraction, or precision fp32",
        step_ + 1, values.hard, values.penalty, values.autoencoder, values.student_autoencoder);
  }

  /// The losses, and by side effect the gradients, averaged over all processes; each has a batch of
  /// the same size. Interrupted is all if one is.
  StepReport agree() {
    std::vector<torch::Tensor> sums = {torch::cat(
        {losses_.to(torch::kCPU), torch::full({1}, interrupt_requested() ? 1.0f : 0.0f)})};
    if (!ranks_.alone()) {
      for (auto& [name, parameter] : parameters_) sums.push_back(parameter.mutable_grad());
      try {
        ranks_.sum(sums);
      } catch (const Error& error) {
        // By all that are left: the first may be the one that is gone.
        if (step_ > first_step_) save();
        throw Error(fmt::format("{}; {}", error.what(),
                                step_ > 0 ? fmt::format("{} holds the first {} steps: start all "
                                                        "again with --resume",
                                                        folder_.checkpoint().string(), step_)
                                          : "start all again"));
      }
      for (auto& sum : sums) sum.div_(static_cast<double>(ranks_.size()));
    }
    const float* shared = sums[0].const_data_ptr<float>();
    return {.losses = {.hard = shared[0],
                       .penalty = shared[1],
                       .autoencoder = shared[2],
                       .student_autoencoder = shared[3]},
            .interrupted = shared[kLossTerms] > 0};
  }

  void update_averages() {
    if (averages_.empty()) return;
    const torch::NoGradGuard no_grad;
    // Early on, an average that is not dominated by the initial weights (as TensorFlow's
    // ExponentialMovingAverage with num_updates).
    const auto done = static_cast<double>(step_);
    const double decay = std::min(options_.ema_decay, (1 + done) / (10 + done));
    std::vector<torch::Tensor> averages;
    std::vector<torch::Tensor> weights;
    for (size_t i = 0; i < averages_.size(); ++i) {
      averages.push_back(averages_[i].second);
      weights.push_back(parameters_[i].second.detach());
    }
    torch::_foreach_lerp_(averages, weights, 1 - decay);
  }

  /// Exchanges the weights and their averages, if those are to be saved.
  void swap_averages() {
    const torch::NoGradGuard no_grad;
    for (size_t i = 0; i < averages_.size(); ++i) {
      const torch::Tensor weights = parameters_[i].second.detach().clone();
      parameters_[i].second.copy_(averages_[i].second);
      averages_[i].second.copy_(weights);
    }
  }

  /// The model as it is now, beside the others of the run. Its time does not count as training.
  void write_snapshot() {
    const Clock::time_point begin = Clock::now();
    swap_averages();
    make_folder(folder_.snapshot(step_).parent_path());
    save_bundle(folder_.snapshot(step_), calibrated_bundle(/*show=*/false));
    swap_averages();
    networks_.student->train();
    networks_.autoencoder->train();
    start_ += Clock::now() - begin;
  }

  /// Scores the images that were left out; the model itself is not kept.
  TrainResult finish_fold() {
    swap_averages();
    teacher_outputs_.reset();
    const Detector detector(calibrated_bundle(/*show=*/true), device_);
    std::vector<double> scores;
    const auto count = static_cast<int64_t>(samples_.left_out.size());
    Prefetcher<CalibrationImage> images =
        calibration_images(samples_.left_out, /*altered=*/false, options_);
    while (const auto image = images.next()) {
      const torch::Tensor map = detector.maps(image->image.unsqueeze(0))[0];
      scores.push_back(detector.finish(map, image->size_hw).score);
      report({.stage = "judge", .done = static_cast<int64_t>(scores.size()), .total = count});
      if (interrupt_requested()) {
        throw Interrupted("interrupted while judging; the same command with --resume goes on");
      }
    }
    folder_.write_scores(scores, result_options(options_));
    folder_.remove_checkpoints();
    return {};
  }

  /// Of a run that was done already: its model stays as it is, with a threshold chosen since.
  TrainResult finished_before() const {
    spdlog::info("{}: is trained already", folder_.model().string());
    if (!ranks_.first()) return {};
    const ModelBundle bundle = load_bundle(folder_.model());
    return {.model = folder_.model(),
            .train_images = static_cast<int64_t>(samples_.train.size()),
            .validation_images = static_cast<int64_t>(samples_.validation.size()),
            .threshold = bundle.threshold,
            .threshold_rule = bundle.threshold_rule,
            .seconds = seconds_before_};
  }

  TrainResult finish() {
    swap_averages();
    teacher_outputs_.reset();
    ModelBundle bundle = calibrated_bundle(/*show=*/true);
    if (options_.cross_fit > 0) {
      set_normal_scores(
          bundle,
          {.scores = folder_.scores_of_folds(options_.cross_fit, result_options(options_)),
           .which = "cross-fitted training images",
           .images = NormalImages::kCrossFitted},
          options_.max_fpr);
    }
    write_options(options_);
    TrainResult result{.model = folder_.model(),
                       .train_images = static_cast<int64_t>(samples_.train.size()),
                       .validation_images = static_cast<int64_t>(samples_.validation.size()),
                       .threshold = bundle.threshold,
                       .threshold_rule = bundle.threshold_rule,
                       .seconds = seconds_before_};
    save_bundle(result.model, bundle);
    return result;
  }

  /// What the images are like, by some of them if they are many.
  ImageRange image_range() {
    // One that was not drawn, or went away since, is no reason to lose a training.
    const auto of_some = [](const std::vector<Sample>& samples, size_t most, const auto& look) {
      const size_t stride = (samples.size() + most - 1) / most;
      for (size_t i = 0; i < samples.size(); i += stride) {
        throw_if_interrupted();
        try {
          look(i);
        } catch (const Error&) {
          continue;
        }
      }
    };
    constexpr size_t kSizes = 5000;
    constexpr size_t kLevels = 300;
    const auto levels_of = [&](const torch::Tensor& image_u8) {
      const GreyLevels levels = grey_levels(image_u8);
      return options_.equalize_exposure ? equalized(levels) : levels;
    };
    ImageRange range;
    for (const auto* samples : {&samples_.train, &samples_.validation}) {
      of_some(*samples, kSizes,
              [&](size_t i) { range.add_size(read_image_size((*samples)[i].image_path)); });
    }
    of_some(samples_.train, kLevels, [&](size_t i) {
      range.add_levels(levels_of(images_->train_image(static_cast<int64_t>(i))));
    });
    of_some(samples_.validation, kLevels, [&](size_t i) {
      range.add_levels(
          levels_of(read_resized(samples_.validation[i].image_path, options_.image_hw())));
    });
    return range;
  }

  static void throw_if_interrupted() {
    if (interrupt_requested()) {
      throw Interrupted("interrupted while calibrating; the same command with --resume goes on");
    }
  }

  /// The networks as they are now, calibrated on the validation images; in eval mode.
  ModelBundle calibrated_bundle(bool show) {
    for (const auto& [name, parameter] : parameters_) {
      require(torch::isfinite(parameter).all().item<bool>(),
              "{} is not finite after step {}: try a lower learning rate, or precision fp32", name,
              step_);
    }
    ModelBundle bundle;
    bundle.model_size = options_.model_size;
    bundle.padding = options_.padding;
    bundle.image_hw = options_.image_hw();
    // A fold's model is not kept.
    if (!image_range_ && fold_.count == 0) image_range_ = image_range();
    bundle.image_range = image_range_.value_or(ImageRange());
    bundle.autoencoder_input = options_.autoencoder_input;
    bundle.equalize_exposure = options_.equalize_exposure;
    bundle.teacher = networks_.teacher;
    bundle.student = networks_.student;
    bundle.autoencoder = networks_.autoencoder;
    bundle.teacher_mean = networks_.teacher_mean;
    bundle.teacher_std = networks_.teacher_std;
    bundle.options = result_options(options_);
    bundle.provenance = provenance();

    const auto count = static_cast<int64_t>(samples_.validation.size());
    Prefetcher<CalibrationImage> images =
        calibration_images(samples_.validation, samples_.altered, options_);
    int64_t done = 0;
    calibrate(
        bundle, device_,
        [&] {
          if (show && done > 0) report({.stage = "calibrate", .done = done, .total = count});
          throw_if_interrupted();
          ++done;
          return images.next();
        },
        options_.quantile_a, options_.quantile_b, options_.max_fpr,
        /*held_out=*/!samples_.altered);
    require(std::isfinite(bundle.threshold + bundle.quantiles.q_b_st + bundle.quantiles.q_b_ae),
            "the maps of the validation images are not finite: try a lower learning rate");
    return bundle;
  }

  std::map<std::string, std::string> provenance() const {
    std::map<std::string, std::string> provenance = {
        {"made_by", std::string("efficientad ") + version()},
        {"device", describe_device(device_)},
        {"precision", precision_},
        {"layout", samples_.layout},
        {"category", samples_.category},
        {"train_images", std::to_string(samples_.train.size())},
        {"validation_images",
         fmt::format("{} ({})", samples_.validation.size(), samples_.validation_source)},
        {"penalty", images_->penalty_description()},
        {"teacher.weights", inputs_.at("the teacher's weights")}};
    for (const auto& [key, value] : teacher_metadata_) {
      if (key != "format" && key != "format_version") provenance["teacher." + key] = value;
    }
    return provenance;
  }

  const TrainOptions options_;
  const torch::Device device_;
  const std::function<void(const TrainProgress&)>& progress_;
  const std::string precision_;
  const bool device_step_;
  TrainingFolder folder_;
  const TrainingSamples samples_;
  const std::map<std::string, std::string> teacher_metadata_;
  std::unique_ptr<TrainingImages> images_;
  /// Once it is known.
  std::optional<ImageRange> image_range_;
  std::map<std::string, std::string> inputs_;
  DetectorNetworks networks_;
  std::unique_ptr<TeacherOutputs> teacher_outputs_;
  NamedTensors parameters_;
  NamedTensors averages_;
  std::unique_ptr<Optimizer> optimizer_;
  /// For device_step.
  std::unique_ptr<DeviceImages> device_images_;
  std::unique_ptr<Recorder> recorder_;
  /// Of the last step, in the order of LossValues: float32 [4].
  torch::Tensor losses_;
  Ranks& ranks_;
  const Fold fold_;
  int64_t step_ = 0;
  /// With which this process began.
  int64_t first_step_ = 0;
  double seconds_before_ = 0;
  Clock::time_point start_;
  Clock::time_point last_save_;
};

}  // namespace

void check_train_options(const TrainOptions& options) {
  check_options(options);
  require_usage(!(options.resume && options.overwrite),
                "resume and overwrite contradict each other: give one of them");
  require_usage(options.cross_fit != 1, "cross_fit is 1, but must be 0 or from 2 to 20");
  require_usage(options.device_step != "on" || !options.plain_step,
                "plain_step and device_step on contradict each other");
  require_usage(options.penalty || options.penalty_images.empty(),
                "penalty_images is given, but penalty is off");
  require_usage(options.quantile_a < options.quantile_b,
                "quantile_a is {}, but must be below quantile_b, which is {}", options.quantile_a,
                options.quantile_b);
  const auto [height, width] = options.image_hw();
  require_usage(width >= 64, "image_width is {}, but must be at least 64", width);
  require_usage(options.autoencoder_input != "full" ||
                    (height >= kAutoencoderSide && width >= kAutoencoderSide),
                "autoencoder_input full needs images of at least {} px, but they are {}x{}; use "
                "fixed",
                kAutoencoderSide, width, height);
  require_usage(options.penalty_batch_size <= options.batch_size,
                "penalty_batch_size is {}, but must be at most batch_size, which is {}",
                options.penalty_batch_size, options.batch_size);
  require_usage(options.autoencoder_plain_batch_size <= options.batch_size,
                "autoencoder_plain_batch_size is {}, but must be at most batch_size, which is {}",
                options.autoencoder_plain_batch_size, options.batch_size);
  require_usage(options.autoencoder_batch_size <= options.batch_size,
                "autoencoder_batch_size is {}, but must be at most batch_size, which is {}",
                options.autoencoder_batch_size, options.batch_size);
  if (options.crop_size == 0) return;
  require_usage(!options.padding,
                "crop_size needs padding off: with padding, a crop's output is no part of the "
                "image's output");
  require_usage(options.crop_size >= 64 && options.crop_size <= std::min(height, width),
                "crop_size is {}, but must be 0 or from 64 to the image's smaller side, {}",
                options.crop_size, std::min(height, width));
}

namespace {

/// The output folder of a training; locked for this process before the first file is written.
class LockedOutput {
 public:
  explicit LockedOutput(const TrainOptions& options) : options_(options), folder_(options.output) {}

  const TrainingFolder& folder() const { return folder_; }

  /// Keeps other trainings out, and makes room: only when options and images are known to be good.
  void take() {
    if (lock_) return;
    make_folder(folder_.path());
    lock_.emplace(folder_.path(), "another training is writing to it");
    // One may have been there meanwhile.
    if (!options_.resume && !options_.overwrite) folder_.require_free();
    if (options_.overwrite) folder_.put_aside();
    if (!options_.resume) write_options(options_);
  }

 private:
  const TrainOptions& options_;
  const TrainingFolder folder_;
  std::optional<FolderLock> lock_;
};

/// One run, or one fold's, in its own folder, which is `output` or in it.
TrainResult run_one(const TrainOptions& options, const Teacher& teacher, torch::Device device,
                    const std::function<void(const TrainProgress&)>& progress, Ranks& ranks,
                    Fold fold, LockedOutput& output) {
  Run run(options, teacher, device, progress, ranks, fold);
  if (ranks.first()) {
    output.take();
    make_folder(options.output);
    remove_leftovers(options.output);
  }
  return run.run();
}

/// The models of cross-fitting, one after another; those that are done are passed over.
void run_folds(const TrainOptions& options, const Teacher& teacher, torch::Device device,
               const std::function<void(const TrainProgress&)>& progress, Ranks& ranks,
               LockedOutput& output) {
  for (int64_t i = 0; i < options.cross_fit; ++i) {
    const TrainingFolder fold = output.folder().fold(i);
    TrainOptions one = options;
    one.output = fold.path().string();
    one.overwrite = false;
    one.snapshot_steps = 0;
    one.resume = options.resume && fold.has_checkpoint();
    if (options.resume && fold.has_scores()) {
      fold.require_scores_of(result_options(one));
      continue;
    }
    spdlog::info("cross-fitting, model {} of {}", i + 1, options.cross_fit);
    run_one(one, teacher, device, progress, ranks, {.index = i, .count = options.cross_fit},
            output);
  }
}

}  // namespace

std::string hash_of_teacher(const Teacher& teacher) { return hash_of_weights(*teacher.network); }

bool training_has_begun(const std::filesystem::path& output) {
  return TrainingFolder(output).has_begun();
}

TrainResult train_detector(const TrainOptions& options, const Teacher& teacher,
                           torch::Device device,
                           const std::function<void(const TrainProgress&)>& progress) {
  check_train_options(options);
  const TrainingFolder folder(options.output);
  TrainOptions now = options;
  const bool has_checkpoint = folder.has_checkpoint();
  if (options.resume && !has_checkpoint) {
    require(folder.has_begun() && !fs::exists(folder.model()),
            "{}: has no checkpoint.safetensors to resume from", folder.path().string());
    if (fs::exists(folder.options())) {
      TrainOptions before;
      options_from_json(read_json(folder.options()), folder.options().string(), before);
      Checkpoint of_begun;
      of_begun.options = result_options(before);
      check_same_run(of_begun, result_options(options), {}, folder.path());
    }
    if (options.cross_fit == 0) {
      spdlog::info("{}: was stopped before its first checkpoint; beginning anew",
                   folder.path().string());
    }
    now.resume = false;
  }
  if (!options.resume && !options.overwrite) folder.require_free();
  // Only now: when the processes have met, the first begins to write.
  Ranks ranks;
  ranks.use(device);
  LockedOutput output(options);
  if (options.cross_fit > 0 && !(options.resume && fs::exists(folder.model()))) {
    run_folds(options, teacher, device, progress, ranks, output);
  }
  TrainResult result = run_one(now, teacher, device, progress, ranks, {}, output);
  ranks.finish();
  return result;
}

}  // namespace efficientad
