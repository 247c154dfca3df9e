#!/usr/bin/env bash
# Makes sure that Debian's Chromium is installed: tests drive it without a screen. Cage, the compositor of the kiosk's
# screen, runs without one, too; espeak-ng speaks to a pipe.
set -euo pipefail
packages=(chromium cage xwayland espeak-ng)
have() { command -v chromium >/dev/null && command -v cage >/dev/null && command -v Xwayland >/dev/null &&
  command -v espeak-ng >/dev/null; }
have && exit 0

fail() { echo "set-up: the browser is missing; install it with: apt install ${packages[*]}" >&2; exit 1; }
command -v apt-get >/dev/null || fail
if [ "$(id -u)" = 0 ]; then sudo=(); elif command -v sudo >/dev/null; then sudo=(sudo); else fail; fi

echo "set-up: installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq || true
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null || fail
have || fail
