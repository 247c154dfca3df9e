"""Collects what one step changes: the state so far, its effects, facts and answers.

A builder exists for one call of `step` only; maps are copied on the first write to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_agent.errors import Refusal
from edge_agent.model import (
    Alarm,
    Cell,
    CellCause,
    Instant,
    Reservation,
    Source,
    UnlockAttempt,
    UnlockOutcome,
)
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.codes.retired import RetiredCodes
from edge_agent.statemachine.outputs import Answer, Effect, Fact, FactKind, TemperatureRecord, UnlockRecord
from edge_agent.statemachine.state import (
    Climate,
    Guesses,
    HistoryMark,
    Layout,
    LockerState,
    MapName,
    Pulses,
    StandingAlarm,
    UnconfirmedUnlock,
)

CONDITIONS = frozenset(
    {
        Alarm.DEVICE_SILENT,
        Alarm.BUS_DOWN,
        Alarm.SENSOR_FAULT,
        Alarm.CLOCK_UNSYNCED,
        Alarm.STORAGE_FAULT,
        Alarm.CLIMATE_NO_EFFECT,
        Alarm.LINK_REFUSED,
    }
)
"""Alarms for a condition that may come and go."""
GONE_NS = 5 * 10**9
"""An alarm of `CONDITIONS` is cleared when its condition has been gone for this time."""


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one input. `ended` are reservations that left the state with this step.

    `changed` names what differs between the state before and after, as (field of the state, key).
    """

    state: LockerState
    effects: tuple[Effect, ...]
    facts: tuple[Fact, ...]
    answers: tuple[Answer, ...]
    ledger_lines: tuple[UnlockRecord, ...]
    ended: tuple[Reservation, ...]
    changed: tuple[tuple[str, str], ...]
    temperatures: tuple[TemperatureRecord, ...] = ()


class StepBuilder:
    """The step in progress."""

    def __init__(self, state: LockerState, layout: Layout, now: Instant) -> None:
        self.layout = layout
        self.now = now
        self.before = state
        self.cells: Mapping[str, Cell] = state.cells
        self.reservations: Mapping[str, Reservation] = state.reservations
        self.unlock_attempts: Mapping[str, UnlockAttempt] = state.unlock_attempts
        self.queue = state.queue
        self.former: Mapping[str, Reservation] = state.former
        self.retired_codes: RetiredCodes = state.retired_codes
        self.alarms: Mapping[str, StandingAlarm] = state.alarms
        self.pulses: Mapping[str, Pulses] = state.pulses
        self.guesses: Mapping[str, Guesses] = state.guesses
        self.climate: Mapping[str, Climate] = state.climate
        self.unconfirmed: Mapping[str, UnconfirmedUnlock] = state.unconfirmed
        self.hand_checked: Mapping[str, bool] = state.hand_checked
        self.history: Mapping[str, HistoryMark] = state.history
        self.effects: list[Effect] = []
        self.facts: list[Fact] = []
        self.answers: list[Answer] = []
        self.ledger_lines: list[UnlockRecord] = []
        self.ended: list[Reservation] = []
        self.temperatures: list[TemperatureRecord] = []
        self._changed: dict[tuple[str, str], None] = {}

    def changed(self, field: MapName) -> list[str]:
        """The keys of a map of the state that have changed so far."""
        return [key for name, key in self._changed if name == field]

    def put(self, field: MapName, key: str, value: Any) -> None:
        """Sets (or with None removes) one entry of a map of the state."""
        current: Mapping[str, Any] = getattr(self, field)
        if value is None and key not in current:
            return
        self._changed[field, key] = None
        if current is getattr(self.before, field):
            current = dict(current)
            setattr(self, field, current)
        assert isinstance(current, dict)
        if value is None:
            current.pop(key, None)
        else:
            current[key] = value

    def retire_code(self, code: str) -> None:
        """A code is no longer valid: it is not used again for a while (`retired`)."""
        self.retired_codes = self.retired_codes.with_code(code, self.now)
        self._changed["retired_codes", code] = None

    def release_code(self, code: str) -> None:
        """The code may be used from now on."""
        left = self.retired_codes.without(code)
        if left is not self.retired_codes:
            self.retired_codes = left
            self._changed["retired_codes", code] = None

    def change_cell(self, label: str, **changes: Any) -> Cell:
        """Replaces fields of a cell."""
        cell = amend(self.cells[label], **changes)
        self.put("cells", label, cell)
        return cell

    def change_reservation(self, reservation: Reservation, **changes: Any) -> Reservation:
        """Replaces fields of a live reservation."""
        changed = amend(reservation, **changes)
        self.put("reservations", changed.reservation_id, changed)
        return changed

    def change_unlock(self, unlock: UnlockAttempt, **changes: Any) -> UnlockAttempt:
        """Replaces fields of an unlock attempt."""
        changed = amend(unlock, **changes)
        self.put("unlock_attempts", changed.unlock_id, changed)
        return changed

    def drop_unlock(self, unlock: UnlockAttempt) -> None:
        """Removes an unlock attempt that is over."""
        self.put("unlock_attempts", unlock.unlock_id, None)
        if unlock.unlock_id in self.queue:
            self.queue = tuple(other for other in self.queue if other != unlock.unlock_id)

    def add_fact(self, kind: FactKind, reservation: Reservation | None = None, **details: Any) -> None:
        """Adds a fact to this step; the loop makes an event of it and puts that into the outbox."""
        if reservation is not None:
            details.setdefault("cell", reservation.cell)
        details.setdefault("at", self.now)
        self.facts.append(Fact(kind=kind, reservation=reservation, **details))

    def add_cell_fact(
        self,
        label: str,
        cause: CellCause,
        *,
        reason: str | None = None,
        source: Source = Source.MACHINE,
        reservation: Reservation | None = None,
        actor: str = "",
    ) -> None:
        """Adds the fact of a cell's present status, and why it changed."""
        cell = self.cells[label]
        self.add_fact(
            FactKind.CELL_STATUS_CHANGED,
            reservation,
            cell=label,
            status=cell.status,
            blocked=cell.blocked is not None,
            faulty=cell.faulty is not None,
            cause=cause,
            reason=reason,
            source=source,
            actor=actor or None,
        )

    def answer(
        self,
        request_key: str | None,
        reservation: Reservation | None = None,
        cell: str | None = None,
        refusal: Refusal | None = None,
        **details: Any,
    ) -> None:
        """Adds an answer, if a caller waits for it."""
        if request_key is not None:
            self.answers.append(Answer(request_key, reservation, cell, refusal, **details))

    def record_intent(self, unlock: UnlockAttempt) -> None:
        """Adds a line to the ledger: the lock is about to be pulsed."""
        self._add_ledger_line(unlock, None, None)

    def record_outcome(
        self, unlock: UnlockAttempt, outcome: UnlockOutcome, *, pulsed: bool | None = None
    ) -> None:
        """Adds a line to the ledger: an outcome, and whether a pulse was given (None: it is not known)."""
        self._add_ledger_line(unlock, outcome, pulsed)

    def _add_ledger_line(
        self, unlock: UnlockAttempt, outcome: UnlockOutcome | None, pulsed: bool | None
    ) -> None:
        self.ledger_lines.append(
            UnlockRecord(
                unlock_id=unlock.unlock_id,
                pulse_number=unlock.pulse_number,
                cell=unlock.cell,
                reservation_id=unlock.reservation_id,
                purpose=unlock.purpose,
                source=unlock.source,
                request_key=unlock.request_key,
                at=self.now,
                outcome=outcome,
                pulsed=pulsed,
                reason=unlock.reason,
                actor=unlock.actor,
            )
        )

    def raise_alarm(self, alarm: Alarm, place: str, detail: str = "", *, cell: str | None = None) -> None:
        """Raises an alarm unless it stands already. If its condition was only gone for a moment, the alarm
        stays, and its count is raised. For a `place` that is a part of `cell`, the part is published as the
        device."""
        key = f"{alarm}/{place}"
        standing = self.alarms.get(key)
        if standing is not None:
            if standing.gone is not None:
                again = {"gone": None, "count": standing.count + 1, "detail": detail or standing.detail}
                self.put("alarms", key, amend(standing, **again))
            return
        self.put("alarms", key, StandingAlarm(alarm, place, self.now, detail))
        device = _device(place, cell)
        self.add_fact(FactKind.ALARM_RAISED, alarm=alarm, cell=cell, device=device, reason=detail or None)

    def clear_alarm(
        self, alarm: Alarm, place: str, *, cell: str | None = None, at_once: bool = False
    ) -> None:
        """Clears an alarm if it stands; an alarm for a condition only when the condition has been gone for
        `GONE_NS` (`conditions.apply_due`), or `at_once`."""
        key = f"{alarm}/{place}"
        standing = self.alarms.get(key)
        if standing is None:
            return
        if alarm in CONDITIONS and not at_once and not self._long_gone(standing):
            if standing.gone is None:
                self.put("alarms", key, amend(standing, gone=self.now))
            return
        self.put("alarms", key, None)
        self.add_fact(FactKind.ALARM_CLEARED, alarm=alarm, cell=cell, device=_device(place, cell))

    def _long_gone(self, standing: StandingAlarm) -> bool:
        return standing.gone is not None and gone_left_ns(standing, self.now) <= 0

    def result(self) -> Step:
        """The finished step."""
        state = LockerState(
            cells=self.cells,
            reservations=self.reservations,
            unlock_attempts=self.unlock_attempts,
            queue=self.queue,
            former=self.former,
            retired_codes=self.retired_codes,
            alarms=self.alarms,
            pulses=self.pulses,
            guesses=self.guesses,
            climate=self.climate,
            unconfirmed=self.unconfirmed,
            hand_checked=self.hand_checked,
            history=self.history,
        )
        return Step(
            state,
            tuple(self.effects),
            tuple(self.facts),
            tuple(self.answers),
            tuple(self.ledger_lines),
            tuple(self.ended),
            tuple(self._changed),
            tuple(self.temperatures),
        )


def gone_left_ns(standing: StandingAlarm, now: Instant) -> int:
    """How much longer the condition of an alarm must be absent before it is cleared; 0 across a reboot."""
    assert standing.gone is not None
    elapsed_ns = standing.gone.elapsed_ns(now)
    return 0 if elapsed_ns is None else GONE_NS - elapsed_ns


def _device(place: str, cell: str | None) -> str | None:
    """The device of an alarm's event: the place, or what follows the cell's label in it; None if nothing
    does."""
    return (place if cell is None else place.removeprefix(cell).lstrip("/")) or None
