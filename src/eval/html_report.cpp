#include "efficientad/eval/html_report.h"

#include <torch/types.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "efficientad/core/error.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/core/json.h"
#include "efficientad/core/median.h"
#include "efficientad/data/csv.h"
#include "efficientad/data/image.h"
#include "efficientad/data/loader.h"
#include "efficientad/eval/report.h"
#include "efficientad/eval/thumbnail.h"
#include "report_page.h"
#include "svg_chart.h"

namespace efficientad {

namespace fs = std::filesystem;

namespace {

using internal::Chart;
using internal::ChartLine;
using internal::escape_html;
using internal::svg_of;
using Json = nlohmann::ordered_json;

/// What {{name}} in a page's text stands for.
using Parts = std::map<std::string, std::string>;

/// The page with its parts; what is in a part is not looked at again.
std::string filled(std::string_view page, const Parts& parts) {
  std::string text;
  for (size_t at = 0;;) {
    const size_t open = page.find("{{", at);
    text += page.substr(at, open - at);
    if (open == std::string_view::npos) return text;
    const size_t close = page.find("}}", open);
    const std::string name(page.substr(open + 2, close - open - 2));
    TORCH_CHECK(parts.count(name) > 0, "the page has no part ", name);
    text += parts.at(name);
    at = close + 2;
  }
}

/// JSON inside a <script> element, which ends at the first "</script", even in a string.
std::string json_for_script(const Json& value) {
  std::string text;
  for (const char c : dump_json(value)) {
    if (c == '<' || c == '>' || c == '&') {
      text += fmt::format("\\u{:04x}", c);
    } else {
      text += c;
    }
  }
  return text;
}

std::string base64_of(const std::string& bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < count ? static_cast<uint8_t>(bytes[i + k]) : 0u);
    }
    for (size_t k = 0; k < 4; ++k) {
      text += k <= count ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return text;
}

/// Four digits behind the point, or a dash.
std::string figure(const Json& value) {
  return value.is_number() ? fmt::format("{:.4f}", value.get<double>()) : "–";
}

std::string percent(int64_t part, int64_t whole) {
  return whole == 0 ? "–"
                    : fmt::format("{:.1f}\u00a0%",
                                  100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

/// The value of a key, or null.
Json value_at(const Json& json, const char* pointer) {
  return json.value(nlohmann::json::json_pointer(pointer), Json());
}

std::optional<double> number_at(const Json& json, const char* pointer) {
  const Json value = value_at(json, pointer);
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}

/// Where outlines are, and what that is called.
struct Limit {
  double value;
  std::string name;
  bool decides;
};

/// The model's threshold; for maps of something else the one that gives the largest F1 on these
/// images.
std::optional<Limit> limit_of(const Json& report) {
  if (const auto threshold = number_at(report, "/threshold")) {
    return Limit{*threshold, "threshold", true};
  }
  if (const auto best = number_at(report, "/image_f1_max_threshold")) {
    return Limit{*best, "best threshold", false};
  }
  return std::nullopt;
}

// ---- pictures of the gallery ----

/// The median over the maps of their median: where the scale of another method's maps begins. Some
/// maps are enough.
double usual_value(const Evaluation& evaluation) {
  constexpr size_t kMaps = 50;
  const size_t count = evaluation.images.size();
  std::vector<float> medians;
  for (size_t i = 0; i < std::min(count, kMaps); ++i) {
    const auto& path = evaluation.images[i * count / std::min(count, kMaps)].map_path;
    try {
      const torch::Tensor map = read_tiff(path).contiguous();
      medians.push_back(
          median(std::vector<float>(map.data_ptr<float>(), map.data_ptr<float>() + map.numel())));
    } catch (const Error&) {
      continue;  // Its own card says so.
    }
  }
  return medians.empty() ? 0 : median(medians);
}

ThumbnailSettings thumbnail_settings(const Evaluation& evaluation, const Json& report,
                                     size_t images) {
  ThumbnailSettings settings;
  // Four characters of text hold three bytes.
  settings.max_bytes = kThumbnailBytes / 4 * 3 / std::max<int64_t>(1, static_cast<int64_t>(images));
  constexpr std::pair<int64_t, int64_t> kSides[] = {
      {20000, 256}, {12000, 192}, {9000, 160}, {5000, 128}};
  settings.side = 96;
  for (const auto& [bytes, side] : kSides) {
    if (settings.max_bytes < bytes) continue;
    settings.side = side;
    break;
  }
  const auto limit = limit_of(report);
  if (limit && limit->decides) {
    settings.map_limit = limit->value;
    return settings;
  }
  // Of another method's maps the threshold is the lowest score that is called anomalous, or,
  // where labels tell none, what no image is above.
  settings.normalized = false;
  double highest = 0;
  for (const auto& image : evaluation.images) highest = std::max(highest, image.score);
  // In the maps' float32.
  settings.map_limit = limit ? std::nextafter(static_cast<float>(limit->value),
                                              -std::numeric_limits<float>::infinity())
                             : highest;
  settings.map_low = std::min(usual_value(evaluation), settings.map_limit);
  return settings;
}

/// The union of an image's masks; undefined without any. Plain loops: this runs in a loader's
/// thread.
torch::Tensor read_masks(const std::vector<fs::path>& paths) {
  torch::Tensor all;
  for (const auto& path : paths) {
    const torch::Tensor mask = read_mask(path).contiguous();
    if (!all.defined()) {
      all = mask.clone();
      continue;
    }
    require(mask.sizes() == all.sizes(), "{}: is not of the other masks' size", path.string());
    auto* to = all.data_ptr<uint8_t>();
    const auto* from = mask.data_ptr<uint8_t>();
    for (int64_t i = 0; i < mask.numel(); ++i) to[i] |= from[i];
  }
  return all;
}

Thumbnail thumbnail_of(const EvaluatedImage& image, const ThumbnailSettings& settings) {
  const torch::Tensor pixels = read_image(image.sample.image_path);
  const torch::Tensor map = read_tiff(image.map_path);
  const torch::Tensor mask = read_masks(image.sample.mask_paths);
  for (const auto& other : {map, mask}) {
    require(!other.defined() || other.sizes() == pixels.sizes().slice(0, 2),
            "{}: its map or mask is of another size", image.sample.image_path.string());
  }
  return make_thumbnail(pixels, map, mask, settings);
}

/// What the page's script knows of one image.
Json gallery_entry(const EvaluatedImage& image, const RankedImage& ranked, const fs::path& root,
                   bool decides) {
  Json entry;
  const fs::path relative = image.sample.image_path.lexically_relative(root);
  entry["path"] = relative.empty() || *relative.begin() == ".." ? image.sample.image_path.string()
                                                                : relative.string();
  entry["kind"] = image.sample.defect;
  entry["score"] = image.score;
  if (decides) entry["called"] = decision_name(image.called_anomalous);
  if (image.normal_share) entry["normal_share"] = *image.normal_share;
  if (ranked.outranked) entry["outranked"] = *ranked.outranked;
  return entry;
}

/// The gallery, the most wrong image first.
Json gallery_of(const Evaluation& evaluation, const Dataset& dataset, const Json& report,
                const HtmlReportSettings& settings) {
  const auto limit = limit_of(report);
  const bool decides = limit && limit->decides;
  auto ranked = by_wrongness(evaluation, decides ? std::optional(limit->value) : std::nullopt);
  if (ranked.size() > kMostGalleryImages) ranked.resize(kMostGalleryImages);
  const ThumbnailSettings pictures = thumbnail_settings(evaluation, report, ranked.size());
  Prefetcher<Json> loader(
      0, static_cast<int64_t>(ranked.size()),
      [&](int64_t i) {
        const RankedImage& place = ranked[static_cast<size_t>(i)];
        const EvaluatedImage& image = evaluation.images[place.image];
        Json entry = gallery_entry(image, place, dataset.root, decides);
        try {
          const Thumbnail thumbnail = thumbnail_of(image, pictures);
          entry["width"] = thumbnail.width;
          entry["height"] = thumbnail.height;
          entry["mask"] = thumbnail.mask_outline;
          entry["found"] = limit ? thumbnail.found_outline : "";
          entry["image"] = base64_of(thumbnail.image);
          entry["heatmap"] = base64_of(thumbnail.heatmap);
        } catch (const Error& error) {
          entry["problem"] = error.what();
        }
        return entry;
      },
      settings.threads);
  Json entries = Json::array();
  while (auto entry = loader.next()) {
    if (interrupt_requested()) throw Interrupted("interrupted; the report is not complete");
    entries.push_back(std::move(*entry));
    if (settings.progress) {
      settings.progress(static_cast<int64_t>(entries.size()), static_cast<int64_t>(ranked.size()));
    }
  }
  return entries;
}

// ---- curves ----

std::string legend(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string html = "<ul class=\"legend\">";
  for (const auto& [style, name] : items) {
    html += fmt::format("<li><span class=\"swatch {}\"></span>{}</li>", style, escape_html(name));
  }
  return html + "</ul>";
}

std::string figure_element(const std::string& title, const std::string& note, const Chart& chart,
                           const std::vector<std::pair<std::string, std::string>>& items) {
  return fmt::format(
      "<figure class=\"panel\"><figcaption><h3>{}</h3><p>{}</p></figcaption>\n{}{}</figure>\n",
      escape_html(title), escape_html(note), svg_of(chart), legend(items));
}

std::string missing_figure(const std::string& title, const std::string& why) {
  return fmt::format(
      "<figure class=\"panel missing\"><figcaption><h3>{}</h3><p>{}</p></figcaption></figure>\n",
      escape_html(title), escape_html(why));
}

/// The scores of the good or the anomalous images, ascending.
std::vector<double> scores_of(const Evaluation& evaluation, bool anomalous) {
  std::vector<double> scores;
  for (const auto& image : evaluation.images) {
    if (image.sample.anomalous() == anomalous) scores.push_back(image.score);
  }
  std::sort(scores.begin(), scores.end());
  return scores;
}

/// The axis of the scores: logarithmic where they span orders of magnitude, and else without the
/// last few, so that one that is far off does not press the others together.
internal::ChartAxis score_axis(const std::vector<double>& sorted, std::optional<double> limit) {
  internal::ChartAxis axis;
  axis.label = "score";
  axis.low = sorted.front();
  axis.high = sorted.back();
  constexpr double kLogRatio = 20;
  if (axis.low > 0 && axis.high / axis.low > kLogRatio && limit.value_or(1) > 0) {
    axis.logarithmic = true;
    axis.label = "score (logarithmic)";
    axis.low = std::min(axis.low, limit.value_or(axis.low));
    axis.high = std::max(axis.high, 1.1 * limit.value_or(0));
    return axis;
  }
  const double usual = sorted[(sorted.size() - 1) * 98 / 100];
  if (axis.high - axis.low > 2 * (usual - axis.low) && usual > axis.low) {
    axis.high = usual;
    axis.label = "score (the last bar: this and more)";
  }
  if (limit) {
    axis.low = std::min(axis.low, *limit);
    axis.high = std::max(axis.high, axis.low + 1.1 * (*limit - axis.low));
  }
  if (axis.high <= axis.low) axis.high = axis.low + std::max(1e-6, std::abs(axis.low));
  return axis;
}

std::string histogram(const Evaluation& evaluation, const std::optional<Limit>& limit) {
  constexpr int kBins = 36;
  const auto good = scores_of(evaluation, /*anomalous=*/false);
  const auto anomalous = scores_of(evaluation, /*anomalous=*/true);
  std::vector<double> all;
  std::merge(good.begin(), good.end(), anomalous.begin(), anomalous.end(), std::back_inserter(all));
  Chart chart;
  chart.description = "Histogram of the scores of good and of anomalous images";
  chart.x = score_axis(all, limit ? std::optional(limit->value) : std::nullopt);
  chart.y = {.label = "share of the images", .high = 0, .percent = true};
  const auto edge = [&](int bin) {
    const double share = static_cast<double>(bin) / kBins;
    return chart.x.logarithmic ? chart.x.low * std::pow(chart.x.high / chart.x.low, share)
                               : chart.x.low + share * (chart.x.high - chart.x.low);
  };
  const auto add = [&](const std::vector<double>& scores, const char* style, const char* name) {
    if (scores.empty()) return;
    ChartLine line = {.style = style, .name = name, .filled = true};
    size_t done = 0;
    for (int bin = 0; bin < kBins; ++bin) {
      size_t end = scores.size();
      if (bin < kBins - 1) {
        end = static_cast<size_t>(std::lower_bound(scores.begin(), scores.end(), edge(bin + 1)) -
                                  scores.begin());
      }
      const double share = static_cast<double>(end - done) / static_cast<double>(scores.size());
      line.points.push_back({edge(bin), share});
      line.points.push_back({edge(bin + 1), share});
      chart.y.high = std::max(chart.y.high, share);
      done = end;
    }
    chart.lines.push_back(std::move(line));
  };
  add(good, "good", "good images");
  add(anomalous, "bad", "anomalous images");
  chart.y.high *= 1.05;
  if (limit) {
    chart.marks.push_back(
        {limit->value, fmt::format("{} {:.3g}", limit->name, limit->value), "limit"});
  }
  return figure_element("Scores", "Of either kind the share of its images that has such a score.",
                        chart,
                        {{"good", fmt::format("good ({})", good.size())},
                         {"bad", fmt::format("anomalous ({})", anomalous.size())}});
}

std::string roc_chart(const Evaluation& evaluation, const Json& report) {
  const auto& images = evaluation.image_metrics;
  const auto& pixels = evaluation.pixel_metrics;
  if (images.roc.empty() && pixels.roc.empty()) {
    return missing_figure("ROC", report.value("image_auroc_missing", ""));
  }
  Chart chart;
  chart.description = "ROC curve of the images, and of the pixels where there are masks";
  chart.x = {.label = "false-positive rate"};
  chart.y = {.label = "true-positive rate"};
  chart.lines.push_back({.style = "chance", .name = "chance", .points = {{0, 0}, {1, 1}}});
  std::vector<std::pair<std::string, std::string>> items;
  const auto add = [&](const RankingMetrics& metrics, const char* style, const char* name) {
    if (metrics.roc.empty()) return;
    chart.lines.push_back({.style = style, .name = name, .points = metrics.roc});
    items.emplace_back(style, fmt::format("{}, AUROC {:.4f}", name, metrics.auroc.value_or(0)));
  };
  add(pixels, "third", "pixels");
  add(images, "first", "images");
  if (report.contains("decisions") && images.positives > 0 && images.negatives > 0) {
    const auto rate = [&](const char* name, int64_t of) {
      return report.at("decisions").at(name).get<double>() / static_cast<double>(of);
    };
    chart.dots.push_back(
        {{rate("false_positives", images.negatives), rate("true_positives", images.positives)},
         "images at the threshold"});
    items.emplace_back("dot", "images at the threshold");
  }
  return figure_element("ROC", "Each point is a threshold: what it finds, and what it costs.",
                        chart, items);
}

std::string overlap_chart(const Evaluation& evaluation, const Json& report) {
  const std::string why = report.value("pixel_metrics_missing", "");
  if (evaluation.pro_curve.empty()) return missing_figure("PRO", "No curve: " + why + ".");
  constexpr double kHighest = 0.3;
  const auto cut = [&](const std::vector<CurvePoint>& points) {
    std::vector<CurvePoint> inside;
    for (const auto& point : points) {
      if (point.x > kHighest && !inside.empty()) {
        const CurvePoint& last = inside.back();
        const double share = (kHighest - last.x) / (point.x - last.x);
        inside.push_back({kHighest, last.y + share * (point.y - last.y)});
        break;
      }
      inside.push_back(point);
    }
    return inside;
  };
  Chart chart;
  chart.description = "Curve of the regions' mean overlap over the false-positive rate of pixels";
  chart.x = {.label = "false-positive rate of pixels", .high = kHighest};
  chart.y = {.label = "mean overlap of the defects"};
  std::vector<std::pair<std::string, std::string>> items;
  const auto area = [&](const char* pointer) { return figure(value_at(report, pointer)); };
  chart.lines.push_back({.style = "third", .name = "PRO", .points = cut(evaluation.pro_curve)});
  items.emplace_back("third", fmt::format("PRO, area to 0.3: {}, to 0.05: {}", area("/au_pro/0.3"),
                                          area("/au_pro/0.05")));
  const char* const styles[] = {"first", "second", "fourth"};
  size_t next = 0;
  for (const auto& [kind, points] : evaluation.spro_curves) {
    const char* style = styles[next++ % std::size(styles)];
    chart.lines.push_back({.style = style, .name = "sPRO, " + kind, .points = cut(points)});
    items.emplace_back(style,
                       fmt::format("sPRO, {}, area to 0.05: {}", kind,
                                   figure(value_at(report.at("au_spro").at(kind), "/0.05"))));
  }
  chart.marks = {{0.05, "0.05", "quiet"}, {kHighest, "0.3", "quiet"}};
  return figure_element("PRO",
                        "How much of each defective region is found. AU-PRO is the area below, "
                        "up to a limit of the false-positive rate, divided by it.",
                        chart, items);
}

/// The means of a column of the log over at most kMost steps of equal length; numbers that a
/// logarithm has.
std::vector<CurvePoint> means_of(const std::vector<std::map<std::string, std::string>>& rows,
                                 const std::string& name) {
  constexpr size_t kMost = 240;
  const auto number = [](const std::string& text) {
    double value = NAN;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
  };
  const size_t length = (rows.size() + kMost - 1) / kMost;
  std::vector<CurvePoint> points;
  for (size_t first = 0; first < rows.size(); first += length) {
    CurvePoint sum;
    double count = 0;
    for (size_t i = first; i < std::min(rows.size(), first + length); ++i) {
      const double value = number(rows[i].at(name));
      if (!std::isfinite(value)) continue;
      sum.x += number(rows[i].at("step"));
      sum.y += value;
      ++count;
    }
    if (count > 0 && sum.y > 0) points.push_back({sum.x / count, sum.y / count});
  }
  return points;
}

std::string training_chart(const fs::path& log) {
  const std::string title = "Training";
  if (log.empty()) return missing_figure(title, "The maps come from elsewhere.");
  std::error_code error;
  if (!fs::exists(log, error)) {
    return missing_figure(title, "There is no train_log.csv beside the model file.");
  }
  const std::pair<const char*, const char*> losses[] = {{"loss_hard", "first"},
                                                        {"loss_penalty", "second"},
                                                        {"loss_ae", "third"},
                                                        {"loss_stae", "fourth"}};
  std::vector<std::map<std::string, std::string>> rows;
  try {
    rows = read_csv(log, {"step", "loss_hard", "loss_penalty", "loss_ae", "loss_stae"});
  } catch (const Error& problem) {
    return missing_figure(title, problem.what());
  }
  Chart chart;
  chart.description = "The losses of the training over its steps";
  chart.x = {.label = "step", .high = 0};
  chart.y = {.label = "loss (logarithmic)", .low = HUGE_VAL, .high = 0, .logarithmic = true};
  std::vector<std::pair<std::string, std::string>> items;
  for (const auto& [name, style] : losses) {
    auto points = means_of(rows, name);
    if (points.empty()) continue;
    for (const auto& point : points) {
      chart.x.high = std::max(chart.x.high, point.x);
      chart.y.low = std::min(chart.y.low, point.y);
      chart.y.high = std::max(chart.y.high, point.y);
    }
    chart.lines.push_back({.style = style, .name = name, .points = std::move(points)});
    items.emplace_back(style, name);
  }
  if (chart.lines.empty()) return missing_figure(title, "The log holds no losses.");
  constexpr double kDecades = 1e5;
  chart.y.low = std::max(chart.y.low, chart.y.high / kDecades) / 1.2;
  chart.y.high *= 1.2;
  return figure_element(
      title, fmt::format("Losses over {} steps, the means of short stretches.", rows.size()), chart,
      items);
}

// ---- tables and words ----

std::string tile(const std::string& name, const std::string& value, const std::string& note) {
  return fmt::format("<div class=\"tile\"><dt>{}</dt><dd>{}{}</dd></div>\n", escape_html(name),
                     value, note.empty() ? "" : "<small>" + escape_html(note) + "</small>");
}

std::string summary_tiles(const Json& report) {
  const auto value = [&](const char* pointer) { return figure(value_at(report, pointer)); };
  std::string html =
      tile("Image AUROC", value("/image_auroc"), report.value("image_auroc_missing", ""));
  html += tile("Average precision", value("/image_average_precision"), "images");
  html += tile("F1 max", value("/image_f1_max"), "images");
  if (!report.at("pixel_auroc").is_number()) {
    return html + tile("Pixel figures", "–", report.value("pixel_metrics_missing", ""));
  }
  html += tile("Pixel AUROC", value("/pixel_auroc"), "");
  html += tile("AU-PRO", value("/au_pro/0.3"), "to 0.3");
  if (report.contains("au_spro")) html += tile("AU-sPRO", value("/au_spro/mean/0.05"), "to 0.05");
  return html + tile("AUPIMO", value("/aupimo"), "");
}

/// What the threshold did to the test images.
std::string decision_words(const Json& report) {
  const auto& counts = report.at("counts");
  const auto good = counts.at("test_good").get<int64_t>();
  const auto anomalous = counts.at("test_anomalous").get<int64_t>();
  const auto best = number_at(report, "/image_f1_max_threshold");
  if (!report.contains("threshold")) {
    std::string html = "<p>These maps come without a threshold, so nothing was decided.";
    if (best) {
      html += fmt::format(
          " Outlines and colours use the one that gives the largest F1 on these images, {:.4g}.",
          *best);
    }
    return html + "</p>\n";
  }
  const auto& decisions = report.at("decisions");
  const auto count = [&](const char* name) { return decisions.at(name).get<int64_t>(); };
  const std::string rule = report.value("threshold_rule", "");
  std::string html = fmt::format(
      "<p class=\"verdict\">At the threshold <b>{:.4g}</b>, <b>{}</b> of {} good images {} "
      "called anomalous ({}) and <b>{}</b> of {} anomalous ones {} missed ({}).</p>\n",
      report.at("threshold").get<double>(), count("false_positives"), good,
      count("false_positives") == 1 ? "was" : "were", percent(count("false_positives"), good),
      count("missed"), anomalous, count("missed") == 1 ? "was" : "were",
      percent(count("missed"), anomalous));
  if (!rule.empty()) html += fmt::format("<p>The threshold: {}.</p>\n", escape_html(rule));
  const double of_threshold = number_at(report, "/threshold_shift_average").value_or(0);
  const double of_scores = number_at(report, "/options/shift_average").value_or(1);
  if (of_threshold != 0 && of_threshold != of_scores) {
    html += fmt::format(
        "<p><b>It is of scores with a shift average of {}, but these are with {}</b>, which lie on "
        "another scale: the decisions here mean little.</p>\n",
        of_threshold, of_scores);
  }
  if (best) {
    html += fmt::format(
        "<p>For comparison: with the labels of these images known, the largest F1, {1}, is that of "
        "calling anomalous all that score {0:.4g} or more.</p>\n",
        *best, figure(report.at("image_f1_max")));
  }
  return html;
}

/// A bar and what it shows.
std::string share_cell(int64_t part, int64_t whole) {
  const double share = whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
  return fmt::format(
      "<td data-value=\"{0}\"><span class=\"bar\"><span style=\"width:{1:.1f}%\"></span></span>"
      "<span class=\"count-of\">{2}</span> <small>{3}</small></td>",
      share, 100 * share, part, percent(part, whole));
}

/// Kinds with the good images first; links set the gallery's filter.
std::string defect_table(const Evaluation& evaluation, const Json& report) {
  std::map<std::string, std::vector<double>> scores;
  std::map<std::string, int64_t> called;
  for (const auto& image : evaluation.images) {
    scores[image.sample.defect].push_back(image.score);
    called[image.sample.defect] += image.called_anomalous ? 1 : 0;
  }
  const bool decides = report.contains("threshold");
  std::string html = "<table class=\"sortable\"><thead><tr>";
  std::vector<std::string> titles = {"kind", "images", "AUROC", "median score"};
  if (decides) titles.insert(titles.begin() + 2, "called anomalous");
  for (const auto& title : titles) {
    html += fmt::format("<th scope=\"col\"><button type=\"button\">{}</button></th>", title);
  }
  html += "</tr></thead><tbody>\n";
  const auto row = [&](const std::string& kind) {
    const auto& of_kind = scores.at(kind);
    const Json auroc = report.at("image_auroc_by_defect").value(kind, Json());
    const double middle = median(of_kind);
    html += fmt::format(
        "<tr><th scope=\"row\" data-value=\"{0}\"><a href=\"#\" data-kind=\"{0}\">{0}</a></th>"
        "<td data-value=\"{1}\">{1}</td>",
        escape_html(kind), of_kind.size());
    if (decides) html += share_cell(called.at(kind), static_cast<int64_t>(of_kind.size()));
    html +=
        fmt::format("<td data-value=\"{}\">{}</td><td data-value=\"{}\">{:.4g}</td>",
                    auroc.is_number() ? auroc.get<double>() : -1, figure(auroc), middle, middle);
    html += "</tr>\n";
  };
  if (scores.count("good") > 0) row("good");
  for (const auto& [kind, unused] : scores) {
    if (kind != "good") row(kind);
  }
  return html + "</tbody></table>\n";
}

/// Names and values; objects inside are named by dots.
void add_rows(const Json& values, const std::string& prefix, std::string& html) {
  for (const auto& [name, value] : values.items()) {
    if (value.is_object()) {
      add_rows(value, prefix + name + ".", html);
      continue;
    }
    html +=
        fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape_html(prefix + name),
                    escape_html(value.is_string() ? value.get<std::string>() : dump_json(value)));
  }
}

std::string details(const std::string& title, const Json& values) {
  if (values.empty()) return "";
  std::string html =
      fmt::format("<details class=\"panel\"><summary>{}</summary><table class=\"pairs\"><tbody>\n",
                  escape_html(title));
  add_rows(values, "", html);
  return html + "</tbody></table></details>\n";
}

std::string all_details(const Json& report) {
  Json figures = Json::object();
  for (const auto& [key, value] : report.items()) {
    if (key != "options" && key != "model") figures[key] = value;
  }
  std::string html = details("All figures, as in report.json", figures);
  if (report.contains("model")) {
    Json model = Json::object();
    for (const auto& [key, value] : report.at("model").items()) {
      if (key != "options" && key != "provenance") model[key] = value;
    }
    html += details("Model", model);
    html += details("Provenance of the model", report.at("model").at("provenance"));
    html += details("Options of the training", report.at("model").at("options"));
  }
  return html + details("Options of this evaluation", report.at("options"));
}

std::string subtitle(const Json& report) {
  const auto& counts = report.at("counts");
  std::string text = fmt::format(
      "{} test images, {} good and {} anomalous", counts.at("test").get<int64_t>(),
      counts.at("test_good").get<int64_t>(), counts.at("test_anomalous").get<int64_t>());
  if (report.contains("model")) {
    const auto& model = report.at("model");
    text += fmt::format(" · {} model, {} × {} px", model.at("model_size").get<std::string>(),
                        model.at("image_height").get<int64_t>(),
                        model.at("image_width").get<int64_t>());
  }
  return text + " · efficientad " + report.at("version").get<std::string>();
}

/// A path as part of a link.
std::string link_of(const fs::path& path) {
  std::string link;
  for (const char c : path.generic_string()) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || std::string_view("-._~/").find(c) != std::string_view::npos) {
      link += c;
    } else {
      link += fmt::format("%{:02X}", byte);
    }
  }
  return link;
}

}  // namespace

std::vector<RankedImage> by_wrongness(const Evaluation& evaluation,
                                      std::optional<double> threshold) {
  const auto good = scores_of(evaluation, /*anomalous=*/false);
  const auto anomalous = scores_of(evaluation, /*anomalous=*/true);
  /// Share of `scores` below `score`, ties counting one half.
  const auto share_below = [](const std::vector<double>& scores,
                              double score) -> std::optional<double> {
    if (scores.empty()) return std::nullopt;
    const auto [first, last] = std::equal_range(scores.begin(), scores.end(), score);
    const auto below = static_cast<double>(first - scores.begin());
    const auto ties = static_cast<double>(last - first);
    return (below + ties / 2) / static_cast<double>(scores.size());
  };
  struct Place {
    RankedImage ranked;
    bool wrong;
    double distance;
  };
  std::vector<Place> places;
  for (size_t i = 0; i < evaluation.images.size(); ++i) {
    const auto& image = evaluation.images[i];
    const bool is_anomalous = image.sample.anomalous();
    auto outranked = share_below(is_anomalous ? good : anomalous, image.score);
    if (is_anomalous && outranked) outranked = 1 - *outranked;
    const double above = image.score - threshold.value_or(0);
    places.push_back({.ranked = {i, outranked},
                      .wrong = threshold && image.called_anomalous != is_anomalous,
                      .distance = is_anomalous ? -above : above});
  }
  std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    if (a.wrong != b.wrong) return a.wrong;
    const double share_a = a.ranked.outranked.value_or(0);
    const double share_b = b.ranked.outranked.value_or(0);
    return share_a != share_b ? share_a > share_b : a.distance > b.distance;
  });
  std::vector<RankedImage> ranked;
  for (const auto& place : places) ranked.push_back(place.ranked);
  return ranked;
}

std::string html_report(const Evaluation& evaluation, const Dataset& dataset, const Json& report,
                        const HtmlReportSettings& settings) {
  require(!evaluation.images.empty(), "there are no test images to report on");
  const auto limit = limit_of(report);
  Json data;
  data["limit"] = limit ? Json(limit->value) : Json();
  data["limit_name"] = limit ? limit->name : "";
  data["decides"] = limit && limit->decides;
  data["images"] = gallery_of(evaluation, dataset, report, settings);
  const std::string category = report.at("category").get<std::string>();
  const size_t left_out = evaluation.images.size() - data["images"].size();
  return filled(
      internal::report_page(),
      {{"style", internal::report_style()},
       {"script", internal::report_script()},
       {"title", escape_html(category.empty() ? "Evaluation" : category)},
       {"subtitle", escape_html(subtitle(report))},
       {"tiles", summary_tiles(report)},
       {"decisions", decision_words(report)},
       {"defects", defect_table(evaluation, report)},
       {"curves", histogram(evaluation, limit) + roc_chart(evaluation, report) +
                      overlap_chart(evaluation, report) + training_chart(settings.train_log)},
       {"details", all_details(report)},
       {"left_out", left_out == 0 ? ""
                                  : fmt::format("<p>The {} most wrong of {} images.</p>",
                                                kMostGalleryImages, evaluation.images.size())},
       {"data", json_for_script(data)}});
}

std::string html_index(const Json& reports, const std::map<std::string, fs::path>& pages) {
  struct Column {
    const char* title;
    const char* pointer;
  };
  constexpr Column kColumns[] = {{"image AUROC", "/image_auroc"},
                                 {"by defect, mean", "/image_auroc_by_defect_mean"},
                                 {"pixel AUROC", "/pixel_auroc"},
                                 {"AU-PRO 0.3", "/au_pro/0.3"},
                                 {"AU-sPRO 0.05", "/au_spro/mean/0.05"},
                                 {"missed", "/decisions/missed"},
                                 {"false alarms", "/decisions/false_positives"}};
  // Only what at least one report has: some figures are of one kind of data set.
  std::vector<Column> columns;
  for (const auto& column : kColumns) {
    const auto has = [&](const Json& report) {
      return !value_at(report, column.pointer).is_null();
    };
    if (std::any_of(reports.begin(), reports.end(), has)) columns.push_back(column);
  }
  std::string table = "<table class=\"sortable\"><thead><tr>";
  table += "<th scope=\"col\"><button type=\"button\">category</button></th>";
  for (const auto& column : columns) {
    table +=
        fmt::format("<th scope=\"col\"><button type=\"button\">{}</button></th>", column.title);
  }
  table += "</tr></thead><tbody>\n";
  for (const auto& [category, report] : reports.items()) {
    std::string name = escape_html(category);
    if (const auto page = pages.find(category); page != pages.end()) {
      name = fmt::format("<a href=\"{}\">{}</a>", link_of(page->second), name);
    }
    table +=
        fmt::format("<tr><th scope=\"row\" data-value=\"{}\">{}</th>", escape_html(category), name);
    for (const auto& column : columns) {
      const Json value = value_at(report, column.pointer);
      table +=
          fmt::format("<td data-value=\"{}\">{}</td>", value.is_number() ? dump_json(value) : "-1",
                      value.is_number_integer() ? dump_json(value) : figure(value));
    }
    table += "</tr>\n";
  }
  return filled(internal::report_index(), {{"style", internal::report_style()},
                                           {"script", internal::report_script()},
                                           {"table", table + "</tbody></table>\n"}});
}

}  // namespace efficientad
