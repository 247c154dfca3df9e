"""A person at the kiosk who guesses codes: what he can do, and how many guesses are looked at in a day.

A guess counts if the machine compared it: then it would have opened a door had it been right. While a way
rests nothing is compared. Expected doors follow by linearity: each compared guess of digits is right with the
number of codes that serve over the number of possible codes, whatever came before; a guess by QR text aims at
one reservation whose id is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

from edge_agent.errors import Refusal
from edge_agent.model import Alarm, CellSpec, Door, Purpose, Reservation, qr_text
from edge_agent.statemachine.codes.guessing import (
    HOUR_NS,
    INVALID_ENTRIES,
    LONGEST_REST_NS,
    WINDOW_NS,
    WRONG_IN_A_DAY,
    WRONG_IN_AN_HOUR,
    Way,
    rest_left_ns,
)
from edge_agent.statemachine.inputs import (
    DoorRead,
    DoorsChanged,
    EnterCode,
    OpenForReservation,
    PulseDone,
    Reserve,
)
from edge_agent.statemachine.outputs import PulseLock, ReadDoor
from edge_agent.statemachine.state import Layout
from tests.support.pure_core.core import SMALL, Core

DAY_S = 24 * 3600.0
HOUR_S, WINDOW_S = HOUR_NS / 1e9, WINDOW_NS / 1e9
SECOND_ENTRY_S = 0.5
"""No person types faster than that."""


class Guesser:
    """One who has some live reservations of his own among strangers', and all time in the world."""

    def __init__(self, strangers: int = 4, own: int = 2) -> None:
        self._true_s = 0.0
        cells = [CellSpec(f"A{n:02d}", f"id_{n}", 350, 150, 450, 5_000) for n in range(strangers + own)]
        self.core = Core(Layout(specs={spec.label: spec for spec in cells}))
        self._random = Random(3)
        self.own = [self._reserve(f"own_{n}") for n in range(own)]
        self.strangers = [self._reserve(f"stranger_{n}") for n in range(strangers)]
        codes = {
            code for r in self.core.state.reservations.values() for code in (r.drop_off_code, r.pickup_code)
        }
        self._wrong = iter([code for code in (f"{n:04d}" for n in range(10_000)) if code not in codes])
        self._wrong_qr = iter(range(10**6, 10**7))
        self.compared: dict[Way, list[float]] = {"digits": [], "qr": []}
        self.opened = 0
        """How often his own door was opened by a pulse."""
        self.alarms: dict[Way, int] = {"digits": 0, "qr": 0}
        """After how many of his entries CODE_GUESSING stood."""

    def _reserve(self, rid: str) -> Reservation:
        codes = tuple(f"{n:04d}" for n in self._random.sample(range(10_000), 64))
        given = Reserve(self.core.key(), rid, "p", "o", SMALL, codes, grace_dropoff_s=86_400)
        made = self.core.feed(given).answers[0].reservation
        assert made is not None
        return made

    @property
    def now_s(self) -> float:
        """True time, which no clock step changes."""
        return self._true_s

    def wait(self, seconds: float) -> None:
        """Lets time pass."""
        if seconds > 0:
            self._true_s += seconds
            self.core.pass_s(seconds)

    def guess(self, way: Way = "digits") -> bool:
        """One wrong entry; whether it was compared."""
        self.wait(SECOND_ENTRY_S)
        if way == "digits":
            text = next(self._wrong)
        else:
            victim = self.strangers[0]
            text = qr_text(Purpose.PICKUP, victim.reservation_id, f"{next(self._wrong_qr)}"[-4:])
            if text.endswith((victim.drop_off_code, victim.pickup_code)):
                return False
        before = self.core.state.guesses.get(way)
        self.core.invalid(text)
        compared = self.core.state.guesses.get(way) is not before
        if compared:
            self.compared[way].append(self.now_s)
        self.alarms[way] += f"{Alarm.CODE_GUESSING}/{way}" in self.core.state.alarms
        return compared

    def rest_s(self, way: Way = "digits") -> float:
        """How long this way still rests."""
        known = self.core.state.guesses.get(way)
        return 0.0 if known is None else max(0.0, rest_left_ns(known, self.core.now) / 1e9)

    def enter_own(self, number: int, *, close: bool = True, qr: bool = False) -> None:
        """Enters a code of his own reservation that serves now, if it is looked at, and opens its door."""
        self.wait(SECOND_ENTRY_S)
        mine = self.core.state.reservations.get(self.own[number].reservation_id)
        if mine is None or self.rest_s("qr" if qr else "digits"):
            return
        purpose = Purpose.DROPOFF if mine.dropped_off is None else Purpose.PICKUP
        code = mine.drop_off_code if purpose is Purpose.DROPOFF else mine.pickup_code
        text = qr_text(purpose, mine.reservation_id, code) if qr else code
        self._carry_out(self.core.entry(text), mine.cell, close=close)

    def _carry_out(self, given: EnterCode | OpenForReservation, label: str, *, close: bool) -> None:
        """What the lock and the door do, if the machine wants it to be opened."""
        try:
            done = self.core.feed(given)
        except Refusal:
            return
        if not any(isinstance(effect, ReadDoor) for effect in done.effects):
            return
        door = self.core.state.cells[label].door
        done = self.core.feed(DoorRead(given.unlock_id, door))
        if any(isinstance(effect, PulseLock) for effect in done.effects):
            self.core.feed(DoorsChanged({label: Door.OPEN}))
            self.core.feed(PulseDone(given.unlock_id, 1, Door.OPEN))
            self.opened += 1
        if close:
            self.core.close(label)

    def own_by_api(self, number: int) -> None:
        """Has the platform open his own cell."""
        mine = self.core.state.reservations.get(self.own[number].reservation_id)
        if mine is not None:
            purpose = Purpose.DROPOFF if mine.dropped_off is None else Purpose.PICKUP
            self._carry_out(self.core.command(mine, purpose), mine.cell, close=True)

    def restart(self, *, reboot: bool = False, off_s: float = 5.0) -> None:
        """Cuts the power for a time."""
        boot = f"boot-{self.core.key()}" if reboot else None
        self._true_s += off_s
        self.core.restart({}, boot_id=boot, off_s=off_s)

    def step_clock(self, seconds: float) -> None:
        """Steps the wall clock, which then is not synchronised."""
        self.core.now = replace(self.core.now, wall_s=self.core.now.wall_s + seconds, synced=False)

    def in_a_day(self, way: Way) -> int:
        """The most compared guesses in any 24 h."""
        times = self.compared[way]
        return max((sum(at - DAY_S < other <= at for other in times) for at in times), default=0)


@dataclass(frozen=True)
class Plan:
    """A strategy: what is done again and again until the day is over."""

    name: str
    play: Callable[[Guesser], None]

    def run(self, hours: float = 30.0) -> Guesser:
        """Plays it for longer than a day, so that the worst day is among it."""
        guesser = Guesser()
        while guesser.now_s < hours * 3600:
            before = guesser.now_s
            self.play(guesser)
            assert guesser.now_s > before
        return guesser


def _burst(size: int, pause_s: float, way: Way = "digits") -> Callable[[Guesser], None]:
    def play(guesser: Guesser) -> None:
        for _ in range(size):
            guesser.guess(way)
        guesser.wait(max(pause_s, guesser.rest_s(way)))

    return play


def _with_own(size: int, pause_s: float, act: Callable[[Guesser], None]) -> Callable[[Guesser], None]:
    def play(guesser: Guesser) -> None:
        for _ in range(size):
            guesser.guess()
        act(guesser)
        guesser.wait(max(pause_s, guesser.rest_s()))

    return play


def known_strategies() -> Iterator[Plan]:
    """What somebody would try who has read the source."""
    few = INVALID_ENTRIES - 1
    yield Plan("as fast as it goes", _burst(1, 0))
    yield Plan("five, then the rest", _burst(INVALID_ENTRIES, 0))
    yield Plan("four in every window", _burst(few, WINDOW_S + 1))
    yield Plan("nineteen slow ones an hour", _burst(1, HOUR_S / (WRONG_IN_AN_HOUR - 1)))
    yield Plan("just under the day's total", _burst(1, DAY_S / (WRONG_IN_A_DAY - 1)))
    yield Plan("all of an hour at once", _burst(WRONG_IN_AN_HOUR, HOUR_S))
    yield Plan("one whenever the longest rest ends", _burst(1, LONGEST_REST_NS / 1e9))
    yield Plan("own code after four", _with_own(few, 0, lambda g: g.enter_own(0)))
    yield Plan("own door left open", _with_own(few, 0, lambda g: g.enter_own(0, close=False)))
    yield Plan("own QR text after four", _with_own(few, 0, lambda g: g.enter_own(1, qr=True)))
    yield Plan("own cell by API after four", _with_own(few, 0, lambda g: g.own_by_api(0)))
    yield Plan("restart after four", _with_own(few, 0, lambda g: g.restart()))
    yield Plan("reboot after four", _with_own(few, 0, lambda g: g.restart(reboot=True)))
    yield Plan("clock forward, then reboot", _with_own(few, 0, _leap_and_reboot))
    yield Plan("QR texts, four in every window", _burst(few, WINDOW_S + 1, "qr"))
    yield Plan("QR texts, as fast as it goes", _burst(1, 0, "qr"))


def _leap_and_reboot(guesser: Guesser) -> None:
    guesser.step_clock(2 * DAY_S)
    guesser.restart(reboot=True)


def found_by_chance(seed: int) -> Plan:
    """A random mix of everything."""
    random = Random(seed)
    acts: list[Callable[[Guesser], None]] = [
        lambda g: g.enter_own(0),
        lambda g: g.enter_own(1, qr=True),
        lambda g: g.enter_own(1, close=False),
        lambda g: g.own_by_api(0),
        lambda g: g.restart(),
        lambda g: g.restart(reboot=True),
        _leap_and_reboot,
        lambda g: g.step_clock(-3600.0),
        lambda g: g.wait(g.rest_s()),
        lambda g: g.wait(g.rest_s("qr")),
    ]
    pauses = (0.0, 30.0, 61.0, WINDOW_S + 1, 20 * 60.0, HOUR_S + 1)

    def play(guesser: Guesser) -> None:
        for _ in range(random.randint(1, 6)):
            guesser.guess("digits" if random.random() < 0.7 else "qr")
        random.choice(acts)(guesser)
        guesser.wait(random.choice(pauses))

    return Plan(f"chance {seed}", play)


def bound_in_a_day() -> int:
    """The most guesses of one way that the rules let through in any 24 h.

    The last of a full hour's and of a full day's total begin a rest of an hour. The day's total takes as many
    rests as it has full hours but the last; after it each further guess costs an hour.
    """
    full_hours = -(-WRONG_IN_A_DAY // WRONG_IN_AN_HOUR) - 1
    return WRONG_IN_A_DAY + int(DAY_S / HOUR_S) - full_hours


def expected_doors(guesses: int, serving: int, digits: int) -> float:
    """The mean number of doors that different guesses open, by the number of codes that serve."""
    return guesses * serving / float(10**digits)
