#include "efficientad/eval/shift_probe.h"
#include "efficientad/eval/score_image.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "efficientad/core/error.h"
#include "efficientad/core/interrupt.h"
#include "efficientad/data/resize.h"

namespace efficientad {

namespace {

/// Rows and columns from `top`, `left` to before `bottom`, `right`.
struct Box {
  int64_t top = 0;
  int64_t left = 0;
  int64_t bottom = 0;
  int64_t right = 0;

  int64_t height() const { return bottom - top; }
  int64_t width() const { return right - left; }
  Box moved(Shift by) const { return {top + by.dy, left + by.dx, bottom + by.dy, right + by.dx}; }
};

torch::Tensor cut(const torch::Tensor& map, const Box& box) {
  return map.slice(/*dim=*/0, box.top, box.bottom).slice(/*dim=*/1, box.left, box.right);
}

/// The pixels of an image of another size whose middles lie in the box; at least one.
Box scaled(const Box& box, std::array<int64_t, 2> from_hw, std::array<int64_t, 2> to_hw) {
  const auto scale = [](int64_t at, int64_t from, int64_t to) {
    return static_cast<int64_t>(
        std::lround(static_cast<double>(at) * static_cast<double>(to) / static_cast<double>(from)));
  };
  Box result = {scale(box.top, from_hw[0], to_hw[0]), scale(box.left, from_hw[1], to_hw[1]),
                scale(box.bottom, from_hw[0], to_hw[0]), scale(box.right, from_hw[1], to_hw[1])};
  const auto keep_one = [](int64_t& low, int64_t& high, int64_t size) {
    low = std::min(low, size - 1);
    high = std::max(high, low + 1);
  };
  keep_one(result.top, result.bottom, to_hw[0]);
  keep_one(result.left, result.right, to_hw[1]);
  return result;
}

/// The furthest that `shifts` go: up and left (not positive), down and right.
Box reach_of(const std::vector<Shift>& shifts) {
  Box reach;
  for (const Shift& shift : shifts) {
    reach.top = std::min(reach.top, shift.dy);
    reach.bottom = std::max(reach.bottom, shift.dy);
    reach.left = std::min(reach.left, shift.dx);
    reach.right = std::max(reach.right, shift.dx);
  }
  return reach;
}

/// Results of the content that lies in `followed` without shift. `input_of` gives the networks'
/// input (uint8 [H, W, 3]) with the content moved; `size_hw` is the image's own size.
std::vector<ShiftedResult> probe(const Detector& detector, const std::vector<Shift>& shifts,
                                 const Box& followed, std::array<int64_t, 2> size_hw,
                                 const std::function<torch::Tensor(Shift)>& input_of) {
  TORCH_CHECK(!shifts.empty() && shifts[0].dy == 0 && shifts[0].dx == 0,
              "the first place must be without shift");
  constexpr size_t kTogether = 8;
  const auto input_hw = detector.input_hw();
  std::vector<ShiftedResult> results;
  torch::Tensor unmoved;
  double range = 0;
  for (size_t first = 0; first < shifts.size(); first += kTogether) {
    if (interrupt_requested()) throw Interrupted("interrupted; the image is not complete");
    const size_t last = std::min(shifts.size(), first + kTogether);
    std::vector<torch::Tensor> inputs;
    for (size_t i = first; i < last; ++i) inputs.push_back(input_of(shifts[i]));
    const torch::Tensor maps = detector.maps_of_bytes(torch::stack(inputs));
    for (size_t i = first; i < last; ++i) {
      const torch::Tensor map = maps.narrow(0, static_cast<int64_t>(i - first), 1);
      const Detection detection = detector.finish(map[0], size_hw);
      const Box box = followed.moved(shifts[i]);
      const torch::Tensor content = cut(resize_map(map, input_hw)[0][0], box).contiguous();
      if (i == 0) {
        unmoved = content;
        range = (content.max() - content.min()).item<double>();
      }
      const double score =
          cut(detection.map_at_image, scaled(box, input_hw, size_hw)).max().item<double>();
      require_finite(detection);
      const int64_t peak = content.argmax().item<int64_t>();
      const double difference = (content - unmoved).abs().mean().item<double>();
      results.push_back(
          {.shift = shifts[i],
           .score = score,
           .score_anywhere = detection.score,
           .anomalous = score > detector.bundle().threshold,
           .peak_y = static_cast<double>(followed.top + peak / followed.width()) + 0.5,
           .peak_x = static_cast<double>(followed.left + peak % followed.width()) + 0.5,
           .map_difference = range > 0 ? difference / range : 0});
    }
  }
  return results;
}

}  // namespace

std::vector<Shift> stride_shifts() { return shifts_of_average(kMapStride * kMapStride); }

std::vector<Shift> field_shifts() {
  std::vector<Shift> shifts = {{0, 0}};
  for (const Shift direction : {Shift{0, 1}, Shift{1, 0}, Shift{1, 1}}) {
    for (int64_t i = -(kReceptiveField / 2); i <= kReceptiveField / 2; ++i) {
      if (i != 0) shifts.push_back({i * direction.dy, i * direction.dx});
    }
  }
  return shifts;
}

std::vector<ShiftedResult> probe_crop(const Detector& detector, const torch::Tensor& image_u8,
                                      const std::vector<Shift>& shifts) {
  const auto [height, width] = detector.input_hw();
  const Box reach = reach_of(shifts);
  const Box followed = {.top = kProbeInside - reach.top,
                        .left = kProbeInside - reach.left,
                        .bottom = height - kProbeInside - reach.bottom,
                        .right = width - kProbeInside - reach.right};
  require(followed.height() > 0 && followed.width() > 0,
          "the model's images of {}x{} px are too small: moved by up to {} px, nothing stays {} px "
          "inside; probe the stride alone",
          width, height, reach.bottom - reach.top, kProbeInside);
  const torch::Tensor input = resize_pil_bilinear(image_u8, detector.input_hw());
  return probe(detector, shifts, followed, {image_u8.size(0), image_u8.size(1)}, [&](Shift shift) {
    return shift_content(input, /*dim_h=*/0, shift, Fill::kReflect);
  });
}

Defect synthetic_defect(const std::string& shape, double size, double contrast) {
  TORCH_CHECK(shape == "blob" || shape == "scratch", "no defect called ", shape);
  // A line with round ends; a blob's has no length.
  constexpr double kScratchWidth = 2;
  constexpr double kScratchAngle = M_PI / 6;
  const double width = shape == "blob" ? size : std::min(size, kScratchWidth);
  const double half_length = (size - width) / 2;
  const double axis_y = std::sin(kScratchAngle);
  const double axis_x = std::cos(kScratchAngle);
  const auto side = [&](double axis) {
    return static_cast<int64_t>(std::ceil(2 * half_length * std::abs(axis) + width)) + 2;
  };
  const int64_t rows = side(axis_y);
  const int64_t columns = side(axis_x);
  torch::Tensor opacity = torch::zeros({rows, columns});
  auto values = opacity.accessor<float, 2>();
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t x = 0; x < columns; ++x) {
      const double from_y = static_cast<double>(y) + 0.5 - static_cast<double>(rows) / 2;
      const double from_x = static_cast<double>(x) + 0.5 - static_cast<double>(columns) / 2;
      const double along = std::clamp(from_y * axis_y + from_x * axis_x, -half_length, half_length);
      const double distance = std::hypot(from_y - along * axis_y, from_x - along * axis_x);
      values[y][x] = static_cast<float>(std::clamp(width / 2 + 0.5 - distance, 0.0, 1.0));
    }
  }
  return {.keep = torch::ones({rows, columns, 1}),
          .add = (contrast * opacity).unsqueeze(2).repeat({1, 1, 3}),
          .mask = opacity >= 0.5};
}

Defect cut_defect(const torch::Tensor& image_u8, const torch::Tensor& mask,
                  std::array<int64_t, 2> input_hw) {
  require(image_u8.size(0) == mask.size(0) && image_u8.size(1) == mask.size(1),
          "the mask is {}x{}, but its image is {}x{}", mask.size(1), mask.size(0), image_u8.size(1),
          image_u8.size(0));
  const torch::Tensor whole = (mask > 0).to(torch::kUInt8).mul(255).unsqueeze(2).contiguous();
  const torch::Tensor opacity =
      resize_pil_bilinear(whole, input_hw).squeeze(2).to(torch::kFloat32).div(255);
  const torch::Tensor places = opacity.nonzero();
  require(places.size(0) > 0, "the mask is empty");
  const torch::Tensor low = std::get<0>(places.min(0));
  const torch::Tensor high = std::get<0>(places.max(0));
  const Box box = {low[0].item<int64_t>(), low[1].item<int64_t>(), high[0].item<int64_t>() + 1,
                   high[1].item<int64_t>() + 1};
  const torch::Tensor part = cut(opacity, box).unsqueeze(2);
  const torch::Tensor pixels =
      cut(resize_pil_bilinear(image_u8, input_hw), box).to(torch::kFloat32);
  // Of a defect thinner than a pixel of the input, no pixel is covered by half.
  const double level = std::min(0.5, part.max().item<double>());
  return {.keep = 1 - part,
          .add = pixels * part,
          .mask = (part >= level).squeeze(2),
          .home = Shift{box.top, box.left}};
}

std::vector<ShiftedResult> probe_defect(const Detector& detector, const torch::Tensor& image_u8,
                                        const Defect& defect, const std::vector<Shift>& shifts) {
  const auto input_hw = detector.input_hw();
  const Box reach = reach_of(shifts);
  const int64_t rows = defect.mask.size(0);
  const int64_t columns = defect.mask.size(1);
  const auto place = [&](int64_t size, int64_t length, int64_t least, int64_t most,
                         std::optional<int64_t> home) {
    const int64_t low = kProbeInside - least;
    const int64_t high = size - kProbeInside - most - length;
    require(low <= high,
            "the defect of {}x{} px (at the size of the networks' input) is too large to be moved "
            "by {} to {} px and stay {} px inside an input of {}x{}",
            columns, rows, least, most, kProbeInside, input_hw[1], input_hw[0]);
    return std::clamp(home.value_or((size - length) / 2), low, high);
  };
  const auto& home = defect.home;
  const int64_t top = place(input_hw[0], rows, reach.top, reach.bottom,
                            home ? std::optional(home->dy) : std::nullopt);
  const int64_t left = place(input_hw[1], columns, reach.left, reach.right,
                             home ? std::optional(home->dx) : std::nullopt);
  const Box followed = {std::max(top - kProbeInside, -reach.top),
                        std::max(left - kProbeInside, -reach.left),
                        std::min(top + rows + kProbeInside, input_hw[0] - reach.bottom),
                        std::min(left + columns + kProbeInside, input_hw[1] - reach.right)};
  const torch::Tensor input = resize_pil_bilinear(image_u8, input_hw);
  std::vector<ShiftedResult> results =
      probe(detector, shifts, followed, {image_u8.size(0), image_u8.size(1)}, [&](Shift shift) {
        torch::Tensor with_defect = input.clone();
        const Box box = Box{top, left, top + rows, left + columns}.moved(shift);
        torch::Tensor part = cut(with_defect, box);
        part.copy_((part.to(torch::kFloat32) * defect.keep + defect.add).round().clamp(0, 255));
        return with_defect;
      });
  const torch::Tensor pixels = defect.mask.nonzero().to(torch::kFloat64);
  for (auto& result : results) {
    const torch::Tensor dy = pixels.select(1, 0) + (static_cast<double>(top) + 0.5 - result.peak_y);
    const torch::Tensor dx =
        pixels.select(1, 1) + (static_cast<double>(left) + 0.5 - result.peak_x);
    result.peak_distance = (dy * dy + dx * dx).min().sqrt().item<double>();
  }
  return results;
}

ShiftVariation variation_of(const std::vector<ShiftedResult>& results) {
  TORCH_CHECK(!results.empty(), "there are no results");
  const auto count = static_cast<double>(results.size());
  const ShiftedResult& unmoved = results.front();
  ShiftVariation variation = {.places = static_cast<int64_t>(results.size()),
                              .score_without_shift = unmoved.score,
                              .score_min = unmoved.score,
                              .score_max = unmoved.score};
  for (const auto& result : results) {
    variation.score_mean += result.score / count;
    variation.score_min = std::min(variation.score_min, result.score);
    variation.score_max = std::max(variation.score_max, result.score);
    variation.other_decisions += result.anomalous != unmoved.anomalous ? 1 : 0;
    const double drift = std::hypot(result.peak_y - unmoved.peak_y, result.peak_x - unmoved.peak_x);
    variation.peak_drift_mean += drift / count;
    variation.peak_drift_max = std::max(variation.peak_drift_max, drift);
    variation.map_difference_mean += result.map_difference / count;
    if (result.peak_distance) {
      variation.peak_distance_mean =
          variation.peak_distance_mean.value_or(0) + *result.peak_distance / count;
      variation.peak_distance_max =
          std::max(variation.peak_distance_max.value_or(0), *result.peak_distance);
    }
  }
  double squares = 0;
  for (const auto& result : results) {
    squares += (result.score - variation.score_mean) * (result.score - variation.score_mean);
  }
  variation.score_std = std::sqrt(squares / count);
  return variation;
}

}  // namespace efficientad
