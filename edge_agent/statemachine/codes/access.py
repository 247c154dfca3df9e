"""Codes: chosen when a cell is reserved, compared when a code is entered at the kiosk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hmac import compare_digest
from itertools import islice

from edge_agent.errors import Code, Refusal
from edge_agent.model import Purpose, Reservation, parse_qr
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.codes.retired import RELEASED_AT_ONCE, may_be_reused
from edge_agent.statemachine.step_builder import StepBuilder


def choose_codes(builder: StepBuilder, candidates: Iterable[str]) -> tuple[str, str]:
    """A drop-off and a pick-up code, unique among the live ones, not retired and two digits apart if
    possible.

    Candidates are tried in their order, then codes that may be used again or were never used. Codes that
    differ from every live code in at least two digits come first, so that a typing error of one digit opens
    no other door. The last choice is the code that was retired first. Raises `Refusal` (`NO_CELL`) if every
    code is live.
    """
    live = builder.reservations.values()
    taken = _Taken(code for r in live for code in (r.drop_off_code, r.pickup_code))
    builder.retired_codes = builder.retired_codes.trimmed()
    drawn = tuple(candidates) if _any_reusable(builder, len(taken)) else ()
    chosen: list[str] = []
    for _ in ("drop-off", "pick-up"):
        code = (
            _drawn(builder, drawn, taken, apart=True)
            or _another(builder, taken, chosen, apart=True)
            or _drawn(builder, drawn, taken, apart=False)
            or _another(builder, taken, chosen, apart=False)
            or _longest_retired(builder, taken)
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
    return next((c for c in candidates if taken.leaves(c, apart=apart) and _reusable(builder, c)), None)


def _any_reusable(builder: StepBuilder, live: int) -> bool:
    """Whether any code is neither live nor retired; otherwise no search is needed."""
    if len(builder.retired_codes) + live < 10**builder.layout.code_digits:
        return True
    oldest = next(builder.retired_codes.oldest_first(), None)
    return oldest is not None and may_be_reused(oldest[1], builder.now)


def _reusable(builder: StepBuilder, code: str) -> bool:
    retired_at = builder.retired_codes.get(code)
    return retired_at is None or may_be_reused(retired_at, builder.now)


def _another(builder: StepBuilder, taken: _Taken, chosen: list[str], *, apart: bool) -> str | None:
    """A code for when no candidate fits: of those that may be used again the one that was retired first, else
    one that was never used."""
    for code, retired_at in builder.retired_codes.oldest_first():
        if not may_be_reused(retired_at, builder.now):
            break
        if taken.leaves(code, apart=apart):
            return code
    return _never_used(builder, taken, chosen, apart=apart)


def _longest_retired(builder: StepBuilder, taken: _Taken) -> str:
    oldest = next((code for code, _ in builder.retired_codes.oldest_first() if code not in taken), None)
    if oldest is None:
        raise Refusal(Code.NO_CELL, "every code is in use")
    return oldest


def _never_used(builder: StepBuilder, taken: _Taken, chosen: list[str], *, apart: bool) -> str | None:
    """Continues where the last search ended, so that all searches together check each code about once."""
    retired, digits = builder.retired_codes, builder.layout.code_digits
    every = 10**digits
    # Of the codes in use only those chosen just now may still be retired.
    if len(retired) + len(taken) - sum(code in retired for code in chosen) >= every:
        return None
    for step in range(every):
        number = (retired.cursor + step) % every
        code = f"{number:0{digits}d}"
        if taken.leaves(code, apart=apart) and code not in retired:
            builder.retired_codes = amend(retired, cursor=number + 1)
            return code
    return None


def release_oldest(builder: StepBuilder) -> None:
    """Releases the first few codes that may be used again, so that the list covers hardly more than a
    week."""
    oldest = builder.retired_codes.oldest_first()
    for code, retired_at in tuple(islice(oldest, RELEASED_AT_ONCE)):
        if not may_be_reused(retired_at, builder.now):
            return
        builder.release_code(code)


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
