"""The page `docs/faults.md`, made from the results of a whole run."""

from __future__ import annotations

import tomllib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.fault_matrix.actors import ACTORS
from tools.fault_matrix.faults import ELSEWHERE, FAULTS
from tools.fault_matrix.phases import PHASES
from tools.fault_matrix.triples import GREEN, NOT_APPLICABLE, RED, UNOBSERVABLE, Result

NOTES = Path("docs/faults.notes.toml")
HEAD = """\
# Faults

Written by `make fault-matrix`. Each single fault is begun in each phase of a life; then a customer (by API,
code or QR text), a technician or nobody acts. The production composition runs in virtual time; the judge
(`tools/fault_matrix/judge.py`, `books.py`) goes by the physical state of the simulated cabinet. For each
triple it checks:

- (a) no pulse on a lock that nobody asked for; after the first wrong opening none by API, code or QR
- (b) no PICKED_UP or DROPPED_OFF without a contact change after the cell's own pulse, or a `resolve`;
  no DROPPED_OFF by a contact that was not closed for half a second
- (c) no cell that holds a parcel is given to another reservation, or is free to be given
- (d) a documented command reaches every parcel, and opens its door and no other one; where the fault itself
  keeps the lock from moving, as soon as it is mended
- (e) an alarm that names the fault stands as soon as a witness contradicts health; a fault that the machine
  bears raises no other alarm
- (f) after the mending, documented acts alone bring every cell back to IDLE without an alarm, and a new life
  succeeds

*Unobservable*: up to the judgement the fault equalled health at every witness; (a) to (d) and (f) held all
the same. A wrong opening counts from when a contact showed it. Where two locks were pulsed and both contacts
opened, no witness can show which lock moved which door.
"""


@dataclass(frozen=True, slots=True)
class Run:
    """The data of the page. `planted` and `pairs` are the rows of their own result files."""

    results: Sequence[Result]
    seed: int
    digest: str
    planted: Sequence[Mapping[str, Any]]
    pairs: Mapping[str, Any]


def render(run: Run, notes: Path = NOTES) -> str:
    """The whole page, as Markdown."""
    written = tomllib.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
    count = Counter(result.verdict for result in run.results)
    total = len(FAULTS) * len(PHASES) * len(ACTORS)
    lines = [
        HEAD,
        f"**{len(run.results)} of {total} triples were played: {count[GREEN]} green, {count[RED]} red,",
        f"{count[UNOBSERVABLE]} unobservable, {count[NOT_APPLICABLE]} not applicable.**",
        f"Seed {run.seed}, digest of the results `{run.digest}`.",
        "",
        "## Faults × phases",
        "",
        "Of the five actors: green / unobservable, or **red** where there is one; – where nothing applies;",
        "blank where nothing was played in this run.",
        "",
        *_table(run.results),
        "",
        "## Unobservable, and why",
        "",
        *_unobservable(run.results),
        "",
        "## Red",
        "",
        *_reds(run.results, written.get("red", [])),
        "",
        "## How each red was mended",
        "",
        *[f"- **{note['what']}**: {note['how']}" for note in written.get("mended", [])],
        "",
        "## Not in the matrix",
        "",
        "| fault | because | covered by |",
        "|---|---|---|",
        *[f"| {name} | {why} | {tests} |" for name, (why, tests) in ELSEWHERE.items()],
        "",
        "## Planted bugs",
        "",
        *_planted(run.planted),
        "",
        "## Pairs",
        "",
        *_pairs(run.pairs),
    ]
    return "\n".join(lines) + "\n"


def explained(result: Result, notes: Path = NOTES) -> bool:
    """Whether the notes explain this red: its fault, and every demand that it breaks."""
    written = tomllib.loads(notes.read_text(encoding="utf-8")).get("red", [])
    known = {note["demand"] for note in written if note["fault"] == result.triple.fault}
    return {problem.partition(":")[0] for problem in result.problems} <= known


def _table(results: Sequence[Result]) -> list[str]:
    cells: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for result in results:
        cells[result.triple.fault, result.triple.phase][result.verdict] += 1
    lines = ["| fault | " + " | ".join(PHASES) + " |", "|---|" + "---|" * len(PHASES)]
    for fault in FAULTS:
        row = [_cell(cells[fault, phase]) for phase in PHASES]
        lines.append(f"| {fault} | " + " | ".join(row) + " |")
    return lines


def _cell(count: Counter[str]) -> str:
    if count[RED]:
        return f"**{count[RED]} red**"
    if not count:
        return ""
    if not count[GREEN] and not count[UNOBSERVABLE]:
        return "–"
    return f"{count[GREEN]} / {count[UNOBSERVABLE]}"


def _unobservable(results: Sequence[Result]) -> list[str]:
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for result in results:
        if result.verdict == UNOBSERVABLE:
            fault = FAULTS[result.triple.fault]
            found[fault.group, result.why][fault.name] += 1
    lines = ["| class | reason | triples | faults |", "|---|---|--:|---|"]
    for (group, why), faults in found.items():
        lines.append(f"| {group} | {why} | {faults.total()} | {', '.join(faults)} |")
    return lines


def _reds(results: Sequence[Result], notes: Sequence[Mapping[str, str]]) -> list[str]:
    reds = [result for result in results if result.verdict == RED]
    if not reds:
        return ["None."]
    lines = [f"- **{note['fault']}** ({note['demand']}): {note['why']}" for note in notes]
    lines += ["", "| triple | found |", "|---|---|"]
    return lines + [f"| {red.triple.name} | {'; '.join(red.problems)[:300]} |" for red in reds]


def _planted(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return ["Not run."]
    caught = sum(bool(row["caught"]) for row in rows)
    lines = [f"{caught} of {len(rows)} bugs were caught.", "", "| bug | caught by | with |", "|---|---|---|"]
    return lines + [f"| {r['bug']} | {r['caught'] or '**not caught**'} | {r['problem']} |" for r in rows]


def _pairs(found: Mapping[str, Any]) -> list[str]:
    if not found:
        return ["Not run."]
    lines = [
        f"{found['pairs']} random pairs of faults (seed {found['seed']}) in {found['minutes']} minutes,",
        f"digest `{found['digest']}`. (a) broken in {found['a']}, (c) broken in {found['c']}.",
        "With two faults at once the other demands may fail; they are counted:",
        "",
        "| demand | pairs |",
        "|---|--:|",
    ]
    lines += [f"| {letter} | {number} |" for letter, number in sorted(found["others"].items())]
    lines += ["", *[f"- {text}" for text in found["examples"]]]
    if found.get("equal"):
        lines += ["", "Two faults that together equal health at every witness, unobservable:", ""]
        lines += [f"- {text}" for text in found["equal"]]
    return lines
