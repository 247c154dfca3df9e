"""Codes: chosen when a cell is reserved, compared when a code is entered at the kiosk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hmac import compare_digest
from itertools import islice

from edge_agent.errors import Code, Refusal
from edge_agent.model import Purpose, Reservation, parse_qr
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.codes.resting import FORGOTTEN_AT_ONCE, rested
from edge_agent.statemachine.step_builder import StepBuilder


def choose_codes(builder: StepBuilder, candidates: Iterable[str]) -> tuple[str, str]:
    """A drop-off and a pick-up code, unique among the live ones, fresh and two digits apart if possible.

    Candidates are tried in their order, then codes that never lived or have rested. Codes that differ from
    every live code in at least two digits come first, so that a typing error of one digit opens no other
    door. The last choice is the code that has been dead longest. Raises `Refusal` (`NO_CELL`) if every code
    is live.
    """
    live = builder.reservations.values()
    taken = _Taken(code for r in live for code in (r.drop_off_code, r.pickup_code))
    builder.resting_codes = builder.resting_codes.trimmed()
    drawn = tuple(candidates) if _some_fresh(builder, len(taken)) else ()
    chosen: list[str] = []
    for _ in ("drop-off", "pick-up"):
        code = (
            _drawn(builder, drawn, taken, apart=True)
            or _another(builder, taken, chosen, apart=True)
            or _drawn(builder, drawn, taken, apart=False)
            or _another(builder, taken, chosen, apart=False)
            or _longest_dead(builder, taken)
        )
        taken.add(code)
        chosen.append(code)
    return chosen[0], chosen[1]


class _Taken:
    """Codes in use, and whether another one is two digits apart from all of them."""

    def __init__(self, codes: Iterable[str]) -> None:
        self._codes: set[str] = set()
        self._masked: set[tuple[int, str]] = set()
        for code in codes:
            self.add(code)

    def add(self, code: str) -> None:
        """Adds a code in use."""
        self._codes.add(code)
        self._masked.update(_masks(code))

    def __contains__(self, code: str) -> bool:
        return code in self._codes

    def __len__(self) -> int:
        return len(self._codes)

    def leaves(self, code: str, *, apart: bool) -> bool:
        """Whether a code may be used; `apart`: and differs from each one in use in at least two digits."""
        return code not in self._codes and not (apart and any(m in self._masked for m in _masks(code)))


def _masks(code: str) -> Iterator[tuple[int, str]]:
    """The code with each one of its digits left out: two codes share a mask if they differ in at most one
    digit."""
    return ((place, code[:place] + code[place + 1 :]) for place in range(len(code)))


def _drawn(builder: StepBuilder, candidates: Iterable[str], taken: _Taken, *, apart: bool) -> str | None:
    return next((c for c in candidates if taken.leaves(c, apart=apart) and _fresh(builder, c)), None)


def _some_fresh(builder: StepBuilder, live: int) -> bool:
    """Whether any code is neither live nor resting; otherwise no search is needed."""
    if len(builder.resting_codes) + live < 10**builder.layout.code_digits:
        return True
    oldest = next(builder.resting_codes.oldest_first(), None)
    return oldest is not None and rested(oldest[1], builder.now)


def _fresh(builder: StepBuilder, code: str) -> bool:
    died = builder.resting_codes.get(code)
    return died is None or rested(died, builder.now)


def _another(builder: StepBuilder, taken: _Taken, chosen: list[str], *, apart: bool) -> str | None:
    """A code for when no candidate fits: the longest dead of those that have rested, else one that never
    lived."""
    for code, died in builder.resting_codes.oldest_first():
        if not rested(died, builder.now):
            break
        if taken.leaves(code, apart=apart):
            return code
    return _never_lived(builder, taken, chosen, apart=apart)


def _longest_dead(builder: StepBuilder, taken: _Taken) -> str:
    oldest = next((code for code, _ in builder.resting_codes.oldest_first() if code not in taken), None)
    if oldest is None:
        raise Refusal(Code.NO_CELL, "every code is in use")
    return oldest


def _never_lived(builder: StepBuilder, taken: _Taken, chosen: list[str], *, apart: bool) -> str | None:
    """Continues where the last search ended, so that all searches together check each code about once."""
    resting, digits = builder.resting_codes, builder.layout.code_digits
    every = 10**digits
    # Of the codes in use only those chosen just now may still be resting.
    if len(resting) + len(taken) - sum(code in resting for code in chosen) >= every:
        return None
    for step in range(every):
        number = (resting.cursor + step) % every
        code = f"{number:0{digits}d}"
        if taken.leaves(code, apart=apart) and code not in resting:
            builder.resting_codes = amend(resting, cursor=number + 1)
            return code
    return None


def forget_rested(builder: StepBuilder) -> None:
    """Drops the first few codes that have rested long enough, so that the list never covers more than a
    week."""
    oldest = builder.resting_codes.oldest_first()
    for code, died in tuple(islice(oldest, FORGOTTEN_AT_ONCE)):
        if not rested(died, builder.now):
            return
        builder.wake_code(code)


def match_entry(builder: StepBuilder, text: str) -> tuple[Reservation, Purpose] | None:
    """The reservation and purpose of digits or a QR text; None if there is none.

    Every live code is compared, in constant time, so that the duration reveals nothing.
    """
    parsed = parse_qr(text)
    digits = text if parsed is None else parsed[2]
    entered = digits if digits.isascii() else ""
    found: tuple[Reservation, Purpose] | None = None
    for reservation in builder.reservations.values():
        drop = compare_digest(entered, reservation.drop_off_code)
        pick = compare_digest(entered, reservation.pickup_code)
        if drop or pick:
            found = reservation, Purpose.DROPOFF if drop else Purpose.PICKUP
    if found is None or parsed is None:
        return found
    purpose, reservation_id, _ = parsed
    return found if found[0].reservation_id == reservation_id and found[1] is purpose else None


def is_guess(builder: StepBuilder, text: str) -> bool:
    """Whether an invalid entry may have been a guess: any digits, or a QR text that names a live reservation
    with a wrong code. An unknown reservation id cannot be hit by chance."""
    parsed = parse_qr(text)
    if parsed is None:
        return True
    purpose, reservation_id, code = parsed
    named = builder.reservations.get(reservation_id)
    if named is None:
        return False
    return not compare_digest(code, named.drop_off_code if purpose is Purpose.DROPOFF else named.pickup_code)


def not_valid() -> Refusal:
    """The only answer at the kiosk to an entry that opens nothing."""
    return Refusal(Code.NOT_ALLOWED, "not valid")
