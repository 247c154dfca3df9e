"""Machines that are made for a test, out of the smallest example."""

from __future__ import annotations

import tomllib
from pathlib import Path

import tomli_w

from edge_agent.config import Settings, load_settings
from tools.bench.settings import REPOSITORY

CONFIG = REPOSITORY / "config"
LOCK_BOARDS = {
    "8a": "lock-8a",
    "kerong-cu12": "kerong-cu12",
    "kerong-cu16": "kerong-cu16",
    "kerong-cu48": "kerong-cu48",
    "wkly": "wkly-12",
}
"""A profile for each protocol of lock boards."""


def machine_of(folder: Path, protocol: str) -> Settings:
    """Sixteen cells on the boards 1 and 2 of one bus with this protocol."""
    document = tomllib.loads((CONFIG / "tiny.toml").read_text(encoding="utf-8"))
    document["machine"]["machine_id"] = "machine_123"
    document["buses"]["main"] = {"port": "/dev/ttyUSB0", "protocol": protocol, "baud": 19200}
    document["devices"] = {
        f"board_{n}": {"bus": "main", "address": n, "profile": LOCK_BOARDS[protocol]} for n in (1, 2)
    }
    document["paths"] = {"profiles": str(CONFIG / "devices")}
    places = [{"device": f"board_{n}", "channel": channel} for n in (1, 2) for channel in range(1, 9)]
    document["cells"] = [
        {"label": f"A{n:02}", "cell_id": f"cell_{n}", "size": "only", "lock": place, "door": place}
        for n, place in enumerate(places, 1)
    ]
    file = folder / "machine.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    return load_settings(file)


def smallest(folder: Path, port: str, protocol: str, profile: str, address: int) -> Path:
    """The file of the smallest example, its board replaced by another one."""
    document = tomllib.loads((CONFIG / "tiny.toml").read_text(encoding="utf-8"))
    document["buses"]["main"] = {"port": port, "protocol": protocol, "baud": 19200}
    document["devices"]["board"] |= {"profile": profile, "address": address}
    document["paths"] = {"profiles": str(CONFIG / "devices")}
    file = folder / "machine.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    return file
