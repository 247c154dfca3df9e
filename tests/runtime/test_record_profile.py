"""`edge-agent bus record-profile` at a whole daemon on simulated wires, with scripted answers and hands."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edge_agent.cli.commands import app
from edge_agent.cli.record.steps import TerminalDialog
from edge_agent.config.technicians import line
from edge_agent.config.vectors import asked_by
from edge_agent.drivers.lock_protocols import codec_of
from edge_agent.drivers.modbus import TcpCodec
from edge_agent.drivers.profiles import Profile, load_profile
from edge_agent.drivers.requests import AddressedRequest, Read, Write
from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.drivers.simulated.world import World
from edge_agent.model import Door
from edge_agent.service.recording import FramePairing, is_pulse
from tests.support.machines import CONFIG
from tests.support.real_site import RealSite, real_site

NO_BROKER = {"host": "127.0.0.1", "port": 1}
Hand = Callable[[World], None]


class Technician(TerminalDialog):
    """Answers by a script: each question begins with a text, and has an answer and something to do at the
    machine. Each may be used several times; a question without an answer fails the test."""

    def __init__(self, site: RealSite, script: dict[str, str | bool | Hand]) -> None:
        self.asked: list[str] = []
        self._script = script
        self._world = site.plant.world
        self._loop = asyncio.get_running_loop()

    def _answer(self, question: str) -> str | bool | Hand:
        self.asked.append(question)
        for begin, answer in self._script.items():
            if question.startswith(begin):
                return answer
        raise AssertionError(question)

    def wait(self, instruction: str) -> None:
        answer = self._answer(instruction)
        assert callable(answer)

        async def act() -> None:
            answer(self._world)

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(10)

    def text(self, question: str) -> str:
        answer = self._answer(question)
        if callable(answer):
            self.wait(question)
            return "1500"
        return str(answer)

    def agrees(self, question: str) -> bool:
        return bool(self._answer(question))


def nothing(world: World) -> None:
    """The doors are closed already."""


SCRIPT: dict[str, str | bool | Hand] = {
    "Your name": "Maria",
    "Model and version": 'Modbus RTU IO 8CH "V2"',
    "Close every door": nothing,
    "Which lock": "02",
    "The door of 02 will": "02",
    "Did the door of cell 02": True,
    "Close the door of cell 02": lambda world: world.close("02"),
}


async def record(folder: Path, talk: TerminalDialog, device: str, *more: str) -> Result:
    arguments = ["bus", "record-profile", device, "--socket", str(folder / "agent.sock"), *more]
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, obj=talk)


def recorded(file: Path, profile: str) -> Profile:
    """The profile with the vectors of a file, each proved as the tests of profiles prove theirs."""
    found = tomllib.loads(file.read_text(encoding="utf-8"))["vectors"]
    document = load_profile(CONFIG / "devices" / f"{profile}.toml").model_dump()
    made = Profile.model_validate(document | {"vectors": found})
    codec = codec_of(made.bus.protocol)
    for vector in made.vectors:
        asked = asked_by(made, vector)
        assert codec.encode(asked).hex(" ").upper() == vector.request
        values = codec.parse(asked, bytes.fromhex(vector.reply)) if vector.reply else []
        assert tuple(values) == (vector.values or ())
    return made


async def test_a_board_is_recorded_step_by_step_and_becomes_silver(tmp_path: Path) -> None:
    async with real_site(tmp_path, NO_BROKER, access={}) as site:
        technician = Technician(site, SCRIPT)
        file = tmp_path / "vectors.toml"
        done = await record(tmp_path, technician, "board", "--output", str(file))
        assert done.exit_code == 0, done.output
        assert "4 vectors are in" in done.stdout
        assert "grade: silver, once they are in waveshare-io-8ch.toml" in done.stdout
        assert site.pulses() == 1
        assert [one.label for one in site.plant.world.actuations()] == ["02"]
        entry = [row for row in site.agent.report.timeline(limit=50) if row["kind"] == "unlock"][-1]
        assert (entry["what"], entry["reason"]) == ("OPENED", "recording of the profile waveshare-io-8ch")
        assert site.agent.loop.state.cells["02"].status.name == "IDLE"
    names = [vector.name for vector in recorded(file, "waveshare-io-8ch").vectors]
    assert names == [
        "read 8 inputs from 0: inputs 1,2,3,4 high (doors closed)",
        "pulse channel 2 for 500 ms (recorded)",
        "read 8 inputs from 0: inputs 1,3,4 high (the door of channel 2 open)",
        "read 8 registers from 4096: registers from 4096: 0 0 0 0 0 0 0 0 (check)",
    ]
    text = file.read_text(encoding="utf-8")
    assert "# Append them to waveshare-io-8ch.toml" in text
    assert '# recorded = "Maria, 20' in text
    assert "on Modbus RTU IO 8CH 'V2'\"" in text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"Which lock": ""}, "lock: no lock was named"),
        ({"Which lock": "99"}, "lock: 99 is no free cell of this board"),
        ({"The door of 02 will": "01"}, "lock: the cell was not confirmed"),
        ({"The door of 02 will": ""}, "lock: the cell was not confirmed"),
    ],
)
async def test_no_lock_is_pulsed_that_was_not_named_twice(
    tmp_path: Path, changed: dict[str, str | bool | Hand], said: str
) -> None:
    async with real_site(tmp_path, NO_BROKER, access={}) as site:
        file = tmp_path / "vectors.toml"
        done = await record(tmp_path, Technician(site, SCRIPT | changed), "board", "-o", str(file))
        assert done.exit_code == 1
        assert f"not recorded: {said}" in done.stderr
        assert "grade: not silver yet" in done.stderr
        assert site.pulses() == 0
    assert len(recorded(file, "waveshare-io-8ch").vectors) == 2  # the doors, and the checks


async def test_a_cell_with_a_reservation_is_not_offered(tmp_path: Path) -> None:
    async with real_site(tmp_path, NO_BROKER, access={}) as site:
        rid = site.reserve_here()
        await site.until(lambda: rid in site.agent.loop.state.reservations)
        label = site.agent.loop.state.reservations[rid].cell
        technician = Technician(site, SCRIPT | {"Which lock": label})
        done = await record(tmp_path, technician, "board", "-o", str(tmp_path / "v.toml"))
        assert done.exit_code == 1
        assert f"{label} is no free cell of this board" in done.stderr
        (offered,) = [question for question in technician.asked if question.startswith("Which lock")]
        assert f" {label}," not in offered
        assert site.pulses() == 0


async def test_frames_of_a_lock_that_opened_another_door_are_not_kept(tmp_path: Path) -> None:
    async with real_site(tmp_path, NO_BROKER, access={}) as site:
        file = tmp_path / "vectors.toml"
        script = SCRIPT | {"Did the door of cell 02": False}
        done = await record(tmp_path, Technician(site, script), "board", "-o", str(file))
        assert done.exit_code == 1
        assert "channel 2 is not the lock of cell 02: check the wires first" in done.stderr
    assert not [v for v in recorded(file, "waveshare-io-8ch").vectors if v.request.startswith("01 05")]


async def test_what_is_there_already_or_not_known_is_refused_before_anything_happens(tmp_path: Path) -> None:
    async with real_site(tmp_path, NO_BROKER, access={}) as site:
        technician = Technician(site, SCRIPT)
        file = tmp_path / "vectors.toml"
        file.write_text("precious")
        done = await record(tmp_path, technician, "board", "-o", str(file))
        assert (done.exit_code, file.read_text()) == (2, "precious")
        done = await record(tmp_path, technician, "lights")
        assert (done.exit_code, done.stderr) == (1, "no such device: lights; there are: board\n")
        nameless = Technician(site, SCRIPT | {"Your name": ""})
        done = await record(tmp_path, nameless, "board", "-o", str(tmp_path / "other.toml"))
        assert done.exit_code == 1
        assert not (tmp_path / "other.toml").exists()
        assert site.pulses() == 0


def with_lights(document: dict[str, Any]) -> None:
    document["machine"]["machine_id"] = "m1"
    document["devices"]["lights"] = {"bus": "main", "address": 30, "profile": "waveshare-relay-8ch"}
    document["cells"][0]["signal"] = {"device": "lights", "channel": 3}


def empty(world: World) -> None:
    world.open("B01")


def weighed(world: World) -> None:
    world.place("B01", 1500)


async def test_a_scale_a_thermometer_and_a_signal_are_recorded(tmp_path: Path) -> None:
    script: dict[str, str | bool | Hand] = SCRIPT | {
        "Open cell B01": empty,
        "Put a known weight on it": weighed,
        "What does a thermometer": "21,5",
        "Did the signal of cell A01": True,
    }
    async with real_site(tmp_path, NO_BROKER, access={}, change=with_lights, example="demo") as site:
        for device, profile, count in (
            ("scale_b01", "laumas-tlb", 2),
            ("thermometer", "r4dcb08", 2),
            ("lights", "waveshare-relay-8ch", 2),
        ):
            file = tmp_path / f"{device}.toml"
            done = await record(tmp_path, Technician(site, script), device, "-o", str(file))
            assert done.exit_code == 0, done.output
            assert len(recorded(file, profile).vectors) == count
        lights = recorded(tmp_path / "lights.toml", "waveshare-relay-8ch").vectors
        written = [with_crc(bytes.fromhex(body)) for body in ("1E0502020064", "1E0500020000")]
        assert [bytes.fromhex(vector.request) for vector in lights] == written
        assert not site.pulses()


async def test_a_weight_or_a_temperature_that_does_not_agree_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.cli.record.steps.SETTLE_TRIES", 5)
    script: dict[str, str | bool | Hand] = SCRIPT | {
        "Open cell B01": empty,
        "Put a known weight on it": "2000",
        "What does a thermometer": "30",
    }
    async with real_site(tmp_path, NO_BROKER, access={}, example="demo") as site:
        for device, said in (
            ("scale_b01", "scale: the scale does not show 2000 g"),
            ("thermometer", "does not show 30 °C"),
        ):
            file = tmp_path / f"{device}.toml"
            done = await record(tmp_path, Technician(site, script), device, "-o", str(file))
            assert done.exit_code == 1
            assert said in done.stderr
        assert site.plant.world.cell("B01").door is Door.OPEN


def on_a_lock_board(document: dict[str, Any]) -> None:
    document["buses"]["main"] |= {"protocol": "kerong-cu16", "baud": 19200}
    document["devices"]["board"] |= {"profile": "kerong-cu16", "address": 1}


async def test_a_lock_board_that_answers_no_unlock_is_recorded_too(tmp_path: Path) -> None:
    async with real_site(tmp_path, NO_BROKER, access={}, change=on_a_lock_board) as site:
        file = tmp_path / "vectors.toml"
        done = await record(tmp_path, Technician(site, SCRIPT), "board", "-o", str(file))
        assert done.exit_code == 0, done.output
        assert site.pulses() == 1
    made = recorded(file, "kerong-cu16")
    assert [(v.request, bool(v.reply)) for v in made.vectors] == [
        ("02 10 30 03 45", True),
        ("02 11 31 03 47", False),
        ("02 10 30 03 45", True),
    ]


def with_contacts_elsewhere(document: dict[str, Any]) -> None:
    document["devices"]["contacts"] = {"bus": "main", "address": 2, "profile": "waveshare-io-8ch"}
    for cell in document["cells"]:
        cell["door"]["device"] = "contacts"


async def test_a_board_with_contacts_only_is_recorded_with_a_door_opened_by_hand(tmp_path: Path) -> None:
    """The opening by hand puts no contact in doubt, as while `bus doors` runs."""
    script: dict[str, str | bool | Hand] = SCRIPT | {
        "Open one door": lambda world: world.open("03"),
        "Close it again": lambda world: world.close("03"),
    }
    async with real_site(tmp_path, NO_BROKER, access={}, change=with_contacts_elsewhere) as site:
        file = tmp_path / "contacts.toml"
        done = await record(tmp_path, Technician(site, script), "contacts", "-o", str(file))
        assert done.exit_code == 0, done.output
        values = [vector.values for vector in recorded(file, "waveshare-io-8ch").vectors]
        assert values[:2] == [(1, 1, 1, 1, 0, 0, 0, 0), (1, 1, 0, 1, 0, 0, 0, 0)]
        assert not any(cell.contact_doubt for cell in site.agent.loop.state.cells.values())
        assert site.pulses() == 0
        locks = tmp_path / "locks.toml"
        done = await record(tmp_path, Technician(site, script), "board", "-o", str(locks))
        assert done.exit_code == 0, done.output
        assert [v.request[:11] for v in recorded(locks, "waveshare-io-8ch").vectors] == [
            "01 05 02 01",
            "01 03 10 00",
        ]


async def test_without_a_technician_s_pin_no_lock_is_pulsed(tmp_path: Path) -> None:
    technicians = tmp_path / "technicians"
    technicians.write_text(line("bob", "738291") + "\n")
    technicians.chmod(0o600)
    async with real_site(tmp_path, NO_BROKER, access={"technicians_file": str(technicians)}) as site:
        done = await record(tmp_path, Technician(site, SCRIPT), "board", "-o", str(tmp_path / "v.toml"))
        assert done.exit_code == 1
        assert "lock: the door of cell 02 was not opened" in done.stderr
        assert site.pulses() == 0


def test_only_whole_exchanges_with_the_board_itself_are_taken() -> None:
    """Over Modbus TCP they are written as on a serial line."""
    profile = load_profile(CONFIG / "devices" / "moxa-e1212.toml")
    codec = TcpCodec()
    recording = FramePairing("modbus-tcp", 1, profile)

    def asked(address: int, request: Read | Write) -> bytes:
        frame = codec.encode(AddressedRequest(address, request))
        assert recording.take("sent", frame) == []
        return frame

    def reply(frame: bytes, body: str) -> bytes:
        data = bytes.fromhex(body)
        return frame[:4] + len(data).to_bytes(2, "big") + data

    read = Read(2, 0, 8)
    frame = asked(1, read)
    assert recording.take("heard", reply(frame, "01 02 01 05"), "late") == []
    (exchange,) = recording.take("heard", reply(frame, "01 02 01 05"))
    assert (exchange.request, exchange.reply) == (
        with_crc(bytes.fromhex("010200000008")),
        with_crc(bytes.fromhex("01020105")),
    )
    assert exchange.values == (1, 0, 1, 0, 0, 0, 0, 0)
    assert recording.take("heard", reply(frame, "01 02 01 05")) == []
    assert recording.take("heard", reply(asked(2, read), "02 02 01 05")) == []
    assert recording.take("heard", reply(asked(1, read), "01 82 06")) == []
    asked(1, read)
    frame = asked(1, Write(5, 3, 0xFF00))
    (exchange,) = recording.take("heard", reply(frame, "01 05 00 03 FF 00"))
    assert is_pulse(exchange.asked, profile, 4)
    assert not is_pulse(exchange.asked, profile, 3)
