#!/bin/sh
# Starts the version in use: the one that the updater chose, or the one that the package manager installed.
home=/usr/lib/edge-agent
chosen=/var/lib/edge-agent-updater/current
[ -x "$chosen/bin/python3" ] && [ -f "$chosen/bin/edge-agent" ] && home=$(readlink -f "$chosen")
exec "$home/bin/python3" -I "$home/bin/edge-agent" "$@"
