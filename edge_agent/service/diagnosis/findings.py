"""The rows of a self-test: one for each thing that was checked, with a verdict and the next step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["good", "warning", "fault", "unknown"]
"""`unknown`: it could not be checked."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that was checked.

    `check`: what was checked; `target`: on which part (a cell, a device, a bus, or none); `finding`: what
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
        """As a JSON object."""
        return asdict(self) | {"kinds": list(self.kinds)}


def progress(number: int, of: int, doing: str) -> dict[str, Any]:
    """The progress of a self-test."""
    return {"progress": number, "of": of, "doing": doing}


def announce(number: int, of: int, doing: str) -> dict[str, Any]:
    """What the self-test switches now, for a person at the machine."""
    return progress(number, of, doing) | {"announce": True}


def ask(number: int, of: int, cell: str, doing: str) -> dict[str, Any]:
    """What a person at the machine has to do now so that the self-test continues."""
    return progress(number, of, doing) | {"ask": "close", "cell": cell}
