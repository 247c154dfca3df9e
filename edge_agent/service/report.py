"""What the machine shows a person in front of it: tables of the local API. None of it holds a code."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from edge_agent import __version__
from edge_agent.drivers.bus import BusOwner
from edge_agent.errors import Code, Refusal
from edge_agent.field.poller import FieldValues
from edge_agent.journal.configurations import configurations, newest_configuration
from edge_agent.journal.service_commands import service_commands
from edge_agent.journal.store import JournalStore
from edge_agent.model import Alarm, Instant, Reservation, ReservationStatus
from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.events import Health, HistoryState
from edge_agent.protocol.telemetry import LockFigures, MachineFigures
from edge_agent.runtime.clock import Clock, ComparedClock
from edge_agent.runtime.loop import LockerLoop
from edge_agent.runtime.views import Views
from edge_agent.service.timeline import Place, order_of, row_of
from edge_agent.statemachine.reservation import within
from edge_agent.statemachine.state import Climate, cell_of

LONGEST_LIST = 1000
UNLOCKS_JUDGED = 500
"""Of how many of the newest unlocks the published figures of the locks are made."""
PART = 50
"""How many reservations of the journal are read at once."""
SECRETS = {"drop_off_code", "pickup_code"}
BUS_COUNTERS = (
    "requests",
    "replies",
    "timeouts",
    "bad_replies",
    "exceptions",
    "stray_bytes",
    "port_losses",
)


class Report:
    """Reads state, journal and field; changes nothing."""

    def __init__(
        self,
        machine_id: str,
        loop: LockerLoop,
        store: JournalStore,
        views: Views,
        clock: Clock,
        *,
        values: FieldValues,
        buses: Mapping[str, BusOwner],
        broker_up: Callable[[], bool],
        history: Callable[[], HistoryState],
    ) -> None:
        self._machine_id = machine_id
        self._loop = loop
        self._store = store
        self._views = views
        self._clock = clock
        self._values = values
        self._buses = buses
        self._broker_up = broker_up
        self._history = history
        self._followers: set[asyncio.Event] = set()
        self._started = clock.now()

    def status(self) -> dict[str, Any]:
        """The machine's summary. Raises `StorageFault`."""
        state, now = self._loop.state, self._clock.now()
        return {
            "machine_id": self._machine_id,
            "agent_version": __version__,
            "boot_id": now.boot_id,
            "clock_synced": now.synced,
            "clock_difference_s": self._clock_difference_s(),
            "broker": "connected" if self._broker_up() else "disconnected",
            "history": self._history(),
            "storage_fault": self._loop.storage_fault,
            "cells": len(state.cells),
            "live_reservations": len(state.reservations),
            "unlocks_at_work": state.active_unlocks(),
            "unlocks_waiting": len(state.queue),
            "events_waiting": self._store.outbox_size(),
            "last_sequence": self._loop.last_sequence,
            "alarms": self.alarms(),
            "buses": self.buses(),
        }

    def _clock_difference_s(self) -> float | None:
        """How far the clock is ahead of the senders of commands; milliseconds are as fine as it is known."""
        difference_s = self._clock.difference_s if isinstance(self._clock, ComparedClock) else None
        return None if difference_s is None else round(difference_s, 3)

    def buses(self) -> dict[str, dict[str, int]]:
        """The counters of each bus. Like all telemetry it needs no journal."""
        return {
            name: {counter: getattr(bus.counters, counter) for counter in BUS_COUNTERS}
            for name, bus in self._buses.items()
        }

    def health(self) -> Health:
        """The machine's health, for operators of many machines."""
        state = self._loop.state
        down = [name for name, bus in self._buses.items() if not bus.up]
        out = sum(
            cell.blocked is not None or cell.faulty is not None or not cell.answering
            for cell in state.cells.values()
        )
        writable = self._loop.storage_fault is None
        dead = not writable or len(down) == len(self._buses) or out == len(state.cells)
        well = not (state.alarms or down or out)
        return Health(
            verdict="fault" if dead else "good" if well else "degraded",
            alarms=dict(sorted(Counter(str(one.alarm) for one in state.alarms.values()).items())),
            cells=len(state.cells),
            cells_out=out,
            buses_down=down,
            journal_writable=writable,
            clock_synced=self._clock.now().synced,
        )

    def in_words(self) -> str:
        """The machine in one line, for `systemctl status`."""
        state = self._loop.state
        down = [name for name, bus in self._buses.items() if not bus.up]
        parts = [
            f"{len(state.cells)} cells",
            f"{len(state.reservations)} reservations",
            f"{len(state.alarms)} alarms",
            f"broker {'connected' if self._broker_up() else 'not connected'}",
            *(f"bus {name} down" for name in down),
            *(["journal cannot be written"] if self._loop.storage_fault is not None else []),
        ]
        return ", ".join(parts)

    def alarms(self) -> list[dict[str, Any]]:
        """The standing alarms, oldest first; `label` if the alarm is about a cell, else `device` (or
        neither).

        Both if it is about a part of a cell, such as its scale.
        """
        rows = []
        for standing in self._loop.state.alarms.values():
            label: str | None = cell_of(standing.place)
            label = label if label in self._loop.layout.specs else None
            device = standing.place if label is None else standing.place.removeprefix(label).lstrip("/")
            rows.append(
                {
                    "alarm": standing.alarm,
                    "label": label,
                    "device": device or None,
                    "since": rfc3339(standing.since.wall_s),
                    "detail": standing.detail,
                    "count": standing.count,
                }
            )
        fault = self._loop.unjournaled_fault()
        if fault is not None:
            row = {"alarm": Alarm.STORAGE_FAULT, "label": None, "device": None, "count": 1}
            rows.append(row | {"since": rfc3339(fault[0].wall_s), "detail": fault[1]})
        return rows

    def cells(self) -> list[dict[str, Any]]:
        """Every cell as it stands. `mass_g` is what its scale reads now, less `tare_g` and `drift_g`."""
        rows = []
        state, values = self._loop.state, self._values
        for label, spec in self._loop.layout.specs.items():
            cell = state.cells[label]
            weight = values.weights.get(label)
            blocked = cell.blocked
            rows.append(
                {
                    "label": label,
                    "cell_id": spec.cell_id,
                    "door": cell.door if cell.answering else "unknown",
                    "status": cell.status,
                    "blocked": blocked is not None,
                    "blocked_reason": None if blocked is None else blocked.reason,
                    "maintenance_ticket_id": None if blocked is None else blocked.maintenance_ticket_id,
                    "faulty": cell.faulty is not None,
                    "faulty_reason": cell.faulty,
                    "doubt": cell.contact_doubt,
                    "last_outcome": cell.last_outcome,
                    "worn": cell.worn,
                    "reservation_id": cell.reservation_id,
                    "mass_g": None if weight is None else weight.mass_g - cell.zero_g,
                    "mass_stable": None if weight is None else weight.stable,
                    "tare_g": cell.tare_g if spec.weight_sensor else None,
                    "drift_g": cell.drift_g if spec.weight_sensor else None,
                    "temperature_c": values.temperatures_c.get(label),
                    "climate": _climate(state.climate.get(label)),
                    "heating": spec.heating,
                    "cooling": spec.cooling,
                    "unlocks": cell.pulse_count,
                    "usual_open_ms": _ms(cell.usual_open_us),
                    "recent_open_ms": _ms(cell.recent_open_us),
                }
            )
        return rows

    def cell_figures(self) -> list[dict[str, Any]]:
        """What telemetry carries of every cell; its alarms include those of its parts, such as its scale."""
        state, values = self._loop.state, self._values
        alarms: dict[str, set[str]] = {}
        for standing in state.alarms.values():
            alarms.setdefault(cell_of(standing.place), set()).add(str(standing.alarm))
        rows = []
        for label in self._loop.layout.specs:
            cell, weight = state.cells[label], values.weights.get(label)
            rows.append(
                {
                    "label": label,
                    "door": cell.door if cell.answering else "unknown",
                    "mass_g": None if weight is None else weight.mass_g - cell.zero_g,
                    "temperature_c": values.temperatures_c.get(label),
                    "alarms": sorted(alarms.get(label, ())),
                    "in_doubt": cell.contact_doubt is not None,
                }
            )
        return rows

    def machine_figures(self) -> MachineFigures:
        """What telemetry carries of the machine as a whole. Raises `StorageFault`."""
        now = self._clock.now()
        up_s = (now.boottime_ns - self._started.boottime_ns) / 1e9
        cells = self._loop.state.cells
        locks = self._store.lock_figures(UNLOCKS_JUDGED)
        return MachineFigures(
            up_since=rfc3339(now.wall_s - up_s) if now.synced else None,
            events_waiting=self._store.outbox_size(),
            worn=[label for label in self._loop.layout.specs if cells[label].worn],
            locks=[
                LockFigures(label=label, unlocks=unlocks, opened_first=first)
                for label, unlocks, first in locks
                if label in cells
            ],
        )

    def reservations(self) -> list[dict[str, Any]]:
        """The reservations that hold a cell, oldest first: the API's fields without codes.

        `overdue_s`: how many seconds a pending one is past its ETA; None if it is not, or if no clock is
        valid. `grace_over`: picked up, the grace is over, and the door is not closed yet. `live`: true.
        """
        now = self._clock.now()
        return [self._reservation(one, now, live=True) for one in self._loop.state.reservations.values()]

    def _reservation(self, reservation: Reservation, now: Instant, *, live: bool) -> dict[str, Any]:
        view = self._views.reservation(reservation).model_dump(mode="json", exclude=SECRETS)
        picked_up = reservation.status is ReservationStatus.PICKED_UP
        in_grace = within(reservation.picked_up, reservation.grace_pickup_s, now)
        grace_over = live and picked_up and not in_grace
        return view | {
            "overdue_s": _overdue_s(reservation, now) if live else None,
            "grace_over": grace_over,
            "live": live,
        }

    async def all_reservations(self, limit: int) -> list[dict[str, Any]]:
        """The newest `limit` reservations that are over, oldest first, then those that hold a cell.

        Gives way to others between parts of `PART`: a long history holds up no door. Raises `StorageFault`.
        """
        over: dict[str, dict[str, Any]] = {}
        before: int | None = None
        while (wanted := min(PART, limit - len(over))) > 0:
            part = self._store.ended_reservations(before, wanted)
            now = self._clock.now()
            over |= {one.reservation_id: self._reservation(one, now, live=False) for _, one in part}
            if len(part) < wanted:
                break
            before = part[-1][0]
            await asyncio.sleep(0)
        live = self.reservations()
        for row in live:
            over.pop(row["reservation_id"], None)
        return [*reversed(over.values()), *live]

    def service_commands(self, limit: int) -> list[dict[str, Any]]:
        """The newest service commands, oldest first: `request_id`, `command`, `by`, `key`, `arguments`,
        `received_at`, `state`, `ended_at`, `error`. Raises `StorageFault`."""
        return [
            {
                "request_id": row.request_id,
                "command": row.command,
                "by": row.actor,
                "key": row.key,
                "arguments": row.arguments,
                "received_at": rfc3339(row.received_s),
                "state": row.state,
                "ended_at": None if row.ended_s is None else rfc3339(row.ended_s),
                "error": row.error,
            }
            for row in service_commands(self._store, limit)
        ]

    def temperatures(self, reservation_id: str) -> dict[str, Any]:
        """The temperatures of a reservation that needs cold or warmth, also of one that is over.

        Raises `Refusal`: `NOT_FOUND` for an unknown one, `NOT_ALLOWED` for one that needs neither.
        """
        reservation = self._loop.state.reservations.get(reservation_id)
        reservation = reservation or self._store.reservation(reservation_id)
        if reservation is None:
            raise Refusal(Code.NOT_FOUND, f"no such reservation: {reservation_id}")
        packaging = reservation.packaging
        if not (packaging.cooling_required or packaging.heating_required):
            raise Refusal(Code.NOT_ALLOWED, f"reservation {reservation_id} needs no heating or cooling")
        view = self._views.reservation(reservation)
        return {
            "reservation_id": reservation_id,
            "cell": reservation.cell,
            "dropped_off_at": view.dropped_off_at,
            "picked_up_at": view.picked_up_at,
            "readings": [
                {"at": rfc3339(row.pop("wall_s")), **row} for row in self._store.temperatures(reservation_id)
            ],
        }

    def timeline(self, limit: int = 100) -> list[dict[str, Any]]:
        """Events, lines of the unlock ledger and configurations that came into use: the newest `limit`, in
        the order in which they happened."""
        most = min(limit, LONGEST_LIST)
        rows = [*self._store.timeline((0, 0), most), *configurations(self._store, most)]
        return [row_of(row) for row in sorted(rows, key=order_of)[-most:]]

    def newest_place(self) -> Place:
        """The place after everything that `timeline` shows now. Raises `StorageFault`."""
        return Place(*self._store.newest_place(), newest_configuration(self._store))

    async def follow(self, after: Place | None = None) -> AsyncIterator[tuple[dict[str, Any], Place]]:
        """New rows of `timeline`, each with the place after it, until the caller stops.

        `after`: the place from which to go on, after a restart of the daemon or a lost connection; None: what
        happens from now on.
        """
        new = asyncio.Event()
        self._followers.add(new)
        try:
            newest = self.newest_place()
            # A journal that was replaced has lower numbers.
            place = newest if after is None else Place(*map(min, after, newest))
            while True:
                events = self._store.timeline((place.sequence, place.unlock), LONGEST_LIST)
                taken = configurations(self._store, LONGEST_LIST, place.configuration)
                for row in sorted([*events, *taken], key=order_of):
                    place = place.after(row)
                    yield row_of(row), place
                await new.wait()
                new.clear()
        finally:
            self._followers.discard(new)

    def wake_followers(self) -> None:
        """Wakes the followers after a commit."""
        for follower in self._followers:
            follower.set()


def _climate(climate: Climate | None) -> str:
    if climate is None or not climate.running:
        return "off"
    return "heating" if climate.need == "hot" else "cooling"


def _ms(us: int | None) -> int | None:
    return None if us is None else us // 1000


def _overdue_s(reservation: Reservation, now: Instant) -> int | None:
    if reservation.eta_minutes is None or reservation.status is not ReservationStatus.PENDING:
        return None
    elapsed_ns = reservation.created.elapsed_ns(now)
    if elapsed_ns is None:
        return None
    late_s = elapsed_ns // 10**9 - reservation.eta_minutes * 60
    return late_s if late_s > 0 else None
