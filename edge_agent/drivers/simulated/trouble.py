"""The teeth of the field: faults of cells and of buses that begin, stand and end.

Faults compose. Of one kind at one place several may stand, and it is over when all have ended; where they
have a strength, the largest counts (drifts of a scale add up). Which frame a fault of chance hits is drawn
from a given generator, and nothing is drawn while no such fault stands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

MINUTE_NS = 60 * 10**9
CHATTER_NS = 1_000_000
"""A chattering contact keeps a level for so long: an assumption."""
GHOST_SPREAD_NS = 20_000_000
"""How long after a transaction a stray reply may begin: an assumption."""

FaultT = TypeVar("FaultT")
End = Callable[[], None]
"""Ends a fault; harmless afterwards."""


class Standing(Generic[FaultT]):
    """The faults of one kind at one place, oldest first; true while there is one."""

    def __init__(self) -> None:
        self._faults: dict[object, FaultT] = {}

    def begin(self, fault: FaultT) -> End:
        """A fault that stands until what is returned is called."""
        key = object()
        self._faults[key] = fault

        def end() -> None:
            self._faults.pop(key, None)

        return end

    def __iter__(self) -> Iterator[FaultT]:
        return iter(tuple(self._faults.values()))

    def __bool__(self) -> bool:
        return bool(self._faults)


@dataclass(frozen=True, slots=True)
class Drift:
    """A scale that wanders: so many grams a minute, counted from an instant."""

    since_ns: int
    grams_per_minute: float


@dataclass(frozen=True, slots=True)
class Chatter:
    """A contact that goes open and closed for equal times, beginning with open at an instant."""

    since_ns: int
    period_ns: int

    def reads_closed(self, at_ns: int) -> bool:
        """What it says at an instant."""
        return (at_ns - self.since_ns) % self.period_ns * 2 >= self.period_ns


class CellTrouble:
    """What is wrong with one cell's bolt and sensors."""

    def __init__(self) -> None:
        self.jams: Standing[None] = Standing()
        """The bolt sticks: the solenoid moves nothing."""
        self.stuck: Standing[bool] = Standing()
        """The door contact reads this, true for closed, whatever the door does; the newest counts."""
        self.bounces_ns: Standing[int] = Standing()
        """The contact chatters for so long after each change of the door."""
        self.chatters: Standing[Chatter] = Standing()
        """The contact chatters for good, whatever the door does; the newest counts."""
        self.drifts: Standing[Drift] = Standing()
        """Added to what the scale reads."""
        self.late_springs_ns: Standing[int] = Standing()
        """The door springs open this much later than its bolt was freed."""
        self.dead_probes: Standing[float | None] = Standing()
        """The temperature sensor is torn off."""
        self.scale_lies: Standing[Callable[[int], int]] = Standing()
        """What the scale reads, from the grams that lie on it."""
        self.probe_lies: Standing[Callable[[float], float]] = Standing()
        """What the temperature sensor reads, from the temperature that it has."""

    def reads_closed(self, closed: bool, changed_ns: int, at_ns: int) -> bool:
        """What the contact of a door says that has been closed, or open, since `changed_ns`."""
        for stuck in reversed(list(self.stuck)):
            return stuck
        for chatter in reversed(list(self.chatters)):
            return chatter.reads_closed(at_ns)
        since_ns = at_ns - changed_ns
        if since_ns < max(self.bounces_ns, default=0):
            return Random(changed_ns + since_ns // CHATTER_NS).random() < 0.5
        return closed

    def weighed_g(self, grams: int, at_ns: int) -> int:
        """What the scale reads while so much lies on it."""
        for lie in self.scale_lies:
            grams = lie(grams)
        return grams + self.drift_g(at_ns)

    def probed_c(self, temperature_c: float) -> float:
        """What the temperature sensor reads at this temperature."""
        for lie in self.probe_lies:
            temperature_c = lie(temperature_c)
        return temperature_c

    def drift_g(self, at_ns: int) -> int:
        """What the scale reads too much."""
        grams = sum(drift.grams_per_minute * (at_ns - drift.since_ns) / MINUTE_NS for drift in self.drifts)
        return round(grams)


class LineTrouble:
    """What is wrong with one bus and, by slave address, with those on it."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.noises: Standing[float] = Standing()
        """The probability that a frame is damaged."""
        self.delays_ns: Standing[int] = Standing()
        """How much later than usual every reply comes."""
        self.echoes: Standing[None] = Standing()
        """The master's adapter hears what it sends."""
        self.silences: defaultdict[int, Standing[None]] = defaultdict(Standing)
        """The device neither acts nor answers."""
        self.latenesses_ns: defaultdict[int, Standing[int]] = defaultdict(Standing)
        """How much later than usual this device's replies come, on top of the bus's own delay."""
        self.ghosts: defaultdict[int, Standing[float]] = defaultdict(Standing)
        """The probability that the device says its last reply once more after a request to another one."""
        self.replies: Standing[Callable[[bytes], bytes]] = Standing()
        """What the wire makes of every reply: bytes that are added, or a reply that is lost (b"")."""

    def spoil(self, frame: bytes) -> bytes:
        """The frame as it arrives."""
        if frame and self._happens(self.noises):
            return flip_a_bit(self._random, frame)
        return frame

    def answered(self, frame: bytes) -> bytes:
        """The reply as it arrives."""
        frame = self.spoil(frame)
        for change in self.replies:
            frame = change(frame)
        return frame

    def silent(self, address: int) -> bool:
        """Whether the device is dead."""
        return bool(self.silences[address])

    def lateness_ns(self, address: int) -> int:
        """How much later than usual the device's reply comes."""
        return max(self.delays_ns, default=0) + max(self.latenesses_ns[address], default=0)

    def ghost_ns(self, address: int) -> int | None:
        """How long after a transaction of another the device talks unasked; None: it does not."""
        if self.silent(address) or not self._happens(self.ghosts[address]):
            return None
        return self._random.randrange(GHOST_SPREAD_NS)

    def _happens(self, probabilities: Standing[float]) -> bool:
        return bool(probabilities) and self._random.random() < max(probabilities)


def flip_a_bit(random: Random, frame: bytes) -> bytes:
    """The frame with one bit turned over, which every checksum notices."""
    spoilt = bytearray(frame)
    spoilt[random.randrange(len(frame))] ^= 1 << random.randrange(8)
    return bytes(spoilt)
