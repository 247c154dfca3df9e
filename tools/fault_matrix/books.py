"""What really happened at a stage: who asked for which door, which parcel lies where, what the machine
published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from edge_agent.drivers.simulated.world import World

REQUEST_LIFE_S = 31.0
"""For how long after a request it may still cause a pulse."""
GRACE_NS = 600_000_000
"""For how long after a wrong opening the machine may not have read it."""
LATE_NS, SOON_NS = 10 * 10**9, 10**9
BOUNCE_NS = 900_000_000
"""A door that opens again within this time after a closing bounces, as far as its contact shows."""
CLOSED_S = 0.45
"""The shortest duration of a closing that concludes something."""
TECHNICIAN = "technician"


@dataclass(frozen=True, slots=True)
class DoorRequest:
    """A request for a door: of a reservation, or of a cell by hand."""

    at_s: float
    actor: str
    cell: str | None = None
    reservation_id: str | None = None
    parcel_in: str | None = None
    """Where the parcel of the reservation lay then."""


@dataclass(slots=True)
class Books:
    """The actors of a stage write them; the judge reads them. Times are seconds of virtual time."""

    world: World
    requests: list[DoorRequest] = field(default_factory=list)
    parcels: dict[str, str] = field(default_factory=dict)
    """The reservation whose parcel lies in a cell, by the cell's label."""
    cells_of: dict[str, set[str]] = field(default_factory=dict)
    """Every cell that a reservation ever had."""
    created_s: dict[str, float] = field(default_factory=dict)
    closed_in_s: dict[str, float] = field(default_factory=dict)
    """When the door was closed on the parcel of a reservation."""
    cleared_s: list[tuple[float, str]] = field(default_factory=list)
    """When a technician's `clear` of a cell was granted."""
    resolved: set[str] = field(default_factory=set)
    """Reservations that a technician resolved."""
    events: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """The problems found: the letter of the demand, and what happened."""

    def where(self, reservation_id: str) -> str | None:
        """The cell in which the parcel of a reservation lies."""
        return next((label for label, owner in self.parcels.items() if owner == reservation_id), None)

    def given(self, reservation_id: str, label: str, now_s: float) -> None:
        """The machine reports that a reservation has this cell from now on; judges whether it may (c)."""
        owner = self.parcels.get(label)
        cells = self.cells_of.setdefault(reservation_id, set())
        if owner not in (None, reservation_id) and label not in cells:
            self.problems.append(f"c: {label} holds the parcel of {owner} and was given to {reservation_id}")
        cells.add(label)
        self.created_s.setdefault(reservation_id, now_s)

    def heard(self, event: dict[str, Any], now_s: float) -> None:
        """An event of the machine has arrived; judges its claims (b, c)."""
        self.events.append(event)
        kind = event["event_type"].removeprefix("EVENT_TYPE_")
        detail: dict[str, Any] = next((value for key, value in event.items() if key.endswith("_event")), {})
        rid, label = event.get("reservation_id"), detail.get("cell", {}).get("description")
        if rid is None or label is None:
            return
        if kind == "RESERVATION_CREATED" or detail.get("cause") == "MOVED":
            self.given(rid, label, now_s)
        if kind in ("PICKUP", "DROPOFF") and rid not in self.resolved:
            since_s = self.closed_in_s.get(rid, 0.0) if kind == "PICKUP" else self.created_s.get(rid, 0.0)
            if not self._moved_by_pulse(label, since_s):
                self.problems.append(f"b: {kind} of {rid} and no contact change of {label} after its pulse")
            if kind == "DROPOFF" and not self._closed_for(label, since_s, now_s):
                self.problems.append(
                    f"b: DROPOFF of {rid} and the contact of {label} was not closed for 0.5 s"
                )

    def _moved_by_pulse(self, label: str, since_s: float) -> bool:
        """Whether the contact of a cell changed after a pulse of its lock wires."""
        pulses = [at for at, wires, _ in self.world.pulses_seen if wires == label and at >= since_s * 1e9]
        return any(
            at >= pulses[0] for at, wires, _ in self.world.levels_seen[1:] if wires == label and pulses
        )

    def _closed_for(self, label: str, since_s: float, now_s: float) -> bool:
        """Whether a contact read closed for half a second, after it had read open."""
        seen = [(at / 1e9, closed) for at, wires, closed in self.world.levels_seen if wires == label]
        seen.append((now_s, False))
        return any(
            closed and at > since_s and until - at >= CLOSED_S for (at, closed), (until, _) in pairwise(seen)
        )

    def judge_pulses(self) -> Iterator[str]:
        """Judges pulses without a request, and those after a wrong opening (a)."""
        wrong: dict[str, int] = {}
        """When a pulse of these lock wires, or of this door, opened a wrong door."""
        for at_ns, wires, moved in self.world.pulses_seen:
            at_s = at_ns / 1e9
            requests = [
                w for w in self.requests if 0 <= at_s - w.at_s <= REQUEST_LIFE_S and self._asks(w, wires)
            ]
            if not requests:
                yield f"a: the lock of {wires} was pulsed at {at_s:.2f} s and nobody asked for it"
            for label in {wires, moved}:
                since_ns = wrong.get(label)
                if since_ns is None or at_ns - since_ns < GRACE_NS:
                    continue
                if self._cleared(label, since_ns, at_ns):
                    del wrong[label]
                    continue
                if all(w.actor != TECHNICIAN for w in requests):
                    yield f"a: the lock of {wires} was pulsed at {at_s:.2f} s after a wrong door had opened"
            seen = self._opened_after(moved, at_ns) and not self._equals_health(wires, moved, at_ns)
            if moved != wires and seen:
                wrong.setdefault(wires, at_ns)
                wrong.setdefault(moved, at_ns)

    def _cleared(self, cell: str, since_ns: int, until_ns: int) -> bool:
        """Whether a technician cleared a cell between two moments."""
        return any(label == cell and since_ns < at_s * 1e9 <= until_ns for at_s, label in self.cleared_s)

    def _asks(self, request: DoorRequest, label: str) -> bool:
        if request.reservation_id is None:
            return request.cell == label
        if request.parcel_in is not None:
            return request.parcel_in == label
        return label in self.cells_of.get(request.reservation_id, ())

    def _equals_health(self, wires: str, moved: str, at_ns: int) -> bool:
        """Whether both locks were pulsed and both contacts opened: then no witness shows which lock moved
        which door."""
        own = [
            at
            for at, pulsed, _ in self.world.pulses_seen
            if pulsed == moved and LATE_NS > at_ns - at > -SOON_NS
        ]
        return any(
            label == wires and not closed and own and own[0] <= seen_ns <= at_ns + SOON_NS
            for seen_ns, label, closed in self.world.levels_seen
        )

    def _opened_after(self, label: str, at_ns: int) -> bool:
        """Whether a contact has shown that this door opened within 1.5 s. One that had just closed may
        bounce."""
        closed_ns = 0
        for seen_ns, wires, closed in self.world.levels_seen:
            if wires != label:
                continue
            if closed:
                closed_ns = seen_ns
            elif 0 <= seen_ns - at_ns < 1_500_000_000:
                return seen_ns - closed_ns > BOUNCE_NS
        return False
