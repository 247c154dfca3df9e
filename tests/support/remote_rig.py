"""Processes of a machine and its gateway where the gateway may request remote work, and has people of each
role."""

from __future__ import annotations

import base64
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import tomli_w
from nacl.signing import SigningKey

from tests.support.screens.operators import operators_file
from tools.measure.rig import API_KEY, Rig, Run, rig_of

RIGHTS = ["diagnose", "logs", "config-get", "config-set", "update"]


def change(file: Path, **sections: Any) -> None:
    """Sets sections or keys of a configuration."""
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    for name, value in sections.items():
        document[name] = {**document.get(name, {}), **value} if isinstance(value, dict) else value
    file.write_text(tomli_w.dumps(document), encoding="utf-8")


def is_online(rig: Rig) -> bool:
    """Whether the gateway knows the machine, and that it is connected."""
    path = f"{rig.wall_url}api/operations/v1/machines/{rig.machine_id}"
    answer = httpx.get(path, auth=("test", API_KEY), trust_env=False)
    return answer.is_success and answer.json()["machine"]["online"] is True


@contextmanager
def remote_rig() -> Iterator[Rig]:
    """A running broker, simulator, gateway and daemon."""
    with rig_of(Run(True, None)) as rig:
        key, file = SigningKey.generate(), rig.folder / "service.key"
        file.write_bytes(base64.b64encode(bytes(key)) + b"\n")
        file.chmod(0o600)
        public = base64.b64encode(bytes(key.verify_key)).decode()
        change(
            rig.files.gateway_file,
            mqtt={"service_key_file": str(file), "service_key_name": "ops"},
            users_file=str(operators_file(rig.folder)),
        )
        change(rig.files.machine_file, service={"keys": {"ops": {"public_key": public, "rights": RIGHTS}}})
        rig.start_broker()
        rig.start_simulator()
        rig.start_gateway()
        rig.start_agent()
        rig.wait(lambda: is_online(rig), "agent")
        yield rig
