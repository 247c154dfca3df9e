"""Faults of cells and of buses that begin, stand and end.

Faults compose. Several of one kind may stand at one place, until all have ended; if they have a strength, the
largest counts (drifts of a scale add up). A given generator decides which frames a random fault hits, and
nothing is drawn while no such fault stands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

MINUTE_NS = 60 * 10**9
CHATTER_NS = 1_000_000
"""How long a chattering contact keeps a level: an assumption."""
GHOST_SPREAD_NS = 20_000_000
"""The longest time after a transaction at which a stray reply begins: an assumption."""

FaultT = TypeVar("FaultT")
End = Callable[[], None]
"""Ends a fault; harmless when repeated."""


class Standing(Generic[FaultT]):
    """The faults of one kind at one place, oldest first; true while there is one."""

    def __init__(self) -> None:
        self._faults: dict[object, FaultT] = {}

    def begin(self, fault: FaultT) -> End:
        """Begins a fault that stands until the returned function is called."""
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
    """A scale that drifts by a number of grams a minute, counted from an instant."""

    since_ns: int
    grams_per_minute: float


@dataclass(frozen=True, slots=True)
class Chatter:
    """A contact that is open and closed for equal times, starting with open at an instant."""

    since_ns: int
    period_ns: int

    def reads_closed(self, at_ns: int) -> bool:
        """The reading at an instant."""
        return (at_ns - self.since_ns) % self.period_ns * 2 >= self.period_ns


class CellTrouble:
    """The faults of one cell's lock and sensors."""

    def __init__(self) -> None:
        self.jams: Standing[None] = Standing()
        """The lock is stuck: the solenoid moves nothing."""
        self.stuck: Standing[bool] = Standing()
        """The door contact reads this, true for closed, whatever the door does; the newest counts."""
        self.bounces_ns: Standing[int] = Standing()
        """How long the contact chatters after each change of the door."""
        self.chatters: Standing[Chatter] = Standing()
        """The contact chatters permanently, whatever the door does; the newest counts."""
        self.drifts: Standing[Drift] = Standing()
        """Added to the reading of the scale."""
        self.late_springs_ns: Standing[int] = Standing()
        """How much later than its release the door springs open."""
        self.dead_probes: Standing[float | None] = Standing()
        """The temperature sensor is disconnected."""
        self.scale_lies: Standing[Callable[[int], int]] = Standing()
        """The reading of the scale, as a function of the real grams."""
        self.probe_lies: Standing[Callable[[float], float]] = Standing()
        """The reading of the temperature sensor, as a function of its real temperature."""

    def reads_closed(self, closed: bool, changed_ns: int, at_ns: int) -> bool:
        """The reading of the contact of a door that has been closed, or open, since `changed_ns`."""
        for stuck in reversed(list(self.stuck)):
            return stuck
        for chatter in reversed(list(self.chatters)):
            return chatter.reads_closed(at_ns)
        since_ns = at_ns - changed_ns
        if since_ns < max(self.bounces_ns, default=0):
            return Random(changed_ns + since_ns // CHATTER_NS).random() < 0.5
        return closed

    def weighed_g(self, grams: int, at_ns: int) -> int:
        """The reading of the scale with this real mass."""
        for lie in self.scale_lies:
            grams = lie(grams)
        return grams + self.drift_g(at_ns)

    def probed_c(self, temperature_c: float) -> float:
        """The reading of the temperature sensor at this temperature."""
        for lie in self.probe_lies:
            temperature_c = lie(temperature_c)
        return temperature_c

    def drift_g(self, at_ns: int) -> int:
        """The total drift of the scale."""
        grams = sum(drift.grams_per_minute * (at_ns - drift.since_ns) / MINUTE_NS for drift in self.drifts)
        return round(grams)


class LineTrouble:
    """The faults of one bus and, by slave address, of its devices."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.noises: Standing[float] = Standing()
        """The probability that a frame is damaged."""
        self.delays_ns: Standing[int] = Standing()
        """How much later than usual every reply arrives."""
        self.echoes: Standing[None] = Standing()
        """The master's adapter receives what it sends."""
        self.silences: defaultdict[int, Standing[None]] = defaultdict(Standing)
        """The device neither acts nor answers."""
        self.latenesses_ns: defaultdict[int, Standing[int]] = defaultdict(Standing)
        """How much later than usual this device's replies arrive, on top of the bus's own delay."""
        self.ghosts: defaultdict[int, Standing[float]] = defaultdict(Standing)
        """The probability that the device sends its last reply once more after a request to another one."""
        self.replies: Standing[Callable[[bytes], bytes]] = Standing()
        """The wire's effect on every reply: bytes that are added, or a lost reply (b"")."""

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
        """How much later than usual the device's reply arrives."""
        return max(self.delays_ns, default=0) + max(self.latenesses_ns[address], default=0)

    def ghost_ns(self, address: int) -> int | None:
        """How long after a transaction of another device this one sends unasked; None: it does not."""
        if self.silent(address) or not self._happens(self.ghosts[address]):
            return None
        return self._random.randrange(GHOST_SPREAD_NS)

    def _happens(self, probabilities: Standing[float]) -> bool:
        return bool(probabilities) and self._random.random() < max(probabilities)


def flip_a_bit(random: Random, frame: bytes) -> bytes:
    """The frame with one bit inverted, which every checksum detects."""
    spoilt = bytearray(frame)
    spoilt[random.randrange(len(frame))] ^= 1 << random.randrange(8)
    return bytes(spoilt)
