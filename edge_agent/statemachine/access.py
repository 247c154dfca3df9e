"""Codes: chosen when a cell is reserved, compared when somebody stands at the kiosk."""

from __future__ import annotations

from collections.abc import Iterable
from hmac import compare_digest
from itertools import islice

from edge_agent.errors import Code, Refusal
from edge_agent.model import Purpose, Reservation, parse_qr
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.resting import FORGOTTEN_AT_ONCE, rested
from edge_agent.statemachine.turn import Turn


def choose_codes(turn: Turn, candidates: Iterable[str]) -> tuple[str, str]:
    """A drop-off and a pick-up code, unique among the live ones, fresh where possible.

    Candidates are tried in their order, then codes that never lived or have rested, then the one that has
    been dead longest. Raises `Refusal` with code 8 if every code is live.
    """
    live = turn.reservations.values()
    taken = {r.drop_off_code for r in live} | {r.pickup_code for r in live}
    turn.resting_codes = turn.resting_codes.trimmed()
    chosen: list[str] = []
    for code in candidates if _some_fresh(turn, len(taken)) else ():
        if code not in taken and _fresh(turn, code):
            taken.add(code)
            chosen.append(code)
            if len(chosen) == 2:
                break
    while len(chosen) < 2:
        code = _another(turn, taken, chosen)
        taken.add(code)
        chosen.append(code)
    return chosen[0], chosen[1]


def _some_fresh(turn: Turn, live: int) -> bool:
    """Whether any code is neither live nor resting: else there is no need to look."""
    if len(turn.resting_codes) + live < 10**turn.layout.code_digits:
        return True
    oldest = next(turn.resting_codes.oldest_first(), None)
    return oldest is not None and rested(oldest[1], turn.now)


def _fresh(turn: Turn, code: str) -> bool:
    died = turn.resting_codes.get(code)
    return died is None or rested(died, turn.now)


def _another(turn: Turn, taken: set[str], chosen: list[str]) -> str:
    """A code when luck found none: one that has rested, else one that never lived, else the longest dead."""
    oldest = next((dead for dead in turn.resting_codes.oldest_first() if dead[0] not in taken), None)
    if oldest is not None and rested(oldest[1], turn.now):
        return oldest[0]
    never = _never_lived(turn, taken, chosen)
    if never is not None:
        return never
    if oldest is None:
        raise Refusal(Code.NO_CELL, "every code is in use")
    return oldest[0]


def _never_lived(turn: Turn, taken: set[str], chosen: list[str]) -> str | None:
    """Goes on where the last search ended, so that all searches together look at each code about once."""
    resting, digits = turn.resting_codes, turn.layout.code_digits
    every = 10**digits
    # Of the taken ones only those that were chosen just now may still rest.
    if len(resting) + len(taken) - sum(code in resting for code in chosen) >= every:
        return None
    for step in range(every):
        number = (resting.cursor + step) % every
        code = f"{number:0{digits}d}"
        if code not in taken and code not in resting:
            turn.resting_codes = amend(resting, cursor=number + 1)
            return code
    return None


def forget_rested(turn: Turn) -> None:
    """Drops the first few codes that have rested long enough, so that the list stays as short as a week."""
    oldest = turn.resting_codes.oldest_first()
    for code, died in tuple(islice(oldest, FORGOTTEN_AT_ONCE)):
        if not rested(died, turn.now):
            return
        turn.wake_code(code)


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
