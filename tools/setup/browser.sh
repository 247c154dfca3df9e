#!/usr/bin/env bash
# Makes sure that Debian's Chromium is installed: tests drive it without a screen.
set -euo pipefail
have() { command -v chromium >/dev/null; }
have && exit 0

fail() { echo "set-up: the browser is missing; install it with: apt install chromium" >&2; exit 1; }
command -v apt-get >/dev/null || fail
if [ "$(id -u)" = 0 ]; then sudo=(); elif command -v sudo >/dev/null; then sudo=(sudo); else fail; fi

echo "set-up: installing Chromium"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq || true
"${sudo[@]}" apt-get install -y -qq --no-install-recommends chromium >/dev/null || fail
have || fail
