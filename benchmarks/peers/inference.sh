#!/usr/bin/env bash
# Times CPU inference of one model beside anomalib's network in PyTorch, ONNX Runtime and OpenVINO:
# same weights, same image, same threads, alternately in one run. Prints a Markdown table.
#
#   benchmarks/peers/inference.sh MODEL.safetensors… [-- --threads 2 --rounds 15]
#
# EFFICIENTAD=FILE names the program, PEERS=DIR where the others are installed (with pip, several
# GB), default ~/.cache/efficientad/peers.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
source "$here/install.sh"
exec "$peers/bin/python" "$here/inference.py" "$@"
