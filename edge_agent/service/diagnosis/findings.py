"""What a self-test tells: a row for each thing that was looked at, with a verdict and the next step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["good", "warning", "fault", "unknown"]
"""`unknown`: it could not be looked at, so nobody can say."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that was looked at.

    `check`: what was looked at; `target`: of which part (a cell, a device, a bus, or none); `finding`: what
    was found, in plain words; `next_step`: what the technician does now; `kinds`: the names of the faults
    that look like this from here, the likeliest first.
    """

    check: str
    target: str
    verdict: Verdict
    finding: str
    next_step: str = ""
    kinds: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"kinds": list(self.kinds)}


def progress(number: int, of: int, doing: str) -> dict[str, Any]:
    """How far a self-test has come."""
    return {"progress": number, "of": of, "doing": doing}


def ask(number: int, of: int, cell: str, doing: str) -> dict[str, Any]:
    """What somebody at the machine has to do now, for the self-test to go on."""
    return progress(number, of, doing) | {"ask": "close", "cell": cell}
