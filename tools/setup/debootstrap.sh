#!/usr/bin/env bash
# Makes sure that debootstrap is there, for the test of the package in a clean Debian.
set -euo pipefail
have() { command -v debootstrap >/dev/null || [ -x /usr/sbin/debootstrap ]; }
have && exit 0

fail() { echo "set-up: debootstrap is missing; install it with: apt install debootstrap" >&2; exit 1; }
command -v apt-get >/dev/null || fail
if [ "$(id -u)" = 0 ]; then sudo=(); elif command -v sudo >/dev/null; then sudo=(sudo); else fail; fi

echo "set-up: installing debootstrap"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq || true
"${sudo[@]}" apt-get install -y -qq --no-install-recommends debootstrap >/dev/null || fail
have || fail
