#!/usr/bin/env bash
# Makes efficientad-VERSION-linux-x86_64.tar.gz: the programs, the CUDA part (if the CUDA toolkit is
# here), the teachers, the configurations and the tests that need a GPU, for machines with neither
# OpenCV nor a compiler. LibTorch is not in it: the package's own setup.sh (package_setup.sh here)
# finds an installed torch. The oldest glibc and libstdc++ that will do are named at the end.
#
#   scripts/package.sh [--output DIR] [--opencv DIR] [--no-tests] [-- cmake options…]
#
#   --output DIR   where the package is written (default build/package)
#   --opencv DIR   a static OpenCV 4 (core, imgproc, imgcodecs) as installed by its own build; without
#                  it, one is fetched from PyPI (95 MB) and built, once, into EFFICIENTAD_DEPS_DIR
#   --no-tests     leave the tests out
#
# LIBTORCH_ROOT and EFFICIENTAD_DEPS_DIR are as in setup.sh, EFFICIENTAD_JOBS as in build.sh. The CUDA
# part exchanges gradients by NCCL only if nccl.h is found: -- -DNCCL_INCLUDE_DIR=DIR
set -euo pipefail

opencv_sdist="opencv-python-headless-4.12.0.88.tar.gz"
opencv_sha256=cfdc017ddf2e59b6c2f53bc12d74b6b0be7ded4ec59083ea70763921af2b6c09

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

output=build/package
opencv=
tests=ON
while [ $# -gt 0 ]; do
  case $1 in
    --output) [ $# -ge 2 ] || usage; output=$(realpath -m -- "$2"); shift 2 ;;
    --opencv) [ $# -ge 2 ] || usage; opencv=$(realpath -m -- "$2"); shift 2 ;;
    --no-tests) tests=OFF; shift ;;
    --) shift; break ;;
    *) usage ;;
  esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh
fail() { say "package: $*"; exit 1; }

build=build/package
stage=$build/stage
jobs=${EFFICIENTAD_JOBS:-$(nproc)}
launcher=()
c_launcher=()
if command -v ccache >/dev/null; then
  launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  c_launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
  # What a precompiled header needs of ccache.
  export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS:-pch_defines,time_macros}
fi
if command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi

# Fetches a source archive of PyPI's opencv-python-headless into the file $1. Not with pip, which would
# first install what the Python package needs to be built.
fetch_opencv() {
  python3 - "$opencv_sdist" "$opencv_sha256" "$1" <<'PYTHON'
import hashlib, html, os, re, sys, urllib.parse, urllib.request

name, sha256, target = sys.argv[1:]
index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
page = f"{index}/opencv-python-headless/"
try:
    with urllib.request.urlopen(page, timeout=60) as answer:
        links = re.findall(r'href="([^"]+)"', answer.read().decode())
    links = [urllib.parse.urljoin(page, html.unescape(link)) for link in links]
    links = [link for link in links if urllib.parse.urlparse(link).path.endswith("/" + name)]
    if not links:
        sys.exit(f"package: {page} has no {name}")
    digest = hashlib.sha256()
    with urllib.request.urlopen(links[0], timeout=60) as answer, open(target, "wb") as file:
        while block := answer.read(1 << 20):
            digest.update(block)
            file.write(block)
except OSError as error:
    sys.exit(f"package: {name} cannot be fetched ({error}); name an installed one with --opencv DIR")
if digest.hexdigest() != sha256:
    sys.exit(f"package: {name} is not what it was: its SHA-256 is {digest.hexdigest()}")
PYTHON
}

# Builds OpenCV into the folder $1: what reads and writes the image formats that the programs know, with
# the libraries for them that libtiff uses too.
build_opencv() {
  local work prefix=$1
  mkdir -p "$(dirname "$prefix")"
  work=$(mktemp -d "$prefix.XXXXXX")
  say "package: fetching $opencv_sdist and building it in $work"
  fetch_opencv "$work/sdist.tar.gz"
  tar -xzf "$work/sdist.tar.gz" -C "$work" --strip-components=1 --wildcards '*/opencv/*'
  cmake -S "$work/opencv" -B "$work/build" "${launcher[@]}" "${c_launcher[@]}" \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$work/installed" \
    -DBUILD_LIST=core,imgproc,imgcodecs -DBUILD_SHARED_LIBS=OFF \
    -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
    -DBUILD_JPEG=OFF -DBUILD_PNG=OFF -DBUILD_TIFF=OFF -DBUILD_ZLIB=OFF -DBUILD_WEBP=OFF \
    -DBUILD_TESTS=OFF -DBUILD_PERF_TESTS=OFF -DBUILD_EXAMPLES=OFF -DBUILD_opencv_apps=OFF \
    -DBUILD_opencv_python3=OFF -DOPENCV_PYTHON_SKIP_DETECTION=ON -DBUILD_JAVA=OFF \
    -DOPENCV_GENERATE_PKGCONFIG=OFF -DWITH_PTHREADS_PF=ON \
    -DWITH_{IPP,OPENEXR,JASPER,OPENJPEG,AVIF,GDAL,GDCM,ITT,OPENCL,LAPACK,EIGEN,PROTOBUF,ADE}=OFF \
    -DWITH_{FFMPEG,GTK,QT,V4L,GSTREAMER,1394,TBB,OPENMP}=OFF >/dev/null
  cmake --build "$work/build" --parallel "$jobs" --target install >/dev/null
  mkdir -p "$work/installed/share/licenses/opencv4"
  cp "$work/opencv/LICENSE" "$work/installed/share/licenses/opencv4/LICENSE"
  rm -rf "$prefix"
  mv "$work/installed" "$prefix"
  rm -rf "$work"
}

if [ -z "$opencv" ]; then
  opencv=${EFFICIENTAD_DEPS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/efficientad}
  opencv=$(realpath -m "$opencv")/opencv-static-4.12.0
  [ -d "$opencv" ] || build_opencv "$opencv"
fi
[ -e "$opencv/lib/libopencv_core.a" ] || fail "$opencv has no lib/libopencv_core.a"
opencv_config=$(find "$opencv" -name OpenCVConfig.cmake -print -quit)
[ -n "$opencv_config" ] || fail "$opencv has no OpenCVConfig.cmake"

# A run path of the old kind (DT_RPATH), because it also serves the libraries that libraries need.
cmake -S . -B "$build" "${launcher[@]}" -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_LIBDIR=lib \
  -DLIBTORCH_ROOT="$LIBTORCH_ROOT" -DOpenCV_DIR="$(dirname "$opencv_config")" \
  -DEFFICIENTAD_BUILD_TESTS="$tests" -DEFFICIENTAD_LIBTORCH_RPATH='$ORIGIN/../lib/torch' \
  -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags,--gc-sections \
  "$@" >/dev/null
targets=(efficientad_programs)
[ $tests = OFF ] || targets+=(efficientad_gpu_tests)
cmake --build "$build" --parallel "$jobs" --target "${targets[@]}"

rm -rf "$stage"
version=$(sed -n 's/^CMAKE_PROJECT_VERSION:[A-Z]*=//p' "$build/CMakeCache.txt")
name=efficientad-$version-linux-x86_64
package=$PWD/$stage/$name
mkdir -p "$package/lib" "$package/licenses"
for component in "${targets[@]}"; do
  cmake --install "$build" --prefix "$package" --component "$component" --strip >/dev/null
done
mv "$package"/share/efficientad/* "$package"
rm -r "$package/share"
cp -r LICENSE README.md CONTRIBUTING.md CHANGELOG.md docs "$package"
[ -e "$package/lib/libefficientad_cuda.so" ] ||
  say "package: without the CUDA part, for there is no CUDA toolkit here"

# The versions that the package's setup.sh then asks for.
torch_series=$({ cat "$LIBTORCH_ROOT"/include/torch/{headeronly,csrc/api/include/torch}/version.h 2>/dev/null || true; } |
  awk '$2 == "TORCH_VERSION_MAJOR" { major = $3 } $2 == "TORCH_VERSION_MINOR" { minor = $3 }
       END { print major "." minor }')
cuda_series=
[ ! -e "$package/lib/libefficientad_cuda.so" ] ||
  cuda_series=$(objdump -p "$package/lib/libefficientad_cuda.so" | sed -n 's/.*NEEDED *libcudart\.so\.//p')
sed "s/@torch_series@/$torch_series/; s/@cuda_series@/$cuda_series/" scripts/package_setup.sh \
  > "$package/setup.sh"
chmod +x "$package/setup.sh"

# The licences of a distribution's package, from its name.
add_licence() {
  local copyright=/usr/share/doc/$1/copyright
  if [ -e "$copyright" ]; then cp -L "$copyright" "$package/licenses/$1.txt"
  else say "package: no licence of $1 here, add it to licenses/"; fi
}

# Left to the machine that runs the package. glibc and what GCC brings: the loader allows one glibc
# only, and LibTorch shares the C++ library with us. CUDA's libraries come with torch, the driver's
# with the driver.
of_the_machine() {
  case $1 in
    ld-linux*.so.*|libc.so.*|libm.so.*|libmvec.so.*|libpthread.so.*|libdl.so.*|librt.so.*) ;;
    libutil.so.*|libresolv.so.*|libanl.so.*|libstdc++.so.*|libgcc_s.so.*) ;;
    libcu*.so*|libnv*.so*) ;;
    *) return 1 ;;
  esac
}

# Copies into lib/ what the file $1 needs and neither the machine nor LibTorch has, and so on.
add_libraries() {
  local needed found owner
  for needed in $(objdump -p "$1" | awk '$1 == "NEEDED" { print $2 }'); do
    if of_the_machine "$needed" || [ -e "$package/lib/$needed" ] ||
       [ -e "$LIBTORCH_ROOT/lib/$needed" ]; then
      continue
    fi
    found=$(ldd "$1" | awk -v name="$needed" '$1 == name && $3 ~ "^/" { print $3 }')
    [ -n "$found" ] || fail "$1 needs $needed, which is not here"
    install -m 644 --strip "$found" "$package/lib/$needed"
    owner=$(dpkg -S "*/$(basename "$(realpath "$found")")" 2>/dev/null | head -n 1 | cut -d : -f 1) || true
    add_licence "${owner:-$needed}"
    add_libraries "$found"
  done
}

binaries=("$package"/bin/*)
[ ! -e "$package/lib/libefficientad_cuda.so" ] || binaries+=("$package/lib/libefficientad_cuda.so")
[ $tests = OFF ] || binaries+=("$package"/tests/*)
for binary in "${binaries[@]}"; do add_libraries "$binary"; done
# What is compiled in.
for header_package in libcli11-dev nlohmann-json3-dev libgtest-dev; do
  [ $tests = OFF ] && [ $header_package = libgtest-dev ] || add_licence $header_package
done
torch_licence=$(find -L "$LIBTORCH_ROOT" "$LIBTORCH_ROOT"/../torch-*.dist-info -maxdepth 2 -name LICENSE \
  -print -quit 2>/dev/null) || true
if [ -n "$torch_licence" ]; then cp "$torch_licence" "$package/licenses/libtorch.txt"
else say "package: no licence of LibTorch here, add it to licenses/"; fi
mkdir -p "$package/licenses/opencv"
cp "$opencv"/share/licenses/opencv4/* "$package/licenses/opencv" 2>/dev/null ||
  say "package: no licences in $opencv, add them to licenses/"

mkdir -p "$output"
archive=$output/$name.tar.gz
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$stage" -cf - "$name" | gzip -9 > "$archive.part"
mv "$archive.part" "$archive"
newest() { objdump -T "${binaries[@]}" "$package"/lib/* | grep -o "$1[0-9.]*" | sort -uV | tail -n 1; }
say "package: needs torch $torch_series, $(newest GLIBC_), $(newest GLIBCXX_)"
printf '%s (%s MB)\n' "$archive" "$(du --apparent-size -m "$archive" | cut -f 1)"
