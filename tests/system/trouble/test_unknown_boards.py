"""A cabinet of three boards that no shipped profile describes: profiles from the makers' sheets alone.

The locks are relays that function 15 switches, the door contacts a bit mask in one holding register, the
scale a float of which the low word comes first.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bench import SMALL, Bench, receiving, running_bench, wait_for
from tests.support.new_machine import options

CABINET = Path(__file__).parent / "unknown_boards"
DEVICES = {"relays", "inputs", "scale"}

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("unknown")
    with running_bench(folder, BENCH_CONFIG=str(CABINET / "locker.toml")) as running:
        yield running


def test_the_file_is_good_and_every_board_answers(bench: Bench) -> None:
    checked = bench.command("check", "--config", str(CABINET / "locker.toml"))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "4 cells, 3 devices, 1 bus" in checked.stdout
    done = bench.command("bus", "scan", "--last", "4", "--json")
    found = {row["device"]: row["result"] for row in json.loads(done.stdout) if row["device"]}
    assert (done.returncode, set(found)) == (0, DEVICES), done.stdout
    assert set(found.values()) <= {"answers", "exception"}  # relays have no registers: a refusal is an answer
    done = bench.command("bus", "check", "--json")
    assert done.returncode == 0, done.stdout


def test_the_self_test_finds_nothing(bench: Bench) -> None:
    tared = bench.command("tare", "A01")
    assert tared.returncode == 0, tared.stderr
    done = bench.command("diagnose", "--json", limit_s=90)
    rows = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert {row["target"] for row in rows if row["check"] == "device"} == DEVICES
    assert {row["verdict"] for row in rows if row["check"] in ("device", "door", "scale")} == {"good"}


def test_a_reservation_lives_its_whole_life_on_them(bench: Bench) -> None:
    with receiving() as webhooks:
        made = bench.reserve(SMALL, webhook_url=webhooks.url)
        rid = made["reservation_id"]
        label = bench.reservation(rid)["cell"]["description"]
        before = len(bench.actuations())
        bench.api.post(f"/reservations/{rid}/dropoffs").raise_for_status()
        assert [one["label"] for one in bench.actuations()[before:]] == [label]
        bench.person(label, "place", "close")
        wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
        bench.scan(made["pickup_code_qrcode"])
        wait_for(lambda: bench.cell(label)["door"] == "open")
        bench.person(label, "take", "close")
        wait_for(lambda: bench.status(rid) == "PICKED_UP")
        wait_for(lambda: webhooks.types(rid) == ["EVENT_TYPE_DROPOFF", "EVENT_TYPE_PICKUP"])
    assert [one["label"] for one in bench.actuations()[before:]] == [label, label]


def test_the_float_is_read_in_its_order(bench: Bench) -> None:
    opened = bench.command("open", "A01", "--reason", "a known weight")
    assert opened.returncode == 0, opened.stderr
    bench.sim.post("/cells/A01/place", json={"grams": 1250}).raise_for_status()
    cells = wait_for(
        lambda: [
            one
            for one in json.loads(bench.command("cells", "--json").stdout)
            if one["label"] == "A01"
            and one["mass_stable"]
            and one["mass_g"] is not None
            and one["mass_g"] > 1000
        ]
    )
    assert abs(cells[0]["mass_g"] - 1250) <= 5
    bench.person("A01", "take", "close")


def test_init_knows_them_by_their_answers_and_joins_locks_with_contacts(bench: Bench, tmp_path: Path) -> None:
    port = tomllib.loads((bench.folder / "machine.toml").read_text(encoding="utf-8"))["buses"]["main"]["port"]
    bench.act("agent", "stop")
    output = tmp_path / "locker.toml"
    given = options(output, port, last="4", protocols="modbus", bauds="9600")
    given = [*given, "--profiles", str(CABINET / "devices")]
    unclear = bench.command("init", *given)  # a shipped board answers as this one does
    assert "which board is it? --devices BUS:ADDRESS=PROFILE for bus0:1 (acme-relay-16" in unclear.stderr
    done = bench.command("init", *given, "--devices", "bus0:1=acme-relay-16")
    shown = " ".join((done.stdout + done.stderr).split())
    for address, profile in enumerate(("acme-relay-16", "acme-input-8", "acme-scale-f"), 1):
        assert re.search(rf"bus0:{address} \S+ {profile}\b", shown), done.stderr
    assert done.returncode == 0, done.stderr
    written = tomllib.loads(output.read_text(encoding="utf-8"))
    assert [written["devices"][name]["profile"] for name in ("locks_a", "contacts_1", "scale_1")] == [
        "acme-relay-16",
        "acme-input-8",
        "acme-scale-f",
    ]
    assert len(written["cells"]) == 8  # one for each contact
    assert {(cell["lock"]["device"], cell["door"]["device"]) for cell in written["cells"]} == {
        ("locks_a", "contacts_1")
    }
