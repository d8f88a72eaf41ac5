// Scores images with a trained model: score MODEL IMAGE…
#include <efficientad/core/device.h>
#include <efficientad/core/log.h>
#include <efficientad/data/image.h>
#include <efficientad/eval/score_image.h>

#include <cstdio>
#include <exception>

int main(int argc, char** argv) {
  try {
    efficientad::start_logging("warn");  // To stderr.
    // Once: it folds the weights and chooses the engine. Threads may share it.
    const efficientad::Detector detector(efficientad::load_bundle(argc > 1 ? argv[1] : ""),
                                         efficientad::select_device("auto"));
    for (int i = 2; i < argc; ++i) {
      // uint8 [height, width, 3], RGB, of any size. Of a camera's frame in memory:
      // torch::from_blob(bytes, {height, width, 3}, torch::kUInt8), of a grey one {height, width}.
      const torch::Tensor image_u8 = efficientad::read_image(argv[i]);
      const efficientad::Detection detection = efficientad::score_image(detector, image_u8);
      efficientad::require_finite(detection);
      // detection.map_at_image: float32 [height, width], high where the image is unusual.
      std::printf("%s %.9g %s\n", argv[i], detection.score,
                  detection.anomalous ? "anomalous" : "good");
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
