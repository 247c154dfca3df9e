"""`python -m tools.fleet.crowd` with few machines: the gateway believes them, and every figure is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools.bench.settings import REPOSITORY
from tools.fleet.crowd.connections import connect_packet, packet


def test_packets_are_those_of_the_standard() -> None:
    """MQTT 5: length 1.5.5, CONNECT 3.1."""
    assert packet(0x82, bytes(321))[:3] == b"\x82\xc1\x02"
    connect = connect_packet("m1", 60)
    assert connect[:2] == bytes((0x10, len(connect) - 2))
    assert connect.startswith(b"\x00\x04MQTT\x05\x2c\x00\x3c\x05\x11", 2)
    assert b"\x00\x02m1\x00\x00\x19locker/v1/m1/state/online" in connect


@pytest.mark.long
def test_a_small_crowd_is_measured() -> None:
    options = ["--machines", "20", "--seconds", "2", "--events", "2", "--away-s", "0"]
    command = [sys.executable, "-m", "tools.fleet.crowd", *options]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "5.0 lives a second" in done.stderr
    assert done.stderr.count("refused {}") == done.stderr.count("lives a second")
    for figure in ("connected again after", "every history compared", "telemetry", "5 lives/s: command, p99"):
        assert figure in done.stdout
    for figure in ("events taken in from the broker", "after an outage: events taken in"):
        assert figure in done.stdout
