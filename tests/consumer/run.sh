#!/usr/bin/env bash
# Installs the build in $1 into a temporary folder, builds the consumer against it and runs it.
set -euo pipefail
build=$1
libtorch=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cmake --install "$build" --prefix "$temporary/prefix" >/dev/null
cmake -S "$here" -B "$temporary/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$temporary/prefix" -DLIBTORCH_ROOT="$libtorch" >/dev/null
cmake --build "$temporary/build"
[ "$("$temporary/build/consumer")" = "$("$temporary/prefix/bin/efficientad" --version |
  sed 's/efficientad \([^ ]*\) .*/\1/') 2.0" ]
echo "consumer: the installed library and programs work"
