#include "efficientad/data/synth.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/json.h"
#include "efficientad/data/image.h"
#include "tray.h"

namespace efficientad {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCategory = "tray";
constexpr const char* kRecordName = "synth.json";
/// Of the record's keys; raised when the same options give other pictures.
constexpr int kFormatVersion = 1;

struct Kind {
  TrayDefect defect;
  const char* name;
  /// The masks' value in the defect.
  int pixel_value;
  /// The share of the mask that counts as all of it (the sPRO metric): a half where the mask marks
  /// two places, either of which shows the defect.
  double saturation;
};

constexpr std::array<Kind, 5> kStructural = {{{TrayDefect::kScratch, "scratch", 255, 1.0},
                                              {TrayDefect::kCrack, "crack", 254, 1.0},
                                              {TrayDefect::kStain, "stain", 253, 1.0},
                                              {TrayDefect::kDent, "dent", 252, 1.0},
                                              {TrayDefect::kBreak, "break", 251, 1.0}}};
constexpr std::array<Kind, 4> kLogical = {{{TrayDefect::kMissing, "missing", 250, 1.0},
                                           {TrayDefect::kExtra, "extra", 249, 1.0},
                                           {TrayDefect::kMisplaced, "misplaced", 248, 0.5},
                                           {TrayDefect::kWrongPart, "wrong_part", 247, 0.5}}};

/// One image to make.
struct Job {
  fs::path image_path;
  /// Empty for a good tray.
  fs::path mask_path;
  Kind kind;
  uint64_t stream;
  uint64_t index;
};

template <size_t count>
void add_jobs(std::vector<Job>& jobs, const fs::path& category, const std::string& split,
              const std::string& folder, uint64_t stream, int64_t images,
              const std::array<Kind, count>& kinds) {
  for (int64_t i = 0; i < images; ++i) {
    const std::string id = fmt::format("{:03}", i);
    Job job{.image_path = category / split / folder / (id + ".png"),
            .mask_path = {},
            .kind = kinds[static_cast<size_t>(i) % count],
            .stream = stream,
            .index = static_cast<uint64_t>(i)};
    if (job.kind.defect != TrayDefect::kNone) {
      job.mask_path = category / "ground_truth" / folder / id / "000.png";
    }
    jobs.push_back(std::move(job));
  }
}

std::vector<Job> plan(const fs::path& category, int64_t images) {
  constexpr std::array<Kind, 1> kGood = {{{TrayDefect::kNone, "good", 0, 0.0}}};
  const int64_t train = images * 55 / 100;
  const int64_t validation = images / 10;
  const int64_t test = images - train - validation;
  const int64_t third = test / 3;
  std::vector<Job> jobs;
  add_jobs(jobs, category, "train", "good", 1, train, kGood);
  add_jobs(jobs, category, "validation", "good", 2, validation, kGood);
  add_jobs(jobs, category, "test", "good", 3, test - 2 * third, kGood);
  add_jobs(jobs, category, "test", "logical_anomalies", 4, third, kLogical);
  add_jobs(jobs, category, "test", "structural_anomalies", 5, third, kStructural);
  return jobs;
}

nlohmann::ordered_json record_of(const SynthOptions& options) {
  nlohmann::ordered_json record;
  record["format_version"] = kFormatVersion;
  record["product"] = kCategory;
  record["images"] = options.images;
  record["size"] = options.size;
  record["seed"] = options.seed;
  return record;
}

nlohmann::ordered_json defects_config() {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  const auto add = [&](const Kind& kind) {
    list.push_back({{"defect_name", kind.name},
                    {"pixel_value", kind.pixel_value},
                    {"saturation_threshold", kind.saturation},
                    {"relative_saturation", true}});
  };
  for (const Kind& kind : kStructural) add(kind);
  for (const Kind& kind : kLogical) add(kind);
  return list;
}

/// Throws Error unless the folder is new, empty, or holds a set of these options.
void check_output(const fs::path& output, const nlohmann::ordered_json& record) {
  if (!fs::exists(output)) return;
  require(fs::is_directory(output), "{}: a folder to write the data set to was expected",
          output.string());
  const fs::path record_path = output / kRecordName;
  if (fs::exists(record_path)) {
    const nlohmann::json found = read_json(record_path);
    for (const auto& [key, value] : record.items()) {
      const std::string there =
          found.is_object() && found.contains(key) ? dump_json(found[key]) : "no";
      require(there == dump_json(value),
              "{} holds a data set made with {} = {}, but {} = {} is wanted; choose another folder",
              output.string(), key, there, key, dump_json(value));
    }
    return;
  }
  for (const auto& entry : fs::directory_iterator(output)) {
    const std::string name = entry.path().filename().string();
    require(name.starts_with('.'),
            "{} is not empty (it holds {}) and no data set made by this program; choose another "
            "folder",
            output.string(), name);
  }
}

void make_image(const Job& job, int64_t size, uint64_t seed) {
  const TrayPicture picture =
      render_tray(static_cast<int>(size), job.kind.defect, seed, job.stream, job.index);
  if (!job.mask_path.empty()) {
    torch::Tensor mask = torch::empty({size, size}, torch::kUInt8);
    std::transform(picture.mask.begin(), picture.mask.end(), mask.data_ptr<uint8_t>(),
                   [&](uint8_t inside) {
                     return static_cast<uint8_t>(inside != 0 ? job.kind.pixel_value : 0);
                   });
    write_image(job.mask_path, mask);
  }
  // The image comes last: where it exists, its mask does too.
  torch::Tensor image = torch::empty({size, size, 3}, torch::kUInt8);
  std::copy(picture.rgb.begin(), picture.rgb.end(), image.data_ptr<uint8_t>());
  write_image(job.image_path, image);
}

/// Runs `work` on each job on `threads` threads; `progress` is called by the calling thread. The
/// first exception stops all and is thrown again.
void run_jobs(const std::vector<Job>& jobs, int threads,
              const std::function<void(const Job&)>& work,
              const std::function<void(int64_t done)>& progress) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::condition_variable changed;
  int64_t done = 0;
  int running = threads;
  std::exception_ptr error;

  const auto run = [&] {
    for (;;) {
      const size_t index = next++;
      if (index >= jobs.size() || interrupt_requested()) break;
      try {
        work(jobs[index]);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next = jobs.size();
        break;
      }
      const std::lock_guard lock(mutex);
      ++done;
      changed.notify_one();
    }
    const std::lock_guard lock(mutex);
    --running;
    changed.notify_one();
  };

  std::vector<std::jthread> pool;
  for (int i = 0; i < threads; ++i) pool.emplace_back(run);
  std::unique_lock lock(mutex);
  int64_t reported = 0;
  while (running > 0 || reported < done) {
    changed.wait(lock, [&] { return reported < done || running == 0; });
    while (reported < done) {
      const int64_t now = ++reported;
      lock.unlock();
      try {
        if (progress) progress(now);
      } catch (...) {
        next = jobs.size();
        throw;
      }
      lock.lock();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace

void make_synth_dataset(const SynthOptions& options,
                        const std::function<void(int64_t done, int64_t total)>& progress,
                        int threads) {
  check_options(options);
  const fs::path output = options.output;
  const nlohmann::ordered_json record = record_of(options);
  check_output(output, record);

  // The record comes first, so that an unfinished set is known for what it is.
  const fs::path category = output / kCategory;
  make_folder(output);
  if (!fs::exists(output / kRecordName)) write_json(output / kRecordName, record);
  if (!fs::exists(category / "defects_config.json")) {
    write_json(category / "defects_config.json", defects_config());
  }
  std::vector<Job> jobs = plan(category, options.images);
  std::erase_if(jobs, [](const Job& job) { return fs::exists(job.image_path); });
  const int64_t before = options.images - static_cast<int64_t>(jobs.size());
  if (before > 0 && progress) progress(before, options.images);
  if (jobs.empty()) return;

  if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  threads = static_cast<int>(std::min<size_t>(static_cast<size_t>(threads), jobs.size()));
  int64_t made = 0;
  run_jobs(
      jobs, threads,
      [&](const Job& job) { make_image(job, options.size, static_cast<uint64_t>(options.seed)); },
      [&](int64_t done) {
        made = done;
        if (progress) progress(before + done, options.images);
      });
  if (made < static_cast<int64_t>(jobs.size())) {
    throw Interrupted(
        fmt::format("{}: {} of {} images are there; run the same command again for "
                    "the rest",
                    output.string(), before + made, options.images));
  }
}

}  // namespace efficientad
