#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "efficientad/data/dataset.h"
#include "efficientad/eval/evaluate.h"

namespace efficientad {

struct HtmlReportSettings {
  /// The training's train_log.csv; the page says so if it is not there. Empty: there was no
  /// training of ours.
  std::filesystem::path train_log = {};
  /// Threads that read images and maps and make their thumbnails, in the background.
  int threads = 1;
  /// Called as thumbnails are made: images done, and all.
  std::function<void(int64_t done, int64_t total)> progress = {};
};

/// The gallery shows so many images, those that the model was most wrong about.
inline constexpr size_t kMostGalleryImages = 5000;
/// Bytes of all thumbnails in the page; with everything else, 2,000 images stay below 25 MB.
inline constexpr int64_t kThumbnailBytes = 20'000'000;

/// The evaluation as one HTML page that needs no other file and no network: summary, a table of the
/// kinds of defect, curves, a gallery of the test images with their maps and masks, the training's
/// losses, options and provenance. `report` is make_report() of this evaluation. Images, masks and
/// maps are read again; one that cannot be read is shown with the reason instead of its pictures.
/// Throws Interrupted if the user asks to stop.
std::string html_report(const Evaluation& evaluation, const Dataset& dataset,
                        const nlohmann::ordered_json& report, const HtmlReportSettings& settings);

/// A page with the main figures of several reports by category and a link to each one's page:
/// `pages` has their paths relative to this page, for those that have one.
std::string html_index(const nlohmann::ordered_json& reports,
                       const std::map<std::string, std::filesystem::path>& pages);

/// An image's place in the order of by_wrongness().
struct RankedImage {
  /// Index in Evaluation::images.
  size_t image = 0;
  /// Share of the images of the other kind that it is on the wrong side of: of a good image the
  /// anomalous ones that score lower, of an anomalous one the good ones that score higher; ties
  /// count one half. Their mean over either kind is 1 - AUROC. Empty if there are no others.
  std::optional<double> outranked;
};

/// The images from the most wrong to the most right: wrong decisions first (if there is a
/// threshold), then by `outranked`, then by the distance to the threshold.
std::vector<RankedImage> by_wrongness(const Evaluation& evaluation,
                                      std::optional<double> threshold);

}  // namespace efficientad
