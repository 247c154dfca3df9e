"""The simulator as a process: frames over its ports, a person's hands over HTTP, a quick end."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from edge_agent.drivers.simulated.slave import with_crc
from tools.bench.ports import free_port

ROOT = Path(__file__).parents[2]
PULSE = bytes.fromhex("0105020000050C71")
READ = bytes.fromhex("01020000000879CC")
SILENCE_S = 3.5 * 10 / 19_200
DEADLINE_S = 10.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns as soon as the condition holds; fails if it does not in time."""
    end = monotonic() + DEADLINE_S
    while not condition():
        assert monotonic() < end, "the condition never came"
        sleep(0.005)


def write_config(folder: Path, scanner: str = "") -> Path:
    """The demo locker with its ports in a folder of our own; `scanner`: more of its scanner's section."""
    text = (ROOT / "config" / "demo.toml").read_text()
    text = text.replace("/dev/ttyUSB0", f"{folder}/bus").replace("/dev/ttyACM0", f"{folder}/scanner")
    text = text.replace("[scanner]", f"[scanner]\n{scanner}")
    file = folder / "machine.toml"
    file.write_text(f'{text}\n[paths]\nprofiles = "{ROOT}/config/devices"\n')
    return file


def launch(folder: Path, port: int, *more: str, scanner: str = "") -> subprocess.Popen[str]:
    config = write_config(folder, scanner)
    command = [sys.executable, "-m", "tools.bus_simulator", "--config", str(config), "--http-port", str(port)]
    return subprocess.Popen([*command, *more], cwd=ROOT, stderr=subprocess.PIPE, text=True)


class Running:
    """A simulator that answers, and a way to each of its surfaces."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], http: httpx.Client) -> None:
        self.folder = folder
        self.process = process
        self.http = http

    def cell(self, label: str) -> dict[str, Any]:
        cells: list[dict[str, Any]] = self.http.get("/cells").json()
        return next(cell for cell in cells if cell["label"] == label)

    def actuations(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self.http.get("/actuations").json()
        return answer

    def do(self, path: str, **body: object) -> httpx.Response:
        return self.http.post(path, json=body or None)


@contextmanager
def running(folder: Path, *more: str, scanner: str = "") -> Iterator[Running]:
    port = free_port()
    process = launch(folder, port, *more, scanner=scanner)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as http:

            def answers() -> bool:
                assert process.poll() is None, process.stderr and process.stderr.read()
                try:
                    return http.get("/healthz").status_code == 200
                except httpx.TransportError:
                    return False

            wait_until(answers)
            yield Running(folder, process, http)
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)


@contextmanager
def opened(port: Path) -> Iterator[int]:
    descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_bytes(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size and select.select([descriptor], [], [], DEADLINE_S)[0]:
        piece = os.read(descriptor, size - len(data))
        if not piece:
            break  # hung up
        data += piece
    return data


def keep_silence() -> None:
    """t3.5, as every master must: the shortest time that is certainly long enough."""
    end = monotonic() + SILENCE_S
    while monotonic() < end:
        sleep(0.0002)


def test_a_parcel_s_way_over_real_frames(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, opened(tmp_path / "bus") as bus:
        before = monotonic()
        os.write(bus, PULSE)
        assert read_bytes(bus, 8) == PULSE
        took_s = monotonic() - before
        assert took_s >= 16 * 10 / 19_200 + SILENCE_S + 0.001, (
            "the reply was there before its bits had passed"
        )
        wait_until(lambda: simulator.cell("A01")["door"] == "open")
        os.write(bus, READ)
        # Eight contacts that read 1 while closed: only the first door is open.
        assert read_bytes(bus, 6) == with_crc(bytes.fromhex("010201FE"))
        wait_until(lambda: not simulator.cell("A01")["solenoid"])
        (actuation,) = simulator.actuations()
        assert (actuation["n"], actuation["label"], actuation["duration_ms"]) == (1, "A01", 500)
        assert before <= actuation["monotonic"] <= before + took_s
        assert simulator.http.get("/actuations", params={"since": 1}).json() == []
        placed = simulator.do("/cells/A01/place", grams=1500).json()
        assert placed == simulator.cell("A01")
        assert simulator.do("/cells/A01/close").json()["door"] == "closed"
        wire = simulator.http.get("/wire").json()["main"]
        assert (wire["requests"], wire["replies"], wire["early_requests"], wire["bytes"]) == (2, 2, 0, 30)


def test_a_person_closes_the_door_even_while_the_solenoid_is_energised(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, opened(tmp_path / "bus") as bus:
        os.write(bus, with_crc(bytes.fromhex("01050000FF00")))
        wait_until(lambda: simulator.cell("A01")["door"] == "open")
        assert simulator.do("/cells/A01/close").json()["door"] == "closed"
        assert simulator.actuations()[0]["duration_ms"] is None
        keep_silence()
        os.write(bus, with_crc(bytes.fromhex("010500000000")))
        wait_until(lambda: not simulator.cell("A01")["solenoid"])
        assert simulator.cell("A01")["door"] == "closed"


def test_cells_as_physically_true(tmp_path: Path) -> None:
    with running(tmp_path) as simulator:
        cells = simulator.http.get("/cells").json()
        assert [cell["label"] for cell in cells] == [f"{row}{n:02}" for row in "ABC" for n in range(1, 9)]
        assert cells[8] == {
            "label": "B01",
            "door": "closed",
            "grams": 0,
            "temperature_c": 22.0,
            "heating": False,
            "cooling": False,
            "solenoid": False,
            "signal": False,
        }
        with opened(tmp_path / "bus") as bus:
            os.write(bus, with_crc(bytes.fromhex("04050000FF00")))
            wait_until(lambda: simulator.cell("B01")["temperature_c"] < 21.5)
            assert simulator.cell("B01")["cooling"]
            keep_silence()
            os.write(bus, with_crc(bytes.fromhex("050300000008")))
            # The echo of the relay's switching comes first.
            reply = read_bytes(bus, 8 + 21)[8:]
            assert 150 < int.from_bytes(reply[3:5], "big") < 220
            assert reply[5:7] == (220).to_bytes(2, "big")


def test_scanner(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, opened(tmp_path / "scanner") as scanner:
        assert simulator.do("/scanner", text="DLV-DROP-res_1-1234").status_code == 200
        assert read_bytes(scanner, 20) == b"DLV-DROP-res_1-1234\r"


def test_a_scanner_ends_its_texts_as_configured(tmp_path: Path) -> None:
    with running(tmp_path, scanner='delimiter = "lf"') as simulator, opened(tmp_path / "scanner") as scanner:
        assert simulator.do("/scanner", text="1234").status_code == 200
        assert read_bytes(scanner, 5) == b"1234\n"


def test_faults_on_the_wire_and_in_a_cell(tmp_path: Path) -> None:
    with running(tmp_path) as simulator, opened(tmp_path / "bus") as bus:
        for body, reply in (
            ({"kind": "door_sensor_stuck", "target": "A01", "value": 0}, with_crc(b"\x01\x02\x01\xfe")),
            ({"kind": "echo"}, READ + with_crc(b"\x01\x02\x01\xff")),
        ):
            fault = simulator.do("/faults", **body).json()
            assert simulator.http.get("/faults").json() == [fault | body]
            os.write(bus, READ)
            assert read_bytes(bus, len(reply)) == reply
            simulator.http.delete(f"/faults/{fault['id']}").raise_for_status()
        noise = simulator.do("/faults", kind="noise", value=1).json()["id"]
        os.write(bus, READ)
        wait_until(lambda: simulator.http.get("/wire").json()["main"]["damaged"] == 1)
        simulator.http.delete(f"/faults/{noise}").raise_for_status()
        assert simulator.http.get("/faults").json() == []
        os.write(bus, READ)
        assert read_bytes(bus, 6) == with_crc(b"\x01\x02\x01\xff")


def test_a_bus_is_unplugged_and_comes_back(tmp_path: Path) -> None:
    with running(tmp_path) as simulator:
        with opened(tmp_path / "bus") as bus:
            fault = simulator.do("/faults", kind="bus_unplugged", target="main").json()["id"]
            assert read_bytes(bus, 1) == b""
            with pytest.raises(OSError, match="Input/output error"):
                os.write(bus, READ)
            assert not (tmp_path / "bus").is_symlink()
            assert simulator.http.get("/wire").json()["main"]["requests"] == 0
        simulator.http.delete(f"/faults/{fault}").raise_for_status()
        with opened(tmp_path / "bus") as bus:
            os.write(bus, READ)
            assert read_bytes(bus, 6) == with_crc(b"\x01\x02\x01\xff")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "word"),
    [
        ("POST", "/cells/Z99/close", None, 404, 5, "Z99"),
        ("POST", "/cells/Z99/place", '{"grams": 1.5}', 404, 5, "Z99"),
        ("POST", "/cells/A01/kick", None, 404, 5, "kick"),
        ("POST", "/cells/A01/place", '{"grams": 1}', 409, 9, "A01"),
        ("POST", "/cells/A01/take", None, 409, 9, "A01"),
        ("POST", "/cells/A01/place", "{}", 400, 3, "grams"),
        ("POST", "/cells/A01/place", '{"grams": 1.5}', 400, 3, "grams"),
        ("POST", "/cells/A01/place", '{"grams": "1"}', 400, 3, "grams"),
        ("POST", "/cells/A01/place", '{"grams": true}', 400, 3, "grams"),
        ("POST", "/cells/A01/place", '{"grams": -1}', 400, 3, "grams"),
        ("POST", "/cells/A01/place", '{"grams": 1000001}', 400, 3, "grams"),
        ("POST", "/cells/A01/place", "nonsense", 400, 3, "body"),
        ("POST", "/scanner", '{"text": ""}', 400, 3, "text"),
        ("POST", "/scanner", '{"text": "a\\nb"}', 400, 3, "text"),
        ("POST", "/scanner", '{"text": "a\\r"}', 400, 3, "text"),
        ("POST", "/scanner", '{"text": 1234}', 400, 3, "text"),
        ("GET", "/actuations?since=-1", None, 400, 3, "since"),
        ("POST", "/faults", '{"kind": "spell"}', 400, 3, "kind"),
        ("POST", "/faults", '{"kind": "lock_jammed"}', 400, 3, "target"),
        ("POST", "/faults", '{"kind": "coil_stuck"}', 400, 3, "target"),
        ("POST", "/faults", '{"kind": "heater_stuck"}', 400, 3, "target"),
        ("POST", "/faults", '{"kind": "door_sensor_stuck"}', 400, 3, "target"),
        ("POST", "/faults", '{"kind": "temperature_sensor_dead"}', 400, 3, "target"),
        ("POST", "/faults", '{"kind": "lock_jammed", "target": "Z1"}', 404, 5, "Z1"),
        ("POST", "/faults", '{"kind": "door_sensor_stuck", "target": "Z1"}', 404, 5, "Z1"),
        ("POST", "/faults", '{"kind": "temperature_sensor_dead", "target": "Z1"}', 404, 5, "Z1"),
        ("POST", "/faults", '{"kind": "coil_stuck", "target": "Z1"}', 404, 5, "Z1"),
        ("POST", "/faults", '{"kind": "lock_jammed", "target": 1}', 400, 3, "target"),
        ("POST", "/faults", '{"kind": "lock_jammed", "target": "A01", "value": 1}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "door_sensor_stuck", "target": "A01", "value": 2}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "door_bounce", "target": "A01"}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "door_bounce", "target": "A01", "value": -1}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "scale_drift", "target": "B01"}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "scale_drift", "target": "B01", "value": "5"}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "scale_drift", "target": "B01", "value": NaN}', 400, 3, "value"),
        (
            "POST",
            "/faults",
            '{"kind": "scale_drift", "target": "A01", "value": 5}',
            400,
            3,
            "target: cell A01 has no scale",
        ),
        (
            "POST",
            "/faults",
            '{"kind": "heater_stuck", "target": "A01"}',
            400,
            3,
            "target: cell A01 has no heater",
        ),
        (
            "POST",
            "/faults",
            '{"kind": "temperature_sensor_dead", "target": "A01"}',
            400,
            3,
            "target: cell A01 has no temperature",
        ),
        ("POST", "/faults", '{"kind": "device_silent", "target": 99}', 404, 5, "99"),
        ("POST", "/faults", '{"kind": "device_silent", "target": "main:99"}', 404, 5, "99"),
        ("POST", "/faults", '{"kind": "device_silent", "target": "side:1"}', 404, 5, "no such bus: side"),
        ("POST", "/faults", '{"kind": "device_silent", "target": "A01"}', 400, 3, "target"),
        ("POST", "/faults", '{"kind": "device_silent", "target": -1}', 400, 3, "target"),
        ("POST", "/faults", '{"kind": "device_silent"}', 400, 3, "target"),
        ("POST", "/faults", '{"kind": "device_silent", "target": 1, "value": 0}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "late_reply", "target": 1}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "late_reply", "target": 1, "value": 60001}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "ghost_reply", "target": 1, "value": 1.5}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "noise"}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "noise", "value": 1.1}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "noise", "value": true}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "noise", "value": 0.1, "target": 1}', 400, 3, "target"),
        ("POST", "/faults", '{"kind": "noise", "value": 0.1, "target": "side"}', 404, 5, "no such bus: side"),
        ("POST", "/faults", '{"kind": "delay_ms", "value": -1}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "bus_unplugged", "value": 1}', 400, 3, "value"),
        ("POST", "/faults", '{"kind": "echo", "target": "side"}', 404, 5, "side"),
        ("DELETE", "/faults/1", None, 404, 5, "1"),
        ("POST", "/processes/agent/kill", None, 503, 14, "supervisor"),
        ("POST", "/processes/init/kill", None, 404, 5, "init"),
        ("GET", "/nowhere", None, 404, 5, "Not Found"),
        ("DELETE", "/cells", None, 405, 12, "Not Allowed"),
    ],
)
def test_refusals(
    refusing: Running, method: str, path: str, body: str | None, status: int, code: int, word: str
) -> None:
    answer = refusing.http.request(method, path, content=body)
    assert answer.status_code == status
    error = answer.json()
    assert set(error) == {"code", "message", "details"}
    assert (error["code"], error["details"]) == (code, [])
    assert word in error["message"]
    assert refusing.http.get("/faults").json() == []


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("refusing")) as simulator:
        yield simulator


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as simulator, opened(tmp_path / "bus"):
        assert (tmp_path / "bus").is_symlink()
        simulator.process.send_signal(number)
        assert simulator.process.wait(timeout=DEADLINE_S) == 0
        assert simulator.process.stderr is not None
        lines = [json.loads(line)["event"] for line in simulator.process.stderr.read().splitlines()]
        assert lines == ["bus simulator started", "bus simulator ended"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["machine.toml"]


def test_busy_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = launch(tmp_path, port)
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert errors == f"port {port} cannot be used: Address already in use\n"
    assert not (tmp_path / "bus").is_symlink()


def test_a_file_where_the_port_should_be(tmp_path: Path) -> None:
    (tmp_path / "bus").write_text("precious")
    process = launch(tmp_path, free_port())
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert errors == f"{tmp_path}/bus: something stands there that is not a link\n"


def test_bad_configuration(tmp_path: Path) -> None:
    write_config(tmp_path)
    text = (tmp_path / "machine.toml").read_text().replace('"r4dcb08"', '"abacus"')
    (tmp_path / "abacus.toml").write_text(text)
    command = [sys.executable, "-m", "tools.bus_simulator", "--config", str(tmp_path / "abacus.toml")]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert result.returncode == 2
    assert "devices.thermometer.profile: " in result.stderr
    assert "abacus.toml" in result.stderr


def test_doors_and_parcels_outlive_a_restart(tmp_path: Path) -> None:
    state = str(tmp_path / "state.json")
    with running(tmp_path, "--state", state) as simulator, opened(tmp_path / "bus") as bus:
        simulator.do("/cells/B01/open")
        simulator.do("/cells/B01/place", grams=820)
        simulator.do("/cells/B01/close")
        os.write(bus, PULSE)
        wait_until(lambda: simulator.cell("A01")["door"] == "open")
        # No person has touched that door: the lock's own act is kept too, even if we are killed.
        wait_until(lambda: json.loads(Path(state).read_text())["A01"]["door"] == "open")
        simulator.process.kill()
        simulator.process.wait(timeout=DEADLINE_S)
    with running(tmp_path, "--state", state) as simulator:
        assert (simulator.cell("B01")["door"], simulator.cell("B01")["grams"]) == ("closed", 820)
        assert simulator.cell("A01")["door"] == "open"
        simulator.do("/cells/A01/close")
    Path(state).write_text('{"A01": {"door": "ajar"}}')
    with running(tmp_path, "--state", state) as simulator:
        assert simulator.cell("B01")["grams"] == 0


OPENER = """
import fcntl, os, sys, termios, time
if os.geteuid() == 0:
    # An ordinary user: root may open what is locked.
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
end = time.monotonic() + float(sys.argv[3])
while True:
    try:
        port = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
        break
    except OSError:
        if time.monotonic() > end:
            raise
        time.sleep(0.01)
fcntl.ioctl(port, termios.TIOCEXCL)
os.write(port, bytes.fromhex(sys.argv[2]))
print(os.read(port, 100).hex(), flush=True)
sys.stdin.read()
"""


def open_exclusively(port: str, patience_s: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPENER, port, READ.hex(), str(patience_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_port_can_be_opened_again_after_its_user_was_killed(tmp_path: Path) -> None:
    with running(tmp_path):
        port = os.readlink(tmp_path / "bus")
        if os.geteuid() == 0:
            os.chown(port, 65534, 65534)
        answers = []
        for kill in (True, True, False):
            opener = open_exclusively(port, DEADLINE_S)
            assert opener.stdout is not None
            answers.append(opener.stdout.readline().strip())
            if kill:
                # A second user is kept out as long as the first one lives.
                rival = open_exclusively(port, 0.0)
                assert "Device or resource busy" in rival.communicate(timeout=DEADLINE_S)[1]
                opener.kill()
            opener.communicate(timeout=DEADLINE_S)
        assert answers == [with_crc(bytes.fromhex("010201FF")).hex()] * 3


class _FakeSupervisor(HTTPServer):
    address_family = socket.AF_UNIX
    posted: list[str]

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "supervisor", 0
        self.posted = []


class _Answering(BaseHTTPRequestHandler):
    server: _FakeSupervisor

    def do_POST(self) -> None:
        self.server.posted.append(self.path)
        body = b'{"code":13,"message":"broker would not start","details":[]}'
        self.send_response(500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to the terminal."""


def test_process_acts_go_to_the_supervisor(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.sock"
    with running(tmp_path, "--supervisor", str(path)) as simulator:
        answer = simulator.do("/processes/broker/start")
        assert (answer.status_code, answer.json()["code"]) == (503, 14)
        with _FakeSupervisor(str(path), _Answering) as server:  # type: ignore[arg-type]
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            answer = simulator.do("/processes/broker/start")
            thread.join(timeout=DEADLINE_S)
        assert server.posted == ["/processes/broker/start"]
        assert answer.status_code == 500
        assert answer.json() == {"code": 13, "message": "broker would not start", "details": []}
