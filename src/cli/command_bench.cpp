#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <future>
#include <numeric>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include "cli/bench_options.h"
#include "cli/command.h"
#include "efficientad/core/device.h"
#include "efficientad/core/gpu_usage.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/log.h"
#include "efficientad/core/median.h"
#include "efficientad/data/dead_leaves.h"
#include "efficientad/data/image.h"
#include "efficientad/data/resize.h"
#include "efficientad/detect/detector.h"
#include "efficientad/engine/cpu_engine.h"
#include "efficientad/eval/score_image.h"
#include "efficientad/nn/imagenet.h"

namespace efficientad::cli {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// The value below which a share of the sorted values lies (nearest rank).
double at_share(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<size_t>(rank, 1) - 1];
}

template <class Function>
std::vector<double> time_runs(int64_t warmup, int64_t runs, Function function) {
  std::vector<double> times;
  for (int64_t i = 0; i < warmup + runs; ++i) {
    if (interrupt_requested()) throw Interrupted("interrupted");
    const auto start = Clock::now();
    function();
    if (i >= warmup) times.push_back(ms_since(start));
  }
  std::sort(times.begin(), times.end());
  return times;
}

/// A file that is gone with the object.
class TemporaryImage {
 public:
  explicit TemporaryImage(const torch::Tensor& image_u8) {
    std::string name = (fs::temp_directory_path() / "efficientad-bench-XXXXXX").string();
    require(::mkdtemp(name.data()) != nullptr, "{}: cannot make a temporary folder", name);
    folder_ = name;
    write_image(path(), image_u8);
  }
  ~TemporaryImage() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  TemporaryImage(const TemporaryImage&) = delete;
  TemporaryImage& operator=(const TemporaryImage&) = delete;

  fs::path path() const { return folder_ / "image.jpg"; }

 private:
  fs::path folder_;
};

/// [height, width] of "256" or "320x200" (width first). Throws UsageError.
std::array<int64_t, 2> parse_size(const std::string& text) {
  constexpr int64_t kLargest = 4096;
  std::array<int64_t, 2> width_height = {};
  const size_t cross = text.find('x');
  const std::array<std::string, 2> parts = {
      text.substr(0, cross), cross == std::string::npos ? text : text.substr(cross + 1)};
  for (size_t i = 0; i < 2; ++i) {
    const char* end = parts[i].data() + parts[i].size();
    const auto [parsed, error] = std::from_chars(parts[i].data(), end, width_height[i]);
    require_usage(error == std::errc() && parsed == end && width_height[i] >= 1 &&
                      width_height[i] <= kLargest,
                  "--size: \"{}\" is neither SIDE nor WIDTHxHEIGHT in px, up to {}", text,
                  kLargest);
  }
  return {width_height[1], width_height[0]};
}

/// Of "1,8,16". Throws UsageError.
std::vector<int64_t> parse_batches(const std::string& text) {
  constexpr int64_t kLargest = 1024;
  std::vector<int64_t> batches;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    int64_t size = 0;
    const char* end = part.data() + part.size();
    const auto [parsed, error] = std::from_chars(part.data(), end, size);
    require_usage(error == std::errc() && parsed == end && size >= 1 && size <= kLargest,
                  "--batches: \"{}\" is no batch size from 1 to {}", part, kLargest);
    batches.push_back(size);
  }
  return batches;
}

/// Memory of this process that is resident now.
double memory_mib() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  file >> total >> resident;
  constexpr double kMiB = 1024 * 1024;
  return static_cast<double>(resident * ::sysconf(_SC_PAGESIZE)) / kMiB;
}

double peak_memory_mib() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

/// Time of each layer, what it computes, and how near that comes to what the machine can.
std::string layer_table(const ModelBundle& bundle, const torch::Tensor& input, int64_t runs) {
  const CpuEngine cpu(networks_of(bundle), bundle.image_hw);
  const torch::Tensor image = network_input(input, bundle.equalize_exposure);
  const std::vector<LayerTime> layers = cpu.time_layers(image, runs);
  const double peak = cpu.peak_multiplications();
  constexpr double kGiga = 1e9;
  std::string table = fmt::format(
      "one image, medians of {} runs; matrix product in the first cache: {:.0f} G "
      "multiply-adds/s, {}\n\n"
      "| layers | ms | G multiply-adds, direct | computed | computed, G/s | of the peak |\n"
      "|---|---|---|---|---|---|\n",
      runs, peak / kGiga, cpu.instruction_set());
  LayerTime all = {.name = "all"};
  const auto add_row = [&](const LayerTime& layer) {
    const double rate = layer.multiplications / (layer.milliseconds / 1000);
    table += fmt::format("| {} | {:.2f} | {:.2f} | {:.2f} | {:.0f} | {:.0f} % |\n", layer.name,
                         layer.milliseconds, layer.direct_multiplications / kGiga,
                         layer.multiplications / kGiga, rate / kGiga, 100 * rate / peak);
  };
  for (const auto& layer : layers) {
    add_row(layer);
    all.milliseconds += layer.milliseconds;
    all.direct_multiplications += layer.direct_multiplications;
    all.multiplications += layer.multiplications;
  }
  add_row(all);
  return table;
}

/// Mean power that a GPU takes from the object's making on.
class PowerMeter {
 public:
  explicit PowerMeter(torch::Device device) : device_(device), before_(gpu_usage(device)) {}

  /// Watts; nothing where they are not told, or in too short a time: the counter moves some ten
  /// times a second.
  std::optional<double> watts() const {
    constexpr double kLeastSeconds = 1.5;
    const double seconds = ms_since(start_) / 1000;
    const auto now = gpu_usage(device_);
    if (!before_ || !now || !before_->joules || !now->joules || seconds < kLeastSeconds) {
      return std::nullopt;
    }
    return (*now->joules - *before_->joules) / seconds;
  }

 private:
  torch::Device device_;
  Clock::time_point start_ = Clock::now();
  std::optional<GpuUsage> before_;
};

struct Throughput {
  double images_per_second = 0;
  std::optional<double> watts;
};

/// From images in memory to their maps in memory: `callers` threads ask for batches of `batch`,
/// each as soon as it has the one before.
Throughput measure_throughput(const Detector& detector, torch::Device device,
                              const torch::Tensor& image_u8, int64_t batch, int64_t callers) {
  constexpr int64_t kBefore = 4;
  constexpr double kSeconds = 2.0;
  const torch::Tensor images = image_u8.repeat({batch, 1, 1, 1});
  std::vector<std::future<void>> threads;
  std::atomic<int64_t> done = 0;
  std::barrier all_ready(callers + 1);
  std::atomic<bool> stop = false;
  for (int64_t i = 0; i < callers; ++i) {
    threads.push_back(std::async(std::launch::async, [&] {
      std::exception_ptr problem;
      try {
        for (int64_t k = 0; k < kBefore; ++k) detector.maps_of_bytes(images);
      } catch (...) {
        problem = std::current_exception();
      }
      all_ready.arrive_and_wait();
      if (problem) std::rethrow_exception(problem);
      while (!stop) {
        detector.maps_of_bytes(images);
        done += batch;
      }
    }));
  }
  all_ready.arrive_and_wait();
  const auto start = Clock::now();
  const PowerMeter meter(device);
  while (ms_since(start) < 1000 * kSeconds && !interrupt_requested()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  const auto images_done = static_cast<double>(done);
  const double seconds = ms_since(start) / 1000;
  const std::optional<double> watts = meter.watts();
  stop = true;
  for (auto& thread : threads) thread.get();
  if (interrupt_requested()) throw Interrupted("interrupted");
  return {.images_per_second = images_done / seconds, .watts = watts};
}

/// Time of each operation of a batch on the GPU, and what its convolutions compute.
std::string gpu_layer_table(const ModelBundle& bundle, const Detector& detector,
                            const torch::Tensor& images_u8, int64_t runs) {
  const CudaEngine* const engine = detector.cuda_engine();
  constexpr double kGiga = 1e9;
  std::string table = fmt::format(
      "a batch of {} of model size {}, medians of {} runs, one operation at a time\n\n"
      "| operation | ms | G multiply-adds | TFLOP/s |\n|---|---|---|---|\n",
      images_u8.size(0), bundle.model_size, runs);
  LayerTime all = {.name = "all"};
  const auto add_row = [&](const LayerTime& layer) {
    table += fmt::format("| {} | {:.4f} | {:.2f} | {:.0f} |\n", layer.name, layer.milliseconds,
                         layer.multiplications / kGiga,
                         2 * layer.multiplications / kGiga / layer.milliseconds);
  };
  for (const auto& layer : engine->time_layers(images_u8, runs)) {
    add_row(layer);
    all.milliseconds += layer.milliseconds;
    all.multiplications += layer.multiplications;
  }
  add_row(all);
  return table;
}

/// What is measured of a model.
struct Figures {
  std::string engine;
  std::string precision;
  std::string device;
  std::string model_size;
  /// Of the networks, and of the image file.
  std::array<int64_t, 2> input_hw{};
  std::array<int64_t, 2> image_hw{};
  double first_result_ms = 0;
  /// Of a batch, sorted.
  std::vector<double> latency{};
  double decode_ms = 0;
  double resize_ms = 0;
  double finish_ms = 0;
  double image_to_score_ms = 0;
  double score = 0;
  double program_mib = 0;
  double steady_mib = 0;
  double peak_mib = 0;
  std::optional<GpuUsage> gpu{};
  std::optional<double> watts{};
  std::vector<CudaEngine::OrderTime> orders{};
  /// An object a batch size.
  nlohmann::ordered_json throughput = nlohmann::ordered_json::array();
  std::string layers{};

  double latency_mean() const {
    return std::accumulate(latency.begin(), latency.end(), 0.0) /
           static_cast<double>(latency.size());
  }
  double images_per_second(int64_t batch) const {
    constexpr double kMsPerSecond = 1000;
    return kMsPerSecond * static_cast<double>(batch) / median(latency);
  }
};

/// All but what is known before.
void measure(const BenchOptions& options, const Detector& detector, torch::Device device,
             const std::vector<int64_t>& batches, Figures& figures) {
  std::unique_ptr<TemporaryImage> temporary;
  fs::path path = options.image;
  if (options.image.empty()) {
    constexpr int64_t kSide = 1024;
    temporary = std::make_unique<TemporaryImage>(dead_leaves_image(kSide, /*seed=*/0, /*index=*/0));
    path = temporary->path();
  }
  torch::Tensor image_u8;
  figures.decode_ms = median(time_runs(1, 10, [&] { image_u8 = read_image(path); }));
  figures.image_hw = {image_u8.size(0), image_u8.size(1)};
  torch::Tensor input_u8;
  figures.resize_ms = median(time_runs(
      1, 10, [&] { input_u8 = resize_pil_bilinear(image_u8, figures.input_hw).unsqueeze(0); }));
  const torch::Tensor batch = input_u8.repeat({options.batch, 1, 1, 1});
  torch::Tensor maps;
  const auto run = [&] { maps = detector.maps_of_bytes(batch); };
  time_runs(options.warmup, 0, run);
  const PowerMeter meter(device);
  figures.latency = time_runs(0, options.runs, run);
  figures.watts = meter.watts();
  figures.steady_mib = memory_mib();
  figures.finish_ms = median(time_runs(1, 10, [&] { detector.finish(maps[0], figures.image_hw); }));

  if (options.layers) {
    figures.layers =
        figures.engine == "cuda"
            ? gpu_layer_table(detector.bundle(), detector, batch, options.runs)
            : layer_table(detector.bundle(), to_float_chw(input_u8[0]).unsqueeze(0), options.runs);
  }
  if (options.throughput) {
    for (const int64_t size : batches) {
      const Throughput measured =
          measure_throughput(detector, device, input_u8, size, options.callers);
      figures.throughput.push_back(
          {{"batch", size}, {"images_per_second", measured.images_per_second}});
      if (measured.watts) figures.throughput.back()["watts"] = *measured.watts;
      spdlog::info("batch {}: {:.0f} images/s", size, measured.images_per_second);
    }
  }
  figures.peak_mib = peak_memory_mib();
  figures.gpu = gpu_usage(device);
  // Last, as on a GPU it takes memory of its own.
  constexpr int64_t kMostRuns = 10;
  figures.image_to_score_ms = median(time_runs(1, std::min(options.runs, kMostRuns), [&] {
    figures.score = score_image(detector, image_u8, /*want_map=*/false).score;
  }));
  if (figures.engine == "cuda" && options.shift_average == 1) {
    figures.orders = detector.cuda_engine()->order_times(options.batch);
  }
}

nlohmann::ordered_json to_json(const Figures& figures, const BenchOptions& options) {
  nlohmann::ordered_json json = {{"engine", figures.engine},
                                 {"precision", figures.precision},
                                 {"device", figures.device},
                                 {"model_size", figures.model_size},
                                 {"image_hw", figures.input_hw},
                                 {"batch", options.batch},
                                 {"shift_average", options.shift_average},
                                 {"runs", options.runs},
                                 {"latency_ms_median", median(figures.latency)},
                                 {"latency_ms_mean", figures.latency_mean()},
                                 {"latency_ms_p95", at_share(figures.latency, 0.95)},
                                 {"latency_ms_p99", at_share(figures.latency, 0.99)},
                                 {"latency_ms_min", figures.latency.front()},
                                 {"images_per_second", figures.images_per_second(options.batch)},
                                 {"decode_ms", figures.decode_ms},
                                 {"resize_ms", figures.resize_ms},
                                 {"finish_ms", figures.finish_ms},
                                 {"image_to_score_ms", figures.image_to_score_ms},
                                 {"first_result_ms", figures.first_result_ms},
                                 {"program_memory_mib", figures.program_mib},
                                 {"steady_memory_mib", figures.steady_mib},
                                 {"peak_memory_mib", figures.peak_mib},
                                 {"score", figures.score}};
  for (const auto& [order, milliseconds, used] : figures.orders) {
    json["orders_ms"][order] = milliseconds;
    if (used) json["order"] = order;
  }
  if (figures.gpu) json["gpu_peak_memory_mib"] = figures.gpu->peak_memory_mib;
  if (figures.watts) json["watts"] = *figures.watts;
  if (options.throughput) {
    json["callers"] = options.callers;
    json["throughput"] = figures.throughput;
  }
  return json;
}

void print(const Figures& figures, const BenchOptions& options) {
  fmt::print(
      "engine {} in {} on {}, {}, {}x{} px, batch {}\n"
      "  networks and maps   {:9.3f} ms median, {:.3f} mean, {:.3f} p95, {:.3f} p99, {:.3f} least, "
      "of {} runs\n"
      "                      {:9.1f} images/s\n"
      "  decode an image     {:9.2f} ms ({}x{})\n"
      "  resize it           {:9.2f} ms\n"
      "  map to image, score {:9.2f} ms\n"
      "  decoded to score    {:9.2f} ms, one image\n"
      "  first result after  {:9.0f} ms (file, engine, one image)\n"
      "  memory              {:9.0f} MiB while it runs, {:.0f} of them the program and LibTorch; "
      "{:.0f} at most\n",
      figures.engine, figures.precision, figures.device, figures.model_size, figures.input_hw[1],
      figures.input_hw[0], options.batch, median(figures.latency), figures.latency_mean(),
      at_share(figures.latency, 0.95), at_share(figures.latency, 0.99), figures.latency.front(),
      options.runs, figures.images_per_second(options.batch), figures.decode_ms,
      figures.image_hw[1], figures.image_hw[0], figures.resize_ms, figures.finish_ms,
      figures.image_to_score_ms, figures.first_result_ms, figures.steady_mib, figures.program_mib,
      figures.peak_mib);
  if (figures.gpu) {
    fmt::print("  GPU                 {:9.0f} MiB at most{}\n", figures.gpu->peak_memory_mib,
               figures.watts ? fmt::format(", {:.0f} W while it ran", *figures.watts) : "");
  }
  for (const auto& [order, milliseconds, used] : figures.orders) {
    fmt::print("  {}{:9.3f} ms {}\n", used ? "order of networks   " : "other order         ",
               milliseconds, order);
  }
  for (const auto& row : figures.throughput) {
    fmt::print("  batch {:4}          {:9.1f} images/s from memory, {} callers{}\n",
               row["batch"].get<int64_t>(), row["images_per_second"].get<double>(), options.callers,
               row.contains("watts") ? fmt::format(", {:.0f} W", row["watts"].get<double>()) : "");
  }
  if (!figures.layers.empty()) fmt::print("\n{}", figures.layers);
}

}  // namespace

int bench(const Arguments& arguments) {
  const auto start = Clock::now();
  Figures figures;
  figures.program_mib = memory_mib();
  BenchOptions options;
  const CommonFlags common = parse_options(
      arguments,
      "Time a model: the networks and maps of a batch (latency), and apart from them the decoding "
      "and resizing of an image file and the resizing of its map. Times are in milliseconds of a "
      "batch, or of an image where they do not depend on the batch.",
      options);
  const InterruptGuard guard;
  set_threads(options.threads);
  const torch::Device device = select_device(options.device);
  figures.engine = resolve_engine(options.engine, device);
  require_usage(!options.layers || figures.engine != "reference",
                "--layers: engine {} has no layers to time; use --engine cpu or cuda",
                figures.engine);
  const BenchOptions defaults;
  require_usage(options.throughput ||
                    (options.batches == defaults.batches && options.callers == defaults.callers),
                "batches and callers are for --throughput, which is not given");
  const std::vector<int64_t> batches = parse_batches(options.batches);
  require(options.image.empty() || fs::exists(options.image), "{}: no such file", options.image);
  std::optional<std::array<int64_t, 2>> size_hw;
  if (!options.size.empty()) size_hw = parse_size(options.size);
  ModelBundle bundle = load_bundle(options.model);
  if (size_hw) bundle.image_hw = *size_hw;
  figures.model_size = bundle.model_size;
  figures.input_hw = bundle.image_hw;
  figures.precision = resolve_engine_precision(options.precision, figures.engine);
  const Detector detector(std::move(bundle), device, figures.engine, figures.precision,
                          options.shift_average);
  const auto [height, width] = figures.input_hw;
  detector.maps_of_bytes(torch::zeros({1, height, width, 3}, torch::kUInt8));
  figures.first_result_ms = ms_since(start);
  figures.device = describe_device(device);
  spdlog::info("time {} with engine {}, on {}", options.model, figures.engine, figures.device);
  measure(options, detector, device, batches, figures);
  if (common.json) {
    fmt::print("{}\n", dump_json(to_json(figures, options)));
  } else {
    print(figures, options);
  }
  return 0;
}

}  // namespace efficientad::cli
