"""The order of a release over a fleet, as pure functions (docs/decisions/0054-rollouts.md).

A release goes out in waves. The next one begins when every machine of the last has an outcome, or was out of
reach for long. One machine that goes back in the first wave stops the release; later, 1 % of a wave's
machines.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

FIRST_WAVE = 5
"""At most this many machines get a release first."""
SHARES = (0.05, 0.25, 1.0)
"""The share of all machines that has been reached at the end of each later wave."""
MOST_BAD = 0.01
"""A later wave stops the release when more than this share of its machines went back or could not take it."""
PATIENCE_S = 24 * 3600.0
"""The next wave does not wait for a machine that was asked and has had no outcome for this long."""

Result = Literal["WAITING", "SENT", "APPLIED", "REVERTED", "FAILED"]
BAD: frozenset[Result] = frozenset({"REVERTED", "FAILED"})


@dataclass(frozen=True, slots=True)
class Progress:
    """One machine of a release: its wave, from 0; `since_s`: when `result` was recorded (Unix time)."""

    wave: int
    result: Result = "WAITING"
    since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now: the machines to send the release to, or why it is stopped, or that it is finished."""

    send: tuple[str, ...] = ()
    stop: str = ""
    finished: bool = False


def waves(release_id: str, machines: Sequence[str]) -> dict[str, int]:
    """The wave of each machine. The order is random, and the same for the same release: a fault that only
    some sites have must be able to show in the first wave."""

    def place(machine_id: str) -> bytes:
        return hashlib.sha256(f"{release_id}\0{machine_id}".encode()).digest()

    bounds = [min(FIRST_WAVE, len(machines)), *(math.ceil(len(machines) * share) for share in SHARES)]
    found = {}
    for number, machine_id in enumerate(sorted(machines, key=place)):
        found[machine_id] = next(wave for wave, bound in enumerate(bounds) if number < bound)
    return found


def decide(progress: Mapping[str, Progress], online: frozenset[str], now_s: float) -> Decision:
    """What to do next with a release that is under way."""
    for wave in sorted({one.wave for one in progress.values()}):
        members = {name: one for name, one in progress.items() if one.wave == wave}
        bad = sorted(name for name, one in members.items() if one.result in BAD)
        if bad and (wave == 0 or len(bad) > MOST_BAD * len(members)):
            share = f"{len(bad)} of {len(members)} machines of wave {wave + 1}"
            return Decision(stop=f"{share} went back: {', '.join(bad[:5])}")
        waiting = [name for name, one in members.items() if one.result == "WAITING"]
        if send := tuple(sorted(set(waiting) & online)):
            return Decision(send=send)
        if any(_holds_up(one, now_s) for one in members.values()):
            return Decision()
    return Decision(finished=all(one.result not in ("WAITING", "SENT") for one in progress.values()))


def _holds_up(one: Progress, now_s: float) -> bool:
    """Whether the next wave waits for this machine."""
    return one.result in ("WAITING", "SENT") and now_s - one.since_s < PATIENCE_S
