#!/usr/bin/env bash
# Lays out the magnetic-tile data set of Huang, Qiu and Yuan as docs/accuracy.md uses it (MVTec AD
# layout, by hard links, or copies where the file systems differ).
#
#   benchmarks/magnetic_tile.sh SOURCE DATA
#
# SOURCE is a copy of https://github.com/abin24/Magnetic-tile-defect-datasets. with the folders
# MT_{Free,Blowhole,Break,Crack,Fray,Uneven}/Imgs; DATA/magnetic_tile is made. The good images in
# magnetic_tile_test_good.txt are tested on, the others (MT_Free) trained on: all exposures of one
# tile are on one side.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -eq 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
source=$1
target=$2/magnetic_tile
die() { echo "magnetic_tile.sh: $*" >&2; exit 1; }

[ ! -e "$target" ] || die "$target is there already"
for kind in Free Blowhole Break Crack Fray Uneven; do
  [ -d "$source/MT_$kind/Imgs" ] || die "$source/MT_$kind/Imgs is missing"
done
while read -r name; do
  [ -e "$source/MT_Free/Imgs/$name" ] || die "$source/MT_Free/Imgs/$name is missing"
done <"$here/magnetic_tile_test_good.txt"

place() { ln "$1" "$2" 2>/dev/null || cp "$1" "$2"; }

# Moved to its place when it is complete.
part=$target.part
rm -rf "$part"
mkdir -p "$part"/{train,test}/good
for image in "$source"/MT_Free/Imgs/*.jpg; do
  name=$(basename "$image")
  split=train
  if grep -qxF "$name" "$here/magnetic_tile_test_good.txt"; then split='test'; fi
  place "$image" "$part/$split/good/$name"
done
for kind in Blowhole Break Crack Fray Uneven; do
  mkdir -p "$part"/{test,ground_truth}/"${kind,,}"
  for image in "$source/MT_$kind/Imgs"/*.jpg; do
    stem=$(basename "$image" .jpg)
    place "$image" "$part/test/${kind,,}/$stem.jpg"
    place "${image%.jpg}.png" "$part/ground_truth/${kind,,}/${stem}_mask.png"
  done
done
mv "$part" "$target"
for folder in "$target"/{train,test}/*; do
  echo "${folder#"$2"/}: $(find "$folder" -type f | wc -l) images"
done
