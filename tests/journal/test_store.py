"""What was committed is there again; what was not, is not; a second writer is kept out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError, StorageFault
from edge_agent.journal.recovery import restore
from edge_agent.journal.store import Batch, InboxRow, JournalStore
from edge_agent.model import Door, Purpose, ReservationStatus
from edge_agent.statemachine.inputs import DoorRead
from edge_agent.statemachine.locker import restored
from edge_agent.statemachine.state import Layout, LockerState, empty_state
from edge_agent.statemachine.turn import Step
from tests.support.core import Core


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
        unlocks=[(sequence, record) for record in done.unlocks],
        events=[(sequence + n, f'{{"n": {n}}}') for n in range(1, len(done.facts) + 1)],
    )


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    core = Core()
    empty = empty_state(core.layout)
    first = core.reserve()
    core.opens(core.wish(first, Purpose.DROPOFF))
    core.close(first.cell)
    second = core.reserve()
    core.feed(core.cancel(second))
    third = core.reserve()
    wish = core.wish(third, Purpose.DROPOFF)
    core.feed(wish)
    core.feed(DoorRead(wish.unlock_id, Door.CLOSED))
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
        assert set(store.load(0.0).entities["resting_codes"]) == set(core.state.resting_codes)


def test_events_keep_their_sequence_over_deletion_and_restart(tmp_path: Path) -> None:
    core = Core()
    with opened(tmp_path) as store:
        events = [(n, f"{n}") for n in range(1, 6)]
        store.commit(Batch(before=core.state, after=core.state, events=events))
        store.commit(Batch(before=core.state, after=core.state, acknowledged=[1, 2, 3, 4, 5]))
        assert store.outbox_size() == 0
    with opened(tmp_path) as store:
        assert store.load(0.0).last_sequence == 5
        store.commit(Batch(before=core.state, after=core.state, events=[(6, "6"), (7, "7")]))
        assert store.events_after(0, 1) == [(6, "6")]
        assert store.events_after(6, 10) == [(7, "7")]


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
        store.commit(Batch(before=core.state, after=core.state, requests=[late], prune_inbox_s=1500.0))
        assert store.request("req") is None
        store.commit(Batch(before=core.state, after=core.state, forgotten_requests=["late"]))
        assert store.request("late") is None


def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StorageFault, match="in use"):
        JournalStore(tmp_path / "journal.sqlite")
    with opened(tmp_path):
        pass


def test_it_is_durable_and_write_ahead(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_file_that_is_no_journal_or_newer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StorageFault):
        JournalStore(path)
    path.unlink()
    with opened(tmp_path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
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
