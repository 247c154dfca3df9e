"""A configuration that is changed while the machine runs: applied whole, or refused whole."""

from __future__ import annotations

import json
import os
import re
import signal
import tomllib
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import tomli_w

from tests.support.bench import SMALL, Bench, running_bench, wait_for


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("reload")) as running:
        yield running


def change(bench: Bench, how: Callable[[dict[str, Any]], object]) -> None:
    file = bench.folder / "machine.toml"
    document = tomllib.loads(file.read_text(encoding="utf-8"))
    how(document)
    file.write_text(tomli_w.dumps(document), encoding="utf-8")


def configuration(bench: Bench) -> dict[str, Any]:
    done = bench.command("status", "--json")
    if done.returncode:
        return {}
    found: dict[str, Any] = json.loads(done.stdout)["configuration"]
    return found


def test_a_change_is_applied_and_a_parcel_stays_reachable(bench: Bench) -> None:
    made = bench.reserve(SMALL)
    rid, pid = made["reservation_id"], bench.pids()["agent"]
    assert bench.command("reload").stdout == "nothing has changed\n"
    change(bench, lambda d: (d["unlock"].update(attempts=2), d["cells"].pop()))
    done = bench.command("reload")
    assert done.returncode == 0, done.stderr
    assert "unlock.attempts" in done.stdout
    assert "changes are in use" in done.stdout
    assert configuration(bench)["number"] == 2
    labels = [cell["label"] for cell in json.loads(bench.command("cells", "--json").stdout)]
    assert "C08" not in labels
    wait_for(lambda: bench.command("code", made["drop_off_code"]).returncode == 0)
    label = bench.reservation(rid)["cell"]["description"]
    bench.person(label, "place", "close")
    wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
    assert bench.pids()["agent"] == pid  # the same process, all the way
    assert len(bench.actuations()) == 1


def test_t4_who_follows_the_events_sees_the_reload(bench: Bench) -> None:
    rows: list[dict[str, Any]] = []
    acts = cycle([("block", "A08", "--reason", "to see that it follows"), ("unblock", "A08")])
    with bench.start_command("events", "--follow", "--json") as following:
        lines = following.stdout
        assert lines is not None
        reading = Thread(target=lambda: rows.extend(map(json.loads, lines)), daemon=True)
        reading.start()
        try:
            wait_for(lambda: bench.command(*next(acts)).returncode == 0 and bool(rows))
            change(bench, lambda d: d["unlock"].update(attempts=4))
            assert bench.command("reload").returncode == 0
            wait_for(lambda: any(row["what"] == "CONFIGURATION_RELOAD" for row in rows))
        finally:
            following.kill()
            reading.join(10)
    (row,) = (row for row in rows if row["kind"] == "configuration")
    assert row["detail"]["changes"] == ["unlock.attempts: 2 is now 4"]
    bench.command("unblock", "A08")


def test_a_reload_that_would_harm_a_reservation_changes_nothing(bench: Bench) -> None:
    made = bench.reserve(SMALL)
    label = bench.reservation(made["reservation_id"])["cell"]["description"]
    before = configuration(bench)

    def harm(document: dict[str, Any]) -> None:
        document["unlock"]["attempts"] = 5
        document["cells"] = [cell for cell in document["cells"] if cell["label"] != label]

    kept = (bench.folder / "machine.toml").read_text(encoding="utf-8")
    change(bench, harm)
    done = bench.command("reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cells.{label}: holds reservation {made['reservation_id']} and must stay" in done.stderr
    (bench.folder / "machine.toml").write_text("machine = 7\n", encoding="utf-8")
    done = bench.command("reload", "--json")
    assert done.returncode == 1
    assert "machine: " in done.stderr
    assert configuration(bench) == before
    (bench.folder / "machine.toml").write_text(kept, encoding="utf-8")


def test_sighup_reloads_and_logs_what_changes(bench: Bench) -> None:
    number = configuration(bench)["number"]
    change(bench, lambda d: d["doors"].update(door_ajar_s=77))
    os.kill(bench.pids()["agent"], signal.SIGHUP)
    wait_for(lambda: configuration(bench).get("number") == number + 1)
    assert re.search(r"doors\.door_ajar_s: \d+ is now 77", bench.logs())
    change(bench, lambda d: d["machine"].update(machine_id="somebody_else"))
    os.kill(bench.pids()["agent"], signal.SIGHUP)
    wait_for(lambda: "the new configuration is not applied" in bench.logs())
    assert configuration(bench)["number"] == number + 1


def test_a_configuration_that_cannot_be_applied_is_replaced_by_the_previous_one(bench: Bench) -> None:
    """A group that is gone is found only by trying."""
    number = configuration(bench)["number"]
    change(
        bench,
        lambda d: (d["machine"].update(machine_id="machine_123"), d.update(access={"group": "no-such"})),
    )
    done = bench.command("reload")
    assert done.returncode == 1
    assert "there is no group 'no-such'" in done.stderr
    assert configuration(bench)["number"] == number
    assert bench.command("cells").returncode == 0


def test_its_usage(bench: Bench, tmp_path: Path) -> None:
    assert bench.command("reload", "now").returncode == 2
    done = bench.command("reload", "--socket", str(tmp_path / "none.sock"))
    assert done.returncode == 3
    assert "cannot reach the daemon at" in done.stderr
