"""Somebody tries codes: after five invalid entries in five minutes the keypad rests, longer each time.

Digits and QR texts are counted on their own. What is counted, how often it rested and since when it rests are
part of the state, so a restart helps nobody. After a reboot across which no clock can tell the time, a rest
that was not over begins anew.
"""

from __future__ import annotations

from typing import Literal

from edge_agent.model import Alarm, Instant
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.state import Guesses
from edge_agent.statemachine.turn import Turn

ENTRIES = 5
WINDOW_NS = 5 * 60 * 10**9
FIRST_REST_NS = 60 * 10**9
LONGEST_REST_NS = 3600 * 10**9
FORGIVEN_NS = 24 * 3600 * 10**9
"""After a day without an invalid entry the rests begin at their shortest again."""

Way = Literal["digits", "qr"]


def rest_ns(guesses: Guesses) -> int:
    """How long the last rest lasts."""
    return min(LONGEST_REST_NS, FIRST_REST_NS << max(0, guesses.rests - 1))


def rest_left_ns(guesses: Guesses, now: Instant) -> int:
    """Nanoseconds until entries are looked at again; 0 or less: now."""
    if guesses.resting_since is None:
        return 0
    elapsed_ns = guesses.resting_since.elapsed_ns(now)
    return rest_ns(guesses) - (elapsed_ns or 0)


def rests(turn: Turn, way: Way) -> bool:
    """Whether entries of this way are not looked at now."""
    guesses = turn.guesses.get(way)
    return guesses is not None and rest_left_ns(guesses, turn.now) > 0


def note_invalid(turn: Turn, way: Way) -> None:
    """Counts an entry that opened nothing; the fifth in the window begins a rest."""
    known = turn.guesses.get(way, Guesses())
    quiet_ns = None if known.last is None else known.last.elapsed_ns(turn.now)
    if quiet_ns is not None and quiet_ns > FORGIVEN_NS:
        # What is in the window stays counted: a clock that jumped may tell the last entry older than others.
        known = Guesses(recent=known.recent)
    recent = (*(at for at in known.recent if _within_window(at, turn.now)), turn.now)
    if len(recent) < ENTRIES:
        turn.put("guesses", way, amend(known, recent=recent, last=turn.now))
        return
    resting = Guesses((), known.rests + 1, turn.now, turn.now)
    turn.put("guesses", way, resting)
    detail = f"{ENTRIES} invalid entries of {way}; resting for {rest_ns(resting) // 10**9} s"
    turn.raise_alarm(Alarm.CODE_GUESSING, way, detail)


def _within_window(at: Instant, now: Instant) -> bool:
    elapsed_ns = at.elapsed_ns(now)
    return elapsed_ns is not None and elapsed_ns <= WINDOW_NS


def note_success(turn: Turn, way: Way) -> None:
    """A valid entry: what was counted in the window is forgotten, earlier rests are not."""
    known = turn.guesses.get(way)
    if known is not None and known.recent:
        turn.put("guesses", way, amend(known, recent=()))


def begin_anew(turn: Turn) -> None:
    """At a start: a rest whose beginning no clock can tell begins now."""
    for way, guesses in tuple(turn.guesses.items()):
        since = guesses.resting_since
        if since is not None and since.elapsed_ns(turn.now) is None:
            standing = f"{Alarm.CODE_GUESSING}/{way}" in turn.alarms
            turn.put("guesses", way, amend(guesses, resting_since=turn.now if standing else None))


def end_rests(turn: Turn) -> None:
    """Clears the alarm of a way whose rest is over."""
    for way, guesses in tuple(turn.guesses.items()):
        if guesses.resting_since is not None and rest_left_ns(guesses, turn.now) <= 0:
            turn.clear_alarm(Alarm.CODE_GUESSING, way)
