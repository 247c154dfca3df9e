"""A wrong configuration is reported by key path, all findings at once, and nothing starts."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from edge_agent.config import load_settings
from edge_agent.errors import ConfigError
from edge_agent.mqtt.credentials import Credentials

CONFIG = Path(__file__).resolve().parents[1] / "config"


def demo() -> dict[str, Any]:
    return tomllib.loads((CONFIG / "demo.toml").read_text(encoding="utf-8"))


def write(folder: Path, document: dict[str, Any]) -> Path:
    document["paths"] = {**document.get("paths", {}), "profiles": str(CONFIG / "devices")}
    path = folder / "machine.toml"
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    return path


def findings(folder: Path, document: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(folder, document))
    return [str(finding) for finding in caught.value.findings]


def unknown_key(d: dict[str, Any]) -> None:
    d["unlock"]["puls_ms"] = 500


def bad_baud(d: dict[str, Any]) -> None:
    d["buses"]["main"]["baud"] = 19201


def one_coil(d: dict[str, Any]) -> None:
    d["cells"][1]["lock"]["channel"] = 1


def missing_device(d: dict[str, Any]) -> None:
    d["cells"][3]["lock"]["device"] = "locks_z"


def missing_channel(d: dict[str, Any]) -> None:
    d["cells"][0]["door"]["channel"] = 9


def wrong_capability(d: dict[str, Any]) -> None:
    d["cells"][0]["scale"] = {"device": "thermometer"}


def one_address(d: dict[str, Any]) -> None:
    d["devices"]["locks_b"]["address"] = 1


def no_profile(d: dict[str, Any]) -> None:
    d["devices"]["locks_b"]["profile"] = "nothing"


def no_bus(d: dict[str, Any]) -> None:
    d["devices"]["locks_b"]["bus"] = "aux"


def long_pulse(d: dict[str, Any]) -> None:
    d["unlock"]["pulse_ms"] = 250


def cell_id_with_topic_sign(d: dict[str, Any]) -> None:
    d["cells"][1]["cell_id"] = "cell/+"


def same_label(d: dict[str, Any]) -> None:
    d["cells"][1]["label"] = "A01"


def no_polarity(d: dict[str, Any]) -> None:
    del d["doors"]


def number_as_text(d: dict[str, Any]) -> None:
    d["unlock"]["attempts"] = "3"


def one_port(d: dict[str, Any]) -> None:
    d["scanner"]["port"] = d["buses"]["main"]["port"]


def odd_delimiter(d: dict[str, Any]) -> None:
    d["scanner"]["delimiter"] = "space"


def nameless_keypad(d: dict[str, Any]) -> None:
    d["keypad"] = {"device": ""}


def no_sensor(d: dict[str, Any]) -> None:
    del d["cells"][8]["temperature"]


def no_climate(d: dict[str, Any]) -> None:
    d["cells"][8]["cooling"]["climate"] = "freezer"


def warm_fridge(d: dict[str, Any]) -> None:
    d["climate"]["cold"]["setpoint_c"] = 4.1


def cool_oven(d: dict[str, Any]) -> None:
    d["climate"]["hot"]["setpoint_c"] = 58.9


def narrow_band(d: dict[str, Any]) -> None:
    d["climate"]["cold"] |= {"band_c": 0.2}


def endless_rest(d: dict[str, Any]) -> None:
    d["climate"]["cold"]["min_off_s"] = 3601


def mqtt(**keys: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(d: dict[str, Any]) -> None:
        d["mqtt"] |= keys

    return spoil


@pytest.mark.parametrize(
    ("spoil", "path", "word"),
    [
        (unknown_key, "unlock.puls_ms", "unknown key"),
        (bad_baud, "buses.main.baud", "19200"),
        (one_coil, "cells[1].lock", "cells[0].lock"),
        (missing_device, "cells[3].lock.device", "locks_z"),
        (missing_channel, "cells[0].door.channel", "1 to 8"),
        (wrong_capability, "cells[0].scale.device", "has no scale"),
        (one_address, "devices.locks_b.address", "locks_a"),
        (no_profile, "devices.locks_b.profile", "nothing"),
        (no_bus, "devices.locks_b.bus", "aux"),
        (long_pulse, "unlock.pulse_ms", "steps of 100 ms"),
        (cell_id_with_topic_sign, "cells[1].cell_id", "must not contain"),
        (same_label, "cells[1].label", "cells[0]"),
        (no_polarity, "doors", "is missing"),
        (number_as_text, "unlock.attempts", "must be a whole number, not"),
        (one_port, "scanner.port", "buses.main.port"),
        (odd_delimiter, "scanner.delimiter", 'must be one of "any", "cr", '),
        (nameless_keypad, "keypad.device", "must not be empty"),
        (no_sensor, "cells[8].temperature", "needs a temperature sensor"),
        (no_climate, "cells[8].cooling.climate", "freezer"),
        (warm_fridge, "climate.cold.setpoint_c", "less than the band of 1.0 from the limit, 5.0"),
        (cool_oven, "climate.hot.setpoint_c", "less than the band of 2.0 from the limit, 57.0"),
        (narrow_band, "climate.cold.least_change_c", "never reached"),
        (endless_rest, "climate.cold.min_off_s", "3600"),
        (mqtt(keepalive_s=15), "mqtt.keepalive_s", "14"),
        (mqtt(transport="udp"), "mqtt.transport", 'must be one of "tcp", "websockets", not "udp"'),
        (
            mqtt(transport="websockets", websocket_path="mqtt"),
            "mqtt.websocket_path",
            'must be a path that begins with /, not "mqtt"',
        ),
        (mqtt(websocket_path="/other"), "mqtt", 'only for transport = "websockets"'),
        (mqtt(host="two words"), "mqtt.host", 'must be a name or an address, not "two words"'),
        (mqtt(password_file="secret"), "mqtt", "username: is needed"),
        (mqtt(tls={"key_file": "k"}), "mqtt.tls", "cert_file and key_file"),
        (mqtt(tls={"cert": "k"}), "mqtt.tls.cert", "unknown key"),
        (mqtt(tls={"ca_file": "credential:ca"}), "mqtt.tls.ca_file", "needs $CREDENTIALS_DIRECTORY"),
        (mqtt(tls={"ca_file": "credential:../ca"}), "mqtt.tls.ca_file", "without a slash"),
        (mqtt(username="m", password_file="credential:p"), "mqtt.password_file", "LoadCredential=NAME"),
        (mqtt(signing_keys={"g": "short"}), "mqtt.signing_keys.g", "Ed25519 key in base64"),
        (mqtt(signing_keys={"g": "AAAA"}), "mqtt.signing_keys.g", "32 bytes in base64, not 3"),
        (
            mqtt(signing_keys={"a key": "A" * 43 + "="}),
            "mqtt.signing_keys.a key",
            "its name must be letters, digits",
        ),
    ],
)
def test_each_fault_is_named_by_its_key_path(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None], path: str, word: str
) -> None:
    document = demo()
    spoil(document)
    found = findings(tmp_path, document)
    assert any(line.startswith(f"{path}: ") and word in line for line in found), found


RELAYS = """
[relays]
channels = 8
function = 5
address = 0x0000

[relays.all_off]
function = 5
address = 0x00FF
value = 0x0000
"""
PULSE = (
    "[relays.pulse]\nfunction = 5\naddress = 0x0200\nunit_ms = {unit}\nmin_ms = {least}\nmax_ms = {most}\n"
)


def other_relays(folder: Path, relays: str) -> list[str]:
    """What is found where the climate board has these relays."""
    devices = folder / "devices"
    devices.mkdir(exist_ok=True)
    for file in (CONFIG / "devices").glob("*.toml"):
        (devices / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    file = devices / "waveshare-relay-8ch.toml"
    text = file.read_text(encoding="utf-8")
    vectors = text.index("[[vectors]]")
    file.write_text(text[: text.index("[relays]")] + relays + text[vectors:], encoding="utf-8")
    path = folder / "machine.toml"
    path.write_text(tomli_w.dumps(demo() | {"paths": {"profiles": str(devices)}}), encoding="utf-8")
    try:
        load_settings(path)
    except ConfigError as error:
        return [str(finding) for finding in error.findings]
    return []


@pytest.mark.behaviour("climate-08", "climate-09")
def test_a_heater_or_cooler_must_go_off_when_the_daemon_dies(tmp_path: Path) -> None:
    found = other_relays(tmp_path, RELAYS)
    assert len(found) == 8
    assert found[0].startswith("cells[8].cooling.device: 'climate' (waveshare-relay-8ch) has neither timed")
    assert found[4].startswith("cells[12].heating.device: 'climate'")
    with_timeout = RELAYS.replace("address = 0x0000", "address = 0x0000\ncommunication_timeout_ms = 10000")
    assert not other_relays(tmp_path, with_timeout)


@pytest.mark.parametrize(
    ("unit", "least", "most", "good"),
    [
        (100, 100, 20_000, True),
        (100, 20_000, 60_000, True),
        (100, 100, 19_900, False),
        (100, 20_100, 60_000, False),
        (3000, 3000, 60_000, False),
    ],
)
def test_a_pulse_must_last_as_long_as_an_output_is_held(
    tmp_path: Path, unit: int, least: int, most: int, good: bool
) -> None:
    found = other_relays(tmp_path, RELAYS + PULSE.format(unit=unit, least=least, most=most))
    assert all("not 20000 ms" in line for line in found)
    assert bool(found) is not good


@pytest.mark.behaviour("climate-11")
def test_defaults_are_used_where_nothing_is_configured(tmp_path: Path) -> None:
    document = demo()
    del document["climate"]
    plain = {cell.label: cell for cell in load_settings(write(tmp_path, document)).cells}
    settings = load_settings(write(tmp_path, document))
    cold, hot = settings.regimes(plain["B01"]), settings.regimes(plain["B05"])
    assert cold is not None
    assert cold.cold is not None
    assert (cold.hot, cold.cold.limit_c, cold.cold.allowed_ns) == (None, 5.0, 30 * 60 * 10**9)
    assert hot is not None
    assert hot.hot is not None
    assert (hot.cold, hot.hot.limit_c, hot.hot.allowed_ns) == (None, 57.0, 120 * 60 * 10**9)
    assert settings.regimes(plain["A01"]) is None


@pytest.mark.behaviour("climate-01")
def test_each_cell_may_have_a_climate_of_its_own(tmp_path: Path) -> None:
    document = demo()
    document["climate"]["wine"] = {"setpoint_c": 12, "limit_c": 16.0, "min_on_s": 1, "precondition_min": 7}
    document["cells"][8]["cooling"]["climate"] = "wine"
    settings = load_settings(write(tmp_path, document))
    own, other = settings.regimes(settings.cells[8]), settings.regimes(settings.cells[9])
    assert own is not None
    assert own.cold is not None
    assert (own.cold.setpoint_c, own.cold.limit_c, own.cold.allowed_ns) == (12.0, 16.0, 30 * 60 * 10**9)
    assert (own.cold.min_on_ns, own.cold.min_off_ns) == (10**9, 180 * 10**9)
    assert (own.cold.precondition_ns, own.cold.no_effect_ns) == (7 * 60 * 10**9, 15 * 60 * 10**9)
    assert other is not None
    assert other.cold is not None
    assert other.cold.setpoint_c == 3.0


@pytest.mark.behaviour("probe-03")
@pytest.mark.parametrize(
    ("climate", "keys", "named"),
    [
        (
            "hot",
            {"limit_c": 86.0, "setpoint_c": 95.0},
            ("setpoint_c - band_c", "setpoint_c + band_c", "limit_c"),
        ),
        ("hot", {"setpoint_c": 84.5}, ("setpoint_c + band_c",)),
    ],
)
def test_w11_climate_limits_beyond_the_probes_range_are_refused_by_key(
    tmp_path: Path, climate: str, keys: dict[str, float], named: tuple[str, ...]
) -> None:
    document = demo()
    document["climate"].setdefault(climate, {}).update(keys)
    found = findings(tmp_path, document)
    need = "heating" if climate == "hot" else "cooling"
    cells = [n for n, cell in enumerate(document["cells"]) if need in cell]
    expected = [(f"cells[{n}].{need}.climate", what) for n in cells for what in named]
    assert [(f.split(": ")[0], f.split(": ")[1].split(" is ")[0]) for f in found] == expected
    assert all("measures above -55 and below 85 °C" in finding for finding in found)


@pytest.mark.parametrize(
    ("keys", "port"),
    [
        ({}, 1883),
        ({"tls": {}}, 8883),
        ({"transport": "websockets"}, 80),
        ({"transport": "websockets", "tls": {}}, 443),
        ({"transport": "websockets", "tls": {}, "port": 9001}, 9001),
    ],
)
def test_the_usual_port_of_a_broker(tmp_path: Path, keys: dict[str, Any], port: int) -> None:
    document = demo()
    document["mqtt"] = {"host": "broker.example.org"} | keys
    settings = load_settings(write(tmp_path, document))
    assert settings.mqtt.port == port
    assert settings.mqtt.websocket_path == "/mqtt"


def test_where_the_files_of_a_link_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/edge-agent.service")
    document = demo()
    files = {"ca_file": "/etc/ca.pem", "cert_file": "keys/cert.pem", "key_file": "credential:key.pem"}
    document["mqtt"] |= {"tls": files, "username": "m", "password_file": "credential:password"}
    found = Credentials.of(load_settings(write(tmp_path, document)).mqtt)
    handed = Path("/run/credentials/edge-agent.service")
    assert (found.tls, found.username) == (True, "m")
    assert found.ca_file == Path("/etc/ca.pem")
    assert found.cert_file == tmp_path / "keys" / "cert.pem"
    assert (found.key_file, found.password_file) == (handed / "key.pem", handed / "password")


def test_the_keys_of_the_link_that_the_example_only_shows_are_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/edge-agent.service")
    text = (CONFIG / "locker.example.toml").read_text(encoding="utf-8")
    text = text.replace('transport = "tcp"', 'transport = "websockets"')
    shown = r"^# (\w+ = |\[(?:mqtt\.tls|service\.keys\.\w+|enrolment|retention)\])"
    document = tomllib.loads(re.sub(shown, r"\1", text, flags=re.MULTILINE))
    found = load_settings(write(tmp_path, document)).mqtt
    assert list(found.signing_keys) == ["gateway-2026"]
    assert set(type(found).model_fields) - found.model_fields_set == set()
    assert all(Credentials.of(found).__getattribute__(name) for name in Credentials.__slots__)


def test_a_plain_link_shows_nothing(tmp_path: Path) -> None:
    assert Credentials.of(load_settings(write(tmp_path, demo())).mqtt) == Credentials()


def test_profiles_that_come_with_the_program_are_found_from_any_folder(tmp_path: Path) -> None:
    """A machine's file beside which there is no folder of profiles, and one with a profile of its own."""
    path = tmp_path / "machine.toml"
    path.write_bytes((CONFIG / "tiny.toml").read_bytes())
    shipped = load_settings(path).profile_of("board")
    assert shipped.identity.vendor == "Waveshare"
    own = (CONFIG / "devices" / "waveshare-io-8ch.toml").read_text(encoding="utf-8")
    (tmp_path / "devices").mkdir()
    own_file = tmp_path / "devices" / "waveshare-io-8ch.toml"
    own_file.write_text(own.replace('vendor = "Waveshare"', 'vendor = "mine"', 1), encoding="utf-8")
    assert load_settings(path).profile_of("board").identity.vendor == "mine"


def test_a_profile_that_is_nowhere_is_named_with_the_folders_that_were_searched(tmp_path: Path) -> None:
    text = (CONFIG / "tiny.toml").read_text(encoding="utf-8")
    path = tmp_path / "machine.toml"
    path.write_text(text.replace('"waveshare-io-8ch"', '"waveshare-io-9ch"'), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    (finding,) = caught.value.findings
    assert str(finding).startswith("devices.board.profile: no such profile: 'waveshare-io-9ch'; looked for")
    for folder in (tmp_path / "devices", CONFIG / "devices"):
        assert str(folder) in str(finding)


def test_all_findings_are_reported_at_once(tmp_path: Path) -> None:
    document = demo()
    one_coil(document)
    one_address(document)
    same_label(document)
    assert len(findings(tmp_path, document)) == 3


@pytest.mark.behaviour("codes-06")
def test_more_cells_than_codes_allow(tmp_path: Path) -> None:
    document = demo()
    document["cells"] *= 5
    assert any(line.startswith("cells: 100 cells at most") for line in findings(tmp_path, document))


@pytest.mark.parametrize(("text", "word"), [("[machine", "not TOML"), (None, "No such file")])
def test_a_file_that_does_not_exist(tmp_path: Path, text: str | None, word: str) -> None:
    path = tmp_path / "machine.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"^{word}"):  # who prints it names the file
        load_settings(path)


def test_the_demo_locker_is_what_the_contract_describes() -> None:
    settings = load_settings(CONFIG / "demo.toml")
    specs = settings.cell_specs()
    assert [s.label for s in specs] == [f"{row}{n:02}" for row in "ABC" for n in range(1, 9)]
    assert len({(s.width_mm, s.height_mm, s.depth_mm) for s in specs}) == 3
    assert sum(s.cooling for s in specs) >= 4
    assert sum(s.heating for s in specs) >= 4
    assert sum(s.weight_sensor for s in specs) == 8
    assert sum(not (s.cooling or s.heating or s.weight_sensor) for s in specs) >= 8
    assert settings.buses["main"].baud == 19200
    assert all(climate.min_off_s <= 5 for climate in settings.climate.values())


@pytest.mark.parametrize("spoil", [unknown_key, bad_baud, one_coil, missing_device])
def test_the_daemon_and_check_exit_2_with_the_line_and_start_nothing(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None]
) -> None:
    document = demo()
    document["paths"] = {"journal": str(tmp_path / "journal.sqlite")}
    spoil(document)
    path = write(tmp_path, document)
    script = Path(sys.executable).with_name("edge-agent")
    expected = findings(tmp_path, document)
    for command in ("run", "check"):
        done = subprocess.run(
            [script, command, "--config", path], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 2
        assert [line.removeprefix(f"{path}: ") for line in done.stderr.splitlines()] == expected
    assert not (tmp_path / "journal.sqlite").exists()


@pytest.mark.parametrize("bad", ["a/b", "a+b", "#", "a b", "a\u202eb", "a\nb"])
@pytest.mark.parametrize("key", ["cells[0].cell_id", "cells[0].label", "machine.machine_id", "mqtt.username"])
def test_x9_ids_hold_nothing_that_mqtt_gives_a_meaning(tmp_path: Path, key: str, bad: str) -> None:
    document = tomllib.loads((CONFIG / "tiny.toml").read_text(encoding="utf-8"))
    document["paths"] = {"profiles": str(CONFIG / "devices")}
    section, _, name = key.rpartition(".")
    place = document["cells"][0] if section == "cells[0]" else document[section]
    place[name] = bad
    file = tmp_path / "machine.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_settings(file)
    assert [finding.path for finding in refused.value.findings] == [key]
