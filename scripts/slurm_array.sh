#!/usr/bin/env bash
# scripts/benchmark.sh as a Slurm array: each task has its part of the categories; the last table is
# made by `efficientad collect OUTPUT --output OUTPUT` when all are done.
#
#   sbatch --array=1-5 scripts/slurm_array.sh DATA OUTPUT [-- train options…]
#
# With GNU parallel instead: parallel SHARD={}/5 scripts/benchmark.sh DATA OUTPUT ::: 1 2 3 4 5
#SBATCH --job-name=efficientad
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
set -euo pipefail
: "${SLURM_ARRAY_TASK_ID:?start it with sbatch --array=1-N}"
if [ "${SLURM_ARRAY_TASK_MIN:-1}" != 1 ] ||
  [ "${SLURM_ARRAY_TASK_COUNT:-$SLURM_ARRAY_TASK_MAX}" != "$SLURM_ARRAY_TASK_MAX" ]; then
  echo "slurm_array.sh: number the tasks from 1 without gaps, as in sbatch --array=1-5" >&2
  exit 2
fi
# Slurm runs a copy of this script; the folder that sbatch was called in holds the sources.
SHARD=$SLURM_ARRAY_TASK_ID/${SLURM_ARRAY_TASK_MAX:?} exec "${SLURM_SUBMIT_DIR:-.}/scripts/benchmark.sh" "$@"
