#!/usr/bin/env bash
# Every test, in two halves side by side: whole processes, which mostly wait, and the rest, which computes.
# Usage: tests.sh PYTHON. Both halves are always run to their end; what the first one wrote comes last.
set -uo pipefail
python=$1
log=$(mktemp)
"$python" -m pytest tests/system >"$log" 2>&1 &
system=$!
trap 'kill "$system" 2>/dev/null; wait "$system" 2>/dev/null; cat "$log"; rm -f "$log"' EXIT
trap 'exit 130' INT TERM
"$python" -m pytest --ignore=tests/system
rest=$?
wait "$system"
code=$?
echo "tests/system:"
exit $((code > rest ? code : rest))
