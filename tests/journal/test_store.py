"""What was committed is there again; what was not, is not; a second writer is kept out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edge_agent.app import layout_of
from edge_agent.config import load_settings
from edge_agent.errors import ConfigError, StorageFault
from edge_agent.journal.reader import InboxRow
from edge_agent.journal.recovery import restore
from edge_agent.journal.store import EVENTS_KEPT, INBOX_KEPT_S, Batch, JournalStore
from edge_agent.model import Door, Instant, Purpose, ReservationStatus, UnlockOutcome
from edge_agent.statemachine.inputs import Boot, ClosingSettled, DoorRead, TemperatureMeasured
from edge_agent.statemachine.locker import restored, step
from edge_agent.statemachine.outputs import TemperatureRecord
from edge_agent.statemachine.state import Layout, LockerState, empty_state
from edge_agent.statemachine.step_builder import Step
from tests.support.pure_core.core import Core, both, specs
from tools.bench.settings import REPOSITORY


@contextmanager
def opened(folder: Path) -> Iterator[JournalStore]:
    store = JournalStore(folder / "journal.sqlite")
    with closing(store):
        yield store


def batch_of(before: LockerState, done: Step, sequence: int = 0) -> Batch:
    return Batch(
        before=before,
        after=done.state,
        changed=dict.fromkeys(done.changed),
        ended=list(done.ended),
        ledger_lines=[(sequence, record) for record in done.ledger_lines],
        temperatures=list(done.temperatures),
        events=[(sequence + n, f'{{"n": {n}}}') for n in range(1, len(done.facts) + 1)],
    )


def test_a_state_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    core = Core()
    empty = empty_state(core.layout)
    first = core.reserve()
    core.opens(core.command(first, Purpose.DROPOFF))
    core.close(first.cell)
    second = core.reserve()
    core.feed(core.cancel(second))
    third = core.reserve()
    command = core.command(third, Purpose.DROPOFF)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    with opened(tmp_path) as store:
        store.commit(Batch(before=empty, after=core.state, changed=core.take_changed()))
    with opened(tmp_path) as store:
        found = restore(store.load(0.0), core.layout, core.now)
    assert found == restored(core.state, core.now)


def test_only_what_changed_is_written_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    core = Core()
    empty = empty_state(core.layout)
    with opened(tmp_path) as store:
        store.commit(Batch(before=empty, after=core.state, changed=core.take_changed()))
        before = core.state
        reservation = core.reserve()
        store.commit(Batch(before=before, after=core.state, changed=core.take_changed()))
        before = core.state
        done = core.feed(core.cancel(reservation))
        store.commit(batch_of(before, done))
        assert store.load(0.0).reservations == {}
        assert store.ended_status(reservation.reservation_id) is ReservationStatus.CANCELLED
        ended = store.reservation(reservation.reservation_id)
        assert ended is not None
        assert ended.drop_off_code == reservation.drop_off_code
        assert set(store.load(0.0).entities["resting_codes"]) == set(core.state.retired_codes)


@pytest.mark.behaviour("time-18")
def test_events_keep_their_sequence_over_deletion_and_restart(tmp_path: Path) -> None:
    core = Core()
    with opened(tmp_path) as store:
        events = [(n, f"{n}") for n in range(1, 6)]
        store.commit(Batch(before=core.state, after=core.state, events=events))
        store.commit(Batch(before=core.state, after=core.state, sent_through=5))
        assert store.outbox_size() == 0
    with opened(tmp_path) as store:
        assert store.load(0.0).last_sequence == 5
        store.commit(Batch(before=core.state, after=core.state, events=[(6, "6"), (7, "7")]))
        assert store.events_kept(6, 1) == [(6, "6")]
        assert store.events_kept(7, 10) == [(7, "7")]


def test_a_batch_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    core = Core()
    before = core.state
    core.take_changed()
    core.reserve()
    changed = core.take_changed()
    with opened(tmp_path) as store:
        store.commit(Batch(before=before, after=before, events=[(1, "a")]))
        with pytest.raises(StorageFault):
            store.commit(Batch(before=before, after=core.state, events=[(1, "again")], changed=changed))
        assert store.load(0.0).reservations == {}
        store.commit(Batch(before=before, after=core.state, events=[(2, "b")], changed=changed))
        assert len(store.load(0.0).reservations) == 1


def test_requests_and_their_replies(tmp_path: Path) -> None:
    core = Core()
    row = InboxRow("req", 1000.0, "topic", b"\x00corr")
    with opened(tmp_path) as store:
        store.commit(Batch(before=core.state, after=core.state, requests=[row]))
        assert store.load(0.0).requests == [row]
        store.commit(Batch(before=core.state, after=core.state, replies={"req": "{}"}))
        assert store.load(2000.0).requests == []
        found = store.request("req")
        assert found is not None
        assert found.reply == "{}"
        late = InboxRow("late", 2000.0, None, None)
        store.commit(Batch(before=core.state, after=core.state, requests=[late]))
        assert store.request("req") is not None
        store.commit(Batch(before=core.state, after=core.state, requests=[late], now_s=1500.0 + INBOX_KEPT_S))
        assert store.request("req") is None
        store.commit(Batch(before=core.state, after=core.state, requests=[row], now_s=1500.0 + INBOX_KEPT_S))
        assert store.request("req") is None


def test_a_request_taken_before_the_clock_was_set_is_kept_from_then_on(tmp_path: Path) -> None:
    core = Core()
    early = InboxRow("early", 1000.0, None, None, body_digest="d", synced=False)
    with opened(tmp_path) as store:
        store.commit(Batch(before=core.state, after=core.state, requests=[early]))
        set_s = 1_750_000_000.0

        def at(now_s: float) -> InboxRow | None:
            row = InboxRow(f"at {now_s}", now_s, None, None)
            store.commit(Batch(before=core.state, after=core.state, requests=[row], now_s=now_s))
            return store.request("early")

        assert at(set_s) == InboxRow("early", set_s, None, None, None, "d", 1)  # type: ignore[arg-type]
        assert at(set_s + INBOX_KEPT_S) is not None
        assert at(set_s + INBOX_KEPT_S + 1) is None


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StorageFault, match="in use"):
        JournalStore(tmp_path / "journal.sqlite")
    with opened(tmp_path):
        pass


def test_it_is_durable_and_write_ahead(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_file_that_is_not_a_journal_or_is_newer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StorageFault):
        JournalStore(path)
    path.unlink()
    with opened(tmp_path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("UPDATE compatible SET oldest_schema = 99")
        connection.commit()
    with pytest.raises(StorageFault, match="newer"):
        JournalStore(path)


def test_a_cell_with_a_parcel_cannot_vanish_from_the_configuration(tmp_path: Path) -> None:
    core = Core()
    empty = core.state
    reservation = core.reserve()
    smaller = Layout(specs={k: v for k, v in core.layout.specs.items() if k != reservation.cell})
    with opened(tmp_path) as store:
        store.commit(Batch(before=empty, after=core.state, changed=core.take_changed()))
        with pytest.raises(ConfigError, match=reservation.cell):
            restore(store.load(0.0), smaller, core.now)


def test_a_journal_of_the_first_schema_goes_on_where_it_was(tmp_path: Path) -> None:
    """The fixture was recorded by the version that wrote schema 1, and cut off while a pulse was meant."""
    fixture = Path(__file__).parent / "fixtures" / "schema-1.sql"
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection:
        connection.executescript(fixture.read_text(encoding="utf-8"))
    layout = layout_of(load_settings(REPOSITORY / "config" / "demo.toml"))
    now = Instant("boot-1", 60 * 10**9, 1_750_000_060.0, True)
    with opened(tmp_path) as store:
        loaded = store.load(0.0)
        state = restore(loaded, layout, now)
        assert store._writer.execute("PRAGMA user_version").fetchone() == (8,)
        statuses = {rid: r.status.name for rid, r in state.reservations.items()}
        assert statuses == {
            "res_0": "PENDING",
            "res_1": "DROPPED_OFF",
            "res_2": "PENDING",
            "res_3": "PICKED_UP",
        }
        done = step(state, layout, Boot(dict.fromkeys(layout.specs, Door.CLOSED)), now)
        label = done.state.reservations["res_2"].cell
        settled = step(done.state, layout, ClosingSettled(label, now.boottime_ns), now)
        done = both(done, settled)
        store.commit(batch_of(state, done, loaded.last_sequence))
        assert done.state.reservations["res_2"].recovered
        assert done.ledger_lines[0].outcome is UnlockOutcome.UNKNOWN
        rows = store.timeline((0, 0), 100)
        assert [row["kind"] for row in rows].count("unlock") == 13 + 1
        assert store.events_kept(0, 100)[-1][0] == loaded.last_sequence + len(done.facts)


def test_a_journal_of_the_second_schema_goes_on_where_it_was(tmp_path: Path) -> None:
    """Recorded by the version that wrote schema 2: a chilled parcel lies in B03."""
    fixture = Path(__file__).parent / "fixtures" / "schema-2.sql"
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection:
        connection.executescript(fixture.read_text(encoding="utf-8"))
    layout = layout_of(load_settings(REPOSITORY / "config" / "demo.toml"))
    now = Instant("boot-1", 600 * 10**9, 1_750_000_600.0, True)
    with opened(tmp_path) as store:
        loaded = store.load(0.0)
        assert store._writer.execute("PRAGMA user_version").fetchone() == (8,)
        state = restore(loaded, layout, now)
        assert {rid: r.status.name for rid, r in state.reservations.items()} == {
            "res_1": "DROPPED_OFF",
            "res_2": "PENDING",
        }
        cell = state.cells["B01"]
        assert (cell.mass_g, cell.empty, cell.tare_g, cell.drift_g) == (0, True, 0, 0)
        assert store.temperatures("res_1") == []
        done = step(state, layout, Boot(dict.fromkeys(layout.specs, Door.CLOSED)), now)
        store.commit(batch_of(state, done, loaded.last_sequence))
        seen = step(done.state, layout, TemperatureMeasured("B03", 3.5), now)
        store.commit(batch_of(done.state, seen))
        assert store.temperatures("res_1") == [
            {
                "wall_s": 1_750_000_600.0,
                "temperature_c": 3.5,
                "setpoint_c": 3.0,
                "limit_c": 5.0,
                "need": "cold",
                "door": "closed",
                "output": "off",
            }
        ]


DAY_S = 24 * 3600


def reading(day: float, *, rid: str = "res_1", synced: bool = True) -> TemperatureRecord:
    at = Instant("boot-1", 0, day * DAY_S, synced)
    return TemperatureRecord(rid, at, day, 3.0, 5.0, "cold", Door.CLOSED, "off")


def test_temperatures_are_kept_for_a_month_and_not_beyond_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = Core().state

    def commit(*records: TemperatureRecord, day: float | None) -> None:
        now_s = None if day is None else day * DAY_S
        store.commit(Batch(before=state, after=state, temperatures=list(records), now_s=now_s))

    def kept(rid: str = "res_1") -> list[float]:
        return [row["temperature_c"] for row in store.temperatures(rid)]

    with opened(tmp_path) as store:
        commit(reading(1), reading(2), reading(3), day=3)
        commit(reading(2.5, rid="res_2"), day=None)
        commit(reading(31.5), day=None)
        assert kept() == [1, 2, 3, 31.5]
        commit(reading(32), day=31.9)
        assert (kept(), kept("res_2"), kept("res_3")) == ([2, 3, 31.5, 32], [2.5], [])
        commit(reading(33), day=33.1)
        assert (kept(), kept("res_2")) == ([31.5, 32, 33], [])
        commit(reading(0, synced=False), day=70)
        assert kept() == [0]
        monkeypatch.setattr("edge_agent.journal.store.TEMPERATURES_KEPT", 2)
        commit(reading(70), reading(71), day=71)
        assert kept() == [70, 71]


def test_a_completed_reservation_is_kept_until_its_cell_is_allocated_again(tmp_path: Path) -> None:
    core = Core(Layout(specs={"A01": specs()[0]}))
    with opened(tmp_path) as store:

        def commit(done: Step | None = None) -> None:
            ended = [] if done is None else list(done.ended)
            store.commit(Batch(before=before, after=core.state, changed=core.take_changed(), ended=ended))

        before = empty_state(core.layout)
        first = core.picked_up(grace_pickup_s=0)
        commit()
        before = core.state
        commit(core.pass_s(1))
        assert store.load(0.0).former == core.state.former != {}
        assert store.ended_status(first.reservation_id) is ReservationStatus.PICKED_UP
        before = core.state
        core.reserve()
        commit()
        assert store.load(0.0).former == {}
        assert store.ended_status(first.reservation_id) is ReservationStatus.PICKED_UP


def test_a_waiting_open_door_is_kept_and_a_waiting_drop_off_is_not(tmp_path: Path) -> None:
    core = Core()
    reservations = [core.reserve() for _ in range(4)]
    for reservation in reservations[:3]:
        core.feed(core.command(reservation, Purpose.DROPOFF))
    open_door = core.command(reservations[3], Purpose.OPEN_DOOR)
    core.feed(open_door)
    with opened(tmp_path) as store:
        store.commit(Batch(before=empty_state(core.layout), after=core.state, changed=core.take_changed()))
        assert list(store.load(0.0).entities["tickets"]) == [open_door.unlock_id]


def test_events_and_outcomes_are_kept_in_one_order_and_up_to_a_limit(tmp_path: Path) -> None:
    core = Core()
    with opened(tmp_path) as store:
        many = [(n, json.dumps({"n": n})) for n in range(1, EVENTS_KEPT + 11)]
        store.commit(Batch(before=core.state, after=core.state, events=many))
        store.commit(Batch(before=core.state, after=core.state, sent_through=len(many) - 1))
        kept = store.timeline((0, 0), 2 * EVENTS_KEPT)
        assert [row["sequence"] for row in kept] == list(range(10, EVENTS_KEPT + 11))
        assert [row["sent"] for row in kept[-2:]] == [True, False]
        assert store.events_kept(store.sent_through() + 1, 10) == many[-1:]
        assert store.outbox_size() == 1
        before = core.state
        core.dropped_off()
        lines = [(EVENTS_KEPT + 9, core.ledger_lines[0]), (EVENTS_KEPT + 10, core.ledger_lines[1])]
        store.commit(Batch(before=before, after=core.state, ledger_lines=lines))
        newest = [(row["kind"], row.get("sequence"), row.get("outcome")) for row in store.timeline((0, 0), 3)]
        assert newest == [
            ("unlock", None, None),
            ("event", EVENTS_KEPT + 10, None),
            ("unlock", None, "OPENED"),
        ]
        assert store.timeline(store.newest_place(), 10) == []
