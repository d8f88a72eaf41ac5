#!/usr/bin/env bash
# Time and memory of the metrics alone: makes anomaly maps of noise with a brighter disc where a
# defect is drawn, in MVTec AD layout, and measures `efficientad eval --maps` on them.
#
#   benchmarks/metrics.sh OUTPUT
#   IMAGES=1000 SIDE=1024 benchmarks/metrics.sh /tmp/metrics      # the default; takes 4 GiB of disk
#
# Half of the images have defects. Needs python3 with numpy and Pillow (PYTHON=FILE names another),
# and GNU time. EFFICIENTAD=FILE: the program.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=${EFFICIENTAD:-$here/build/release/bin/efficientad}
[ $# -eq 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
output=$1
mkdir -p "$output"

"${PYTHON:-python3}" - "$output" "${IMAGES:-1000}" "${SIDE:-1024}" <<'PYTHON'
import pathlib
import sys

import numpy as np
from PIL import Image

root, images, side = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
random = np.random.default_rng(0)
y, x = np.mgrid[:side, :side]


def save(pixels, *path):
    file = root.joinpath(*path)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


save(np.zeros((side, side, 3), np.uint8), "data", "noise", "train", "good", "000.png")
for i in range(images):
    kind = ("good", "disc")[i % 2]
    scores = random.standard_normal((side, side), np.float32)
    if kind == "disc":
        center_y, center_x = random.uniform(0.1 * side, 0.9 * side, 2)
        radius = side * random.uniform(0.01, 0.1)
        disc = (y - center_y) ** 2 + (x - center_x) ** 2 < radius**2
        scores += np.float32(2) * disc
        save(np.uint8(255) * disc, "data", "noise", "ground_truth", kind, f"{i:04}_mask.png")
    # As pictures are never looked at, one colour will do; no two are the same.
    shade = np.full((side, side, 3), (i % 256, i // 256, 99), np.uint8)
    save(shade, "data", "noise", "test", kind, f"{i:04}.png")
    save(scores, "maps", "noise", "test", kind, f"{i:04}.tiff")
PYTHON

/usr/bin/time -f '%E elapsed, %M KiB at most' "$program" eval --maps "$output/maps" \
  --data "$output/data" --category noise --output "$output/report"
