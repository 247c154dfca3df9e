#!/bin/sh
# The updater is always that of the package manager's version: it must work when a new version does not.
exec /usr/lib/edge-agent/bin/python3 -I -m edge_updater "$@"
