#!/usr/bin/env bash
# Times training steps on the CPU beside anomalib's: batch 1, float32, the paper's step, alternately
# in one run. Prints a Markdown table.
#
#   benchmarks/peers/training.sh [--sizes small medium] [--rounds 5] [--steps 10] [--threads 2]
#
# EFFICIENTAD=FILE names the program, PEERS=DIR where anomalib is installed (with pip, several GB),
# default ~/.cache/efficientad/peers.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/install.sh"
exec "$peers/bin/python" "$here/training.py" "$@"
