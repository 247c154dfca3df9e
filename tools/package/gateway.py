"""The package of a gateway: the REST API, and the tools that maintain its files."""

from __future__ import annotations

from pathlib import Path

from tools.bench.settings import REPOSITORY
from tools.package.layout import Package, copy, copy_source, set_version

DOC = Path("usr/share/doc/edge-gateway")
PARTS_OF_THE_DAEMON = (
    "__init__.py",
    "errors.py",
    "model.py",
    "mqtt",
    "protocol",
    "py.typed",
    "supervisor.py",
    "validation_findings.py",
)
"""What the gateway imports of `edge_agent`; `make check` holds it to that."""
FILES = {
    "systemd/edge-gateway.service": "usr/lib/systemd/system/edge-gateway.service",
    "systemd/edge-gateway.sysusers": "usr/lib/sysusers.d/edge-gateway.conf",
    "systemd/edge-gateway.tmpfiles": "usr/lib/tmpfiles.d/edge-gateway.conf",
    "docs/gateway.md": str(DOC / "gateway.md"),
    "docs/integrate.md": str(DOC / "integrate.md"),
    "docs/brokers.md": str(DOC / "brokers.md"),
    "docs/openapi.yaml": str(DOC / "openapi.yaml"),
    "config/gateway.example.toml": str(DOC / "examples" / "gateway.toml"),
    "config/mosquitto/mosquitto.conf": str(DOC / "examples" / "mosquitto" / "mosquitto.conf"),
    "config/mosquitto/machines.acl": str(DOC / "examples" / "mosquitto" / "machines.acl"),
    "config/mosquitto/gateways.acl": str(DOC / "examples" / "mosquitto" / "gateways.acl"),
    "config/prometheus/edge-gateway.rules.yml": str(DOC / "examples" / "edge-gateway.rules.yml"),
}


def fill(root: Path, site: Path, version: str) -> None:
    """See `Package.fill`."""
    copy_source("cloud_gateway", site / "cloud_gateway")
    for name in PARTS_OF_THE_DAEMON:
        copy_source(f"edge_agent/{name}", site / "edge_agent" / name)
    set_version(site / "edge_agent" / "__init__.py", version)
    for source, place in FILES.items():
        copy(REPOSITORY / source, root / place)
    (root / "etc/edge-gateway").mkdir(parents=True)


GATEWAY = Package(
    name="edge-gateway",
    requirements="gateway.txt",
    architectures=("amd64", "arm64"),
    relations="Recommends: systemd\nSuggests: mosquitto (>= 2), postgresql (>= 13)\n",
    description="""\
Description: cloud gateway of parcel lockers
 Serves the REST API of a fleet of lockers: reservations, doors, machines and
 maintenance. Sends commands to machines over MQTT 5, takes in their events
 and delivers webhooks to platforms.
 .
 Python libraries come with the package, in an environment of their own.
""",
    private=("etc/edge-gateway",),
    module="cloud_gateway",
    fill=fill,
)
