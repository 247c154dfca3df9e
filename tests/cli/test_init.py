"""`edge-agent init`: what it finds, asks, writes, prints and ends with; every machine is a simulated one."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cli.init import command, store
from edge_agent.config import Settings, load, load_settings
from edge_agent.config.origin import made_by_init
from edge_agent.drivers.simulated.cable import MemoryCable
from tests.scenarios.plays import a_life_by_codes, a_life_by_the_api
from tests.scenarios.stage import Scenario, VirtualStage
from tests.support.new_machine import PROFILES, NewMachine, options
from tests.support.site import Site
from tools.bench.settings import REPOSITORY
from tools.simulate.plant import Plant, with_journal
from tools.simulate.usb import UsbTree
from tools.simulate.virtual_loop import VirtualLoop

DEMO = {
    "sizes": "small=350x150x450:5000, medium=350x250x450:10000",
    "cell_sizes": "small*8, medium",
    "scales": "B01,B02,B05,B06,C01,C02,C03,C04",
    "thermometers": "B01,B02,B03,B04,C05,C06,C07,C08",
    "climate": "B01:cold,B02:cold,B03:cold,B04:cold,C05:hot,C06:hot,C07:hot,C08:hot",
    "last": "20",
}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def machine(name: str = "demo") -> NewMachine:
    return NewMachine(load_settings(REPOSITORY / "config" / f"{name}.toml"))


def small(tmp_path: Path, device: str = 'profile = "waveshare-io-8ch"') -> NewMachine:
    """One board, eight cells: quickly found."""
    text = (REPOSITORY / "config" / "tiny.toml").read_text(encoding="utf-8")
    path = tmp_path / "truth" / "tiny.toml"
    path.parent.mkdir()
    profiles = f'[paths]\nprofiles = "{PROFILES}"\n\n[machine]'
    path.write_text(text.replace("[machine]", profiles, 1), encoding="utf-8")
    assert device in text
    return NewMachine(load_settings(path))


def lives(truth: Settings, written: Settings, folder: Path, life: Scenario) -> None:
    """The agent runs on what was written, at a machine that is wired as it truly is."""

    async def run() -> None:
        plant = Plant(with_journal(truth, folder / "unused.sqlite"), 7)
        ports = {bus.port: name for name, bus in written.buses.items()}
        plant.cables = {ports[truth.buses[name].port]: cable for name, cable in plant.cables.items()}
        plant.settings = with_journal(written, folder / "journal.sqlite")
        site = Site(plant)
        plant.start()
        await site.until(lambda: "locker/v1/machine_123/state/machine" in plant.broker.retained)
        await asyncio.sleep(3)
        assert plant.agent is not None
        assert not plant.agent.loop.state.alarms
        await life(VirtualStage(site))
        await plant.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_the_demo_lockers_boards_are_found_and_what_is_written_runs_a_life(tmp_path: Path) -> None:
    new, output = machine(), tmp_path / "locker.toml"
    done = new.init(*options(output, new.ports, **DEMO))
    assert done.exit_code == 0, done.output
    assert "/dev/ttyUSB0: modbus at 19200 baud, parity N" in done.stdout
    assert "bus0:11" in done.stdout
    assert "bus0:11" not in done.stderr
    assert "24 cells, 13 devices, 1 bus" in done.stdout
    for step in ("edge-agent check", "systemctl start edge-agent", "bus doors", "tare", "diagnose --doors"):
        assert step in done.stdout
    written, truth = load_settings(output), new.truth
    kinds = {(device.address, device.profile) for device in truth.devices.values()}
    assert {(device.address, device.profile) for device in written.devices.values()} == kinds

    def places(settings: Settings) -> dict[str, Any]:
        """Where each cell's things are, by address."""
        return {
            cell.label: {
                use: (settings.devices[place.device].address, place.channel)
                for use in ("lock", "door", "scale", "temperature", "heating", "cooling")
                if (place := getattr(cell, use)) is not None
            }
            for cell in settings.cells
        }

    climate = places(written)
    assert climate["B01"]["cooling"] == (4, 1)
    assert climate["C05"]["heating"] == (4, 5)
    assert {label: place["lock"] for label, place in climate.items()} == {
        label: place["lock"] for label, place in places(truth).items()
    }
    lives(truth, written, tmp_path, a_life_by_the_api)


def test_a_locker_with_a_protocol_of_its_own_is_found_too(tmp_path: Path) -> None:
    new, output = machine("kerong64"), tmp_path / "locker.toml"
    done = new.init(*options(output, new.ports))
    assert done.exit_code == 0, done.output
    written = load_settings(output)
    assert [bus.protocol for bus in written.buses.values()] == ["kerong-cu16"]
    assert [device.address for device in written.devices.values()] == [0, 1, 2, 3]
    assert (len(written.cells), written.unlock.pulse_ms) == (64, 500)
    lives(new.truth, written, tmp_path, a_life_by_codes)


def test_the_file_says_when_and_by_whom_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, output = small(tmp_path), tmp_path / "locker.toml"
    monkeypatch.setenv("SUDO_USER", "maria")
    assert new.init(*options(output, new.ports, last="5")).exit_code == 0
    made = made_by_init(output)
    assert made is not None
    assert made[1] == "maria"
    assert datetime.fromisoformat(made[0]).tzinfo is not None
    output.write_text("# Written by hand\n", encoding="utf-8")
    assert made_by_init(output) is None
    assert made_by_init(tmp_path / "none.toml") is None


def test_several_buses_with_different_speeds(tmp_path: Path) -> None:
    new, output = machine("food"), tmp_path / "locker.toml"
    done = new.init(*options(output, new.ports, last="20", protocols="modbus"), "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert [(bus["bus"], bus["baud"]) for bus in answer["buses"]] == [("bus0", 19200), ("bus1", 9600)]
    assert [(row["bus"], row["address"], row["profile"]) for row in answer["devices"]] == [
        ("bus0", 1, "waveshare-io-8ch"),
        ("bus0", 2, "waveshare-io-8ch"),
        ("bus1", 1, "waveshare-relay-8ch"),
        ("bus1", 2, "waveshare-relay-8ch"),
        ("bus1", 3, "r4dcb08"),
        ("bus1", 4, "r4dcb08"),
        ("bus1", 11, "laumas-tlb"),
        ("bus1", 12, "generic-transmitter"),
    ]
    assert any("B05, B06, B07, B08 do not read 1" in note for note in answer["notes"])
    assert load_settings(output).cells[0].cooling is None  # no answer said what the relays switch


def test_every_key_has_a_comment_and_no_line_is_long(tmp_path: Path) -> None:
    new, output = machine(), tmp_path / "locker.toml"
    extra = {"scanner": "/dev/ttyACM0", "keypad": "/dev/input/by-id/x-event-kbd", "tls": "yes"}
    assert new.init(*options(output, new.ports, **DEMO, **extra)).exit_code == 0
    lines = output.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and "#" not in line] == []
    assert [line for line in lines if len(line) > 140 and not line.startswith("# NOTE")] == []
    written = load_settings(output)
    assert written.mqtt.tls is not None
    assert written.mqtt.port == 8883
    assert written.scanner is not None
    assert written.keypad is not None


def test_it_only_reads(tmp_path: Path) -> None:
    new = machine("kerong64")
    assert new.init(*options(tmp_path / "locker.toml", new.ports)).exit_code == 0
    assert len(new.sent) > 100
    stream = b"".join(new.sent)
    for frame in new.sent:
        if frame[:1] == b"\x8a":
            assert frame[1:3] != b"\x00\x11"
    assert unlocks_in(stream) == []


def unlocks_in(stream: bytes) -> list[bytes]:
    """Whatever a lock board could take for an unlock, wherever in the stream it begins."""
    found = []
    for start in range(len(stream) - 5):
        piece = stream[start : start + 9]
        xor = piece[0] ^ piece[1] ^ piece[2] ^ piece[3]
        if piece[0] in (0x8A, 0x9A) and xor == piece[4]:
            found.append(piece)
        if piece[0] == 0x02 and piece[2] == 0x31 and piece[3] == 0x03 and sum(piece[:4]) & 0xFF == piece[4]:
            found.append(piece)
        if piece[0] == 0x02 and piece[3] == 0x61 and piece[4] == 0x03 and sum(piece[:5]) & 0xFF == piece[5]:
            found.append(piece)
        if piece[:4] == b"WKLY" and piece[6:7] == b"\x82":
            found.append(piece)
    return found


def test_the_unlock_finder_recognises_every_unlock_frame() -> None:
    for unlock in ("8A 01 01 11 9B", "02 00 31 03 36", "02 00 04 61 03 6A", "57 4B 4C 59 09 00 82 01 83"):
        assert unlocks_in(b"\x00" + bytes.fromhex(unlock) + bytes(9))


def echoing(cable: MemoryCable) -> None:
    cable.trouble.echoes.begin(None)


def noisy(cable: MemoryCable) -> None:
    cable.trouble.noises.begin(1.0)


def test_an_adapter_with_an_echo_is_noticed(tmp_path: Path) -> None:
    new, output = small(tmp_path), tmp_path / "locker.toml"
    new.on_cable = echoing
    done = new.init(*options(output, new.ports, last="5"))
    assert done.exit_code == 0, done.output
    assert load_settings(output).buses["bus0"].local_echo


def test_at_a_terminal_everything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "is_interactive", lambda: True)
    new, output = small(tmp_path), tmp_path / "locker.toml"
    typed = ["ma chine", "machine_9", "Riverside", "", "north", "52.4", "4.9", "", "", "", new.ports]
    typed += ["modbus", "19200", "N", "5", "", "", "", "", "", "", "", "y"]
    done = new.init("--output", str(output), "--profiles", str(PROFILES), typed=typed)
    assert done.exit_code == 0, done.output
    assert "must be 1 to 50 letters" in done.stderr
    assert "must be degrees, -90 to 90" in done.stderr
    assert "with all doors closed: 4 of 8 read 1" in done.stderr
    written = load_settings(output)
    assert (written.machine.name, written.machine.location) == ("Riverside", "Riverside")
    assert written.doors.closed_level == 1


def test_certificates_are_asked_for_where_the_broker_uses_tls(tmp_path: Path) -> None:
    new, output = small(tmp_path), tmp_path / "locker.toml"
    files = {name: str(tmp_path / f"{name}.pem") for name in ("ca_file", "cert_file", "key_file")}
    for path in files.values():
        Path(path).touch()
    done = new.init(*options(output, new.ports, last="5", tls="yes", **files))
    assert done.exit_code == 0, done.output
    tls = load_settings(output).mqtt.tls
    assert tls is not None
    assert (str(tls.ca_file), str(tls.cert_file), str(tls.key_file)) == tuple(files.values())


def test_answering_no_at_the_end_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "is_interactive", lambda: True)
    new, output = small(tmp_path), tmp_path / "locker.toml"
    done = new.init(*options(output, new.ports, last="5"), typed=[""] * 31)
    assert done.exit_code == 0
    output.unlink()
    given = options(output, new.ports, last="5", name="x", place="y", tls="no", broker_port="1883")
    given += ["--protocols", "modbus", "--bauds", "19200", "--parities", "N", "--devices", "-"]
    given += [
        "--sizes",
        "s=1x1x1:1",
        "--cell-sizes",
        "s",
        "--scanner",
        "-",
        "--keypad",
        "-",
        "--card-reader",
        "-",
    ]
    done = new.init(*given, typed=["n"])
    assert (done.exit_code, output.exists()) == (1, False)


def test_answers_from_a_file(tmp_path: Path) -> None:
    new, output, answers = small(tmp_path), tmp_path / "locker.toml", tmp_path / "answers.toml"
    answers.write_text(
        'machine_id = "machine_7"\nlatitude = 52.4\nlongitude = 4.9\nbroker = "broker.example.org"\n'
        f'tls = true\nclosed_level = 1\nports = ["{new.ports}"]\nlast = 5\nsizes = ["a=100x100x100:1000"]\n',
        encoding="utf-8",
    )
    given = ["--output", str(output), "--profiles", str(PROFILES), "--answers", str(answers)]
    assert new.init(*given, "--machine-id", "machine_8").exit_code == 0
    written = load_settings(output)
    assert (written.machine.machine_id, written.mqtt.port) == ("machine_8", 8883)
    assert list(written.sizes) == ["a"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("machine = 1", "unknown keys: machine"),
        ("machine_id = ", "not TOML"),
        ("ports = { a = 1 }", "ports: must be a text"),
        ("latitude = 91", "latitude: must be degrees"),
        ("closed_level = 2", "closed_level: must be 0 to 1"),
    ],
)
def test_invalid_answers_are_refused(tmp_path: Path, text: str, word: str) -> None:
    new, output, answers = small(tmp_path), tmp_path / "locker.toml", tmp_path / "answers.toml"
    answers.write_text(text, encoding="utf-8")
    given = options(output, new.ports, last="3")
    for key in ("latitude", "closed-level"):
        at = given.index(f"--{key}")
        if key.replace("-", "_") in text:
            del given[at : at + 2]
    done = new.init(*given, "--answers", str(answers))
    assert done.exit_code == 2, done.output
    assert word in done.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("bauds", "1", "must be some of"),
        ("protocols", "profibus", "must be some of"),
        ("parities", "M", "must be some of"),
        ("last", "256", "must be 0 to 255"),
        ("devices", "bus0:1=toaster", "is no BUS:ADDRESS=PROFILE"),
        ("devices", "bus0:4=laumas-tlb", "no device answers at bus0:4"),
        ("devices", "bus0:1=kerong-cu16", "uses kerong-cu16"),
        ("sizes", "small=1x2:3", "is not NAME="),
        ("sizes", "s=1x1x1:1,s=1x1x1:1", "each only once"),
        ("cell-sizes", "large", "sizes are: medium"),
        ("cell-sizes", "medium*99", "these are 99 sizes for"),
        ("broker", "a b", "must be a name or an address"),
        ("broker-port", "0", "must be 1 to 65535"),
        ("tls", "maybe", "must be yes or no"),
        ("ports", "ttyUSB0", "ports: 'ttyUSB0' is neither a device"),
        ("ports", "tcp://board:70000", "nor tcp://HOST:PORT"),
        ("ports", "/dev/ttyUSB0,/dev/ttyUSB0", "one is given twice"),
        ("scanner", "/dev/ttyUSB0", "is the port of a bus with boards"),
    ],
)
def test_invalid_options_are_refused(tmp_path: Path, option: str, value: str, word: str) -> None:
    new, output = small(tmp_path), tmp_path / "locker.toml"
    done = new.init(*options(output, new.ports, last="5"), f"--{option}", value)
    assert done.exit_code == 2, done.output
    assert word in done.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"ca_file": "/no/such/ca.pem"}, "ca_file: /no/such/ca.pem: no such file"),
        ({"ca_file": "ca.pem"}, "ca_file: 'ca.pem' is no absolute path"),
        ({"cert_file": "/etc/passwd"}, "key_file: a certificate is of no use without its key"),
    ],
)
def test_unusable_certificates_are_refused(tmp_path: Path, files: dict[str, str], word: str) -> None:
    new, output = small(tmp_path), tmp_path / "locker.toml"
    done = new.init(*options(output, new.ports, last="5", tls="yes", **files))
    assert done.exit_code == 2, done.output
    assert word in done.stderr
    assert not output.exists()


def test_without_a_terminal_missing_answers_are_listed_before_anything_is_sent(tmp_path: Path) -> None:
    new = small(tmp_path)
    done = new.init("--output", str(tmp_path / "locker.toml"), "--machine-id", "machine_1")
    assert done.exit_code == 2
    assert "latitude, longitude, broker, closed_level" in done.stderr
    assert "--closed-level" in done.stderr
    assert not new.sent


def test_a_port_in_use_by_the_service(tmp_path: Path) -> None:
    new, output = small(tmp_path), tmp_path / "locker.toml"
    new.taken.add(new.ports)
    done = new.init(*options(output, new.ports))
    assert (done.exit_code, output.exists()) == (1, False)
    assert "systemctl stop edge-agent" in done.stderr
    assert "no board was found; nothing was written" in done.stderr


def test_a_port_where_nobody_answers(tmp_path: Path) -> None:
    new, output = small(tmp_path), tmp_path / "locker.toml"
    done = new.init(*options(output, "/dev/nobody"))
    assert (done.exit_code, output.exists()) == (1, False)
    assert "no device answers: check power, wires (A and B), addresses" in done.stderr
    assert "--thorough" in done.stderr
    done = new.init(*options(output, f"/dev/nobody,{new.ports}", last="5"))
    assert done.exit_code == 0
    assert list(load_settings(output).buses) == ["bus0"]


def test_a_bus_with_unreadable_replies(tmp_path: Path) -> None:
    new, output = small(tmp_path), tmp_path / "locker.toml"
    new.on_cable = noisy
    done = new.init(*options(output, new.ports, last="5", protocols="modbus"))
    assert (done.exit_code, output.exists()) == (1, False)


def test_without_a_board_with_doors_nothing_is_written(tmp_path: Path) -> None:
    new, output = small(tmp_path), tmp_path / "locker.toml"
    done = new.init(*options(output, new.ports, last="5"), "--devices", "bus0:1=none")
    assert (done.exit_code, output.exists()) == (1, False)
    assert "no locks with door contacts were found" in done.stderr


def test_an_existing_file_stays_without_the_option_to_overwrite(tmp_path: Path) -> None:
    new, output = small(tmp_path), tmp_path / "locker.toml"
    output.write_text("mine", encoding="utf-8")
    done = new.init(*options(output, new.ports, last="5"))
    assert (done.exit_code, output.read_text(encoding="utf-8")) == (1, "mine")
    assert "--force" in done.stderr
    assert not new.sent
    assert new.init(*options(output, new.ports, last="5"), "--force").exit_code == 0
    assert load_settings(output).cells
    assert output.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["locker.toml"]


def test_a_missing_folder_is_bad_usage(tmp_path: Path) -> None:
    new = small(tmp_path)
    done = new.init(*options(tmp_path / "no" / "locker.toml", new.ports))
    assert done.exit_code == 2
    assert "no such directory" in done.stderr


def test_no_profiles_no_boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = small(tmp_path)
    monkeypatch.setattr(load, "SHIPPED_PROFILES", (tmp_path / "none",))
    done = new.init(*options(tmp_path / "locker.toml", new.ports), "--profiles", str(tmp_path))
    assert done.exit_code == 2
    assert "--profiles DIR" in done.stderr


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    new, output = small(tmp_path), tmp_path / "locker.toml"

    def stop() -> None:
        raise KeyboardInterrupt

    new.on_line = stop
    done = new.init(*options(output, new.ports))
    assert done.exit_code == 130 or done.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["truth"]


def test_an_interrupted_writing_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "locker.toml"
    output.write_text("mine", encoding="utf-8")

    def stop(path: Path) -> None:
        assert len(list(tmp_path.iterdir())) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "load_settings", stop)
    with pytest.raises(KeyboardInterrupt):
        store.put(output, "yours", force=True)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [
        ("locker.toml", "mine")
    ]


def test_two_at_once_do_not_overwrite_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, output = small(tmp_path), tmp_path / "locker.toml"
    assert new.init(*options(output, new.ports, last="5")).exit_code == 0
    text = output.read_text(encoding="utf-8")
    with pytest.raises(FileExistsError):
        store.put(output, text, force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["locker.toml", "truth"]


@pytest.mark.behaviour("port-05")
def test_ports_by_the_name_that_stays_longest(tmp_path: Path) -> None:
    from edge_agent.cli.init.ports import serial_ports

    dev, classes = tmp_path / "dev", tmp_path / "sys" / "class" / "tty"
    for name in ("ttyUSB0", "ttyUSB1", "ttyACM0", "ttyS0", "ttyS1"):
        (dev / name).parent.mkdir(parents=True, exist_ok=True)
        (dev / name).touch()
    for name, kind in (("ttyS0", "4"), ("ttyS1", "0")):
        (classes / name).mkdir(parents=True)
        (classes / name / "type").write_text(f"{kind}\n")
    tree = UsbTree(tmp_path / "sys")
    tree.plug("ttyUSB1", "1.1", serial="A10K5X2B")
    tree.plug("ttyACM0", "1.2", serial=None)
    (dev / "serial" / "by-id").mkdir(parents=True)
    (dev / "serial" / "by-path").mkdir(parents=True)
    os.symlink("../../ttyUSB1", dev / "serial" / "by-id" / "usb-FTDI")
    os.symlink("../../ttyACM0", dev / "serial" / "by-id" / "usb-1a86")
    os.symlink("../../ttyACM0", dev / "serial" / "by-path" / "usb-0:1.2:1.0")
    os.symlink("ttyUSB0", dev / "locker-bus0")
    assert [path.removeprefix(f"{dev}/") for path in serial_ports(dev, classes)] == [
        "locker-bus0",
        "serial/by-id/usb-FTDI",
        "serial/by-path/usb-0:1.2:1.0",
        "ttyS0",
    ]
