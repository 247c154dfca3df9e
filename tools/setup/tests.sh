#!/usr/bin/env bash
# Every test but those that `make test-long` runs, in three parts side by side that take about the same time: whole
# processes with attacks, doubt, behaviour and the local API; the cloud's two ends and the scenarios; the rest.
# Usage: tests.sh PYTHON. All parts are always run to their end; what they wrote comes part by part.
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
part system tests/system tests/attack tests/doubt tests/behaviour tests/console
part cloud tests/cloud tests/cloud_gateway tests/scenarios
elsewhere=()
for folder in system attack doubt behaviour console cloud cloud_gateway scenarios; do elsewhere+=("--ignore=tests/$folder"); done
"$python" -m pytest --durations=20 -m "not long" "${elsewhere[@]}"
code=$?
for pid in "${pids[@]}"; do
    wait "$pid" || { ended=$?; code=$((code > ended ? code : ended)); }
done
for name in system cloud; do
    echo "$name:"
    cat "$logs/$name"
done
exit "$code"
