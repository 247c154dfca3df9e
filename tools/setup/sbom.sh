#!/usr/bin/env bash
# Writes a CycloneDX bill of materials for each set of pins into dist/. The program that writes them gets an
# environment of its own, because its libraries are needed for nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=build/sbom
[ -x "$environment/bin/cyclonedx-py" ] || "${PYTHON:-python3}" -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/sbom.txt
mkdir -p dist
for set in device gateway; do
    "$environment/bin/cyclonedx-py" requirements "requirements/$set.txt" --pyproject pyproject.toml \
        --short-PURLs --output-reproducible --spec-version 1.6 --output-file "dist/edge-agent-$set.cdx.json" \
        2> >(grep -v "UserWarning\|warn(" >&2)
    echo "dist/edge-agent-$set.cdx.json: $(grep -c '==' "requirements/$set.txt") components"
done
