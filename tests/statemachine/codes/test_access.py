"""Which codes are given, and how those that died are kept."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from edge_agent.errors import Code, Refusal
from edge_agent.model import Instant, Purpose, Reservation, qr_text
from edge_agent.statemachine.codes import access
from edge_agent.statemachine.codes.retired import (
    BUCKET_DIGITS,
    CHUNK,
    REUSE_AFTER_NS,
    RetiredCodes,
    may_be_reused,
)
from edge_agent.statemachine.state import Layout
from edge_agent.statemachine.step_builder import StepBuilder
from tests.support.pure_core.core import START, Core, specs

WEEK_S = 7 * 24 * 3600


def at(seconds: float) -> Instant:
    """A moment of the first boot."""
    return replace(START, boottime_ns=START.boottime_ns + round(seconds * 1e9), wall_s=START.wall_s + seconds)


def builder(
    codes: RetiredCodes, now_s: float = 0, *, digits: int = 1, live: tuple[str, ...] = ()
) -> StepBuilder:
    """A turn of a machine with these codes: retired ones, and live ones in pairs."""
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, code_digits=digits))
    reservations = {}
    for n in range(0, len(live), 2):
        made = Reservation(f"r{n}", "p", "o", None, "A01", live[n], live[n + 1], START)  # type: ignore[arg-type]
        reservations[made.reservation_id] = made
    state = replace(core.state, retired_codes=codes, reservations=reservations)
    return StepBuilder(state, core.layout, at(now_s))


def retired(*codes: str, each_s: float = 1.0, since_s: float = 0.0) -> RetiredCodes:
    """Codes that were retired one after the other."""
    kept = RetiredCodes()
    for n, code in enumerate(codes):
        kept = kept.with_code(code, at(since_s + n * each_s))
    return kept


def test_a_code_is_retired_for_a_week_and_while_no_clock_shows_the_time() -> None:
    retired_at = at(0)
    assert not may_be_reused(retired_at, at(WEEK_S))
    assert may_be_reused(retired_at, replace(at(WEEK_S), boottime_ns=START.boottime_ns + REUSE_AFTER_NS + 1))
    assert REUSE_AFTER_NS == WEEK_S * 10**9
    elsewhere = replace(at(10 * WEEK_S), boot_id="boot-2")
    assert may_be_reused(retired_at, elsewhere)
    assert not may_be_reused(retired_at, replace(elsewhere, synced=False))


def test_retired_codes_do_what_a_dictionary_in_order_would() -> None:
    random, kept, plain = Random(7), RetiredCodes(), dict[str, Instant]()
    for number in range(4000):
        code = f"{random.randrange(400):04d}"
        if random.random() < 0.55:
            kept, moment = kept.with_code(code, at(number)), at(number)
            plain.pop(code, None)
            plain[code] = moment
        elif code in plain:
            kept = kept.without(code)
            del plain[code]
        else:
            assert kept.without(code) == kept
        if random.random() < 0.1:
            kept = kept.trimmed()
        assert (len(kept), kept.get(code), code in kept) == (len(plain), plain.get(code), code in plain)
        if number % 50 == 0:
            assert list(kept.oldest_first()) == list(plain.items())
            assert sorted(kept) == sorted(plain)
            assert all(kept.buckets.values())
            assert set(kept.buckets) == {code[-BUCKET_DIGITS:] for code in plain}


def test_the_head_of_the_queue_is_trimmed_and_its_chunks_are_dropped() -> None:
    codes = [f"{n:04d}" for n in range(3 * CHUNK)]
    kept = retired(*codes)
    assert kept.trimmed() is kept
    for code in codes[: CHUNK + 5]:
        kept = kept.without(code)
    trimmed = kept.trimmed()
    assert (kept.first, trimmed.first, trimmed.after) == (0, CHUNK + 5, 3 * CHUNK)
    assert (set(kept.chunks), set(trimmed.chunks)) == ({0, 1, 2}, {1, 2})
    for code in codes:
        trimmed = trimmed.without(code)
    empty = trimmed.trimmed()
    assert (empty.first, empty.chunks, len(empty), dict(empty.buckets)) == (3 * CHUNK, {}, 0, {})
    assert list(empty.with_code("0001", at(0)).oldest_first()) == [("0001", at(0))]


def test_candidates_come_first_in_their_order_if_they_are_free() -> None:
    now = builder(retired("5"), live=("3", "4"))
    assert access.choose_codes(now, ("3", "5", "9", "9", "8", "7")) == ("9", "8")
    assert access.choose_codes(builder(retired("5"), WEEK_S + 1), ("5", "6")) == ("5", "6")


def test_then_one_that_may_be_reused_then_one_never_used_then_the_first_retired() -> None:
    codes = retired("0", "1", "2", each_s=WEEK_S)
    assert access.choose_codes(builder(codes, 2.5 * WEEK_S, live=("0", "4")), ()) == ("1", "3")
    assert access.choose_codes(builder(codes, 0, live=("5", "3")), ()) == ("4", "6")
    every = retired(*"7012345698")
    assert access.choose_codes(builder(every), ()) == ("7", "0")
    assert access.choose_codes(builder(every), ("1", "2")) == ("7", "0")
    assert access.choose_codes(builder(retired(*"70123456"), live=("9", "8")), ("1", "2")) == ("7", "0")
    assert access.choose_codes(builder(retired(*"7012345"), live=("9", "8")), ("1", "6")) == ("6", "7")
    assert access.choose_codes(builder(every, WEEK_S + 1.5), ("0",)) == ("0", "7")


def test_the_search_for_one_never_used_goes_on_where_it_ended() -> None:
    now = builder(RetiredCodes(), digits=2)
    assert access.choose_codes(now, ()) == ("00", "11")
    assert now.retired_codes.cursor == 12
    assert access.choose_codes(now, ()) == ("12", "20")
    now.retired_codes = replace(now.retired_codes, cursor=99)
    assert access.choose_codes(now, ()) == ("99", "00")
    almost = builder(retired(*"01234567"), live=())
    assert access.choose_codes(almost, ()) == ("8", "9")


def test_no_code_left_is_refused_with_8() -> None:
    with pytest.raises(Refusal) as refused:
        access.choose_codes(builder(RetiredCodes(), live=tuple("0123456789")), ("1",))
    assert (refused.value.code, refused.value.message) == (Code.NO_CELL, "every code is in use")
    with pytest.raises(Refusal):
        access.choose_codes(builder(retired("9"), live=tuple("0123456788")), ("1",))


def test_the_first_few_that_have_rested_are_forgotten() -> None:
    now = builder(retired(*"012345"), WEEK_S + 9)
    access.release_oldest(now)
    assert "".join(now.retired_codes) == "45"
    now = builder(retired(*"012345"), WEEK_S + 1.5)
    access.release_oldest(now)
    assert "".join(now.retired_codes) == "2345"
    assert now.result().changed == (("retired_codes", "0"), ("retired_codes", "1"))


def test_an_entry_is_matched_by_code_or_by_all_of_its_qr_text() -> None:
    now = builder(RetiredCodes(), live=("1", "2", "3", "4"), digits=1)
    first, second = now.reservations.values()
    assert access.match_entry(now, "1") == (first, Purpose.DROPOFF)
    assert access.match_entry(now, "4") == (second, Purpose.PICKUP)
    assert access.match_entry(now, qr_text(Purpose.PICKUP, "r2", "4")) == (second, Purpose.PICKUP)
    for text in ("", "9", "١", "11"):
        assert access.match_entry(now, text) is None
    for purpose, rid, code in (
        (Purpose.DROPOFF, "r2", "4"),
        (Purpose.PICKUP, "r0", "4"),
        (Purpose.PICKUP, "r2", "2"),
        (Purpose.PICKUP, "r2", "9"),
    ):
        assert access.match_entry(now, qr_text(purpose, rid, code)) is None


def apart(first: str, second: str) -> int:
    """In how many digits two codes differ."""
    return sum(a != b for a, b in zip(first, second, strict=True))


@pytest.mark.behaviour("codes-22")
def test_x1_live_codes_are_two_digits_apart_while_any_such_are_left() -> None:
    random, live = Random(11), list[str]()
    for number in range(100):  # as many cells as four digits allow
        candidates = tuple(f"{n:04d}" for n in random.sample(range(10_000), 64))
        live += access.choose_codes(builder(RetiredCodes(), digits=4, live=tuple(live)), candidates)
        assert len(live) == 2 * (number + 1)
    assert min(apart(a, b) for n, a in enumerate(live) for b in live[:n]) == 2


def test_x1_a_code_never_used_or_reusable_is_taken_if_no_candidate_is_apart() -> None:
    now = builder(RetiredCodes(), digits=3, live=("000", "111"))
    assert access.choose_codes(now, ("001", "110", "222", "223")) == ("222", "012")
    retired_long_ago = builder(retired("221", "345"), 2 * WEEK_S, digits=3, live=("000", "111"))
    assert access.choose_codes(retired_long_ago, ("222", "001", "223")) == ("222", "345")
    still_retired = builder(retired("345"), 0, digits=3, live=("000", "111"))
    assert access.choose_codes(still_retired, ("222", "345")) == ("222", "012")


def test_x1_codes_one_digit_apart_come_before_those_that_still_rest() -> None:
    # Ten codes of two digits that are two apart leave no other such code.
    live = tuple(f"{n}{n}" for n in range(10))
    assert access.choose_codes(builder(RetiredCodes(), digits=2, live=live), ("55", "57", "75")) == (
        "57",
        "75",
    )
    assert access.choose_codes(builder(retired("57"), 0, digits=2, live=live), ("57",)) == ("01", "02")
    every_other = [f"{n:02d}" for n in range(100) if f"{n:02d}" not in live]
    codes = retired(*every_other)
    assert access.choose_codes(builder(codes, 0, digits=2, live=live), ("57",)) == ("01", "02")
