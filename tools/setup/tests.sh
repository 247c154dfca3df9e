#!/usr/bin/env bash
# Every test, in three parts side by side: whole processes; the cloud's two ends and the scenarios; and the
# rest; without those that `make test-long` runs. Usage: tests.sh PYTHON. All parts are always run to their end;
# what they wrote comes part by part.
set -uo pipefail
python=$1
logs=$(mktemp -d)
pids=()
part() {
    "$python" -m pytest --durations=20 -m "not long" "${@:2}" >"$logs/$1" 2>&1 &
    pids+=($!)
}
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    wait
    rm -rf "$logs"
}
trap finish EXIT
trap 'exit 130' INT TERM
part system tests/system
part cloud tests/cloud tests/gateway tests/scenarios
"$python" -m pytest --durations=20 -m "not long" --ignore=tests/system --ignore=tests/cloud --ignore=tests/gateway --ignore=tests/scenarios
code=$?
for pid in "${pids[@]}"; do
    wait "$pid" || { ended=$?; code=$((code > ended ? code : ended)); }
done
for name in system cloud; do
    echo "$name:"
    cat "$logs/$name"
done
exit "$code"
