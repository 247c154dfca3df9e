#!/usr/bin/env bash
# Creates the virtual environment given as $1 with the pinned dependencies of the file $2. PYTHON chooses the
# interpreter.
set -euo pipefail
venv=$1
pins=$2
python=${PYTHON:-python3}

fail() { echo "set-up: $*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else return 127; fi; }

command -v "$python" >/dev/null || fail "$python is not installed; install Python 3.11 or newer (apt install python3 python3-venv)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old; Python 3.11 or newer is needed"

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "set-up: installing python3-venv"
    { as_root apt-get update -qq && as_root apt-get install -y -qq python3-venv >/dev/null; } ||
        fail "Python's venv module is missing; install it with: apt install python3-venv"
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "set-up: installing pinned dependencies into $venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
"$venv/bin/pip" install --quiet --require-hashes -r "$pins"
"$venv/bin/pip" install --quiet --no-deps --no-build-isolation --editable .
