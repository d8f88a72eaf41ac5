#include "efficientad/engine/cpu_engine.h"

#include <ATen/Parallel.h>
#include <torch/utils.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <numeric>
#include <vector>

#include "efficientad/core/buffer.h"
#include "efficientad/core/error.h"
#include "efficientad/core/threads.h"
#include "engine/cpu/program.h"

namespace efficientad {

class CpuEngine::Impl {
 public:
  Impl(const DetectorNetworks& networks, std::array<int64_t, 2> image_hw)
      : image_hw_(image_hw), kernels_(cpu::kernels()), weights_(networks, kernels_) {
    give_back(std::make_unique<cpu::Program>(weights_, kernels_, image_hw_));
    release_freed_memory();  // What the making of the weights needed.
  }

  RawMaps maps(const torch::Tensor& images) {
    TORCH_CHECK(images.dim() == 4 && images.size(1) == 3 && images.size(2) == image_hw_[0] &&
                    images.size(3) == image_hw_[1] && images.scalar_type() == torch::kFloat32,
                "an engine for images of ", image_hw_[0], "x", image_hw_[1], " was given ",
                images.scalar_type(), " ", images.sizes());
    const torch::NoGradGuard no_grad;
    const torch::Tensor planes = images.to(torch::kCPU).contiguous();
    const torch::Tensor autoencoder_planes = seen_by_autoencoder(planes);
    auto program = take();
    const auto [height, width] = program->map_hw();
    RawMaps maps = {.st = torch::empty({images.size(0), 1, height, width}, torch::kFloat32),
                    .ae = torch::empty({images.size(0), 1, height, width}, torch::kFloat32)};
    for (int64_t i = 0; i < images.size(0); ++i) {
      program->run(planes[i].data_ptr<float>(), autoencoder_planes[i].data_ptr<float>(),
                   maps.st[i].data_ptr<float>(), maps.ae[i].data_ptr<float>());
    }
    give_back(std::move(program));
    return maps;
  }

  std::string instruction_set() const { return kernels_.name; }

  std::vector<LayerTime> time_layers(const torch::Tensor& image, int64_t runs) {
    const torch::NoGradGuard no_grad;
    const torch::Tensor planes = image.to(torch::kCPU).contiguous();
    const torch::Tensor autoencoder_planes = seen_by_autoencoder(planes);
    auto program = take();
    const auto [height, width] = program->map_hw();
    const torch::Tensor maps = torch::empty({2, height, width}, torch::kFloat32);
    std::vector<std::vector<double>> times;
    for (int64_t i = 0; i < runs; ++i) {
      program->run_timed(planes.data_ptr<float>(), autoencoder_planes.data_ptr<float>(),
                         maps[0].data_ptr<float>(), maps[1].data_ptr<float>(), times);
    }
    std::vector<LayerTime> layers = program->layers();
    for (size_t i = 0; i < layers.size(); ++i) {
      std::sort(times[i].begin(), times[i].end());
      layers[i].milliseconds = times[i][times[i].size() / 2];
    }
    give_back(std::move(program));
    return layers;
  }

  double peak_multiplications() const {
    constexpr int64_t kTimes = 10000;
    constexpr int kRepeats = 5;
    const int threads = at::get_num_threads();
    const torch::Tensor scratch = torch::zeros({threads, cpu::kSaturateScratch});
    std::vector<double> done(static_cast<size_t>(threads));
    double best = 0;
    for (int i = 0; i < kRepeats; ++i) {
      const auto start = std::chrono::steady_clock::now();
      on_threads(threads, [&](int64_t thread) {
        done[static_cast<size_t>(thread)] =
            kernels_.saturate(kTimes, scratch[thread].data_ptr<float>());
      });
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      best = std::max(best, std::accumulate(done.begin(), done.end(), 0.0) / seconds);
    }
    return best;
  }

 private:
  torch::Tensor seen_by_autoencoder(const torch::Tensor& planes) const {
    return (weights_.autoencoder_fixed ? autoencoder_input_fixed(planes) : planes).contiguous();
  }

  std::unique_ptr<cpu::Program> take() {
    const std::lock_guard lock(mutex_);
    if (programs_.empty()) {
      return std::make_unique<cpu::Program>(weights_, kernels_, image_hw_);
    }
    auto program = std::move(programs_.back());
    programs_.pop_back();
    return program;
  }

  void give_back(std::unique_ptr<cpu::Program> program) {
    const std::lock_guard lock(mutex_);
    programs_.push_back(std::move(program));
  }

  std::array<int64_t, 2> image_hw_;
  const cpu::Kernels& kernels_;
  cpu::PackedNetworks weights_;
  std::mutex mutex_;
  /// Those that no thread is using.
  std::vector<std::unique_ptr<cpu::Program>> programs_;
};

CpuEngine::CpuEngine(const DetectorNetworks& networks, std::array<int64_t, 2> image_hw) {
  pdn_output_side(image_hw[0], networks.teacher->options().padding);
  pdn_output_side(image_hw[1], networks.teacher->options().padding);
  require(networks.autoencoder_input == "fixed" ||
              (image_hw[0] >= kAutoencoderSide && image_hw[1] >= kAutoencoderSide),
          "the autoencoder needs images of at least {0}x{0} px, but they are {1}x{2}; use "
          "autoencoder_input \"fixed\"",
          kAutoencoderSide, image_hw[1], image_hw[0]);
  impl_ = std::make_unique<Impl>(networks, image_hw);
}

CpuEngine::~CpuEngine() = default;

RawMaps CpuEngine::maps(const torch::Tensor& images) const { return impl_->maps(images); }

std::string CpuEngine::instruction_set() const { return impl_->instruction_set(); }

std::vector<LayerTime> CpuEngine::time_layers(const torch::Tensor& image, int64_t runs) const {
  return impl_->time_layers(image, runs);
}

double CpuEngine::peak_multiplications() const { return impl_->peak_multiplications(); }

}  // namespace efficientad
