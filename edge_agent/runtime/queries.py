"""Answers the commands that only read."""

from __future__ import annotations

import json
from typing import Any

from edge_agent.errors import Code, Refusal
from edge_agent.journal.store import JournalStore
from edge_agent.model import ReservationStatus
from edge_agent.protocol.commands import (
    Command,
    EchoCommand,
    GetMachineCommand,
    GetReservationCommand,
    ListReservationsCommand,
    SyncCommand,
)
from edge_agent.protocol.sync import SYNC_PAGE
from edge_agent.runtime.clock import Clock
from edge_agent.runtime.loop import LockerLoop
from edge_agent.runtime.views import Views
from edge_agent.statemachine.reservation import within


class Queries:
    """Reads the state of the loop, and the journal for what is over."""

    def __init__(self, loop: LockerLoop, store: JournalStore, clock: Clock, views: Views) -> None:
        self._loop = loop
        self._store = store
        self._clock = clock
        self._views = views

    def result(self, command: Command) -> dict[str, Any]:
        """The result of a command. Raises `Refusal` (`NOT_FOUND`, `NOT_BUILT`) and `StorageFault`."""
        state = self._loop.state
        match command:
            case EchoCommand():
                return {"message": command.message}
            case GetMachineCommand():
                return {"machine": self._views.machine(state).model_dump(mode="json", exclude_none=True)}
            case GetReservationCommand():
                found = state.reservations.get(command.reservation_id)
                found = found or self._store.reservation(command.reservation_id)
                if found is None:
                    raise Refusal(Code.NOT_FOUND, f"no such reservation: {command.reservation_id}")
                view = self._views.reservation(found).model_dump(mode="json", exclude_none=True)
                return {"reservation": view}
            case ListReservationsCommand():
                return {"reservations": self._ongoing(command.platform)}
            case SyncCommand():
                return self._sync(command.from_sequence)
            case _:
                raise Refusal(Code.NOT_BUILT, f"{type(command).__name__} is not built in this version")

    def _sync(self, from_sequence: int) -> dict[str, Any]:
        """A page of events; the last page also has the live reservations as they stand after it."""
        oldest, last = self._store.oldest_sequence(), self._loop.last_sequence
        rows = self._store.events_kept(from_sequence, SYNC_PAGE)
        # Events that are on the disk but not yet in `last_sequence` are left out: they are published in a
        # moment.
        page = [json.loads(body) for sequence, body in rows if sequence <= last]
        answer: dict[str, Any] = {
            "journal_id": self._store.journal_id,
            "oldest_sequence": last + 1 if oldest is None else min(oldest, last + 1),
            "last_sequence": last,
            "events": page,
        }
        if not page or page[-1]["sequence"] == last:
            live = self._loop.state.reservations.values()
            views = [self._views.reservation(r).model_dump(mode="json", exclude_none=True) for r in live]
            answer["reservations"] = views
        return answer

    def _ongoing(self, platform: str | None) -> list[dict[str, Any]]:
        now = self._clock.now()
        return [
            self._views.reservation(r).model_dump(mode="json", exclude_none=True)
            for r in self._loop.state.reservations.values()
            if platform in (None, r.platform)
            and (r.status is not ReservationStatus.PICKED_UP or within(r.picked_up, r.grace_pickup_s, now))
        ]
