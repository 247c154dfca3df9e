"""Codes: chosen when a cell is reserved, compared when somebody stands at the kiosk."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from edge_agent.errors import Code, Refusal
from edge_agent.model import Instant, Purpose, Reservation, parse_qr
from edge_agent.statemachine.turn import Turn

CODE_REST_NS = 7 * 24 * 3600 * 10**9
"""How long a code that died is not given again while others are left."""


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


def _in_order(turn: Turn, candidates: Iterable[str]) -> Iterable[str]:
    resting = turn.resting_codes
    for code in candidates:
        if code not in resting or _rested(resting[code], turn.now):
            yield code
    digits = turn.layout.code_digits
    for number in range(10**digits):
        code = f"{number:0{digits}d}"
        if code not in resting or _rested(resting[code], turn.now):
            yield code
    yield from resting


def _rested(died: Instant, now: Instant) -> bool:
    elapsed_ns = died.elapsed_ns(now)
    return elapsed_ns is not None and elapsed_ns > CODE_REST_NS


def forget_rested(turn: Turn) -> None:
    """Drops codes that have rested long enough, so that the list stays as short as a week."""
    for code, died in list(turn.resting_codes.items()):
        if not _rested(died, turn.now):
            return
        turn.put("resting_codes", code, None)


def match_entry(turn: Turn, text: str) -> tuple[Reservation, Purpose] | None:
    """The reservation and purpose that digits or a QR text stand for; None if there is none.

    Every live code is compared, in constant time, so that the time taken tells nothing.
    """
    parsed = parse_qr(text)
    digits = text if parsed is None else parsed[2]
    entered = digits.encode("utf-8", "replace")
    found: tuple[Reservation, Purpose] | None = None
    for reservation in turn.reservations.values():
        drop = hmac.compare_digest(entered, reservation.drop_off_code.encode())
        pick = hmac.compare_digest(entered, reservation.pickup_code.encode())
        if drop or pick:
            found = reservation, Purpose.DROPOFF if drop else Purpose.PICKUP
    if found is None or parsed is None:
        return found
    purpose, reservation_id, _ = parsed
    return found if found[0].reservation_id == reservation_id and found[1] is purpose else None


def not_valid() -> Refusal:
    """All that somebody at the kiosk is told of an entry that opens nothing."""
    return Refusal(Code.NOT_ALLOWED, "not valid")
