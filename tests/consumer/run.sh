#!/usr/bin/env bash
# Installs the build in $1 into a temporary folder, builds the consumer and the example against it,
# runs the first, and compares the scores of the second with those of `efficientad infer`.
set -euo pipefail
build=$1
libtorch=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cmake --install "$build" --prefix "$temporary/prefix" >/dev/null
program=$temporary/prefix/bin/efficientad
for folder in "$here" "$here/../../examples/score"; do
  made=$temporary/$(basename "$folder")
  cmake -S "$folder" -B "$made" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_PREFIX_PATH="$temporary/prefix" -DLIBTORCH_ROOT="$libtorch" >/dev/null
  cmake --build "$made"
done
[ "$("$temporary/consumer/consumer")" = "$("$program" --version |
  sed 's/efficientad \([^ ]*\) .*/\1/') 2.0" ]

# On a GPU two programs may find different algorithms the fastest, whose scores differ in rounding.
export CUDA_VISIBLE_DEVICES=
cd "$temporary"
"$program" synth --output data --images 20 --log-level warn >/dev/null
"$program" train --data data --category tray --output model --teacher random --steps 1 \
  --log-level warn >/dev/null
mapfile -t images < <(find data/tray/test -name '*.png' | sort | head -n 3)
"$program" infer --model model/model.safetensors --output scores --log-level warn "${images[@]}" \
  >/dev/null
tail -n +2 scores/scores.csv | cut -d, -f1-3 | tr , ' ' >expected.txt
score/score model/model.safetensors "${images[@]}" >actual.txt
[ "$(wc -l <actual.txt)" = 3 ]
diff expected.txt actual.txt
echo "consumer: the installed library and programs work"
