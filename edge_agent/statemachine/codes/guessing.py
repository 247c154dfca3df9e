"""Protection against guessed codes: after five invalid entries in five minutes the keypad rests, longer each
time.

A code that opens its door for the first time forgives the invalid entries of the minute before, but nothing
of two totals: twenty guesses in an hour, or sixty in a day, rest their way of entry for an hour in any case,
so that a person's own valid code does not help to guess another one (docs/guessing.md).

Digits and QR texts are counted separately. The counts, the number of rests and the start of a rest are part
of the state, so a restart does not help a guesser. After a reboot across which no clock shows the time, a
rest that was not over starts again.
"""

from __future__ import annotations

from typing import Literal

from edge_agent.model import Alarm, Instant
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.state import Guesses
from edge_agent.statemachine.step_builder import StepBuilder

INVALID_ENTRIES = 5
WINDOW_NS = 5 * 60 * 10**9
FIRST_REST_NS = 60 * 10**9
LONGEST_REST_NS = 3600 * 10**9
FORGIVEN_NS = 24 * 3600 * 10**9
"""After a day without an invalid entry the rests begin at their shortest again."""

FORGIVEN_BY_SUCCESS_NS = 60 * 10**9
MINUTE_NS, HOUR_NS = 60 * 10**9, 3600 * 10**9
WRONG_IN_AN_HOUR, WRONG_IN_A_DAY = 20, 60
"""This many guesses of one way rest it for an hour, whatever was forgiven."""

Way = Literal["digits", "qr"]


def rest_ns(guesses: Guesses) -> int:
    """The duration of the last rest."""
    if guesses.long:
        return LONGEST_REST_NS
    return min(LONGEST_REST_NS, FIRST_REST_NS << max(0, guesses.rests - 1))


def rest_left_ns(guesses: Guesses, now: Instant) -> int:
    """Nanoseconds until entries are accepted again; 0 or less: now."""
    if guesses.resting_since is None:
        return 0
    elapsed_ns = guesses.resting_since.elapsed_ns(now)
    return rest_ns(guesses) - (elapsed_ns or 0)


def rests(builder: StepBuilder, way: Way) -> bool:
    """Whether entries of this way are ignored now."""
    guesses = builder.guesses.get(way)
    return guesses is not None and rest_left_ns(guesses, builder.now) > 0


def count_invalid(builder: StepBuilder, way: Way, *, guess: bool) -> None:
    """Counts an entry that opened nothing; the fifth in the window, or one guess too many, begins a rest.

    `guess`: it may have tried a code (`access.is_guess`), and counts in the totals.
    """
    now = builder.now
    known = builder.guesses.get(way, Guesses())
    quiet_ns = None if known.last is None else known.last.elapsed_ns(now)
    if quiet_ns is not None and quiet_ns > FORGIVEN_NS:
        # Entries in the window stay counted: a clock that jumped may show the last entry as older than
        # others.
        known = Guesses(recent=known.recent, wrong=known.wrong)
    recent = (*(at for at in known.recent if _within(at, now, WINDOW_NS)), now)
    wrong = (
        *(at for at in known.wrong if not _surely_older(at, now, FORGIVEN_NS)),
        *([now] if guess else []),
    )
    too_many = guess and (
        len(wrong) >= WRONG_IN_A_DAY
        or sum(not _surely_older(at, now, HOUR_NS) for at in wrong) >= WRONG_IN_AN_HOUR
    )
    wrong = wrong[-WRONG_IN_A_DAY:]
    if len(recent) < INVALID_ENTRIES and not too_many:
        builder.put("guesses", way, amend(known, recent=recent, wrong=wrong, last=now))
        return
    resting = Guesses((), wrong, too_many, known.rests + 1, now, now)
    builder.put("guesses", way, resting)
    counted = f"{INVALID_ENTRIES} invalid entries of {way} within {WINDOW_NS // MINUTE_NS} min"
    if too_many:
        counted = f"{len(wrong)} wrong entries of {way} within a day"
    detail = f"{counted} opened nothing; resting for {rest_ns(resting) // 10**9} s"
    if way == "digits":
        detail += "; a full right QR text still opens"
    builder.raise_alarm(Alarm.CODE_GUESSING, way, detail)


def _within(at: Instant, now: Instant, limit_ns: int) -> bool:
    elapsed_ns = at.elapsed_ns(now)
    return elapsed_ns is not None and elapsed_ns <= limit_ns


def _surely_older(at: Instant, now: Instant, limit_ns: int) -> bool:
    """If no clock shows the time, an entry counts as recent: a restart forgives nothing."""
    elapsed_ns = at.elapsed_ns(now)
    return elapsed_ns is not None and elapsed_ns > limit_ns


def forgive(builder: StepBuilder) -> None:
    """A code has opened its door for the first time: invalid entries of the last minute are forgiven.

    Earlier ones, earlier rests and the totals stay.
    """
    for way, known in tuple(builder.guesses.items()):
        kept = tuple(at for at in known.recent if not _within(at, builder.now, FORGIVEN_BY_SUCCESS_NS))
        if kept != known.recent:
            builder.put("guesses", way, amend(known, recent=kept))


def at_start(builder: StepBuilder) -> None:
    """At a start: a rest whose start no clock can date begins now."""
    for way, guesses in tuple(builder.guesses.items()):
        since = guesses.resting_since
        if since is not None and since.elapsed_ns(builder.now) is None:
            standing = f"{Alarm.CODE_GUESSING}/{way}" in builder.alarms
            builder.put("guesses", way, amend(guesses, resting_since=builder.now if standing else None))


def end_rests(builder: StepBuilder) -> None:
    """Clears the alarm of a way whose rest is over."""
    for way, guesses in tuple(builder.guesses.items()):
        if guesses.resting_since is not None and rest_left_ns(guesses, builder.now) <= 0:
            builder.clear_alarm(Alarm.CODE_GUESSING, way)
