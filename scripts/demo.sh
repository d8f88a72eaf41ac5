#!/usr/bin/env bash
# From nothing to a trained and tested detector: sets up, builds, makes the procedural data set,
# trains on it with the shipped teacher, evaluates, draws heat maps. Run again, it reuses what is
# there. Everything lands in demo/ (or in the folder named as the only argument).
set -euo pipefail
[ $# -le 1 ] || { echo "usage: scripts/demo.sh [FOLDER]" >&2; exit 2; }
[ $# -eq 0 ] || set -- "$(realpath -m -- "$1")"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-demo}

scripts/build.sh release -DEFFICIENTAD_BUILD_TESTS=OFF
program=build/release/bin/efficientad
mkdir -p "$out"

"$program" synth --output "$out/data"

if [ ! -e "$out/model/model.safetensors" ]; then
  resume=()
  [ ! -e "$out/model/checkpoint.safetensors" ] || resume=(--resume)
  "$program" train --config configs/train_demo.json --dataset loco --data "$out/data" \
    --category tray --output "$out/model" "${resume[@]}"
fi

model=$out/model/model.safetensors
# -nt: newer than the model, or there is none of it.
[ "$out/report/report.json" -nt "$model" ] ||
  "$program" eval --model "$out/model/model.safetensors" --dataset loco --data "$out/data" \
    --category tray --output "$out/report"

{ [ "$out/inference/summary.json" -nt "$model" ] &&
  grep -q '"complete": true' "$out/inference/summary.json"; } ||
  "$program" infer --model "$out/model/model.safetensors" --output "$out/inference" --heatmaps \
    "$out/data/tray/test"

auroc() {
  LC_ALL=C printf '%.3f' "$(grep -m1 "\"$1\": [0-9]" "$out/report/report.json" | sed 's/.*: *//; s/,$//')"
}

cat <<END

image AUROC  $(auroc image_auroc) (logical $(auroc logical_anomalies), structural $(auroc structural_anomalies))
model        $out/model/model.safetensors
report       $out/report/report.html   (to look at; figures: report.json, every image: scores.csv)
heat maps    $out/inference/heatmaps/
scores       $out/inference/scores.csv

Your own images, as in README.md:
  $program train --config configs/train_fast.json --data DATA --category CATEGORY --output RUN
END
