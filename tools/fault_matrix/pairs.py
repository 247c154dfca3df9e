"""Random pairs of faults: two at once may cost service, but never a wrong door or a parcel (a, c)."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
import time
from collections import Counter
from typing import Any

from tools.fault_matrix.actors import ACTORS
from tools.fault_matrix.faults import FAULTS
from tools.fault_matrix.phases import PHASES
from tools.fault_matrix.triples import Pair, play_pair, silence_logs

EXAMPLES = 40
EQUAL = {
    frozenset({"contacts crossed", "locks crossed"}): (
        "lock and contact of both cells have changed places at once: every pulse opens the door whose "
        "contact is expected, and no witness of a cell without a scale differs from health"
    )
}
"""Two faults that together look healthy to every witness, and why; they are listed separately."""


def draw(number: int, seed: int) -> list[Pair]:
    """Draws a number of pairs; the kinds of cell of both faults agree."""
    rng = random.Random(f"{seed}/pairs")
    names = list(FAULTS)
    found: list[Pair] = []
    while len(found) < number:
        first, second = rng.sample(names, 2)
        kinds = {FAULTS[first].kind, FAULTS[second].kind} - {"plain"}
        if len(kinds) < 2:
            phase, actor = rng.choice(list(PHASES)), rng.choice(ACTORS)
            found.append(Pair(first, second, phase, actor, rng.uniform(0.0, 3.0)))
    return found


def run_all(number: int, seed: int, workers: int) -> dict[str, Any]:
    """Plays them; returns the findings for the page."""
    began_s = time.monotonic()
    jobs = [(pair, seed) for pair in draw(number, seed)]
    rows = []
    with multiprocessing.get_context("spawn").Pool(workers, initializer=silence_logs) as pool:
        for done, row in enumerate(pool.imap(_play, jobs, chunksize=4), 1):
            rows.append(row)
            if done % 100 == 0:
                print(f"{done} of {number} pairs in {time.monotonic() - began_s:.0f} s", flush=True)
    return summary(rows, seed, (time.monotonic() - began_s) / 60)


def _play(job: tuple[Pair, int]) -> dict[str, Any]:
    pair, _ = job
    return play_pair(*job).as_row() | {"equal": EQUAL.get(frozenset({pair.first, pair.second}), "")}


def summary(rows: list[dict[str, Any]], seed: int, minutes: float) -> dict[str, Any]:
    """How many pairs broke which demand."""
    equal = [row for row in rows if row["equal"] and row["problems"]]
    rows = [row for row in rows if row not in equal]
    letters = [sorted({problem.partition(":")[0] for problem in row["problems"]}) for row in rows]
    count = Counter(letter for found in letters for letter in found)
    text = "\n".join(json.dumps(row, sort_keys=True) for row in [*rows, *equal])
    worst = [row for row, found in zip(rows, letters, strict=True) if {"a", "c"} & set(found)]
    rest = [row for row, found in zip(rows, letters, strict=True) if found and not {"a", "c"} & set(found)]
    return {
        "pairs": len(rows) + len(equal),
        "seed": seed,
        "minutes": round(minutes, 1),
        "digest": hashlib.sha256(text.encode()).hexdigest()[:16],
        "a": count["a"],
        "c": count["c"],
        "others": {letter: number for letter, number in count.items() if letter not in ("a", "c")},
        "equal": [f"{_name(row['triple'])}: {row['equal']}" for row in equal],
        "examples": [
            f"{_name(row['triple'])}: {row['problems'][0][:200]}" for row in [*worst, *rest][:EXAMPLES]
        ],
    }


def _name(pair: dict[str, Any]) -> str:
    return " × ".join(str(pair[key]) for key in ("fault", "phase", "actor"))
