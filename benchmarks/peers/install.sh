# Sourced: installs what our program is compared with, once. Sets $peers and $EFFICIENTAD.
peers=${PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/efficientad/peers}
export EFFICIENTAD=${EFFICIENTAD:-$here/../../build/release/bin/efficientad}
if ! cmp -s "$here/requirements.txt" "$peers/installed"; then
  python3 -m venv "$peers"
  "$peers/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
  cp "$here/requirements.txt" "$peers/installed"
fi
