#!/usr/bin/env bash
# Trains and evaluates all categories of a data set, in the sizes and with the seeds that are asked
# for, and collects the figures in a table beside the published ones. What is done is kept, so a
# stopped run goes on; several machines share the work by parts of the categories.
#
#   scripts/benchmark.sh DATA OUTPUT [-- train options…]
#   SIZES="small medium" SEEDS="0 1 2" scripts/benchmark.sh ~/mvtec_ad runs/mvtec_ad
#   SHARD=2/4 scripts/benchmark.sh ~/visa runs/visa        # every fourth category, from the second on
#
# What fails does not stop the rest; the exit status is then 1. DATASET=LAYOUT: if its folders do not
# tell. CONFIG=FILE: training options (default configs/train_fast.json). EFFICIENTAD=FILE: the
# program.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=${EFFICIENTAD:-$here/build/release/bin/efficientad}
config=${CONFIG:-$here/configs/train_fast.json}
[ $# -ge 2 ] || { sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
data=$1
output=$2
shift 2
if [ $# -gt 0 ]; then
  [ "$1" = -- ] || { echo "benchmark.sh: put -- before train options, as in -- $*" >&2; exit 2; }
  shift
fi

layout=(--dataset "${DATASET:-auto}")
status=0
shard=()
[ -z "${SHARD:-}" ] || shard=(--shard "$SHARD")
interrupted=
trap 'interrupted=1' INT TERM
# A category that failed lets the others go on; wrong options and Ctrl-C do not.
failed() {
  # 126, 127: the program cannot be started.
  if [ "$1" = 2 ] || [ "$1" = 126 ] || [ "$1" = 127 ] || [ -n "$interrupted" ]; then exit "$1"; fi
  status=1
}
for size in ${SIZES:-small}; do
  for seed in ${SEEDS:-0}; do
    runs=$output/$size/seed_$seed
    "$program" train --config "$config" --model-size "$size" --seed "$seed" --data "$data" \
      "${layout[@]}" --category all "${shard[@]}" --output "$runs" "$@" || failed "$?"
    "$program" eval --model "$runs" --data "$data" "${layout[@]}" --category all "${shard[@]}" \
      --output "$runs/reports" || failed "$?"
  done
done
"$program" collect "$output" --output "$output"
exit "$status"
