#!/usr/bin/env bash
# Makes sure that Debian's Mosquitto is installed. The distribution's own service is not used: the bench
# and the tests start their own broker on their own port.
set -euo pipefail
have() { command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ]; }
have && exit 0

fail() { echo "set-up: the Mosquitto broker is missing; install it with: apt install mosquitto" >&2; exit 1; }
command -v apt-get >/dev/null || fail
if [ "$(id -u)" = 0 ]; then sudo=(); elif command -v sudo >/dev/null; then sudo=(sudo); else fail; fi

echo "set-up: installing the Mosquitto broker"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq || true
# RUNLEVEL=1 keeps the package from starting its own service on the standard port.
"${sudo[@]}" env RUNLEVEL=1 apt-get install -y -qq --no-install-recommends mosquitto >/dev/null || fail
have || fail
