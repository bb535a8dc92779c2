#!/bin/sh
# Makes .venv with the machine's own python3 and exactly the locked packages.
#   deploy/venv.sh LOCKFILE
# Fast when nothing changed: .venv/.installed keeps the digests of the locks that were installed.
set -eu
lock=$1
stamp=.venv/.installed
want=$(cat "$lock" pyproject.toml | sha256sum | cut -d' ' -f1)
if [ -f "$stamp" ] && grep -q "$want" "$stamp"; then exit 0; fi

python=
for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || { echo "nircam-darks needs Python 3.11, 3.12 or 3.13; set PYTHON=/path/to/one" >&2; exit 2; }

if command -v uv >/dev/null 2>&1; then
    [ -x .venv/bin/python ] || uv venv -q --python "$("$python" -c 'import sys; print(sys.executable)')" .venv
    uv pip install -q --python .venv/bin/python --require-hashes -r "$lock"
    uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .
else
    if [ ! -x .venv/bin/pip ] && ! "$python" -m venv .venv; then
        # Debian ships python3 without ensurepip.
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
            apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv
            rm -rf .venv && "$python" -m venv .venv
        else
            echo "python3 cannot make virtual environments here; as root: apt-get install python3-venv" >&2
            exit 2
        fi
    fi
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r "$lock"
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
fi
echo "$want" >>"$stamp"
