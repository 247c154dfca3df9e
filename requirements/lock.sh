#!/usr/bin/env bash
# Writes the pinned requirement files from pyproject.toml: exact versions with hashes, no index address.
set -euo pipefail
cd "$(dirname "$0")/.."
pins() {
    uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url "$@"
}
pins --output-file requirements/daemon.txt
pins --all-extras --constraints requirements/daemon.txt --output-file requirements/all.txt
# What the Debian package holds: the daemon, its numbers for operators and the technician's commands.
pins --extra cli --extra metrics --constraints requirements/all.txt --output-file requirements/device.txt
# What `make demo` needs: no linters, no tests.
pins --extra cli --extra metrics --extra gateway --extra bench --constraints requirements/all.txt \
    --output-file requirements/demo.txt
# What a cloud gateway needs.
pins --extra gateway --constraints requirements/all.txt --output-file requirements/gateway.txt
# The program that writes the bills of materials, in an environment of its own (`make sbom`).
uv pip compile requirements/sbom.in --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --output-file requirements/sbom.txt
