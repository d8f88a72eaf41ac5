#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/cudnn_convolution.h>
#include <ATen/ops/cudnn_convolution_relu.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/ScopeExit.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>

#include "efficientad/core/cuda_part.h"
#include "efficientad/core/log.h"
#include "engine/cuda/branches.h"
#include "engine/cuda/capture.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/operations.h"
#include "engine/cuda/own_stream.h"
#include "engine/cuda/views.h"

namespace efficientad::cuda {

namespace {

/// cuDNN compares its algorithms in the first run; a graph must record none of that.
constexpr int kRunsBefore = kRunsToRecord - 1;

/// Held while a session prepares or times its work: waiting for the whole GPU makes another's
/// recording invalid, and Benchmarking is for all threads. And while one drops its graph.
std::mutex preparing;

/// While one lives, cuDNN compares its algorithms, also where that is no argument.
class Benchmarking {
 public:
  Benchmarking() : before_(at::globalContext().benchmarkCuDNN()) {
    at::globalContext().setBenchmarkCuDNN(true);
  }
  ~Benchmarking() { at::globalContext().setBenchmarkCuDNN(before_); }
  Benchmarking(const Benchmarking&) = delete;
  Benchmarking& operator=(const Benchmarking&) = delete;

 private:
  bool before_;
};

class CudaSession : public Session {
 public:
  explicit CudaSession(c10::DeviceIndex device)
      : device_(device),
        own_stream_(device, /*high_priority=*/true),
        stream_(own_stream_.get()),
        branches_(device) {
    major_ = at::cuda::getDeviceProperties(device)->major;
  }

  ~CudaSession() override {
    try {
      c10::cuda::stream_synchronize(stream_);
    } catch (const std::exception& error) {
      spdlog::error("CUDA: {}", error.what());
    }
    drop_graph();
  }

  void run(const std::function<void()>& work, const std::function<void()>& before,
           const std::function<void()>& after) override {
    const c10::cuda::CUDAGuard device(device_);
    const c10::cuda::CUDAStreamGuard guard(stream_);
    if (before) before();
    if (state_ == State::kNew) {
      prepare(work);
    } else if (state_ == State::kRecorded) {
      graph_->replay();
    } else {
      work();
    }
    if (after) after();
    c10::cuda::stream_synchronize(stream_);
  }

  std::vector<Timing> time(const std::function<void()>& work) override {
    const c10::cuda::CUDAGuard device(device_);
    const c10::cuda::CUDAStreamGuard guard(stream_);
    const std::lock_guard lock(preparing);
    c10::cuda::device_synchronize();
    const Benchmarking benchmarking;
    spans_.clear();
    {
      const auto end = c10::make_scope_exit([this] { timing_ = false; });
      timing_ = true;
      work();
    }
    c10::cuda::stream_synchronize(stream_);
    std::vector<Timing> timings;
    for (auto& span : spans_) {
      span.timing.milliseconds = span.begin.elapsed_time(span.end);
      timings.push_back(span.timing);
    }
    spans_.clear();
    return timings;
  }

  void forget() override {
    c10::cuda::stream_synchronize(stream_);
    drop_graph();
    trials_.clear();
    state_ = State::kNew;
    runs_ = 0;
    c10::cuda::CUDACachingAllocator::emptyCache();
  }

  void set_schedule(const Schedule& schedule) override { asked_ = schedule; }

  const std::vector<Trial>& trials() const override { return trials_; }

  void copy(torch::Tensor to, const torch::Tensor& from) const override {
    const Span::Timer timer = timed("copy");
    TORCH_CHECK(to.is_contiguous() && from.is_contiguous() && to.nbytes() == from.nbytes(),
                "copy of ", from.sizes(), " to ", to.sizes());
    C10_CUDA_CHECK(cudaMemcpyAsync(to.data_ptr(), from.data_ptr(), from.nbytes(), cudaMemcpyDefault,
                                   c10::cuda::getCurrentCUDAStream(device_)));
  }

  void normalize(const torch::Tensor& images_u8, bool equalize, torch::Tensor to) const override {
    const Span::Timer timer = timed("normalize");
    TORCH_CHECK(images_u8.is_contiguous() && images_u8.scalar_type() == torch::kUInt8 &&
                    images_u8.numel() / 3 == to.numel() / 4,
                "images ", images_u8.sizes(), " for ", to.sizes());
    uint64_t* sums = nullptr;
    torch::Tensor room;
    if (equalize) {
      room = torch::empty({images_u8.size(0)}, images_u8.options().dtype(torch::kInt64));
      sums = reinterpret_cast<uint64_t*>(room.data_ptr<int64_t>());
      check(cuda::byte_sums(images_u8.data_ptr<uint8_t>(), images_u8.size(0), images_u8[0].numel(),
                            sums, stream()));
    }
    check(cuda::normalize(element_of(to), images_u8.data_ptr<uint8_t>(), sums, view_of(to),
                          stream()));
  }

  torch::Tensor convolution(const torch::Tensor& x, const torch::Tensor& weight, int64_t stride,
                            int64_t padding) const override {
    const Span::Timer timer = timed("convolution");
    const torch::Tensor y = at::cudnn_convolution(
        x, weight, {padding, padding}, {stride, stride}, {1, 1},
        /*groups=*/1, /*benchmark=*/true, /*deterministic=*/false, /*allow_tf32=*/false);
    describe("convolution", x, weight, y);
    return y;
  }

  torch::Tensor convolution_relu(const torch::Tensor& x, const torch::Tensor& weight,
                                 const torch::Tensor& bias, int64_t stride,
                                 int64_t padding) const override {
    // The fused one would compute in TF32.
    if (x.scalar_type() == torch::kFloat32) {
      const torch::Tensor y = convolution(x, weight, stride, padding);
      const Span::Timer timer = timed("bias, ReLU");
      check(cuda::bias_relu(element_of(y), view_of(y), bias_of(bias, y.size(1)), stream()));
      return y;
    }
    const Span::Timer timer = timed("convolution, ReLU");
    const torch::Tensor y = at::cudnn_convolution_relu(x, weight, bias, {stride, stride},
                                                       {padding, padding}, {1, 1}, /*groups=*/1);
    describe("convolution, ReLU", x, weight, y);
    return y;
  }

  void bias_relu_pool(const torch::Tensor& x, int64_t first_channel, const torch::Tensor& bias,
                      int64_t padding, torch::Tensor to) const override {
    const Span::Timer timer = timed("bias, ReLU, pool");
    check(cuda::bias_relu_pool(element_of(x), view_of(x), first_channel, bias_of(bias, to.size(1)),
                               padding, view_of(to), stream()));
  }

  void bias_upsample(const torch::Tensor& x, const torch::Tensor& bias, bool relu,
                     torch::Tensor to) const override {
    const Span::Timer timer = timed("bias, upsample");
    check(cuda::bias_upsample(element_of(x), view_of(x), bias_of(bias, x.size(1)), relu,
                              view_of(to), stream()));
  }

  bool has_first_layer(torch::ScalarType type) const override {
    constexpr int kWithBfloat16 = 8;
    return type == torch::kFloat16 || (type == torch::kBFloat16 && major_ >= kWithBfloat16);
  }

  void first_layer(const torch::Tensor& x, const torch::Tensor& packed, const torch::Tensor& bias,
                   int64_t padding, torch::Tensor teacher, torch::Tensor student) const override {
    const Span::Timer timer = timed("first layer of both PDNs");
    if (timing_) {
      constexpr double kWindow = 4 * 4 * 3;
      spans_.back().timing.multiply_adds = 4 * kWindow * static_cast<double>(2 * teacher.numel());
    }
    TORCH_CHECK(packed.is_contiguous() && packed.scalar_type() == x.scalar_type() &&
                    packed.numel() == 2 * teacher.size(1) * 64,
                "packed weights ", packed.sizes());
    check(cuda::first_layer(element_of(x), view_of(x), packed.data_ptr(),
                            bias_of(bias, 2 * teacher.size(1)), padding, view_of(teacher),
                            view_of(student), stream()));
  }

  void maps(const torch::Tensor& teacher, const torch::Tensor& student,
            const torch::Tensor& autoencoder, const torch::Tensor& bias_st,
            const torch::Tensor& bias_ae, const MapNormalization& normalization, torch::Tensor st,
            torch::Tensor ae, torch::Tensor combined) const override {
    const Span::Timer timer = timed("maps");
    const MapScale scale = {.q_a_st = normalization.q_a_st,
                            .scale_st = normalization.scale_st,
                            .q_a_ae = normalization.q_a_ae,
                            .scale_ae = normalization.scale_ae};
    check(cuda::maps(element_of(teacher), view_of(teacher), view_of(student), view_of(autoencoder),
                     bias_of(bias_st, teacher.size(1)), bias_of(bias_ae, teacher.size(1)), scale,
                     (combined.size(2) - st.size(2)) / 2, st.data_ptr<float>(),
                     ae.data_ptr<float>(), combined.data_ptr<float>(), stream()));
  }

  void resize_width(const torch::Tensor& image_u8, const DeviceTaps& taps,
                    torch::Tensor to) const override {
    resize_pass(image_u8, /*vertical=*/false, taps, to);
  }

  void resize_height(const torch::Tensor& image_u8, const DeviceTaps& taps,
                     torch::Tensor to) const override {
    resize_pass(image_u8, /*vertical=*/true, taps, to);
  }

  void upsample_map(const torch::Tensor& map, std::array<int64_t, 2> size_hw, torch::Tensor to,
                    torch::Tensor greatest) const override {
    const Span::Timer timer = timed("map at the frame's size");
    TORCH_CHECK(
        map.is_contiguous() && map.numel() == map.size(2) * map.size(3) &&
            (!to.defined() || (to.is_contiguous() && to.numel() == size_hw[0] * size_hw[1])),
        "map ", map.sizes(), " to ", size_hw[0], "x", size_hw[1]);
    check(cuda::upsample_map(map.data_ptr<float>(), map.size(2), map.size(3),
                             to.defined() ? to.data_ptr<float>() : nullptr, size_hw[0], size_hw[1],
                             reinterpret_cast<uint32_t*>(greatest.data_ptr<int32_t>()), stream()));
  }

  void parallel(const std::vector<std::function<void()>>& branches) const override {
    if (timing_) {
      for (const auto& branch : branches) branch();
      return;
    }
    branches_.run(branches, schedule_);
  }

 private:
  enum class State { kNew, kRecorded, kUnable };

  /// An operation's time.
  struct Span {
    /// Ends it.
    class Timer {
     public:
      Timer(const CudaSession* session, size_t index) : session_(session), index_(index) {}
      ~Timer() {
        if (session_ == nullptr) return;
        session_->spans_[index_].end.record(c10::cuda::getCurrentCUDAStream(session_->device_));
      }
      Timer(const Timer&) = delete;
      Timer& operator=(const Timer&) = delete;

     private:
      const CudaSession* session_;
      size_t index_;
    };
    Timing timing;
    at::cuda::CUDAEvent begin{cudaEventDefault};
    at::cuda::CUDAEvent end{cudaEventDefault};
  };

  void describe(const char* what, const torch::Tensor& x, const torch::Tensor& weight,
                const torch::Tensor& y) const {
    if (!timing_) return;
    Timing& timing = spans_.back().timing;
    timing.name = fmt::format("{} {} to {}, {}x{}, at {}x{}", what, x.size(1), y.size(1),
                              weight.size(2), weight.size(3), y.size(2), y.size(3));
    timing.multiply_adds = static_cast<double>(y.numel() * weight[0].numel());
  }

  Span::Timer timed(const char* name) const {
    if (!timing_) return {nullptr, 0};
    spans_.emplace_back();
    spans_.back().timing.name = name;
    spans_.back().begin.record(c10::cuda::getCurrentCUDAStream(device_));
    return {this, spans_.size() - 1};
  }

  cudaStream_t stream() const { return c10::cuda::getCurrentCUDAStream(device_).stream(); }

  void resize_pass(const torch::Tensor& image_u8, bool vertical, const DeviceTaps& taps,
                   const torch::Tensor& to) const {
    const Span::Timer timer = timed("resize");
    const int64_t kept = vertical ? 1 : 0;
    TORCH_CHECK(image_u8.is_contiguous() && to.is_contiguous() && image_u8.size(2) == 3 &&
                    to.size(2) == 3 && to.size(kept) == image_u8.size(kept) &&
                    to.size(1 - kept) == taps.first.numel(),
                "resize of ", image_u8.sizes(), " to ", to.sizes());
    check(cuda::resize_pass(image_u8.data_ptr<uint8_t>(), image_u8.size(1), vertical,
                            {.first = taps.first.data_ptr<int32_t>(),
                             .count = taps.count.data_ptr<int32_t>(),
                             .weights = taps.weights.data_ptr<int32_t>(),
                             .stride = static_cast<int32_t>(taps.weights.size(1))},
                            to.data_ptr<uint8_t>(), to.size(0), to.size(1), stream()));
  }

  static void check(cudaError_t error) { C10_CUDA_CHECK(error); }

  /// One of the first runs, or the recording with a run of what was recorded.
  void prepare(const std::function<void()>& work) {
    const std::lock_guard lock(preparing);
    const Benchmarking benchmarking;
    // What was begun on other streams, such as the weights' way to the GPU, is done.
    c10::cuda::device_synchronize();
    if (runs_ < kRunsBefore) {
      ++runs_;
      work();
      return;
    }
    try {
      record(work);
    } catch (const c10::OutOfMemoryError&) {
      graph_.reset();
      throw;
    } catch (const std::exception& error) {
      graph_.reset();
      spdlog::warn("the networks cannot be recorded as a CUDA graph and go on without ({})",
                   error.what());
      state_ = State::kUnable;
      work();
      return;
    }
    graph_->replay();
  }

  /// In the order that was asked for, or else in the fastest: then it runs some hundred times.
  void record(const std::function<void()>& work) {
    trials_.clear();
    if (asked_) {
      record_as(*asked_, work);
    } else {
      trials_ = record_fastest([&](const Schedule& schedule) { record_as(schedule, work); },
                               [&](int runs) { return median_milliseconds(runs); });
    }
    state_ = State::kRecorded;
  }

  /// Of what is recorded, from the host's call to its end on the GPU.
  double median_milliseconds(int runs) {
    std::vector<double> times;
    // The first brings the graph to the GPU.
    constexpr int kBefore = 2;
    for (int i = -kBefore; i < runs; ++i) {
      const auto start = std::chrono::steady_clock::now();
      graph_->replay();
      c10::cuda::stream_synchronize(stream_);
      const std::chrono::duration<double, std::milli> time =
          std::chrono::steady_clock::now() - start;
      if (i >= 0) times.push_back(time.count());
    }
    const auto middle = times.begin() + runs / 2;
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
  }

  /// Not while others record: a graph leaves LibTorch's list of those that draw random numbers,
  /// which has no lock, when it goes, and joins it when it is begun.
  void drop_graph() {
    const std::lock_guard lock(preparing);
    graph_.reset();
  }

  /// Instead of what is recorded, so that trials need no more memory than what stays.
  void record_as(const Schedule& schedule, const std::function<void()>& work) {
    graph_.reset();
    const auto usual_again = c10::make_scope_exit([this] { schedule_ = {}; });
    schedule_ = schedule;
    // No other thread's calls make it invalid.
    graph_ = capture(device_, cudaStreamCaptureModeThreadLocal, work);
  }

  c10::DeviceIndex device_;
  OwnStream own_stream_;
  c10::cuda::CUDAStream stream_;
  mutable Branches branches_;
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
  std::optional<Schedule> asked_;
  /// Of what is being recorded; at other times the usual one.
  Schedule schedule_;
  std::vector<Trial> trials_;
  int major_ = 0;
  State state_ = State::kNew;
  int runs_ = 0;
  bool timing_ = false;
  mutable std::vector<Span> spans_;
};

}  // namespace

}  // namespace efficientad::cuda

extern "C" efficientad::cuda::Session* efficientad_make_session_4(int device) {
  return new efficientad::cuda::CudaSession(static_cast<c10::DeviceIndex>(device));
}
