#!/usr/bin/env bash
# Installs what the build needs and is missing: packages of the distribution (Debian 12, Ubuntu
# 24.04) and LibTorch, as the PyPI wheel unpacked into a private folder. Run again, it changes nothing.
#
#   LIBTORCH_ROOT=DIR        use this LibTorch (a folder with include/ and lib/) and download none
#   EFFICIENTAD_DEPS_DIR=DIR where the private folder is (default ~/.cache/efficientad)
#
# Sourced by build.sh and package.sh, which use LIBTORCH_ROOT afterwards.
set -euo pipefail

torch_version=2.11.0
packages=(build-essential cmake ninja-build ccache git python3-pip unzip libopencv-dev libcli11-dev
          nlohmann-json3-dev libspdlog-dev libgtest-dev libjpeg-dev libpng-dev
          libtiff-dev libhwy-dev)

say() { printf '%s\n' "$*" >&2; }

install_packages() {
  command -v dpkg-query >/dev/null || { say "setup: no dpkg here; install yourself: ${packages[*]}"; return; }
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
      missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local sudo=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { say "setup: as root, first: apt-get install ${missing[*]}"; exit 1; }
    sudo=(sudo)
  fi
  say "setup: installing ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >/dev/null
}

install_libtorch() {
  if [ -n "${LIBTORCH_ROOT:-}" ]; then
    [ -e "$LIBTORCH_ROOT/lib/libtorch_cpu.so" ] ||
      { say "setup: LIBTORCH_ROOT=$LIBTORCH_ROOT has no lib/libtorch_cpu.so"; exit 1; }
    export LIBTORCH_ROOT
    return
  fi
  local root=${EFFICIENTAD_DEPS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/efficientad}/libtorch-$torch_version
  if [ ! -e "$root/complete" ]; then
    say "setup: fetching LibTorch $torch_version (530 MB) into $root"
    mkdir -p "$root"
    local wheels
    rm -rf "$root"/wheels.??????
    wheels=$(mktemp -d "$root/wheels.XXXXXX")
    # Any Python version's wheel has the same C++ library.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
      --python-version 311 --implementation cp --platform manylinux_2_28_x86_64 \
      --platform manylinux_2_25_x86_64 --platform manylinux2014_x86_64 --dest "$wheels" \
      "torch==$torch_version" "nvidia-cuda-runtime>=13,<14" "nvidia-cuda-cupti>=13,<14"
    local wheel
    for wheel in "$wheels"/*.whl; do
      local status=0
      unzip -q -o "$wheel" 'torch/lib/*' 'torch/include/*' 'nvidia/*' 'torch-*/licenses/*' \
        'torch-*/LICENSE*' -d "$root" 2>/dev/null || status=$?
      # 11: a pattern without a match.
      if [ $status != 0 ] && [ $status != 11 ]; then
        say "setup: $wheel cannot be unpacked into $root (unzip ended with $status; is the disk full?)"
        exit 1
      fi
    done
    rm -rf "$wheels"
    touch "$root/complete"
  fi
  export LIBTORCH_ROOT=$root/torch
}

install_packages
install_libtorch
