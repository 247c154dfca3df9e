#!/usr/bin/env bash
# Makes sure that systemd-analyze is there, for the tests of the unit. systemd itself is not started.
set -euo pipefail
have() { command -v systemd-analyze >/dev/null; }
have && exit 0

fail() { echo "set-up: systemd-analyze is missing; install it with: apt install systemd" >&2; exit 1; }
command -v apt-get >/dev/null || fail
if [ "$(id -u)" = 0 ]; then sudo=(); elif command -v sudo >/dev/null; then sudo=(sudo); else fail; fi

echo "set-up: installing systemd-analyze"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq || true
"${sudo[@]}" apt-get install -y -qq --no-install-recommends systemd >/dev/null || fail
have || fail
