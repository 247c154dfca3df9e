"""What must never happen to a lock: checks inputs, effects, ledger and facts from outside the core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from edge_agent.model import TECHNICIAN_PURPOSES, Alarm, CellCause, Door, Instant, Purpose, ReservationStatus
from edge_agent.statemachine.inputs import (
    ClosingSettled,
    DoorRead,
    DoorsChanged,
    HandCheck,
    Input,
    OpenCell,
    PulseDone,
    Resolve,
    Weighed,
)
from edge_agent.statemachine.outputs import Fact, FactKind, PulseLock, ReadDoor, UnlockRecord
from edge_agent.statemachine.state import Layout, LockerState, MapName
from edge_agent.statemachine.step_builder import Step

MAPS: tuple[str, ...] = get_args(MapName)


def snapshot(state: LockerState) -> dict[str, Any]:
    """A copy of the maps of a state; their entries are immutable."""
    retired = {code: state.retired_codes.get(code) for code in state.retired_codes}
    return {name: dict(getattr(state, name)) for name in MAPS} | {
        "retired_codes": retired,
        "queue": state.queue,
    }


def differing(before: dict[str, Any], after: dict[str, Any]) -> set[tuple[str, str]]:
    """What differs between two snapshots, as (map, key)."""
    found = set()
    for name in (*MAPS, "retired_codes"):
        old, new = before[name], after[name]
        found |= {(name, key) for key in {*old, *new} if old.get(key) != new.get(key)}
    return found


BOUNCE_NS = 10**9
"""A door that opens again within this time after it read closed has not latched."""
LATE_NS = 10 * 10**9
"""A pulse may open its door for this long."""


class Watch:
    """Keeps its own record of who has which cell, and of every reading and pulse."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.tenant: dict[str, str] = {}
        self.former: dict[str, str] = {}
        self.requested: set[str] = set()
        self.read_closed: set[tuple[str, int]] = set()
        self.pulsed: set[tuple[str, int]] = set()
        self.under_way: dict[str, str] = {}
        self.before_restart: set[str] = set()
        self.times: dict[str, list[int]] = {}
        self.read_otherwise: dict[tuple[str, int], Door] = {}
        """Fresh readings that did not show the door closed."""
        self.doors: dict[str, Door] = {}
        """As last read; `polled` leaves out requested readings that showed a door closed."""
        self.polled: dict[str, Door] = {}
        self.moved: dict[str, bool] = {}
        """Whether a contact has changed since the last pulse of its lock, before it settled closed."""
        self.settled: set[str] = set()
        self.latest: dict[str, tuple[str, int]] = {}
        self.opened: set[str] = set()
        """Cells whose door a pulse has opened, and which has not settled closed since."""
        self.contacts_opened: set[str | None] = set()
        """Boards of which several contacts opened in one reading: none of their contacts is believed."""
        self.closed_ns: dict[str, int] = {}
        self.doubtful: set[str] = set()
        """Cells whose last pulse was given in doubt: any closing after it counts."""
        self.by_hand: set[str] = set()
        """Cells whose doors a person moves by hand."""
        self.now_ns = 0
        self.given: Input | None = None
        self.unresolved: set[str] = set()
        """Cells with a pulse whose outcome is unknown."""
        self.settled_meanwhile: set[str] = set()
        """Doors that settled closed while a pulse was under way, which may still open them."""
        self.closed_after_pulse: set[str] = set()
        """Opened by a pulse, settled closed since, and the scale has not reported: a drop-off may still be
        concluded, also if a person opens the door again meanwhile."""
        self.opened_since_pulse: set[str] = set()
        self.at_rest: set[str] = set()
        """Doors whose last closing has settled: a weight concludes what is held."""
        self.closed_in_doubt: set[str] = set()
        """Doors whose closing has settled after a pulse in doubt: it concludes the command 30 s later,
        also if another pulse is under way then."""
        self.pulsed_cells: set[str] = set()
        self.resolved = False
        self.weighed: str | None = None
        """The cell of the scale in the input."""
        self.standing: set[tuple[str | None, str | None, str | None]] = set()
        """Alarms, by name, cell and device."""
        self.reading_cells: dict[str, str] = {}

    def restarted(self, doors: Mapping[str, Door], *, rebooted: bool) -> None:
        """The process has restarted: nothing begun before is ever pulsed. `doors` are its first readings."""
        self.resolved = False
        self.given = None
        self.unresolved |= {*self.under_way.values()}
        self.by_hand.clear()
        for label, door in doors.items():
            self._door_read(label, door)
        self.before_restart |= {*self.requested}
        self.under_way.clear()
        if rebooted:
            self.times.clear()

    def before(self, given: Input, now: Instant) -> None:
        """Before the core gets an input."""
        self.now_ns, self.given = now.boottime_ns, given
        self.resolved = isinstance(given, Resolve)
        self.weighed = given.cell if isinstance(given, Weighed) and given.mass_g is not None else None
        match given:
            case DoorRead(unlock_id, door):
                cell = self.reading_cells.pop(unlock_id, None)  # None: no longer awaited
                if door is not Door.CLOSED:
                    self.read_otherwise[unlock_id, 1] = door
                elif unlock_id in self.requested:
                    self.read_closed.add((unlock_id, 1))
                if cell is not None and door is Door.CLOSED:
                    self.doors[cell] = door
                elif cell is not None and door is Door.OPEN:
                    self._door_read(cell, door)
            case ClosingSettled(label):
                self.closing_settled(label)
            case HandCheck(labels, running):
                self.by_hand = self.by_hand | {*labels} if running else self.by_hand - {*labels}
            case PulseDone(unlock_id, attempt, _, _) if (unlock_id, attempt) != self.latest.get(unlock_id):
                pass  # of an earlier pulse
            case PulseDone(unlock_id, attempt, door, carried_out):
                if unlock_id in self.under_way and door is Door.OPEN and carried_out:
                    self._door_read(self.under_way[unlock_id], door)
                cell = self.under_way.pop(unlock_id, None)
                if cell is not None and door is Door.UNKNOWN and carried_out:
                    self.unresolved.add(cell)
                if cell in self.settled_meanwhile and door is Door.CLOSED:
                    self.settled.add(cell)
                if cell is not None and not carried_out and (unlock_id, attempt) in self.pulsed:
                    self.times[cell].pop()  # never sent: it heats nothing
                if door is Door.CLOSED and carried_out and (unlock_id, attempt) in self.pulsed:
                    self.read_closed.add((unlock_id, attempt + 1))
            case DoorsChanged(doors):
                opened = {label for label, door in doors.items() if door is Door.OPEN}
                for label, door in doors.items():
                    self._door_read(label, door)
                self.under_way = {u: c for u, c in self.under_way.items() if c not in opened}

    def closing_settled(self, label: str) -> None:
        """A closing has settled: the last pulse does not explain the next opening."""
        if self.polled.get(label, Door.CLOSED) is not Door.CLOSED:
            return  # a single closed reading is not believed
        self.opened.discard(label)
        self.at_rest.add(label)
        by_pulse = label in self.opened_since_pulse or label in self.doubtful
        if self.moved.get(label, True) and (by_pulse or label not in self.pulsed_cells):
            pulsing = label in self.under_way.values()
            (self.settled_meanwhile if pulsing else self.settled).add(label)
        if self.moved.get(label):
            self.closed_after_pulse.add(label)
            if label in self.doubtful:
                self.closed_in_doubt.add(label)

    def _door_read(self, label: str, door: Door) -> None:
        if door is Door.UNKNOWN:
            return
        only_read = self.polled.get(label) is Door.OPEN and not self._unlocking(label)
        if only_read or (door is Door.CLOSED and self.polled.get(label) is Door.OPEN):
            self.doors[label] = Door.OPEN  # a single closed reading in between was not believed
        if self.doors.get(label, Door.CLOSED) is not door:
            self.moved[label] = self._may_move(label, door) and label not in self.settled
            if door is Door.OPEN:
                self.opened_since_pulse.add(label)
            if door is Door.CLOSED:
                self.moved[label] |= label in self.doubtful
                self.closed_ns[label] = self.now_ns
            else:
                bounces = self.now_ns - self.closed_ns.get(label, 0) < BOUNCE_NS and label in self.opened
                by_pulse = self._may_open(label) and label not in self.settled
                (self.opened.add if bounces or by_pulse else self.opened.discard)(label)
            self.at_rest.discard(label)
            if label in self.settled:
                self.settled.discard(label)
                self.pulsed_cells.discard(label)
            self.settled_meanwhile.discard(label)
        if door is Door.OPEN:
            self.closed_in_doubt.discard(label)
        self.unresolved.discard(label)
        self.doors[label] = self.polled[label] = door

    def _unlocking(self, label: str) -> bool:
        """Whether the outcome of a pulse of this lock is open."""
        return label in self.unresolved or label in self.under_way.values()

    def _may_move(self, label: str, door: Door) -> bool:
        """Whether the pulse of its lock explains that a door moves. It opens as in `_may_open`, or until the
        opened door has settled closed. It closes at any time: the core bounds what a closing concludes."""
        if label not in self.pulsed_cells or door is Door.CLOSED:
            return label in self.pulsed_cells
        return self._may_open(label) or bool(self.moved.get(label))

    def _may_open(self, label: str) -> bool:
        """Whether the pulse of its lock may open a door: while it is under way, or its outcome is unknown, or
        in the 10 s after it."""
        if label not in self.pulsed_cells:
            return False
        recent = label not in self.by_hand and any(
            self.now_ns - at < LATE_NS for at in self.times.get(label, [])
        )
        return recent or self._unlocking(label)

    def after(self, done: Step, now: Instant) -> None:
        """After the core's step."""
        match self.given:
            case OpenCell(cell=label, purpose=Purpose.TECHNICIAN) | Resolve(cell=label):
                self.unresolved.discard(label)  # a technician decides an unknown outcome
        for fact in done.facts:
            self._record_fact(fact)
        for over in done.ended:
            assert self.tenant.pop(over.cell) == over.reservation_id
            if over.status is ReservationStatus.PICKED_UP:
                self.former[over.cell] = over.reservation_id
        intents = {
            (line.unlock_id, line.pulse_number): line for line in done.ledger_lines if line.outcome is None
        }
        pulses = [effect for effect in done.effects if isinstance(effect, PulseLock)]
        assert len(intents) == len(pulses), "an intent without its pulse"
        for pulse in pulses:
            self._pulse(pulse, intents, now)
        readings = [effect for effect in done.effects if isinstance(effect, ReadDoor)]
        self.requested |= {effect.unlock_id for effect in readings}
        self.reading_cells |= {effect.unlock_id: effect.cell for effect in readings}
        if self.weighed in self.at_rest:
            self.closed_after_pulse.discard(self.weighed)
        at_work = [t for t in done.state.unlock_attempts.values() if t.stage in ("reading", "pulsing")]
        assert len(at_work) <= self.layout.max_concurrent_unlocks

    def _record_fact(self, fact: Fact) -> None:
        alarm = (fact.alarm, fact.cell, fact.device)
        if fact.kind is FactKind.ALARM_RAISED:
            self.standing.add(alarm)
            if fact.alarm is Alarm.WRONG_DOOR and fact.cell is not None:
                self.opened.discard(fact.cell)  # another lock opened it
            if fact.alarm is Alarm.DEVICE_FAULT and "opened in one reading" in (fact.reason or ""):
                self.contacts_opened.add(fact.device)
        elif fact.kind is FactKind.ALARM_CLEARED:
            self.standing.discard(alarm)
            if fact.alarm is Alarm.DEVICE_FAULT:
                self.contacts_opened.discard(fact.device)
        if fact.kind in (FactKind.DROPOFF, FactKind.PICKUP) and not self.resolved:
            assert fact.cell is not None
            held = self.layout.hold_empty_dropoff and fact.cell in self.closed_after_pulse
            shown = (
                self.moved.get(fact.cell)
                or fact.cell in self.closed_in_doubt
                or (held and fact.kind is FactKind.DROPOFF)
            )
            assert shown, f"{fact.kind} although the contact showed nothing of a pulse"
        rid = None if fact.reservation is None else fact.reservation.reservation_id
        moved = fact.kind is FactKind.CELL_STATUS_CHANGED and fact.cause is CellCause.MOVED
        if fact.kind is FactKind.RESERVATION_CREATED or moved:
            assert rid is not None
            assert fact.cell is not None
            assert fact.cell not in self.tenant, "a cell with two tenants"
            self.closed_in_doubt.discard(fact.cell)
            self.tenant = {label: other for label, other in self.tenant.items() if other != rid}
            self.tenant[fact.cell] = rid
            self.former.pop(fact.cell, None)

    def _pulse(self, pulse: PulseLock, intents: Mapping[tuple[str, int], UnlockRecord], now: Instant) -> None:
        key = (pulse.unlock_id, pulse.pulse_number)
        assert key not in self.pulsed, "pulsed twice"
        assert pulse.unlock_id not in self.before_restart, "pulsed for a command from before the restart"
        intent = intents[key]
        assert intent.cell == pulse.cell
        self._may_be_pulsed(key, pulse.cell, intent.purpose)
        self.pulsed_cells.add(pulse.cell)
        self.opened_since_pulse.discard(pulse.cell)
        (self.doubtful.discard if key in self.read_closed else self.doubtful.add)(pulse.cell)
        unsettled = pulse.cell not in self.settled  # an earlier pulse has opened it, and it bounces closed
        self.moved[pulse.cell] = unsettled and self.moved.get(pulse.cell, False)
        self.settled.discard(pulse.cell)
        holder = self.tenant.get(pulse.cell)
        if holder is None and intent.purpose == Purpose.OPEN_DOOR:
            holder = self.former.get(pulse.cell)
        if intent.purpose in TECHNICIAN_PURPOSES:
            assert intent.reservation_id == "", "a technician's opening for a reservation"
            assert intent.purpose == Purpose.TECHNICIAN or holder is None, "a reserved cell was tested"
        else:
            assert intent.reservation_id == holder, "pulsed for a reservation that does not have this cell"
        assert pulse.expires_ns is None or now.boottime_ns <= pulse.expires_ns, "pulsed after its life"
        self.pulsed.add(key)
        self.latest[pulse.unlock_id] = key
        self.under_way[pulse.unlock_id] = pulse.cell
        assert len(self.under_way) <= self.layout.max_concurrent_unlocks
        assert len(set(self.under_way.values())) == len(self.under_way), "one lock pulsed for two"
        begin = now.boottime_ns - self.layout.duty_window_ns
        recent = [at for at in self.times.get(pulse.cell, []) if at > begin]
        self.times[pulse.cell] = [*recent, now.boottime_ns]
        assert len(recent) < self.layout.duty_pulses, "beyond the duty of the lock"

    def _may_be_pulsed(self, key: tuple[str, int], label: str, purpose: str) -> None:
        """The door read closed before; or open, with its contact in doubt; or was not read, and a technician
        opens it."""
        before = self.read_otherwise.get(key)
        if key not in self.read_closed:
            unasked = label not in self.opened
            faults = ((Alarm.SENSOR_FAULT, label, "contact"), (Alarm.WRONG_DOOR, label, None))
            of_the_board = self.layout.contact_boards.get(label) in self.contacts_opened
            in_doubt = unasked or of_the_board or any(fault in self.standing for fault in faults)
            by_technician = before is Door.UNKNOWN and purpose == Purpose.TECHNICIAN
            assert (before is Door.OPEN and in_doubt) or by_technician, (
                "pulsed without a reading that allows it"
            )
        if purpose not in TECHNICIAN_PURPOSES:
            assert (Alarm.WRONG_DOOR, label, None) not in self.standing, (
                "pulsed although the wrong door moved"
            )
