#!/usr/bin/env bash
# Makes sure that Debian's PostgreSQL server is installed, for the tests. The distribution's own cluster is
# neither made nor started: the tests make their own, with a socket in a folder of their own.
set -euo pipefail
have() { command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }
have && exit 0

fail() { echo "set-up: PostgreSQL is missing; install it with: apt install postgresql" >&2; exit 1; }
command -v apt-get >/dev/null || fail
if [ "$(id -u)" = 0 ]; then sudo=(); elif command -v sudo >/dev/null; then sudo=(sudo); else fail; fi

echo "set-up: installing PostgreSQL"
export DEBIAN_FRONTEND=noninteractive
# The package makes a cluster unless this file says otherwise beforehand.
config=/etc/postgresql-common/createcluster.conf
if [ ! -e "$config" ]; then
    "${sudo[@]}" mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" | "${sudo[@]}" tee "$config" >/dev/null
fi
"${sudo[@]}" apt-get update -qq || true
"${sudo[@]}" env RUNLEVEL=1 apt-get install -y -qq --no-install-recommends postgresql >/dev/null || fail
have || fail
