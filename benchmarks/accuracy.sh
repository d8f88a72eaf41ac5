#!/usr/bin/env bash
# Accuracy of a shipped configuration on data sets in MVTec AD layout: trains, evaluates, prints a
# Markdown table. What is done already is kept, so a stopped run goes on.
#
#   benchmarks/accuracy.sh DATA OUTPUT CATEGORY… [-- train options…]
#   benchmarks/accuracy.sh ~/data runs magnetic_tile aliens
#   benchmarks/accuracy.sh ~/data runs_random magnetic_tile aliens -- --teacher random
#
# DATA holds the folders CATEGORY/{train,test,ground_truth}. CONFIG=FILE names another configuration
# than configs/train_fast.json, SEEDS="0 1 2" more than the first seed. Other options, another OUTPUT.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=${EFFICIENTAD:-$here/build/release/bin/efficientad}
config=${CONFIG:-$here/configs/train_fast.json}
[ $# -ge 3 ] || { sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
data=$1
output=$2
shift 2
categories=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do categories+=("$1"); shift; done
[ $# -eq 0 ] || shift

value() { grep -m1 "\"$2\":" "$1" | sed 's/.*: *//; s/,$//'; }

rows=""
for category in "${categories[@]}"; do
  for seed in ${SEEDS:-0}; do
    run=$output/$category/seed_$seed
    mkdir -p "$output/$category"
    if [ -e "$run.command" ] && [ "$(cat "$run.command")" != "$config $*" ]; then
      echo "accuracy.sh: $run was made with \"$(cat "$run.command")\"; give another OUTPUT" >&2
      exit 2
    fi
    printf '%s\n' "$config $*" >"$run.command"
    if [ ! -e "$run/model.safetensors" ]; then
      resume=()
      [ ! -e "$run/checkpoint.safetensors" ] || resume=(--resume)
      "$program" train --config "$config" --dataset mvtec --data "$data" --category "$category" \
        --output "$run" --seed "$seed" "${resume[@]}" "$@"
    fi
    [ -e "$run/report/report.json" ] ||
      "$program" eval --model "$run/model.safetensors" --dataset mvtec --data "$data" \
        --category "$category" --output "$run/report"
    report=$run/report/report.json
    seconds=$(tail -n 1 "$run/train_log.csv" | cut -d, -f2)
    steps=$(tail -n 1 "$run/train_log.csv" | cut -d, -f1)
    rows+="| $category | $seed | $steps | $seconds | $(value "$report" image_auroc) "
    rows+="| $(value "$report" image_auroc_by_defect_mean) | $(value "$report" pixel_auroc) |"$'\n'
  done
done
echo "| category | seed | steps | training seconds | image AUROC | mean over defect kinds | pixel AUROC |"
echo "|---|---|---|---|---|---|---|"
printf '%s' "$rows"
