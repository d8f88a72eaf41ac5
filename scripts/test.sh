#!/usr/bin/env bash
# Sets up, builds and runs every test. Arguments go to ctest: scripts/test.sh -R golden
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/build.sh release -DEFFICIENTAD_BUILD_TESTS=ON
scripts/check_format.sh
ctest --preset release --parallel "${EFFICIENTAD_JOBS:-$(nproc)}" "$@"
