"""`[credentials]`: what a bad entry is called, and that no output shows an id."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_agent.app.entry_readers import readers_of
from edge_agent.cli.bundle.parts import parts
from edge_agent.cli.commands import app
from edge_agent.config import load_settings
from edge_agent.config.changes import changes
from edge_agent.config.modes import mode_findings
from edge_agent.drivers.entry.keyboard import Keyboard
from edge_agent.drivers.entry.scanner import SerialScanner
from edge_agent.service import blackout
from tests.test_config import demo, findings, write

ID, OTHER = "04:A2:B3:C4:D5:E6:F7", "9922334455"


def with_cards() -> dict[str, Any]:
    document = demo()
    document["credentials"] = {
        "maria": {"id": ID, "code": "drop-off", "reservation": "res_1"},
        "bob": {"id": OTHER, "code": "pick-up", "platform": "acme", "order": "bob's box"},
    }
    return document


def short(cards: dict[str, Any]) -> None:
    cards["maria"]["id"] = "04:A2:B3:C"


def odd(cards: dict[str, Any]) -> None:
    cards["maria"]["id"] = "04;A2;B3;C4;D5"


def a_number(cards: dict[str, Any]) -> None:
    cards["maria"]["id"] = 9922334455


def the_same(cards: dict[str, Any]) -> None:
    cards["bob"]["id"] = ID.lower().replace(":", "-")


def reserved(cards: dict[str, Any]) -> None:
    cards["Kiosk"] = cards.pop("bob")


def alike(cards: dict[str, Any]) -> None:
    cards["Maria"] = cards.pop("bob")


def with_blank(cards: dict[str, Any]) -> None:
    cards["maria b"] = cards.pop("bob")


def for_nothing(cards: dict[str, Any]) -> None:
    del cards["maria"]["reservation"]


def for_two(cards: dict[str, Any]) -> None:
    cards["bob"]["reservation"] = "res_1"


def without_platform(cards: dict[str, Any]) -> None:
    del cards["bob"]["platform"]


def for_all(cards: dict[str, Any]) -> None:
    cards["maria"]["code"] = "all"


def with_pin(cards: dict[str, Any]) -> None:
    cards["maria"]["pin"] = "123456"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (short, "credentials.maria.id: must have 8 to 128 letters and digits"),
        (odd, "credentials.maria.id: must be letters and digits"),
        (a_number, "credentials.maria.id: "),
        (the_same, "credentials.bob.id: is also the id of credentials.maria"),
        (reserved, "credentials.Kiosk: 'Kiosk' is a reserved name"),
        (alike, "credentials.Maria: differs from 'maria' in upper and lower case only"),
        (with_blank, "credentials.maria b: "),
        (for_nothing, "credentials.maria: needs either reservation, or platform and order"),
        (for_two, "credentials.bob: needs either reservation, or platform and order"),
        (without_platform, "credentials.bob: platform and order belong together"),
        (for_all, "credentials.maria.code: "),
        (with_pin, "credentials.maria.pin: unknown key"),
    ],
)
def test_a_bad_entry_is_named_by_its_key_path_and_its_id_is_not_shown(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None], said: str
) -> None:
    document = with_cards()
    spoil(document["credentials"])
    found = findings(tmp_path, document)
    assert len(found) == 1
    assert found[0].startswith(said)
    for card in document["credentials"].values():
        assert str(card["id"]) not in found[0]


def test_an_id_that_could_be_a_code_is_refused(tmp_path: Path) -> None:
    """Nine digits where codes have nine: it could become the code of a stranger's reservation."""
    document = with_cards() | {"codes": {"code_digits": 9}}
    document["credentials"]["bob"]["id"] = "992233445"
    (found,) = findings(tmp_path, document)
    assert found.startswith("credentials.bob.id: has 9 digits, as every code")
    document["credentials"]["bob"]["id"] = "99223344f"
    load_settings(write(tmp_path, document))


def test_ids_are_shown_nowhere(tmp_path: Path) -> None:
    file = write(tmp_path, with_cards())
    done = CliRunner().invoke(app, ["config", "show", "credentials", "--config", str(file), "--json"])
    rows = {row["key"]: row["value"] for row in json.loads(done.stdout)}
    assert rows["credentials.maria.id"] == rows["credentials.bob.id"] == "***"
    assert rows["credentials.bob.order"] == "bob's box"
    kept = {part.name: part.collect for part in parts(tmp_path / "none", file, None, False)}
    bundled = kept["config.json"]() + kept["config-check.txt"]()
    settings = load_settings(file)
    for shown in (done.stdout, bundled, repr(settings), settings.model_dump_json()):
        for secret in (ID, OTHER):
            assert secret not in shown


def test_the_name_of_a_card_is_not_blacked_out_of_a_log() -> None:
    line = "event='entry at the kiosk refused' reason='not valid' by='credential maria'"
    assert blackout.text(line) == line


def test_a_reload_sees_another_id_and_shows_neither(tmp_path: Path) -> None:
    before = load_settings(write(tmp_path, with_cards()))
    document = with_cards()
    document["credentials"]["maria"]["id"] = "04:A2:B3:C4:D5:E6:00"
    document["credentials"]["carl"] = {"id": "00112233AA", "code": "drop-off", "reservation": "res_9"}
    after = load_settings(write(tmp_path, document))
    found = {change.path: str(change) for change in changes(before, after)}
    assert set(found) == {
        "credentials.maria.id",
        *(f"credentials.carl.{key}" for key in ("id", "code", "reservation")),
    }
    assert found["credentials.maria.id"].endswith("is now 'another one'")
    assert not any("04:A2" in text or "00112233AA" in text for text in found.values())
    assert changes(before, load_settings(write(tmp_path, with_cards()))) == []


def test_a_file_with_ids_that_any_user_can_read_is_warned_about(tmp_path: Path) -> None:
    file = write(tmp_path, with_cards())
    file.chmod(0o644)
    (found,) = [one for one in mode_findings(load_settings(file), file) if one.path == "credentials"]
    assert "can be read by any user (mode 0644)" in found.message
    file.chmod(0o640)
    assert not [one for one in mode_findings(load_settings(file), file) if one.path == "credentials"]
    plain = write(tmp_path, demo())
    plain.chmod(0o644)
    assert not [one for one in mode_findings(load_settings(plain), plain) if one.path == "credentials"]


def test_the_example_has_a_card() -> None:
    text = (Path(__file__).parents[1] / "config" / "locker.example.toml").read_text(encoding="utf-8")
    assert set(tomllib.loads(text)["credentials"]["courier_7"]) == {"id", "code", "platform", "order"}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({}, "card_reader: needs either device (a keyboard) or port (a serial port)"),
        ({"device": "/dev/a", "port": "/dev/b"}, "card_reader: needs either device"),
        ({"port": "/dev/ttyACM0"}, "card_reader.port: port '/dev/ttyACM0' is taken by scanner.port"),
        ({"port": "/dev/ttyUSB0"}, "card_reader.port: port '/dev/ttyUSB0' is taken by buses.main.port"),
        ({"device": "/dev/input/pad"}, "card_reader.device: port '/dev/input/pad' is taken by keypad.device"),
    ],
)
def test_a_card_reader_has_a_place_of_its_own(tmp_path: Path, section: dict[str, Any], said: str) -> None:
    document = demo() | {"keypad": {"device": "/dev/input/pad"}, "card_reader": section}
    (found,) = findings(tmp_path, document)
    assert found.startswith(said)


def test_scanner_keypad_and_card_reader_work_side_by_side(tmp_path: Path) -> None:
    async def on_text(text: str, waited_s: float) -> None: ...

    document = demo() | {
        "keypad": {"device": "/dev/input/pad"},
        "card_reader": {"device": "/dev/input/cards"},
    }
    made = readers_of(load_settings(write(tmp_path, document)), on_text)
    assert {name: type(reader) for name, reader in made.items()} == {
        "scanner": SerialScanner,
        "keypad": Keyboard,
        "card_reader": Keyboard,
    }
    document["card_reader"] = {"port": "/dev/cards", "baud": 19200}
    made = readers_of(load_settings(write(tmp_path, document)), on_text)
    assert isinstance(made["card_reader"], SerialScanner)
    assert list(readers_of(load_settings(write(tmp_path, demo())), on_text)) == ["scanner"]
