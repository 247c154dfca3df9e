#!/usr/bin/env bash
# Makes sure that the tools for a signed apt repository are there: apt-ftparchive and gpg.
set -euo pipefail
have() { command -v apt-ftparchive >/dev/null && command -v gpg >/dev/null; }
have && exit 0

fail() { echo "set-up: apt-ftparchive or gpg is missing; install them with: apt install apt-utils gnupg" >&2; exit 1; }
command -v apt-get >/dev/null || fail
if [ "$(id -u)" = 0 ]; then sudo=(); elif command -v sudo >/dev/null; then sudo=(sudo); else fail; fi

echo "set-up: installing apt-utils and gnupg"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq || true
"${sudo[@]}" apt-get install -y -qq --no-install-recommends apt-utils gnupg >/dev/null || fail
have || fail
