#!/usr/bin/env bash
# Sets up (setup.sh) and builds a preset: scripts/build.sh [release|dev|asan] [cmake options…]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh

preset=${1:-release}
shift || true
launcher=()
if command -v ccache >/dev/null; then
  launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  # What a precompiled header needs of ccache.
  export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS:-pch_defines,time_macros}
fi
cmake --preset "$preset" -DLIBTORCH_ROOT="$LIBTORCH_ROOT" "${launcher[@]}" "$@" >/dev/null
cmake --build --preset "$preset" --parallel "${EFFICIENTAD_JOBS:-$(nproc)}"
