#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace efficientad {

/// The median of one number or more; of an even count the mean of the middle two.
template <class Number>
Number median(std::vector<Number> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*std::max_element(values.begin(), middle) + *middle) / 2;
}

}  // namespace efficientad
