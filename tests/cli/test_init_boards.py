"""`edge-agent init`: locks and door contacts on separate boards, lights and buzzers, card readers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent.cli.init.contacts import joined, parser, proposed
from edge_agent.cli.init.plan import Board
from edge_agent.config import Settings, load_settings
from edge_agent.drivers.profiles import load_profile
from tests.cli.test_init import lives, small
from tests.scenarios.plays import a_life_by_codes
from tests.support.new_machine import PROFILES, NewMachine, options

INPUTS = """
# A board with eight inputs and nothing else.

[identity]
vendor = "nobody"
models = ["IN-8"]
evidence = "single-source"
source = "made up for this test"
hw_verified = false

[bus]
turnaround_ms = 30

[doors]
channels = 8
function = 2
address = 0x0020

[[vectors]]
name = "all inputs (computed)"
request = "01 02 00 20 00 08 78 06"
"""
MACHINE = """
[machine]
machine_id = "machine_123"
name = "Two kinds of boards"
location = "Workshop"
latitude = 52.5
longitude = 13.4

[mqtt]
host = "127.0.0.1"

[paths]
profiles = "devices"

[doors]
closed_level = 1

[buses.main]
port = "/dev/ttyUSB0"
baud = 9600

[sizes.only]
width_mm = 350
height_mm = 250
depth_mm = 450
max_mass_g = 10000
"""


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def machine(folder: Path, devices: dict[str, str], cells: list[tuple[str, int, str, int]]) -> NewMachine:
    """Boards at the addresses 1, 2, …; each cell's lock and door contact by board and channel."""
    (folder / "devices").mkdir(parents=True)
    (folder / "devices" / "in-8.toml").write_text(INPUTS, encoding="utf-8")
    lines = [MACHINE]
    for address, (name, profile) in enumerate(devices.items(), 1):
        lines.append(f'[devices.{name}]\nbus = "main"\naddress = {address}\nprofile = "{profile}"')
    for number, (lock, channel, door, contact) in enumerate(cells, 1):
        lines.append(
            f'[[cells]]\nlabel = "A{number:02d}"\ncell_id = "cell_{number}"\nsize = "only"\n'
            f'lock = {{ device = "{lock}", channel = {channel} }}\n'
            f'door = {{ device = "{door}", channel = {contact} }}'
        )
    path = folder / "truth.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return NewMachine(load_settings(path))


def sixteen(folder: Path) -> NewMachine:
    """Sixteen locks on one board, their contacts on two."""
    cells = [("relays", n, "inputs_a" if n < 9 else "inputs_b", (n - 1) % 8 + 1) for n in range(1, 17)]
    devices = {"relays": "waveshare-relay-16ch", "inputs_a": "in-8", "inputs_b": "in-8"}
    return machine(folder, devices, cells)


def given(new: NewMachine, folder: Path, **more: str) -> list[str]:
    """The options of a run with the profiles of the test."""
    found = options(folder / "locker.toml", new.ports, last="5", **more)
    return [*found, "--profiles", str(folder / "truth" / "devices"), "--protocols", "modbus"]


def wiring(settings: Settings) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Of each cell: address and channel of its lock and of its contact."""
    return [
        (
            (settings.devices[cell.lock.device].address, cell.lock.channel),
            (settings.devices[cell.door.device].address, cell.door.channel),
        )
        for cell in settings.cells
    ]


def test_locks_on_one_board_and_their_contacts_on_two_others(tmp_path: Path) -> None:
    new = sixteen(tmp_path / "truth")
    done = new.init(*given(new, tmp_path, contacts="bus0:1=bus0:2, bus0:1/9=bus0:3"))
    assert done.exit_code == 0, done.output
    written = load_settings(tmp_path / "locker.toml")
    assert wiring(written) == wiring(new.truth)
    assert list(written.devices) == ["locks_a", "contacts_1", "contacts_2"]
    assert "the locks of locks_a have their door contacts on contacts_1, contacts_2" in done.stderr
    lives(new.truth, written, tmp_path, a_life_by_codes)


def test_several_boards_are_joined_by_a_person_alone(tmp_path: Path) -> None:
    new = sixteen(tmp_path / "truth")
    done = new.init(*given(new, tmp_path))
    assert done.exit_code == 2
    assert "--contacts LIST, such as bus0:1/1=bus0:2/1, bus0:1/9=bus0:3/1" in done.stderr
    assert not (tmp_path / "locker.toml").exists()


def test_one_board_with_locks_and_one_with_contacts_belong_together(tmp_path: Path) -> None:
    cells = [("relays", n, "inputs", n) for n in range(1, 9)]
    new = machine(tmp_path / "truth", {"inputs": "in-8", "relays": "wellpro-wp8025"}, cells)
    done = new.init(*given(new, tmp_path))
    assert done.exit_code == 0, done.output
    assert wiring(load_settings(tmp_path / "locker.toml")) == wiring(new.truth)


def test_contacts_of_a_board_with_locks_of_its_own(tmp_path: Path) -> None:
    cells = [("relays", n, "both", n) for n in range(1, 9)]
    new = machine(tmp_path / "truth", {"relays": "waveshare-relay-16ch", "both": "waveshare-io-8ch"}, cells)
    done = new.init(*given(new, tmp_path, contacts="bus0:1=bus0:2"), "--json")
    assert done.exit_code == 0, done.output
    assert wiring(load_settings(tmp_path / "locker.toml")) == wiring(new.truth)
    notes = json.loads(done.stdout)["notes"]
    channels = "9, 10, 11, 12, 13, 14, 15, 16"
    assert f"locks of locks_a without a door contact have no cells: {channels}" in notes
    done = new.init(*given(new, tmp_path), "--force")  # else the locks of the other board have cells
    assert done.exit_code == 0, done.output
    assert wiring(load_settings(tmp_path / "locker.toml")) == [((2, n), (2, n)) for n in range(1, 9)]


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("bus0:1", "'bus0:1' is no LOCKS=CONTACTS"),
        ("bus0:9=bus0:2", "no board was found at bus0:9"),
        ("bus0:1=bus1:2", "no board was found at bus1:2"),
        ("bus0:1/17=bus0:2", "bus0:1 has no lock 17"),
        ("bus0:2=bus0:3", "bus0:2 has no lock 1"),
        ("bus0:1=bus0:2/9", "bus0:2 has no door contact 9"),
        ("bus0:1=bus0:2/0", "bus0:2 has no door contact 0"),
        ("bus0:1=bus0:2, bus0:1/9=bus0:2", "door contact 1 of bus0:2 has two locks"),
        ("bus0:1=bus0:2, bus0:1=bus0:3", "lock 1 of bus0:1 has two door contacts"),
    ],
)
def test_contacts_that_cannot_be(tmp_path: Path, answer: str, word: str) -> None:
    (tmp_path / "in-8.toml").write_text(INPUTS, encoding="utf-8")
    relays, inputs = (
        load_profile(PROFILES / "waveshare-relay-16ch.toml"),
        load_profile(tmp_path / "in-8.toml"),
    )
    boards = [
        Board("bus0", 1, "relays", relays),
        Board("bus0", 2, "in", inputs),
        Board("bus0", 3, "in", inputs),
    ]
    assert ", ".join(map(str, proposed(boards))) == "bus0:1/1=bus0:2/1, bus0:1/9=bus0:3/1"
    with pytest.raises(ValueError, match=word):
        parser(boards)(answer)


def test_crossed_contacts_on_one_board_can_be_said(tmp_path: Path) -> None:
    board = Board("bus0", 1, "io", load_profile(PROFILES / "waveshare-io-8ch.toml"))
    (crossed,) = joined([board], parser([board])("bus0:1/1=bus0:1/2, bus0:1/2=bus0:1/1, bus0:1/3=bus0:1/3"))
    assert crossed.locks[:3] == [(1, "bus0:1", 2), (2, "bus0:1", 1), (3, "bus0:1", 3)]
    assert crossed.doors == 8


def lit(folder: Path) -> NewMachine:
    cells = [("locks", n, "locks", n) for n in range(1, 9)]
    return machine(folder, {"locks": "waveshare-io-8ch", "lights": "waveshare-relay-8ch"}, cells)


def test_lights_at_doors_and_for_several(tmp_path: Path) -> None:
    new = lit(tmp_path / "truth")
    done = new.init(*given(new, tmp_path, signals="A01, -, A02+A03, all"))
    assert done.exit_code == 0, done.output
    written = load_settings(tmp_path / "locker.toml")
    signals = [cell.signal and (cell.signal.device, cell.signal.channel) for cell in written.cells]
    assert signals == [("relays_1", 1), *[None] * 7]
    cabinets = written.signal.cabinets
    assert [(c.device, c.channel, list(c.cells)) for c in cabinets.values()] == [
        ("relays_1", 3, ["A02", "A03"]),
        ("relays_1", 4, []),
    ]
    text = (tmp_path / "locker.toml").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line and "#" not in line] == []


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("Z9", "signals: no such cell: Z9"),
        ("A01, A01", "a cell is named twice"),
        ("A01+A01", "a cell is named twice"),
        ("-,-,-,-,-,-,-,-,A01", "there are only 8"),
    ],
)
def test_signals_that_cannot_be(tmp_path: Path, answer: str, word: str) -> None:
    new = lit(tmp_path / "truth")
    done = new.init(*given(new, tmp_path, signals=answer))
    assert done.exit_code == 2
    assert word in done.stderr


def test_outputs_in_use_switch_no_light(tmp_path: Path) -> None:
    """The board of `small` has its locks on the outputs that its signals would need."""
    new = small(tmp_path)
    done = new.init(*options(tmp_path / "locker.toml", new.ports, last="5", signals="A01"))
    assert done.exit_code == 0, done.output
    assert load_settings(tmp_path / "locker.toml").cells[0].signal is None


@pytest.mark.parametrize("place", ["/dev/ttyACM3", "/dev/input/by-id/usb-Reader-event-kbd"])
def test_a_card_reader_by_its_port_or_as_a_keyboard(tmp_path: Path, place: str) -> None:
    new = small(tmp_path)
    done = new.init(*options(tmp_path / "locker.toml", new.ports, last="5", card_reader=place))
    assert done.exit_code == 0, done.output
    reader = load_settings(tmp_path / "locker.toml").card_reader
    assert reader is not None
    assert place in (reader.port, reader.device)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (
            {"card_reader": "/dev/ttyACM1", "scanner": "/dev/ttyACM1"},
            "ttyACM1 is the scanner or keypad already",
        ),
        ({"card_reader": "/dev/ttyUSB0"}, "/dev/ttyUSB0 is the port of a bus with boards"),
        ({"card_reader": "reader"}, "card_reader: 'reader' is not a device"),
    ],
)
def test_a_card_reader_has_a_device_of_its_own(tmp_path: Path, more: dict[str, str], word: str) -> None:
    new = small(tmp_path)
    done = new.init(*options(tmp_path / "locker.toml", new.ports, last="5", **more))
    assert done.exit_code == 2
    assert word in done.stderr
