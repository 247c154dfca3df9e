"""The cost of one step of the pure core, in a locker of 64 cells, and whether it grows with its history."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from statistics import median

from edge_agent.model import CellSpec, Door, Instant, Packaging, Purpose
from edge_agent.statemachine.inputs import (
    Boot,
    ClosingSettled,
    DoorRead,
    DoorsChanged,
    EnterCode,
    Input,
    OpenForReservation,
    PulseDone,
    Reserve,
    Tick,
)
from edge_agent.statemachine.locker import step
from edge_agent.statemachine.state import Layout, LockerState, empty_state
from edge_agent.statemachine.step_builder import Step
from tools.measure.figures import Figure, quantile
from tools.measure.rig import Run

CELLS, STANDING = 64, 40
LIVES, QUICK_LIVES = 12_000, 300
LIFE_S = 45.0
"""The interval between beginnings of lives: two thousand in a day, so that the codes of thousands are
retired."""
PARCEL = Packaging(300, 200, 400, 1500)


class Locker:
    """One state, its clock, and a stopwatch around every step."""

    def __init__(self) -> None:
        labels = [f"{chr(65 + n // 8)}{n % 8 + 1:02d}" for n in range(CELLS)]
        specs = {label: CellSpec(label, f"cell_{label}", 350, 300, 450, 10_000) for label in labels}
        self.layout = Layout(specs=specs)
        self.state: LockerState = empty_state(self.layout)
        self.now = Instant("boot", 10**12, 1_750_000_000.0, True)
        self.spent_ns: dict[str, list[int]] = defaultdict(list)
        self._made = 0
        self.feed("boot", Boot(dict.fromkeys(labels, Door.CLOSED)))

    def feed(self, kind: str, given: Input) -> Step:
        """Runs one step, timed under `kind`."""
        begun = time.perf_counter_ns()
        done = step(self.state, self.layout, given, self.now)
        self.spent_ns[kind].append(time.perf_counter_ns() - begun)
        self.state = done.state
        return done

    def pass_s(self, seconds: float) -> None:
        """Advances the time."""
        after_ns = self.now.boottime_ns + round(seconds * 1e9)
        self.now = replace(self.now, boottime_ns=after_ns, wall_s=self.now.wall_s + seconds)

    def reserve(self) -> str:
        """A reservation; returns its id."""
        self._made += 1
        rid = f"res_{self._made}"
        codes = tuple(f"{(self._made * 7919 + n * 6007) % 10_000:04d}" for n in range(64))
        self.feed("reserve", Reserve(f"r{self._made}", rid, "p", "o", PARCEL, codes, grace_pickup_s=5))
        return rid

    def open(self, kind: str, given: OpenForReservation | EnterCode, label: str) -> None:
        """Carries out a request until its door stands open, then closes the door again."""
        self.feed(kind, given)
        self.feed("fresh reading", DoorRead(given.unlock_id, Door.CLOSED))
        self.pass_s(0.1)
        self.feed("door opens", DoorsChanged({label: Door.OPEN}))
        self.feed("pulse over", PulseDone(given.unlock_id, 1, Door.OPEN))
        self.pass_s(5)
        self.feed("door closes", DoorsChanged({label: Door.CLOSED}))
        since_ns = self.now.boottime_ns
        self.pass_s(0.6)
        self.feed("closing settled", ClosingSettled(label, since_ns))

    def life(self) -> None:
        """One reservation from the beginning to the end."""
        begun_s = self.now.wall_s
        rid = self.reserve()
        made = self.state.reservations[rid]
        deadline_ns = self.now.boottime_ns + 30 * 10**9
        dropoff = OpenForReservation(f"d{rid}", rid, Purpose.DROPOFF, f"unl_d{rid}", deadline_ns)
        self.open("drop-off", dropoff, made.cell)
        self.open("code", EnterCode(f"c{rid}", made.pickup_code, f"unl_c{rid}"), made.cell)
        self.pass_s(6)
        self.feed("grace over", Tick())
        self.feed("idle tick", Tick())
        self.pass_s(begun_s + LIFE_S - self.now.wall_s)


def core(run: Run) -> list[Figure]:
    """Figures in microseconds over thousands of lives, and the last tenth of them against the first."""
    lives = QUICK_LIVES if run.quick else LIVES
    locker = Locker()
    for _ in range(STANDING):
        locker.reserve()
    locker.spent_ns.clear()
    for _ in range(lives):
        locker.life()
    spent = locker.spent_ns
    everything = [ns for samples in spent.values() for ns in samples]
    tenth = lives // 10
    first = sum(median(samples[:tenth]) for samples in spent.values())
    last = sum(median(samples[-tenth:]) for samples in spent.values())
    retired = len(locker.state.retired_codes)
    slowest = max(spent, key=lambda kind: median(spent[kind]))
    return [
        Figure(
            "step, 64 cells, 41 live, p50",
            median(everything) / 1000,
            "us",
            len(everything),
            target="< 50",
            note="every step of whole lives",
        ),
        Figure("step, 64 cells, 41 live, p99", quantile(everything, 0.99) / 1000, "us", len(everything)),
        Figure(
            f"step, slowest input ({slowest}), p50",
            median(spent[slowest]) / 1000,
            "us",
            len(spent[slowest]),
            target="< 50",
        ),
        Figure(
            f"steps of one life, after {lives} lives",
            last / 1000,
            "us",
            tenth,
            peer=first / 1000,
            peer_is=f"the first {tenth} lives",
            target="flat",
            note=f"{retired} codes are retired at the end",
        ),
    ]
