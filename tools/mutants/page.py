"""The page about the mutants: how many were noticed, and why each of the others was not."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tools.mutants.results import Mutant

UNWRITTEN = "no reason written"


@dataclass(frozen=True)
class Reason:
    """Why mutants survive. In each pattern `*` stands for any text; an omitted pattern matches any text."""

    place: str
    why: str
    was: str = "*"
    becomes: str = "*"

    def fits(self, mutant: Mutant) -> bool:
        """Whether the reason applies to this mutant."""
        pairs = ((self.place, mutant.place), (self.was, mutant.was), (self.becomes, mutant.becomes))
        return all(fnmatchcase(_plain(text), _plain(pattern)) for pattern, text in pairs)


def _plain(text: str) -> str:
    """Escapes square brackets, which are plain characters here."""
    return text.replace("[", "(").replace("]", ")")


def read_reasons(path: Path) -> list[Reason]:
    """The reasons, in their order: the first that fits counts. Raises `TypeError` for an unknown key."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("reason", [])
    return [Reason(**entry) for entry in entries]


def why(mutant: Mutant, reasons: Iterable[Reason]) -> str:
    """Why a mutant survived."""
    return next((reason.why for reason in reasons if reason.fits(mutant)), UNWRITTEN)


def idle(mutants: Iterable[Mutant], reasons: Iterable[Reason]) -> list[Reason]:
    """Reasons that no longer apply to any mutant."""
    missed = [mutant for mutant in mutants if not mutant.noticed]
    return [reason for reason in reasons if not any(reason.fits(mutant) for mutant in missed)]


def rate(mutants: Sequence[Mutant]) -> float:
    """The percentage of noticed mutants."""
    return 100 * sum(mutant.noticed for mutant in mutants) / len(mutants)


def render(mutants: Sequence[Mutant], reasons: Sequence[Reason]) -> str:
    """The whole page, as Markdown."""
    count = Counter(mutant.verdict for mutant in mutants)
    noticed = sum(mutant.noticed for mutant in mutants)
    how = f"{count['killed']} by a failing test, {count['timeout']} by running without end"
    lines = [
        "# Mutants",
        "",
        "Written by `make mutants`. Small faults were put into `edge_agent/statemachine`, one at a time; a",
        "fault is noticed if a test of `tests/statemachine` then fails or runs without end.",
        "",
        f"**{noticed} of {len(mutants)} noticed: {rate(mutants):.1f} %** ({how}).",
        "",
        "| module | mutants | noticed | % |",
        "|---|--:|--:|--:|",
    ]
    for module in sorted({mutant.module for mutant in mutants}):
        here = [mutant for mutant in mutants if mutant.module == module]
        lines.append(
            f"| {module} | {len(here)} | {sum(mutant.noticed for mutant in here)} | {rate(here):.1f} |"
        )
    return "\n".join([*lines, "", "## Not noticed", "", *_missed(mutants, reasons)]) + "\n"


def _missed(mutants: Iterable[Mutant], reasons: Sequence[Reason]) -> list[str]:
    lines: list[str] = []
    place = ""
    for mutant in sorted((m for m in mutants if not m.noticed), key=lambda m: (m.place, m.was, m.becomes)):
        if mutant.place != place:
            place = mutant.place
            lines += [*([""] if lines else []), f"### {place}"]
        reason = why(mutant, reasons) + ("" if mutant.verdict == "survived" else f" ({mutant.verdict})")
        lines += ["", "```diff", f"- {mutant.was}", f"+ {mutant.becomes}", "```", reason]
    return lines or ["None."]
