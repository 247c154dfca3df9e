"""A journal of every earlier version opens, still lists its outcomes, and accepts a technician's name."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.app import layout_of
from edge_agent.config import load_settings
from edge_agent.journal import store as store_module
from edge_agent.journal.configurations import ConfigurationChange, keep_configuration
from edge_agent.journal.reader import InboxRow
from edge_agent.journal.recovery import restore
from edge_agent.journal.rows import COLUMNS
from edge_agent.journal.service_commands import ServiceRow, added
from edge_agent.journal.store import Batch, JournalStore
from edge_agent.model import Door, Instant, Purpose, UnlockOutcome
from edge_agent.statemachine.inputs import Boot, DoorRead, DoorsChanged, OpenCell
from edge_agent.statemachine.locker import step
from edge_agent.statemachine.state import LockerState
from edge_agent.statemachine.step_builder import Step
from tools.bench.settings import REPOSITORY

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("schema-*.sql"))
SCHEMAS = sorted((REPOSITORY / "edge_agent" / "journal" / "schema").glob("*.sql"))
NOW = Instant("boot-9", 10**12, 1_760_000_000.0, True)


def batch_of(before: LockerState, done: Step, sequence: int) -> Batch:
    return Batch(
        before=before,
        after=done.state,
        changed=dict.fromkeys(done.changed),
        ended=list(done.ended),
        ledger_lines=[(sequence, record) for record in done.ledger_lines],
        events=[(sequence + n, "{}") for n in range(1, len(done.facts) + 1)],
    )


def test_there_is_a_journal_of_every_earlier_version() -> None:
    assert [file.stem for file in FIXTURES] == [f"schema-{n}" for n in range(1, len(SCHEMAS))]


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda file: str(file.stem))
def test_an_earlier_journal_goes_on(fixture: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(fixture.read_text(encoding="utf-8"))
        ledger = connection.execute("SELECT unlock_id, outcome FROM unlock ORDER BY n").fetchall()
        live = dict(connection.execute("SELECT reservation_id, status FROM reservation WHERE live = 1"))
    layout = layout_of(load_settings(REPOSITORY / "config" / "demo.toml"))
    with closing(JournalStore(path)) as store:
        assert store._writer.execute("PRAGMA user_version").fetchone() == (len(SCHEMAS),)
        loaded = store.load(0.0)
        outcomes = [row for row in store.timeline((0, 0), 1000) if row["kind"] == "unlock"]
        assert sorted((row["unlock_id"], str(row["outcome"])) for row in outcomes) == sorted(
            (unlock_id, str(outcome)) for unlock_id, outcome in ledger
        )
        assert {row["actor"] for row in outcomes} == {""}
        state = restore(loaded, layout, NOW)
        assert {rid: r.status.value for rid, r in state.reservations.items()} == live
        sequence = loaded.last_sequence
        for given in (
            Boot(dict.fromkeys(layout.specs, Door.CLOSED)),
            OpenCell("key", "C08", "a look", "unl_new", "bob"),
            DoorRead("unl_new", Door.CLOSED),
            DoorsChanged({"C08": Door.OPEN}),
        ):
            done = step(state, layout, given, NOW)
            store.commit(batch_of(state, done, sequence))
            state, sequence = done.state, sequence + len(done.facts)
        mine = [row for row in store.timeline((0, 0), 1000) if row.get("unlock_id") == "unl_new"]
        assert [(row["outcome"], row["actor"]) for row in mine] == [(None, "bob"), ("OPENED", "bob")]
        assert {row["purpose"] for row in mine} == {Purpose.TECHNICIAN}
        assert mine[-1]["outcome"] == UnlockOutcome.OPENED
        assert mine[-1]["after_sequence"] >= loaded.last_sequence
    with closing(JournalStore(path)) as again:
        assert restore(again.load(0.0), layout, NOW).cells["C08"].pulse_count >= 1


FIRST_COMPATIBLE = 8
"""The schema that brought the table `compatible`."""
LATER = SCHEMAS[FIRST_COMPATIBLE:]
CHANGES_OLD = re.compile(r"\b(DROP|RENAME|DELETE FROM|UPDATE)\b", re.IGNORECASE)


ALL_SCRIPTS = store_module._scripts()


def known_schemas(monkeypatch: pytest.MonkeyPatch, newest: int) -> None:
    """Lets a store know the schemas up to one only, as a program of that version does."""
    monkeypatch.setattr(store_module, "_scripts", lambda: ALL_SCRIPTS[:newest])


@pytest.mark.parametrize("newest", range(FIRST_COMPATIBLE, len(SCHEMAS) + 1))
def test_the_version_before_works_with_a_journal_that_was_upgraded(
    newest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the last schema there is no later one yet: a made one stands for it."""
    path = tmp_path / "journal.sqlite"
    with closing(JournalStore(path)):
        pass
    if newest == len(SCHEMAS):
        with closing(sqlite3.connect(path)) as connection:
            tables = (*COLUMNS, "configuration", "service_command")
            wider = "".join(f"ALTER TABLE {table} ADD COLUMN later TEXT;" for table in tables)
            connection.executescript(f"{wider} PRAGMA user_version = {newest + 1};")
    known_schemas(monkeypatch, newest)
    layout = layout_of(load_settings(REPOSITORY / "config" / "demo.toml"))
    with closing(JournalStore(path)) as store:
        state = restore(store.load(0.0), layout, NOW)
        done = step(state, layout, Boot(dict.fromkeys(layout.specs, Door.CLOSED)), NOW)
        request = InboxRow("r", NOW.wall_s, None, None)
        command = ServiceRow("s", "logs", "ops", "Ada", {}, "", NOW.wall_s)
        batch = batch_of(state, done, 0)
        store.commit(replace(batch, requests=[request], statements=added(command)))
        assert store.request("r") is not None
        keep_configuration(store, ConfigurationChange("start"), "d", NOW.wall_s, 0)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() != (newest,)


@pytest.mark.parametrize("script", LATER, ids=lambda file: str(file.stem))
def test_a_schema_that_changes_what_was_there_raises_the_oldest_schema(script: Path) -> None:
    text = re.sub(r"--.*", "", script.read_text(encoding="utf-8"))
    raises = re.search(r"UPDATE compatible SET oldest_schema = (\d+)", text)
    if raises is None:
        assert CHANGES_OLD.search(text) is None, "raise oldest_schema, or only add"
    else:
        assert int(raises[1]) == int(script.stem)
