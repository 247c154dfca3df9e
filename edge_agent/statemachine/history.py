"""What the machine does when its journal may not hold everything that it did before.

Two degrees. *Frozen*: another party knows of more than the journal, and nothing is granted until the
gateway has answered. *Lost*: JOURNAL_LOST stands; every cell whose content is not known for certain awaits
inspection, and nothing is granted there until a technician restores the live reservations or starts empty.
"""

from __future__ import annotations

from edge_agent.errors import Code, ErrorInfo, FieldViolation, Refusal
from edge_agent.model import Alarm, CellCause, CellStatus, Reservation, ReservationStatus, parse_qr
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.codes import access, guessing
from edge_agent.statemachine.doors import outcome
from edge_agent.statemachine.inputs import (
    Abandon,
    Cancel,
    Clear,
    EnterCode,
    HistoryAhead,
    HistoryCompared,
    HistoryLost,
    Input,
    LargerCell,
    OpenForReservation,
    Reserve,
    Restore,
)
from edge_agent.statemachine.state import HistoryMark
from edge_agent.statemachine.step_builder import StepBuilder

LOST = f"{Alarm.JOURNAL_LOST}/"
FROZEN, TO_LOSE, YOUNG = "frozen", "lost", "new"
"""Keys of the state's `history`: frozen; a loss that the start has found and the core has yet to handle; the
journal is new, without a sign of an earlier one, and the gateway has not answered yet."""
CALL_FOR_HELP = "this locker cannot open your door just now: please call for help"
"""The answer at the kiosk."""
WHY = "the machine does not know for certain what lies in its cells: `edge-agent restore` first"
ASKING = "the machine waits for the gateway to say what happened before"
UNVERIFIED = "what lies in it was restored and nobody has verified it"
HELD = {
    ReservationStatus.PENDING: CellStatus.RESERVED,
    ReservationStatus.DROPPED_OFF: CellStatus.OCCUPIED,
    ReservationStatus.PICKED_UP: CellStatus.IN_GRACE,
}
"""The use of a cell while a reservation holds it."""


def former_key(journal_id: str) -> str:
    """The key of `history` for a former id of the journal."""
    return f"former/{journal_id}"


def refuse_while_in_doubt(builder: StepBuilder, given: Input) -> bool:
    """Refuses what must wait until the machine's history is known: raises `Refusal` (`NOT_ALLOWED`) for a
    command, and answers an entry at the kiosk. True if the input is thereby done."""
    if isinstance(given, Clear):
        _refuse_clearing(builder, given)
        return False
    frozen, lost = FROZEN in builder.history, LOST in builder.alarms
    if not (frozen or lost):
        return False
    why = ASKING if frozen else WHY
    if isinstance(given, Reserve):
        raise Refusal(Code.NOT_ALLOWED, why)
    if isinstance(given, OpenForReservation | LargerCell | Cancel | Abandon):
        if frozen or given.reservation_id not in builder.reservations:
            raise Refusal(Code.NOT_ALLOWED, why)
    elif isinstance(given, EnterCode):
        return _at_the_kiosk(builder, given, frozen=frozen)
    return False


def _at_the_kiosk(builder: StepBuilder, given: EnterCode, *, frozen: bool) -> bool:
    """A code that the journal still knows for certain is passed on; any other may be a valid one that it
    lost.

    If any codes are live it counts as wrong all the same, because it may be a guess at those.
    """
    way: guessing.Way = "digits" if parse_qr(given.text) is None else "qr"
    if guessing.rests(builder, way):
        return False
    if not frozen and access.match_entry(builder, given.text) is not None:
        return False
    if builder.reservations:
        guessing.count_invalid(builder, way, guess=access.is_guess(builder, given.text))
    unknown = Refusal(Code.NOT_ALLOWED, CALL_FOR_HELP, info=ErrorInfo("HISTORY_UNKNOWN", {}))
    builder.answer(given.request_key, refusal=unknown)
    return True


def _refuse_clearing(builder: StepBuilder, given: Clear) -> None:
    cell = cells.find(builder, given.cell)
    if cell.reservation_id is not None and cell.unverified:
        raise Refusal(Code.NOT_ALLOWED, f"cell {given.cell}: {UNVERIFIED}")
    uncertain = cell.status is CellStatus.AWAITING_INSPECTION
    if uncertain and (LOST in builder.alarms or FROZEN in builder.history):
        raise Refusal(Code.NOT_ALLOWED, f"cell {given.cell}: {WHY}")


def at_start(builder: StepBuilder) -> None:
    """Handles, once, what the start has found."""
    found = builder.history.get(TO_LOSE)
    if found is not None:
        _lose(builder, found.why, frozenset())


def lost(builder: StepBuilder, given: HistoryLost) -> None:
    """There was an earlier journal, of which this one holds nothing."""
    _lose(builder, given.why, frozenset())


def ahead(builder: StepBuilder, given: HistoryAhead) -> None:
    """Another party knows of more than the journal: nothing is granted until the gateway has answered."""
    if FROZEN in builder.history or LOST in builder.alarms:
        return
    builder.put("history", FROZEN, HistoryMark(given.why))
    for unlock in tuple(builder.unlock_attempts.values()):
        if unlock.stage == "waiting" and unlock.reservation_id:
            outcome.end_without_pulse(builder, unlock, Refusal(Code.NOT_ALLOWED, ASKING))


def compared(builder: StepBuilder, given: HistoryCompared) -> None:
    """The gateway reported what it holds, to a machine that is frozen."""
    builder.put("history", YOUNG, None)
    doubted = builder.history.get(FROZEN)
    if doubted is None:
        return
    builder.put("history", FROZEN, None)
    if given.new_journal_id is None:
        return
    builder.put("history", former_key(given.journal_id), HistoryMark("its id before"))
    agreed = frozenset(
        reservation_id
        for reservation_id, reservation in builder.reservations.items()
        if given.reservations.get(reservation_id) == (reservation.cell, reservation.status)
    )
    _lose(builder, doubted.why, agreed)


def _lose(builder: StepBuilder, why: str, agreed: frozenset[str]) -> None:
    """Takes every cell out of use except those of the `agreed` reservations."""
    for key in (FROZEN, TO_LOSE, YOUNG):
        builder.put("history", key, None)
    for label in tuple(builder.former):
        outcome.end_waiting(builder, builder.former[label], WHY)
        builder.put("former", label, None)
    for reservation in tuple(builder.reservations.values()):
        if reservation.reservation_id not in agreed:
            outcome.end_waiting(builder, reservation, WHY)
            builder.put("reservations", reservation.reservation_id, None)
    for label, cell in tuple(builder.cells.items()):
        if cell.reservation_id in agreed:
            continue
        uncertain = CellStatus.AWAITING_INSPECTION
        builder.put("unconfirmed", label, None)
        builder.change_cell(
            label,
            status=uncertain,
            reservation_id=None,
            unverified=False,
            # These concern the reservation that is gone. The known state of door and lock stays.
            inspect_unless_empty=False,
            last_outcome=None,
            opened_since_allocation=False,
            unlocked_since_allocation=False,
        )
        if cell.status is not uncertain:
            builder.add_cell_fact(label, CellCause.LOST)
    builder.raise_alarm(Alarm.JOURNAL_LOST, "", why)


def restore(builder: StepBuilder, given: Restore) -> None:
    """A technician lets the live reservations hold their cells again; with none of them he starts empty.

    Raises `Refusal`: `NOT_ALLOWED` if nothing was lost, `INVALID_ARGUMENT` if a reservation has no cell of
    its own here.
    """
    if LOST not in builder.alarms:
        if not given.place or given.reservations:
            raise Refusal(Code.NOT_ALLOWED, "no history was lost: there is nothing to restore")
        for reservation_id, label in given.place.items():
            _correct(builder, reservation_id, label, given.actor)
        builder.answer(given.request_key)
        return
    named = {reservation.reservation_id for reservation in given.reservations}
    for reservation_id in given.place:
        if reservation_id not in named:
            raise _bad(reservation_id, "it is not among those that can be restored")
    for reservation in given.reservations:
        if reservation.reservation_id not in builder.reservations:
            label = given.place.get(reservation.reservation_id, reservation.cell)
            _hold(builder, reservation, label, given.actor)
    builder.clear_alarm(Alarm.JOURNAL_LOST, "")
    builder.answer(given.request_key)


def _hold(builder: StepBuilder, reservation: Reservation, label: str, actor: str) -> None:
    rid = reservation.reservation_id
    _require_free(builder, rid, label)
    codes = {reservation.drop_off_code, reservation.pickup_code}
    for other in builder.reservations.values():
        if codes & {other.drop_off_code, other.pickup_code}:
            raise _bad(rid, f"it has a code of reservation {other.reservation_id}")
    for code in codes:
        builder.release_code(code)
    _take_cell(builder, reservation, label, actor)


def _take_cell(builder: StepBuilder, reservation: Reservation, label: str, actor: str) -> None:
    """A reservation takes a cell of unknown content: the cell is inspected when the reservation is over."""
    held = builder.change_reservation(reservation, cell=label)
    builder.change_cell(
        label,
        status=HELD[reservation.status],
        reservation_id=reservation.reservation_id,
        opened_since_allocation=True,
        unlocked_since_allocation=True,
        outcome_unknown=True,
        unverified=True,
        inspect_unless_empty=False,
        last_outcome=None,
    )
    builder.add_cell_fact(label, CellCause.RESTORED, reservation=held, actor=actor)


def _correct(builder: StepBuilder, reservation_id: str, label: str, actor: str) -> None:
    """A restored parcel is in another cell than the gateway reported."""
    reservation = builder.reservations.get(reservation_id)
    if reservation is None or not builder.cells[reservation.cell].unverified:
        raise _bad(reservation_id, "it is no restored reservation")
    _require_free(builder, reservation_id, label)
    outcome.refuse_while_busy(builder, reservation.cell)
    outcome.refuse_while_busy(builder, label)
    before = reservation.cell
    builder.change_cell(
        before,
        status=CellStatus.AWAITING_INSPECTION,
        reservation_id=None,
        outcome_unknown=False,
        unverified=False,
        inspect_unless_empty=False,
        last_outcome=None,
        opened_since_allocation=False,
        unlocked_since_allocation=False,
    )
    _take_cell(builder, reservation, label, actor)
    builder.add_cell_fact(before, CellCause.LOST, actor=actor)


def _require_free(builder: StepBuilder, reservation_id: str, label: str) -> None:
    cell = builder.cells.get(label)
    if cell is None:
        raise _bad(reservation_id, f"there is no cell {label}; name its cell with --place")
    if cell.reservation_id is not None:
        whose = f"cell {label} is held by {cell.reservation_id}"
        raise _bad(reservation_id, f"{whose}; name its cell with --place")
    if cell.status is not CellStatus.AWAITING_INSPECTION:
        raise _bad(reservation_id, f"cell {label} is {cell.status}, and does not await inspection")


def _bad(reservation_id: str, problem: str) -> Refusal:
    message = f"reservation {reservation_id}: {problem}"
    return Refusal(Code.INVALID_ARGUMENT, message, (FieldViolation("reservations", message),))
