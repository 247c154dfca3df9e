"""Codes: chosen when a cell is reserved, compared when somebody stands at the kiosk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hmac import compare_digest

from edge_agent.errors import Code, Refusal
from edge_agent.model import Purpose, Reservation, parse_qr
from edge_agent.statemachine.resting import rested
from edge_agent.statemachine.turn import Turn


def choose_codes(turn: Turn, candidates: Iterable[str]) -> tuple[str, str]:
    """A drop-off and a pick-up code, unique among the live ones, fresh where possible.

    Candidates are tried in their order, then every code that never lived or has rested, then the one that
    has been dead longest. Raises `Refusal` with code 8 if every code is live.
    """
    live = {code for r in turn.reservations.values() for code in (r.drop_off_code, r.pickup_code)}
    chosen: list[str] = []
    for code in _in_order(turn, candidates):
        if code not in live and code not in chosen:
            chosen.append(code)
            if len(chosen) == 2:
                return chosen[0], chosen[1]
    raise Refusal(Code.NO_CELL, "every code is in use")


def _in_order(turn: Turn, candidates: Iterable[str]) -> Iterator[str]:
    resting = turn.resting_codes
    for code in candidates:
        if _fresh(turn, code):
            yield code
    digits = turn.layout.code_digits
    for number in range(10**digits):
        code = f"{number:0{digits}d}"
        if _fresh(turn, code):
            yield code
    yield from sorted(resting, key=lambda code: (_died_s(turn, code), code))


def _fresh(turn: Turn, code: str) -> bool:
    died = turn.resting_codes.get(code)
    return died is None or rested(died, turn.now)


def _died_s(turn: Turn, code: str) -> float:
    died = turn.resting_codes.get(code)
    assert died is not None
    return died.wall_s


def forget_rested(turn: Turn, codes: Iterable[str]) -> None:
    """Drops what has rested long enough beside each of these codes, so that the list stays as short as a
    week.

    Only one bucket a code is looked at: a whole list would make a step the slower the more reservations there
    were.
    """
    for code in codes:
        for other, died in turn.resting_codes.beside(code):
            if rested(died, turn.now):
                turn.wake_code(other)


def match_entry(turn: Turn, text: str) -> tuple[Reservation, Purpose] | None:
    """The reservation and purpose that digits or a QR text stand for; None if there is none.

    Every live code is compared, in constant time, so that the time taken tells nothing.
    """
    parsed = parse_qr(text)
    digits = text if parsed is None else parsed[2]
    entered = digits if digits.isascii() else ""
    found: tuple[Reservation, Purpose] | None = None
    for reservation in turn.reservations.values():
        drop = compare_digest(entered, reservation.drop_off_code)
        pick = compare_digest(entered, reservation.pickup_code)
        if drop or pick:
            found = reservation, Purpose.DROPOFF if drop else Purpose.PICKUP
    if found is None or parsed is None:
        return found
    purpose, reservation_id, _ = parsed
    return found if found[0].reservation_id == reservation_id and found[1] is purpose else None


def not_valid() -> Refusal:
    """All that somebody at the kiosk is told of an entry that opens nothing."""
    return Refusal(Code.NOT_ALLOWED, "not valid")
