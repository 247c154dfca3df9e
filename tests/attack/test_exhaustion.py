"""X2: hundreds of half-sent requests at the local API of a real daemon with few open files."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.support.bench import SMALL, Bench, running_bench, wait_for

DESCRIPTORS, ATTACKERS = 256, 300
"""`ulimit -n` of the daemon, and how many connections send half a request."""
HOLD_S = 3.0
LOG_BYTES = 20_000
HALVES = (
    b"POST /v1/code HTTP/1.1\r\nHost: agent\r\nX-Long: ",
    b"POST /v1/code HTTP/1.1\r\nHost: agent\r\nContent-Length: 20\r\n\r\n{",
    b"",
)


@contextmanager
def low_daemon(bench: Bench, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The bench's daemon in our hands, with a low limit of open files."""
    bench.act("agent", "stop")
    with log.open("wb") as output:
        agent = subprocess.Popen(
            [
                Path(sys.executable).with_name("edge-agent"),
                "run",
                "--config",
                bench.folder / "machine.toml",
            ],
            stderr=output,
            stdout=output,
            cwd=bench.folder,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)),
        )
    try:
        wait_for(lambda: bench.command("status").returncode == 0, 30)
        yield agent
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(timeout=20)


def half_open(path: Path, number: int) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
        with suppress(BrokenPipeError):  # displaced already
            connection.send(HALVES[number % len(HALVES)])
    except BaseException:
        connection.close()
        raise
    return connection


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module", name="besieged")
def _besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Path, int]]:
    """A bench whose daemon has few descriptors; its log and its process."""
    with running_bench(tmp_path_factory.mktemp("siege") / "bench") as bench:
        log = bench.folder / "logs" / "low-agent.log"
        with low_daemon(bench, log) as agent:
            yield bench, log, agent.pid


@pytest.mark.long
def test_x2_a_code_opens_its_door_among_300_half_sent_requests(besieged: tuple[Bench, Path, int]) -> None:
    bench, log, pid = besieged
    made = bench.reserve(SMALL)
    path = bench.folder / "agent.sock"
    cpu_before_s, began_s = cpu_s(pid), monotonic()
    with ExitStack() as stack:
        attack = [stack.enter_context(half_open(path, number)) for number in range(ATTACKERS)]
        assert len(attack) == ATTACKERS
        sleep(HOLD_S)
        assert len(os.listdir(f"/proc/{pid}/fd")) < DESCRIPTORS - 64
        with socket.socket(socket.AF_UNIX) as kiosk:
            kiosk.settimeout(20)
            kiosk.connect(str(path))
            body = b'{"text": "%s"}' % made["drop_off_code"].encode()
            kiosk.sendall(
                b"POST /v1/code HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                % (len(body), body)
            )
            answer = b"".join(iter(lambda: kiosk.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    label = json.loads(answer.rpartition(b"\r\n")[2])["cell"]["description"]
    assert bench.cell(label)["door"] == "open"
    assert log.stat().st_size < LOG_BYTES, log.read_text()[:4000]
    assert "Traceback" not in log.read_text()
    assert "displaced" in log.read_text()
    assert (cpu_s(pid) - cpu_before_s) / (monotonic() - began_s) < 0.8
    assert bench.command("status").returncode == 0
