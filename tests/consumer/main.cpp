// A program of somebody who uses the installed library.
#include <efficientad/core/version.h>
#include <efficientad/nn/quantile.h>

#include <cstdio>
#include <vector>

int main() {
  std::vector<float> values = {3, 1, 2};
  std::printf("%s %.1f\n", efficientad::version(), efficientad::quantile_of(values, 0.5));
  return 0;
}
