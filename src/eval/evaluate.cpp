#include "efficientad/eval/evaluate.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "efficientad/core/error.h"
#include "efficientad/core/file.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/random.h"
#include "efficientad/data/image.h"
#include "efficientad/data/loader.h"
#include "efficientad/data/resize.h"
#include "efficientad/eval/regions.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

void stop_if_interrupted() {
  if (interrupt_requested()) throw Interrupted("interrupted; the evaluation is not complete");
}

void require_mask_size(const fs::path& mask, std::array<int64_t, 2> mask_hw, const fs::path& image,
                       std::array<int64_t, 2> image_hw) {
  require(mask_hw == image_hw, "{} is {}x{}, but its image {} is {}x{}", mask.string(), mask_hw[1],
          mask_hw[0], image.string(), image_hw[1], image_hw[0]);
}

/// An image as the networks want it, and its own size.
struct LoadedImage {
  torch::Tensor input;
  std::array<int64_t, 2> size_hw;
};

/// Limits of the false-positive rate, as the reports of MVTec's scripts name them.
using Limits = std::vector<std::pair<const char*, double>>;
const Limits kProLimits = {{"0.3", 0.3}, {"0.05", 0.05}, {"1.0", 1.0}};
const Limits kSproLimits = {
    {"0.01", 0.01}, {"0.05", 0.05}, {"0.1", 0.1}, {"0.3", 0.3}, {"1.0", 1.0}};

/// Which overlaps an image's pixels count for.
enum class Regions { kNone, kComponents, kDefects };

/// An image's map and the union of its masks, uint8, not zero where defective.
struct LoadedMap {
  torch::Tensor map;
  torch::Tensor defective;
  Overlap overlap;
};

LoadedMap load_map(const EvaluatedImage& image, Regions regions,
                   const std::vector<SaturationRule>& rules) {
  LoadedMap loaded;
  loaded.map = read_tiff(image.map_path).contiguous();
  const std::array<int64_t, 2> map_hw = {loaded.map.size(0), loaded.map.size(1)};
  std::vector<torch::Tensor> masks;
  for (const auto& path : image.sample.mask_paths) {
    masks.push_back(read_mask(path).contiguous());
    require_mask_size(path, {masks.back().size(0), masks.back().size(1)}, image.sample.image_path,
                      map_hw);
  }
  if (masks.empty()) {
    loaded.defective = torch::zeros({map_hw[0], map_hw[1]}, torch::kUInt8);
    return loaded;
  }
  loaded.defective = masks[0];
  if (masks.size() > 1) loaded.defective = masks[0].clone();
  for (size_t m = 1; m < masks.size(); ++m) {
    auto* to = loaded.defective.data_ptr<uint8_t>();
    const auto* from = masks[m].data_ptr<uint8_t>();
    for (int64_t i = 0; i < masks[m].numel(); ++i) to[i] |= from[i];
  }
  if (regions == Regions::kComponents) loaded.overlap = pro_overlap(loaded.defective);
  if (regions == Regions::kDefects) {
    loaded.overlap = spro_overlap(masks, loaded.map, rules, image.sample.mask_paths);
  }
  return loaded;
}

/// Image AUROC by one map's score; empty where an image has none.
std::optional<double> auroc_of_branch(const Evaluation& evaluation,
                                      std::optional<double> EvaluatedImage::*score) {
  std::vector<Scored> items;
  for (const auto& image : evaluation.images) {
    const auto& value = image.*score;
    if (!value) return std::nullopt;
    items.push_back({*value, image.sample.anomalous()});
  }
  return ranking_metrics(std::move(items)).auroc;
}

/// Mean of the figures that are defined; empty without any.
std::optional<double> mean_of(const std::map<std::string, std::optional<double>>& figures) {
  double sum = 0;
  int64_t defined = 0;
  for (const auto& [name, figure] : figures) {
    sum += figure.value_or(0);
    defined += figure ? 1 : 0;
  }
  if (defined == 0) return std::nullopt;
  return sum / static_cast<double>(defined);
}

/// The map with numbers from -1e-6 to 0, by chance, instead of its zeros, which a map with a border
/// has many of: MVTec LOCO's evaluation script takes thresholds at equal ranks of all pixels, and
/// stops where two are the same. AU-PRO stays what equal zeros give; AU-sPRO beyond the
/// false-positive rate at which zeros are reached (some 0.1) grows by a point or two, because a
/// defect under the border is complete before all of it is found. The first zero stays, so that no
/// maximum changes.
torch::Tensor without_equal_zeros(const torch::Tensor& map, int64_t image) {
  constexpr uint64_t kStream = 1;
  constexpr double kLeast = -1e-6;
  Rng rng(0, kStream, static_cast<uint64_t>(image));
  torch::Tensor result = map.clone().contiguous();
  auto* values = result.data_ptr<float>();
  bool first = true;
  for (int64_t i = 0; i < result.numel(); ++i) {
    if (values[i] != 0) continue;
    if (!first) values[i] = static_cast<float>(rng.uniform(kLeast, 0));
    first = false;
  }
  return result;
}

/// What must fit before anything is computed.
void check_masks(const Dataset& dataset) {
  check_mask_sizes(dataset);
  saturation_rules_of(dataset);
}

/// A folder of results that are not complete; deleted if they do not become so.
class Staging {
 public:
  explicit Staging(fs::path folder) : folder_(std::move(folder)) {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
    made_parent_ = !fs::exists(folder_.parent_path(), ignored);
    make_folder(folder_);
  }
  ~Staging() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
    if (made_parent_) fs::remove(folder_.parent_path(), ignored);  // If nothing else lies there.
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  const fs::path& folder() const { return folder_; }

  /// Puts it in the place of `target`.
  void replace(const fs::path& target) const {
    std::error_code error;
    make_folder(target.parent_path());
    fs::remove_all(target, error);
    fs::rename(folder_, target, error);
    require(!error, "{}: cannot be written: {}", target.string(), error.message());
  }

 private:
  fs::path folder_;
  bool made_parent_ = false;
};

}  // namespace

fs::path anomaly_map_path(const fs::path& category_folder, const Sample& sample) {
  return category_folder / "test" / sample.defect / (sample.id + ".tiff");
}

void check_mask_sizes(const Dataset& dataset) {
  for (const auto& sample : dataset.test) {
    if (sample.mask_paths.empty()) continue;
    const auto image_hw = read_image_size(sample.image_path);
    for (const auto& mask : sample.mask_paths) {
      require_mask_size(mask, read_image_size(mask), sample.image_path, image_hw);
    }
  }
}

Evaluation evaluate(const Detector& detector, const Dataset& dataset,
                    const EvaluateSettings& settings) {
  require(!dataset.test.empty(), "{}: there are no test images to evaluate on",
          dataset.root.string());
  require_usage(settings.batch_size > 0, "batch_size is {}, but must be positive",
                settings.batch_size);
  check_masks(dataset);
  // Beside the maps of an earlier evaluation, which stay until all of these are there.
  const fs::path maps = settings.output / "anomaly_maps" / dataset.category;
  // A link stays one, whether to all maps or to a category's.
  const fs::path place = fs::weakly_canonical(maps);
  const std::string& name = dataset.category;
  const Staging staging(place.parent_path() / (".new_" + hex64(hash64(name.data(), name.size()))));

  const auto total = static_cast<int64_t>(dataset.test.size());
  const auto input_hw = detector.input_hw();
  Prefetcher<LoadedImage> loader(
      0, total,
      [&](int64_t i) {
        const auto image = read_image(dataset.test[static_cast<size_t>(i)].image_path);
        return LoadedImage{to_float_chw(resize_pil_bilinear(image, input_hw)),
                           {image.size(0), image.size(1)}};
      },
      settings.loader_threads, /*ahead=*/2 * settings.batch_size);

  Evaluation evaluation;
  for (int64_t first = 0; first < total; first += settings.batch_size) {
    stop_if_interrupted();
    std::vector<torch::Tensor> inputs;
    std::vector<std::array<int64_t, 2>> sizes;
    for (int64_t i = first; i < std::min(total, first + settings.batch_size); ++i) {
      auto loaded = loader.next().value();
      inputs.push_back(std::move(loaded.input));
      sizes.push_back(loaded.size_hw);
    }
    const DetectorMaps batch = detector.all_maps(torch::stack(inputs));
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Sample& sample = dataset.test[static_cast<size_t>(first) + i];
      const auto at = static_cast<int64_t>(i);
      const Detection detection = detector.finish(batch.combined[at], sizes[i]);
      require(
          torch::isfinite(detection.map_at_image).all().item<bool>(),
          "{}: the model gives a map with NaN or infinity; its weights or statistics are damaged",
          sample.image_path.string());
      const fs::path path = anomaly_map_path(staging.folder(), sample);
      write_tiff(path, dataset.layout == "loco"
                           ? without_equal_zeros(detection.map_at_image, first + at)
                           : detection.map_at_image);
      evaluation.images.push_back({.sample = sample,
                                   .map_path = path,
                                   .score = detection.score,
                                   .score_st = detector.finish(batch.st[at], sizes[i]).score,
                                   .score_ae = detector.finish(batch.ae[at], sizes[i]).score,
                                   .called_anomalous = detection.anomalous,
                                   .normal_share = detection.normal_share});
    }
    if (settings.progress) {
      settings.progress(static_cast<int64_t>(evaluation.images.size()), total);
    }
  }
  evaluate_scores(evaluation);
  evaluate_pixels(evaluation, dataset, settings.loader_threads);
  if (settings.before_replacing) settings.before_replacing();
  staging.replace(place);
  for (auto& image : evaluation.images) image.map_path = anomaly_map_path(maps, image.sample);
  return evaluation;
}

Evaluation evaluate_maps(const fs::path& maps, const Dataset& dataset,
                         const EvaluateSettings& settings) {
  require(!dataset.test.empty(), "{}: there are no test images to evaluate on",
          dataset.root.string());
  require(fs::is_directory(maps), "{}: there is no such folder", maps.string());
  check_masks(dataset);
  Evaluation evaluation;
  for (const auto& sample : dataset.test) {
    // Filed under the kind, or under the name of the image's folder.
    Sample by_folder = sample;
    by_folder.defect = sample.image_path.parent_path().filename().string();
    fs::path found;
    for (const auto& folder : {maps / dataset.category, maps}) {
      for (const fs::path& path :
           {anomaly_map_path(folder, sample), anomaly_map_path(folder, by_folder)}) {
        if (found.empty() && fs::is_regular_file(path)) found = path;
      }
    }
    const fs::path folder =
        fs::is_directory(maps / dataset.category) ? maps / dataset.category : maps;
    require(!found.empty(), "{} has no anomaly map; expected {}", sample.image_path.string(),
            anomaly_map_path(folder, sample).string());
    evaluation.images.push_back({.sample = sample, .map_path = found});
  }
  const auto total = static_cast<int64_t>(evaluation.images.size());
  Prefetcher<double> scores(
      0, total,
      [&](int64_t i) {
        const EvaluatedImage& image = evaluation.images[static_cast<size_t>(i)];
        const torch::Tensor map = read_tiff(image.map_path).contiguous();
        const auto [height, width] = read_image_size(image.sample.image_path);
        require(map.size(0) == height && map.size(1) == width,
                "{} is {}x{}, but its image {} is {}x{}", image.map_path.string(), map.size(1),
                map.size(0), image.sample.image_path.string(), width, height);
        const auto* values = map.data_ptr<float>();
        float most = values[0];
        for (int64_t k = 0; k < map.numel(); ++k) {
          require(std::isfinite(values[k]), "{}: holds NaN or infinity", image.map_path.string());
          most = std::max(most, values[k]);
        }
        return static_cast<double>(most);
      },
      settings.loader_threads);
  for (int64_t i = 0; i < total; ++i) {
    evaluation.images[static_cast<size_t>(i)].score = scores.next().value();
    stop_if_interrupted();
    if (settings.progress) settings.progress(i + 1, total);
  }
  evaluate_scores(evaluation);
  evaluate_pixels(evaluation, dataset, settings.loader_threads);
  if (settings.before_replacing) settings.before_replacing();
  return evaluation;
}

void evaluate_scores(Evaluation& evaluation) {
  evaluation.auroc_st = auroc_of_branch(evaluation, &EvaluatedImage::score_st);
  evaluation.auroc_ae = auroc_of_branch(evaluation, &EvaluatedImage::score_ae);
  std::vector<Scored> all;
  std::map<std::string, std::vector<Scored>> by_defect;
  for (const auto& image : evaluation.images) {
    all.push_back({image.score, image.sample.anomalous()});
    if (image.sample.anomalous()) by_defect[image.sample.defect].push_back(all.back());
  }
  evaluation.image_metrics = ranking_metrics(all);
  evaluation.auroc_by_defect.clear();
  evaluation.loco_auroc_by_defect.clear();
  for (auto& [defect, items] : by_defect) {
    for (const auto& item : all) {
      if (!item.positive) items.push_back(item);
    }
    evaluation.auroc_by_defect[defect] = ranking_metrics(items).auroc;
    evaluation.loco_auroc_by_defect[defect] = auroc_of_loco_script(items);
  }
  evaluation.auroc_by_defect_mean = mean_of(evaluation.auroc_by_defect);
  evaluation.loco_auroc_by_defect_mean = mean_of(evaluation.loco_auroc_by_defect);
}

void evaluate_pixels(Evaluation& evaluation, const Dataset& dataset, int loader_threads) {
  evaluation.pixel_metrics = {};
  evaluation.no_pixel_metrics.clear();
  evaluation.au_pro.clear();
  evaluation.au_spro.clear();
  evaluation.aupimo.reset();
  evaluation.pro_curve.clear();
  evaluation.spro_curves.clear();
  int64_t anomalous = 0;
  int64_t masked = 0;
  for (const auto& image : evaluation.images) {
    anomalous += image.sample.anomalous() ? 1 : 0;
    masked += image.sample.mask_paths.empty() ? 0 : 1;
  }
  if (anomalous == 0) {
    evaluation.no_pixel_metrics = "there are no anomalous test images";
  } else if (masked == 0) {
    evaluation.no_pixel_metrics = "the data set has no masks";
  } else if (masked < anomalous) {
    evaluation.no_pixel_metrics =
        fmt::format("{} of {} anomalous images have no mask", anomalous - masked, anomalous);
  }
  if (!evaluation.no_pixel_metrics.empty()) return;

  std::vector<SaturationRule> rules;
  const auto source_of = [&](Regions regions, const std::string& kind) -> PixelSource {
    std::vector<const EvaluatedImage*> images;
    for (const auto& image : evaluation.images) {
      if (kind.empty() || !image.sample.anomalous() || image.sample.defect == kind) {
        images.push_back(&image);
      }
    }
    return [images, regions, &rules, loader_threads](const PixelVisitor& visit) {
      Prefetcher<LoadedMap> loader(
          0, static_cast<int64_t>(images.size()),
          [&](int64_t i) { return load_map(*images[static_cast<size_t>(i)], regions, rules); },
          loader_threads, /*ahead=*/4);
      while (const auto loaded = loader.next()) {
        stop_if_interrupted();
        const torch::Tensor& overlap = loaded->overlap.per_pixel;
        visit({.scores = loaded->map.data_ptr<float>(),
               .defective = loaded->defective.data_ptr<uint8_t>(),
               .count = loaded->map.numel(),
               .overlap = overlap.defined() ? overlap.data_ptr<float>() : nullptr,
               .regions = loaded->overlap.regions});
      }
    };
  };
  /// The areas of a set's overlaps, by their limits' names.
  const auto areas = [](const PixelMetrics& metrics, const Limits& limits) {
    std::map<std::string, std::optional<double>> named;
    for (size_t i = 0; i < limits.size(); ++i) {
      auto& area = named[limits[i].first];
      if (i < metrics.overlap_areas.size()) area = metrics.overlap_areas[i];
    }
    return named;
  };
  const auto numbers = [](const Limits& limits) {
    std::vector<double> values;
    for (const auto& [name, value] : limits) values.push_back(value);
    return values;
  };
  const PixelMetrics metrics =
      pixel_metrics(source_of(Regions::kComponents, ""), numbers(kProLimits));
  evaluation.pixel_metrics = metrics;
  evaluation.au_pro = areas(metrics, kProLimits);
  evaluation.pro_curve = metrics.overlap_curve;
  evaluation.aupimo =
      aupimo(source_of(Regions::kNone, ""), static_cast<int64_t>(evaluation.images.size()));
  if (const auto of_dataset = saturation_rules_of(dataset)) {
    rules = *of_dataset;
    std::map<std::string, std::map<std::string, std::optional<double>>> by_limit;
    for (const auto& [kind, unused] : evaluation.auroc_by_defect) {
      const PixelMetrics of_kind =
          pixel_metrics(source_of(Regions::kDefects, kind), numbers(kSproLimits));
      const auto named = areas(of_kind, kSproLimits);
      evaluation.au_spro[kind] = named;
      evaluation.spro_curves[kind] = of_kind.overlap_curve;
      for (const auto& [limit, area] : named) by_limit[limit][kind] = area;
    }
    for (const auto& [limit, of_kinds] : by_limit) {
      evaluation.au_spro["mean"][limit] = mean_of(of_kinds);
    }
  }
  if (evaluation.pixel_metrics.positives == 0) {
    evaluation.no_pixel_metrics = "all masks are empty";
  } else if (evaluation.pixel_metrics.negatives == 0) {
    evaluation.no_pixel_metrics = "the masks cover all pixels";
  }
}

}  // namespace efficientad
