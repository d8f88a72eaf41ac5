#!/usr/bin/env bash
# Tells an unpacked package where LibTorch is: makes the link lib/torch. Without it the programs do not
# start ("libtorch_cpu.so: cannot open shared object file"). Run it again to take another LibTorch.
#
#   ./setup.sh [--torch DIR]
#
#   --torch DIR   the folder torch of a Python's site-packages, or an unpacked LibTorch; without it,
#                 the torch of python3 on the PATH
set -euo pipefail

series=@torch_series@
cuda=@cuda_series@  # the major version that the CUDA part was built with
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

case ${1-} in
  '') [ $# = 0 ] || fail "the folder's name is empty"
    # Looked for without loading it, which takes seconds.
    root=$(python3 -c 'import importlib.util as util
found = util.find_spec("torch")
print(found.submodule_search_locations[0] if found else "")' 2>/dev/null) || true
    [ -n "$root" ] ||
      fail "python3 has no torch: pip install 'torch==$series.*', or name its folder with --torch DIR" ;;
  --torch) [ $# = 2 ] || fail "--torch wants a folder: ./setup.sh --torch DIR"
    root=$2 ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac

[ -d "$root" ] || fail "there is no folder $root"
[ ! -e "$root/torch/lib/libtorch_cpu.so" ] || root=$root/torch
root=$(cd "$root" && pwd -P)
[ -e "$root/lib/libtorch_cpu.so" ] || fail "$root has no lib/libtorch_cpu.so"

# The wheel says its version in version.py, LibTorch's archive in build-version, all in a header.
version=$(sed -n "s/^__version__ = '\(.*\)'.*/\1/p" "$root/version.py" 2>/dev/null) || true
[ -n "$version" ] || version=$(head -n 1 "$root/build-version" 2>/dev/null) || true
[ -n "$version" ] ||
  version=$(cat "$root"/include/torch/{headeronly,csrc/api/include/torch}/version.h 2>/dev/null |
    awk '$2 ~ /^TORCH_VERSION_(MAJOR|MINOR|PATCH)$/ { printf "%s%s", dot, $3; dot = "." }') || true
case $version in
  "$series" | "$series".*) ;;
  *) fail "$root is torch ${version:-of an unknown version}, but this package needs $series: pip" \
          "install 'torch==$series.*', or name another with --torch DIR" ;;
esac

ln -sfnT "$root/lib" "$here/lib/torch"
problem=$("$here/bin/efficientad" --version 2>&1 >/dev/null) ||
  fail "torch $version is linked, but the programs do not start: ${problem##*$'\n'}"
printf 'torch %s in %s\n' "$version" "$root"
if [ ! -e "$root/lib/libtorch_cuda.so" ]; then
  echo "It has no CUDA: the programs will run on the CPU."
elif [ -n "$cuda" ] && [[ $version == *+cu* ]] && [[ $version != *+cu${cuda}[0-9] ]]; then
  echo "It is not for CUDA $cuda: the package's own CUDA part will not load."
fi
