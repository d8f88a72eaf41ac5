#include "efficientad/engine/cuda_engine.h"

#include <c10/core/thread_pool.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <future>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "efficientad/core/cuda_part.h"
#include "efficientad/core/error.h"
#include "efficientad/core/log.h"
#include "engine/cuda/frame.h"
#include "engine/cuda/frame_math.h"
#include "engine/cuda/network.h"
#include "engine/cuda/operations.h"

namespace efficientad {

namespace {

torch::ScalarType type_of(const std::string& precision) {
  if (precision == "fp16") return torch::kFloat16;
  if (precision == "bf16") return torch::kBFloat16;
  TORCH_CHECK(precision == "fp32", "no CUDA engine in ", precision);
  return torch::kFloat32;
}

/// Of the host, page-locked if the system grants that: copies are faster then.
torch::Tensor host_memory(at::IntArrayRef sizes, torch::ScalarType type) {
  const auto options = torch::TensorOptions().dtype(type);
  try {
    return torch::empty(sizes, options.pinned_memory(true));
  } catch (const c10::Error&) {
    return torch::empty(sizes, options);
  }
}

std::unique_ptr<cuda::Session> make_session(torch::Device device, std::string& problem) {
  const auto make = reinterpret_cast<MakeSession*>(cuda_symbol(kMakeSession, problem));
  return std::unique_ptr<cuda::Session>(make == nullptr ? nullptr : make(device.index()));
}

}  // namespace

std::string cuda_engine_problem(torch::Device device) {
  if (!device.is_cuda()) return "device " + device.str() + " is no GPU";
  std::string problem;
  cuda_symbol(kMakeSession, problem);
  return problem;
}

class CudaEngine::Impl {
 public:
  Impl(const DetectorNetworks& networks, std::array<int64_t, 2> image_hw,
       const MapCombination& combination, torch::Device device, const std::string& precision,
       bool equalize_exposure)
      : image_hw_(image_hw),
        equalize_exposure_(equalize_exposure),
        device_(device),
        type_(type_of(precision)),
        networks_(cuda::FoldedNetworks(networks).to(device, type_)),
        normalization_{.q_a_st = static_cast<float>(combination.q_a_st),
                       .scale_st = static_cast<float>(combination.scale_st),
                       .q_a_ae = static_cast<float>(combination.q_a_ae),
                       .scale_ae = static_cast<float>(combination.scale_ae)} {
    const std::string problem = cuda_engine_problem(device);
    require(problem.empty(), "engine cuda cannot be used on {}: {}", device.str(), problem);
  }

  /// uint8 [N, H, W, 3] gives Workspace::combined, float32 [1, N, 1, H/4, W/4]; float32 [N, 3, H,
  /// W] gives Workspace::raw, float32 [2, N, 1, h, w].
  torch::Tensor run(const torch::Tensor& images) {
    const int64_t rows = images.scalar_type() == torch::kUInt8 ? 1 : 2;
    TORCH_CHECK(images.dim() == 4 && images.size(rows == 1 ? 3 : 1) == 3 &&
                    images.size(rows) == image_hw_[0] && images.size(rows + 1) == image_hw_[1],
                "images ", images.sizes(), " for an engine of ", image_hw_[0], "x", image_hw_[1]);
    const torch::NoGradGuard no_grad;
    std::vector<torch::Tensor> parts;
    int64_t done = 0;
    bool cleared = false;
    while (done < images.size(0)) {
      const int64_t count = std::min(images.size(0) - done, largest_batch());
      try {
        parts.push_back(run_batch(images.narrow(0, done, count)));
        done += count;
      } catch (const c10::OutOfMemoryError&) {
        if (!cleared) {
          make_room();
          cleared = true;
          continue;
        }
        require(count > 1, "{}: the GPU's memory does not hold a single image of {}x{} px",
                device_.str(), image_hw_[1], image_hw_[0]);
        spdlog::warn("{}: the GPU's memory does not hold {} images; going on with {} at a time",
                     device_.str(), count, count / 2);
        make_room();
        const std::lock_guard lock(mutex_);
        largest_batch_ = std::min(largest_batch_, count / 2);
        cleared = true;
      }
    }
    return parts.size() == 1 ? parts.front() : torch::cat(parts, /*dim=*/1);
  }

  /// Of uint8 [H, W, 3].
  std::optional<Judgement> judge(const torch::Tensor& image_u8, bool want_map) {
    const torch::NoGradGuard no_grad;
    const int64_t pixels = image_u8.size(0) * image_u8.size(1);
    if (!frame_may_fit(pixels)) return std::nullopt;
    for (bool cleared = false;; cleared = true) {
      try {
        Kind kind = {Input::kFrame, 1};
        std::unique_ptr<Slot> slot = take(kind);
        const Judgement judgement = slot->judge(image_u8, want_map);
        give_back(kind, std::move(slot));
        return judgement;
      } catch (const c10::OutOfMemoryError&) {
        if (!cleared) {
          make_room();
          continue;
        }
        spdlog::warn(
            "{}: the GPU's memory does not hold an image of {}x{} px; such are resized on "
            "the CPU",
            device_.str(), image_u8.size(1), image_u8.size(0));
        const std::lock_guard lock(mutex_);
        too_large_frame_ = std::min(too_large_frame_, pixels);
        return std::nullopt;
      }
    }
  }

  std::vector<LayerTime> time_layers(const torch::Tensor& images_u8, int64_t runs) {
    std::vector<std::vector<double>> times;
    std::vector<LayerTime> layers;
    drop_idle();
    // By the thread that knows cuDNN's best algorithms; without a graph, which would need the
    // memory once more.
    on_builder([&] {
      Slot slot(*this, Input::kBytes, images_u8.size(0));
      slot.host_images.copy_(images_u8);
      for (int i = 0; i < cuda::kRunsToRecord - 1; ++i) slot.session->run(slot.work);
      for (int64_t run = 0; run < runs; ++run) {
        const auto timings = slot.session->time(slot.work);
        times.resize(timings.size());
        layers.resize(timings.size());
        for (size_t i = 0; i < timings.size(); ++i) {
          times[i].push_back(timings[i].milliseconds);
          layers[i] = {.name = timings[i].name,
                       .direct_multiplications = timings[i].multiply_adds,
                       .multiplications = timings[i].multiply_adds};
        }
      }
    });
    for (size_t i = 0; i < layers.size(); ++i) {
      std::sort(times[i].begin(), times[i].end());
      layers[i].milliseconds = times[i][times[i].size() / 2];
    }
    return layers;
  }

  std::vector<OrderTime> order_times(int64_t count) {
    std::vector<OrderTime> times;
    on_builder([&] {
      const auto found = trials_.find({Input::kBytes, count});
      if (found == trials_.end()) return;
      const cuda::Schedule used = cuda::fastest(found->second);
      for (const auto& [schedule, milliseconds] : found->second) {
        times.push_back({.order = cuda::to_string(schedule),
                         .milliseconds = milliseconds,
                         .used = schedule == used});
      }
    });
    return times;
  }

 private:
  /// What images come as: float32 [N, 3, H, W] and uint8 [N, H, W, 3] of the networks' size, or one
  /// uint8 [H, W, 3] of any.
  enum class Input { kFloats, kBytes, kFrame };

  /// All that one batch size needs: one thread uses it at a time.
  struct Slot {
    Slot(const Impl& of, Input input, int64_t count) : engine(of) {
      std::string problem;
      session = make_session(engine.device_, problem);
      require(session != nullptr, "engine cuda: {}", problem);
      const auto [height, width] = engine.image_hw_;
      const bool of_bytes = input != Input::kFloats;
      const std::vector<int64_t> sizes = of_bytes ? std::vector<int64_t>{count, height, width, 3}
                                                  : std::vector<int64_t>{count, 3, height, width};
      const auto options = torch::TensorOptions().dtype(of_bytes ? torch::kUInt8 : torch::kFloat32);
      images = torch::zeros(sizes, options.device(engine.device_));
      workspace = std::make_unique<cuda::Workspace>(engine.networks_, count, engine.image_hw_,
                                                    engine.device_, engine.type_);
      if (input == Input::kFrame) {
        host_greatest = torch::zeros({1}, torch::dtype(torch::kInt32).pinned_memory(true));
        work = [this] { compute(/*of_bytes=*/true); };
        return;
      }
      host_images = torch::zeros(sizes, options.pinned_memory(true));
      results = of_bytes ? workspace->combined.unsqueeze(0) : workspace->raw;
      host_results =
          torch::zeros(results.sizes(), torch::dtype(torch::kFloat32).pinned_memory(true));
      // A GPU writes page-locked memory as it does its own. For so little that takes less time than
      // a copy.
      constexpr size_t kFewBytes = 1 << 16;
      const bool written_there = of_bytes && host_results.nbytes() <= kFewBytes;
      if (written_there) workspace->combined = host_results[0];
      work = [this, of_bytes, written_there] {
        session->copy(images, host_images);
        compute(of_bytes);
        if (!written_there) session->copy(host_results, results);
      };
    }

    /// Waits first: what is queued may still use the memory.
    ~Slot() { session.reset(); }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    /// From `images` to `workspace`'s results.
    void compute(bool of_bytes) {
      if (of_bytes) {
        session->normalize(images, engine.equalize_exposure_, workspace->image);
      } else {
        workspace->image.narrow(1, 0, 3).copy_(images);
      }
      cuda::run_networks(engine.networks_, *session, engine.normalization_, *workspace);
    }

    Judgement judge(const torch::Tensor& image_u8, bool want_map) {
      const std::array<int64_t, 2> size_hw = {image_u8.size(0), image_u8.size(1)};
      if (!host_frame.defined() || host_frame.sizes() != image_u8.sizes()) {
        frame.reset();
        host_map = torch::Tensor();
        host_frame = host_memory(image_u8.sizes(), torch::kUInt8);
      }
      host_frame.copy_(image_u8);
      if (want_map && !host_map.defined()) host_map = host_memory(size_hw, torch::kFloat32);
      session->run(
          work,
          [&] {
            // All that may fail for want of memory, before anything is queued.
            if (!frame) frame.emplace(size_hw, engine.image_hw_, engine.device_);
            if (want_map) frame->make_room_for_map();
            session->copy(frame->frame, host_frame);
            cuda::resize_frame(*session, *frame, images);
          },
          [&] {
            cuda::finish_frame(*session, workspace->combined, want_map, *frame);
            session->copy(host_greatest, frame->greatest);
            if (want_map) session->copy(host_map, frame->map_at_image);
          });
      const auto order = static_cast<uint32_t>(*host_greatest.data_ptr<int32_t>());
      return {.map_at_image = want_map ? host_map.clone() : torch::Tensor(),
              .score = cuda::number_of(order)};
    }

    const Impl& engine;
    std::unique_ptr<cuda::Session> session;
    torch::Tensor host_images;
    torch::Tensor images;
    std::unique_ptr<cuda::Workspace> workspace;
    /// As run() gives them.
    torch::Tensor results;
    torch::Tensor host_results;
    /// Of the last frame's size.
    torch::Tensor host_frame;
    torch::Tensor host_map;
    torch::Tensor host_greatest;
    std::optional<cuda::FrameBuffers> frame;
    /// What is recorded: from host_images to host_results, or of a frame from `images` to the
    /// combined map.
    std::function<void()> work;
  };

  /// And how many images.
  using Kind = std::pair<Input, int64_t>;

  bool frame_may_fit(int64_t pixels) {
    const std::lock_guard lock(mutex_);
    return pixels < too_large_frame_;
  }

  int64_t largest_batch() {
    const std::lock_guard lock(mutex_);
    return largest_batch_;
  }

  torch::Tensor run_batch(const torch::Tensor& images) {
    const int64_t count = images.size(0);
    Kind kind = {images.scalar_type() == torch::kUInt8 ? Input::kBytes : Input::kFloats, count};
    std::unique_ptr<Slot> slot = take(kind);
    // So little is copied sooner than threads are woken for it.
    constexpr size_t kFewBytes = 1 << 20;
    if (images.is_cpu() && images.is_contiguous() && images.nbytes() <= kFewBytes) {
      std::memcpy(slot->host_images.data_ptr(), images.data_ptr(), images.nbytes());
    } else {
      slot->host_images.narrow(0, 0, count).copy_(images);
    }
    slot->session->run(slot->work);
    torch::Tensor maps = slot->host_results.narrow(1, 0, count).clone();
    give_back(kind, std::move(slot));
    return maps;
  }

  /// Removes what is kept for other batches, which may be all that is in the way.
  void drop_idle() {
    // A slot waits for what the builder is recording, while others must get theirs.
    decltype(slots_) dropped;
    {
      const std::lock_guard lock(mutex_);
      dropped.swap(slots_);
    }
  }

  /// When memory was wanted: and waits for the builder, for while a graph is recorded LibTorch
  /// frees nothing that it keeps.
  void make_room() {
    drop_idle();
    on_builder([] {});
  }

  /// One for `kind` or for more images, which is then the kind; a new one if there is none.
  std::unique_ptr<Slot> take(Kind& kind) {
    {
      const std::lock_guard lock(mutex_);
      for (auto found = slots_.lower_bound(kind);
           found != slots_.end() && found->first.first == kind.first; ++found) {
        if (found->second.empty()) continue;
        // A much larger one would compute too much for nothing.
        if (found->first.second > 2 * kind.second) break;
        kind = found->first;
        auto slot = std::move(found->second.back());
        found->second.pop_back();
        return slot;
      }
    }
    return make_slot(kind);
  }

  /// Has the builder do it.
  void on_builder(const std::function<void()>& work) {
    std::promise<void> done;
    builder_.run([&] {
      try {
        const torch::NoGradGuard no_grad;
        work();
        done.set_value();
      } catch (...) {
        done.set_exception(std::current_exception());
      }
    });
    done.get_future().get();
  }

  /// With its graph recorded.
  std::unique_ptr<Slot> make_slot(const Kind& kind) {
    std::unique_ptr<Slot> slot;
    on_builder([&] {
      slot = std::make_unique<Slot>(*this, kind.first, kind.second);
      const auto known = trials_.find(kind);
      if (known != trials_.end()) slot->session->set_schedule(cuda::fastest(known->second));
      for (int i = 0; i < cuda::kRunsToRecord; ++i) slot->session->run(slot->work);
      // None where work cannot be recorded.
      if (known == trials_.end() && !slot->session->trials().empty()) {
        trials_[kind] = slot->session->trials();
      }
    });
    return slot;
  }

  void give_back(const Kind& kind, std::unique_ptr<Slot> slot) {
    const std::lock_guard lock(mutex_);
    slots_[kind].push_back(std::move(slot));
  }

  std::array<int64_t, 2> image_hw_;
  bool equalize_exposure_;
  torch::Device device_;
  torch::ScalarType type_;
  cuda::FoldedNetworks networks_;
  cuda::MapNormalization normalization_;
  /// All slots are made by one thread: what cuDNN was found to do best is kept by thread, and two
  /// that measure at once would disturb each other.
  c10::ThreadPool builder_{1};
  /// The builder's: which order of branches was fastest.
  std::map<Kind, std::vector<cuda::Trial>> trials_;
  std::mutex mutex_;
  /// Those that no thread is using.
  std::map<Kind, std::vector<std::unique_ptr<Slot>>> slots_;
  int64_t largest_batch_ = std::numeric_limits<int64_t>::max();
  /// Pixels of the smallest frame that the GPU's memory did not hold.
  int64_t too_large_frame_ = std::numeric_limits<int64_t>::max();
};

CudaEngine::CudaEngine(const DetectorNetworks& networks, std::array<int64_t, 2> image_hw,
                       const MapCombination& combination, torch::Device device,
                       const std::string& precision, bool equalize_exposure) {
  pdn_output_side(image_hw[0], networks.teacher->options().padding);
  pdn_output_side(image_hw[1], networks.teacher->options().padding);
  require(networks.autoencoder_input == "fixed" ||
              (image_hw[0] >= kAutoencoderSide && image_hw[1] >= kAutoencoderSide),
          "the autoencoder needs images of at least {0}x{0} px, but they are {1}x{2}; use "
          "autoencoder_input \"fixed\"",
          kAutoencoderSide, image_hw[1], image_hw[0]);
  impl_ =
      std::make_unique<Impl>(networks, image_hw, combination, device, precision, equalize_exposure);
}

CudaEngine::~CudaEngine() = default;

RawMaps CudaEngine::maps(const torch::Tensor& images) const {
  const torch::Tensor maps = impl_->run(images.to(torch::kCPU, torch::kFloat32));
  return {.st = maps[0], .ae = maps[1]};
}

torch::Tensor CudaEngine::combined_maps(const torch::Tensor& images_u8) const {
  TORCH_CHECK(
      images_u8.dim() == 4 && images_u8.size(3) == 3 && images_u8.scalar_type() == torch::kUInt8,
      "expected uint8 [N, H, W, 3], was given ", images_u8.scalar_type(), " ", images_u8.sizes());
  return impl_->run(images_u8)[0];
}

std::optional<CudaEngine::Judgement> CudaEngine::judge(const torch::Tensor& image_u8,
                                                       bool want_map) const {
  TORCH_CHECK(image_u8.dim() == 3 && image_u8.size(2) == 3 && image_u8.numel() > 0 &&
                  image_u8.scalar_type() == torch::kUInt8,
              "expected uint8 [H, W, 3], was given ", image_u8.scalar_type(), " ",
              image_u8.sizes());
  return impl_->judge(image_u8, want_map);
}

std::vector<LayerTime> CudaEngine::time_layers(const torch::Tensor& images_u8, int64_t runs) const {
  return impl_->time_layers(images_u8, runs);
}

std::vector<CudaEngine::OrderTime> CudaEngine::order_times(int64_t count) const {
  return impl_->order_times(count);
}

}  // namespace efficientad
