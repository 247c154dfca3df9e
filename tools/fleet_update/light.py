"""A machine as its updater sees it: a disk that keeps what was written, a daemon that comes up or does not.

The power may fail at any instant: during an operation the disk holds either what was there before or what is
there after, a fetch also anything in between. The clock is virtual, and one machine's own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from edge_updater.logic import FetchFailed, Health, Updater
from edge_updater.state import State, Wanted, from_json, to_json

Poison = Literal["", "crashes", "hangs", "no link", "no bus", "no journal", "dies later"]
POISONS: tuple[Poison, ...] = ("crashes", "hangs", "no link", "no bus", "no journal", "dies later")
SAVE_S, SWITCH_S = (0.002, 0.03), (0.002, 0.03)
FETCH_S, STOP_S, START_S = (20.0, 240.0), (0.3, 1.5), (0.7, 2.5)
KILL_S = 0.1
LINK_S = (0.3, 4.0)
"""How long the link takes after the start of the daemon."""
CRASH_S, RESTART_S = 0.8, 2.0
"""A crashing daemon runs this long, and is started again after this pause."""
DIES_S = 120.0
BOOT_S, OFF_S = (8.0, 25.0), (1.0, 40.0)
STEP_S = 1.0
FETCH_FAILS = 0.15


class PowerCut(Exception):
    """The board has no power at this instant."""


@dataclass(frozen=True, slots=True)
class Release:
    """A version that can be installed, and what is wrong with it."""

    version: str
    poison: Poison = ""


@dataclass(slots=True)
class Disk:
    """What survives a power cut. `trees`: the unpacked versions; `parts`: pieces of one."""

    base: str
    trees: set[str] = field(default_factory=set)
    parts: set[str] = field(default_factory=set)
    link: str | None = None
    state: str = ""
    wanted: Wanted | None = None
    codes: frozenset[str] = frozenset()


class LightMachine:
    """One machine with the real `Updater`. `cuts`: the instants at which the power fails."""

    def __init__(
        self,
        name: str,
        releases: dict[str, Release],
        base: str,
        rng: random.Random,
        cuts: list[float],
    ) -> None:
        self.name = name
        self._releases = releases
        self._rng = rng
        self._cuts = sorted(cuts, reverse=True)
        self.now_s = 0.0
        codes = frozenset(f"{rng.randrange(10_000):04}" for _ in range(rng.randrange(12)))
        self.disk = Disk(base, codes=codes)
        self.disk.state = to_json(State())
        self.boots = 0
        self.cuts_met = 0
        self.off_air: list[float] = []
        """How long each absence of the daemon lasted that an update caused, in seconds."""
        self.log: list[str] = []
        self.busy_until_s = 0.0
        self._away_since_s: float | None = None
        self._boot()

    # The host of the updater.

    def wanted(self) -> Wanted | None:
        """See `Host.wanted`."""
        return self.disk.wanted

    def load(self) -> State:
        """See `Host.load`."""
        return from_json(self.disk.state)

    def save(self, state: State) -> None:
        """See `Host.save`."""
        self._atomic(SAVE_S, lambda: setattr(self.disk, "state", to_json(state)))

    def current(self) -> str:
        """See `Host.current`. A link to nothing counts for nothing, as for the launcher."""
        link = self.disk.link
        return link if link is not None and link in self.disk.trees else self.disk.base

    def has(self, version: str) -> bool:
        """See `Host.has`."""
        return version == self.disk.base or version in self.disk.trees

    def fetch(self, version: str) -> None:
        """See `Host.fetch`."""
        self.disk.parts = {version}
        self._spend(self._rng.uniform(*FETCH_S))
        if self._rng.random() < FETCH_FAILS:
            raise FetchFailed("connection reset")

        def whole() -> None:
            self.disk.parts.discard(version)
            self.disk.trees.add(version)

        self._atomic(SAVE_S, whole)

    def switch(self, version: str) -> None:
        """See `Host.switch`."""
        link = None if version == self.disk.base else version
        self._atomic(SWITCH_S, lambda: setattr(self.disk, "link", link))

    def restart(self, *, at_once: bool = False) -> None:
        """See `Host.restart`."""
        left_s = self.now_s if self._serving() else None
        self._spend(KILL_S if at_once else self._rng.uniform(*STOP_S))
        self._start()
        if self._away_since_s is None:
            self._away_since_s = left_s

    def health(self) -> Health:
        """See `Host.health`."""
        self._note_answer()
        poison = self._releases[self._running].poison
        up_s = self.now_s - self._started_s
        restarts = 0
        if poison == "crashes":
            restarts = int(up_s // (CRASH_S + RESTART_S))
        elif poison == "dies later" and up_s > DIES_S:
            restarts = 1
        if not self._serving():
            return Health(answers=False, restarts=restarts)
        return Health(
            answers=True,
            version=self._running,
            quiet=self.now_s >= self.busy_until_s,
            broker=up_s > self._link_s and poison != "no link",
            journal=poison != "no journal",
            buses=frozenset(["main"] if poison == "no bus" else ["main", "second"]),
            restarts=restarts,
        )

    def remove_others(self, *kept: str) -> None:
        """See `Host.remove_others`."""
        self.disk.trees &= set(kept)

    # The machine.

    def _serving(self) -> bool:
        """Whether the daemon answers now."""
        up_s = self.now_s - self._started_s
        poison = self._releases[self._running].poison
        return up_s > self._start_s and poison not in ("crashes", "hangs")

    def _note_answer(self) -> None:
        if self._away_since_s is not None and self._serving():
            self.off_air.append(max(0.0, self._started_s + self._start_s - self._away_since_s))
            self._away_since_s = None

    def _boot(self) -> None:
        self.boots += 1
        self.boot_id = f"{self.name}-{self.boots}"
        self._away_since_s = None  # a power cut is not the update's fault
        self._start()
        self._updater = Updater(self)

    def _start(self) -> None:
        """Starts the version that the link names, as the supervisor does."""
        self._running = self.current()
        self._started_s = self.now_s
        self._start_s, self._link_s = self._rng.uniform(*START_S), self._rng.uniform(*LINK_S)

    def _spend(self, seconds: float) -> None:
        """Lets time pass. Raises `PowerCut` if the power fails in it."""
        end_s = self.now_s + seconds
        if self._cuts and self._cuts[-1] <= end_s:
            self.now_s = max(self.now_s, self._cuts.pop())
            raise PowerCut
        self.now_s = end_s

    def _atomic(self, took_s: tuple[float, float], change: Callable[[], None]) -> None:
        """A change of the disk that is there or not there after a power cut."""
        seconds = self._rng.uniform(*took_s)
        at = self._rng.random()
        self._spend(seconds * at)
        change()
        self._spend(seconds * (1 - at))

    def run_until(self, end_s: float) -> None:
        """Lets the machine live on, through power cuts."""
        while self.now_s < end_s:
            if self._idle() and not self._cuts:
                self.now_s = end_s
                return
            try:
                line = self._updater.step(self.now_s)
                if line:
                    self.log.append(f"{self.now_s:9.1f} {line}")
                self._note_answer()
                self._spend(STEP_S)
            except PowerCut:
                self.cuts_met += 1
                self.log.append(f"{self.now_s:9.1f} power cut")
                self.now_s += self._rng.uniform(*OFF_S) + self._rng.uniform(*BOOT_S)
                while self._cuts and self._cuts[-1] <= self.now_s:
                    self._cuts.pop()
                self._boot()

    def settle(self) -> None:
        """Lets the daemon come up after a power cut, without a further one."""
        cuts, self._cuts = self._cuts, []
        self.run_until(self.now_s + 60.0)
        self._cuts = [at_s for at_s in cuts if at_s > self.now_s]

    def _idle(self) -> bool:
        """Whether the updater has nothing to do, and the daemon answers."""
        wanted, state = self.disk.wanted, self.state
        done = wanted is None or (state.outcome is not None and state.outcome.wanted == wanted)
        return done and state.trial is None and self._away_since_s is None

    @property
    def running(self) -> str:
        """The version that runs."""
        return self._running

    @property
    def state(self) -> State:
        """The state on the disk."""
        return self.load()

    @property
    def serves(self) -> bool:
        """Whether the daemon answers, and all is well."""
        return self._serving() and not self._releases[self._running].poison
