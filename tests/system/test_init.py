"""`edge-agent init` at the pseudo-terminal of the simulator, while the service runs and after its stop."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from edge_agent.config import load_settings
from tests.support.bench import running_bench
from tests.support.new_machine import options


@pytest.mark.long
def test_the_boards_are_found_once_the_service_has_let_go_of_the_port(tmp_path: Path) -> None:
    output = tmp_path / "locker.toml"
    with running_bench(tmp_path / "bench") as bench:
        truth = tomllib.loads((bench.folder / "machine.toml").read_text(encoding="utf-8"))
        port = truth["buses"]["main"]["port"]
        # A pseudo-terminal has no speed: another one than the simulator's says nothing here.
        given = options(output, port, last="18", protocols="modbus", bauds="19200")
        busy = bench.command("init", *given)
        assert (busy.returncode, output.exists()) == (1, False), busy.stderr
        assert "systemctl stop edge-agent" in busy.stderr
        bench.act("agent", "stop")
        pulses = len(bench.actuations())
        done = bench.command("init", *given, limit_s=60)
        assert done.returncode == 0, done.stderr
        assert len(bench.actuations()) == pulses
        assert bench.command("check", "--config", str(output)).returncode == 0
        settings = load_settings(output)
        devices = {(device["address"], device["profile"]) for device in truth["devices"].values()}
        assert {(device.address, device.profile) for device in settings.devices.values()} == devices
