#!/usr/bin/env bash
# One pass over what only a machine with a GPU can tell, for an unpacked package (package.sh): tests,
# CUDA engine against the CPU reference, latency, throughput and training speed beside PyTorch and
# anomalib, and, with data, accuracy and a short distillation. Each part has its own time limit; one
# that fails does not stop the others. Needs a python3 with a CUDA torch.
#
#   scripts/gpu_check.sh --package DIR [--output DIR] [--minutes 9] [--data DIR]
#                        [--images DIR --backbone FILE] [--anomalib DIR] [--only LIST]
#
#   --output DIR    gpu_check.json, gpu_check.md and logs.tar.gz (default gpu_check)
#   --data DIR      a category in MVTec AD layout: trains on it, AUROC in fp32, fp16 and bf16
#   --images DIR    photographs, and --backbone FILE for `efficientad distill`
#   --anomalib DIR  anomalib's sources or wheel, see benchmarks/peers/gpu_training.py
#   --only LIST     of tests,verify,sanitizer,latency,throughput,peers,compile,training,auroc,distill
#   --device cpu    to try this script without a GPU
#
# PYTHON names the python3, DISTILL_OPTIONS has more options for distill. Exit status: 0 done, 1 a
# test, comparison or measurement failed, 2 no GPU or bad usage.
set -uo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
peers=$here/benchmarks/peers
python=${PYTHON:-python3}
usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
say() { printf '%s\n' "$*" >&2; }

package='' output=gpu_check minutes=9 data='' images='' backbone='' anomalib=none only=all device=cuda
called="scripts/gpu_check.sh $*"
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --package) package=$2 ;;
    --output) output=$2 ;;
    --minutes) minutes=$2 ;;
    --data) data=$2 ;;
    --images) images=$2 ;;
    --backbone) backbone=$2 ;;
    --anomalib) anomalib=$2 ;;
    --only) only=$2 ;;
    --device) device=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[ -n "$package" ] || usage
[[ $minutes =~ ^[1-9][0-9]*$ ]] || usage
package=$(realpath -m -- "$package")
program=$package/bin/efficientad
[ -x "$program" ] || { say "gpu_check: $package has no bin/efficientad"; exit 2; }
if [ "$device" != cpu ] && ! nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
  say "gpu_check: there is no GPU here (nvidia-smi finds none)"
  exit 2
fi
mkdir -p "$output" && output=$(realpath -- "$output") || exit 2
work=$(mktemp -d "${TMPDIR:-/tmp}/gpu_check.XXXXXX") && mkdir "$work/logs" "$work/pids" || exit 2
export EFFICIENTAD=$program PYTHONUNBUFFERED=1
cores=$(nproc)
# The last seconds are for the report.
deadline=$((minutes * 60 - 10))
# Until when a part may run.
until=$deadline
printf '%s\n' "$called" >"$work/logs/called"

engine=cuda precisions="fp32 fp16 bf16" batches="1 16" lanes=4
latency=(--batch 1 --warmup 1000 --runs 1000)
peer_runs=(--warmup 200 --runs 500 --seconds 0.6)
training_runs=(--warmup 100 --steps 300)
auroc_steps=1000 distill_steps=200 model_limit=60 peer_engines=(eager graph)
if [ "$device" = cpu ]; then
  engine=cpu precisions=fp32 batches=1 lanes=1
  latency=(--batch 1 --warmup 1 --runs 3)
  peer_runs=(--warmup 1 --runs 2 --seconds 0 --batches 1 --compile-batches 1)
  training_runs=(--warmup 1 --steps 2 --precisions fp32 --no-autocast)
  auroc_steps=3 distill_steps=3 model_limit=300 peer_engines=(eager)
fi

wants() { [ "$only" = all ] || [[ ,$only, == *,$1,* ]]; }

record() {  # name, exit status or word, seconds, limit, command…
  local name=$1 rc=$2 seconds=$3 limit=$4
  shift 4
  printf '%s\t%s\t%s\t%s\t%s\n' "$name" "$rc" "$seconds" "$limit" "${*//[$'\t\n']/ }" \
    >>"$work/logs/steps.tsv"
}

# step NAME LIMIT COMMAND…: stdout in logs/NAME.out, stderr in logs/NAME.log.
step() {
  local name=$1 limit=$2 rc=0 begin left pid seconds trimmed
  shift 2
  left=$((until - SECONDS))
  trimmed=no
  if [ "$limit" -gt "$left" ]; then limit=$left trimmed=yes; fi
  if [ "$limit" -lt 5 ]; then
    record "$name" skipped 0 "$limit" "$*"
    say "$(printf '%6s s  %s: no time left' "$SECONDS" "$name")"
    return 1
  fi
  begin=$EPOCHREALTIME
  timeout -k 5 "$limit" "$@" >"$work/logs/$name.out" 2>"$work/logs/$name.log" </dev/null &
  pid=$!
  : >"$work/pids/$pid"
  wait "$pid" || rc=$?
  rm -f "$work/pids/$pid"
  # One that ran out of the time that was left is no failure.
  if [ $trimmed = yes ] && { [ $rc = 124 ] || [ $rc = 137 ]; }; then rc=skipped; fi
  seconds=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
  record "$name" "$rc" "$seconds" "$limit" "$*"
  say "$(printf '%6s s  %s: status %s after %s s  %s' "$SECONDS" "$name" "$rc" "$seconds" \
    "$(tail -n 1 "$work/logs/$name.out" | cut -c 1-150)")"
  if [ "$rc" != 0 ]; then tail -n 3 "$work/logs/$name.log" | cut -c 1-300 >&2; fi
  [ "$rc" != skipped ] || return 1
  return "$rc"
}

failed=0 stopped=0
report() {
  "$python" "$here/scripts/gpu_check.py" collect "$work/logs" "$output" >"$work/summary" || failed=1
  tar -czf "$work/logs.tar.gz" -C "$work" logs && mv "$work/logs.tar.gz" "$output/logs.tar.gz"
}

finish() {
  trap - EXIT INT TERM
  local pid
  for pid in "$work"/pids/*; do
    [ ! -e "$pid" ] || kill "$(basename "$pid")" 2>/dev/null
  done
  failed=$stopped
  report
  cat "$work/summary"
  rm -rf "$work"
  exit "$failed"
}
trap finish EXIT
trap 'stopped=1; exit 1' INT TERM

# No more than $lanes of the jobs that this shell started.
lane() { while [ "$(jobs -rp | wc -l)" -ge "$lanes" ]; do wait -n; done; }

# It takes nearly all of the GPU's memory, so nothing may run beside it.
greedy='*TooLargeABatchIsHalved*'

gpu_tests() {
  local test name
  for test in "$package"/tests/*_gpu_tests; do
    [ -x "$test" ] || continue
    name=$(basename "$test")
    step "tests-$name" 120 "$test" --gtest_color=no --gtest_filter=-"$greedy" ||
      tests_apart "$test" "$name"
  done
}

# After a failure: each test that did not pass in a process of its own, for a GPU's error stays with a
# process, and what follows then fails too.
tests_apart() {
  local log=$work/logs/tests-$2.out
  "$1" --gtest_list_tests 2>/dev/null | awk '/^[^ ]/ { suite = $1 } /^ / { print suite $1 }' |
    grep -v TooLargeABatchIsHalved |
    grep -vxF -f <(sed -n 's/^\[ *\(OK\|SKIPPED\) *\] \([^ ]*\).*/\2/p' "$log") >"$work/left"
  [ -s "$work/left" ] || return 0
  # shellcheck disable=SC2016
  step "apart-$2" 90 xargs -a "$work/left" -d '\n' -P 4 -I '{}' bash -c '
    timeout -k 5 60 "$1" --gtest_color=no --gtest_filter="$2" >"$3/apart-${2//\//_}.txt" 2>&1
    echo "$2 $?"' - "$1" '{}' "$work/logs"
}

model_of() { printf '%s' "$work/model-$1/model.safetensors"; }

quick_model() {  # size: a model that is hardly trained, made on the CPU, or else on the GPU
  local teacher=$package/models/teacher_$1.safetensors
  local options=(--dataset loco --data "$work/synth" --category tray --output "$work/model-$1"
    --model-size "$1" --steps 20 --shots 16 --workers 4 --overwrite)
  [ -e "$teacher" ] || teacher=random
  options+=(--teacher "$teacher")
  step "model-$1" "$model_limit" "$program" train "${options[@]}" --device cpu --threads \
    $(((cores + 1) / 2)) ||
    step "model-$1-again" 40 "$program" train "${options[@]}" --device "$device"
}

verify_all() {
  local size precision batch files
  mapfile -t files < <(find "$work/synth/tray/test" -name '*.png' | sort | head -n 16)
  for batch in $batches; do
    for size in small medium; do
      for precision in $precisions; do
        lane
        step "verify-$size-$precision-$batch" 120 "$program" verify --model "$(model_of $size)" \
          --device "$device" --engine "$engine" --precision "$precision" --batch "$batch" \
          --threads $(((cores + lanes - 1) / lanes)) --json "${files[@]}" &
      done
    done
  done
  wait
}

sanitizer() {
  local tool test options
  tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) || return
  options=(--tool memcheck --report-api-errors no --leak-check no --error-exitcode 99
    --print-limit 10)
  step sanitizer-bench 120 "$tool" "${options[@]}" "$program" bench --model "$(model_of small)" \
    --device "$device" --engine "$engine" --precision fp16 --batch 2 --warmup 1 --runs 1 --json &
  for test in "$package"/tests/*engine*_gpu_tests; do
    [ ! -x "$test" ] || step "sanitizer-$(basename "$test")" 120 "$tool" "${options[@]}" "$test" \
      --gtest_color=no --gtest_filter='CudaOperations.*:ConvReluPool*:*Equalizes*:-*InAnyOrder*' &
  done
  wait
}

auroc() {
  local precision
  step auroc-train 100 "$program" train --config "$package/configs/train_fast.json" \
    --dataset mvtec --data "$data" --output "$work/auroc" --steps $auroc_steps --device "$device" \
    --workers 4 --json || return
  for precision in $precisions; do
    step "auroc-$precision" 150 "$program" eval --model "$work/auroc/model.safetensors" \
      --dataset mvtec --data "$data" --output "$work/auroc-$precision" --device "$device" \
      --engine "$engine" --precision "$precision" --threads 4 --json &
  done
  local files
  mapfile -t files < <(find "$data/test" -type f | sort | awk 'NR % 5 == 1' | head -n 16)
  for precision in $precisions; do
    step "verify-trained-$precision-1" 120 "$program" verify \
      --model "$work/auroc/model.safetensors" --device "$device" --engine "$engine" --precision \
      "$precision" --batch 1 --threads 4 --json "${files[@]}" &
  done
  wait
}

bench() {  # NAME SIZE PRECISION LIMIT [options…]
  step "$1-$2-$3" "$4" "$program" bench --model "$(model_of "$2")" --device "$device" --engine \
    "$engine" --precision "$3" --json "${latency[@]}" "${@:5}"
}

describe() {
  "$python" "$here/scripts/gpu_check.py" describe >"$work/logs/about.json" 2>"$work/logs/about.log"
  cat "$work/logs/about.json" >&2
}

if [ ! -e "$package/lib/torch/libtorch_cpu.so" ] && [ -x "$package/setup.sh" ]; then
  step setup 60 env PATH="$(dirname "$(command -v "$python")"):$PATH" "$package/setup.sh"
fi
step synth 60 "$program" synth --output "$work/synth" --images 60

half=fp16
autotuned=(--engines max-autotune-no-cudagraphs --compile-batches 16)
if [ "$device" = cpu ]; then half=fp32; fi
if [ "$device" = cpu ] || [ ! -e "$peers/gpu_inference.py" ]; then compile=no; else compile=yes; fi
wants compile || compile=no

# What is not timed, side by side.
describe &
if wants verify || wants sanitizer || wants latency || wants throughput; then
  quick_model small &
  quick_model medium &
fi
wait
until=$((SECONDS + 150))
[ $until -le $deadline ] || until=$deadline
export OMP_WAIT_POLICY=passive
if wants tests; then gpu_tests & fi
if [ -n "$data" ] && wants auroc; then auroc & fi
if [ $compile = yes ]; then
  # So that compiling costs no time later: its results are kept in a folder.
  export TORCHINDUCTOR_CACHE_DIR=$work/inductor TORCHINDUCTOR_COMPILE_THREADS=4
  first=(--warmup 1 --runs 1 --seconds 0 --compile-limit 140)
  for size in small medium; do
    step "compile-$size" 140 "$python" "$peers/gpu_inference.py" --output "$work/compile-$size" \
      --sizes $size --engines reduce-overhead "${first[@]}" &
    step "autotune-$size" 110 "$python" "$peers/gpu_inference.py" --output "$work/autotune-$size" \
      --sizes $size "${autotuned[@]}" "${first[@]}" &
  done
fi
if wants sanitizer && [ "$device" != cpu ]; then sanitizer & fi
if wants verify; then verify_all & fi
wait
until=$deadline
if wants tests && [ -x "$package/tests/efficientad_engine_gpu_tests" ]; then
  # And the orders of the networks, which are tried only where nothing else slows them.
  step tests-memory 120 "$package/tests/efficientad_engine_gpu_tests" --gtest_color=no \
    --gtest_filter="$greedy:*BranchesMeetAgain*:*InAnyOrder*:*IsTheReference*"
fi
unset OMP_WAIT_POLICY
report

# What is timed, one after another; what matters most first.
for size in small medium; do
  if wants latency; then bench latency $size $half 40; fi
done
if wants peers && [ -e "$peers/gpu_inference.py" ]; then
  step peers 100 "$python" "$peers/gpu_inference.py" --output "$work/logs/peers.json" --device \
    "$device" --engines "${peer_engines[@]}" --limit 90 "${peer_runs[@]}"
fi
for size in small medium; do
  if wants throughput; then bench throughput $size $half 60 --throughput; fi
done
report
if wants training && [ -e "$peers/gpu_training.py" ]; then
  step training 180 "$python" "$peers/gpu_training.py" --output "$work/logs/training.json" \
    --device "$device" --anomalib "$anomalib" --limit 60 "${training_runs[@]}"
fi
report
if [ $compile = yes ]; then
  step peers-compiled 90 "$python" "$peers/gpu_inference.py" --output \
    "$work/logs/peers-compiled.json" --engines reduce-overhead --compile-limit 50 "${peer_runs[@]}"
fi
if [ -n "$images" ] && [ -n "$backbone" ] && wants distill; then
  # shellcheck disable=SC2086
  step distill 90 "$program" distill --backbone "$backbone" --images "$images" --output \
    "$work/teacher.safetensors" --device "$device" --steps $distill_steps --max-images 500 --json \
    ${DISTILL_OPTIONS:-}
fi
if wants latency && [ "$device" != cpu ]; then
  latency=(--batch 1 --warmup 200 --runs 500)
  for size in small medium; do
    for precision in bf16 fp32; do bench latency $size $precision 30; done
  done
fi
if [ $compile = yes ]; then
  step peers-autotuned 60 "$python" "$peers/gpu_inference.py" --output \
    "$work/logs/peers-autotuned.json" --compile-limit 28 "${peer_runs[@]}" "${autotuned[@]}"
fi
