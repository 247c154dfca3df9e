"""Plays many triples in worker processes, and keeps each result as one line of JSON."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.fault_matrix.triples import RED, Result, Triple, all_triples, play, silence_logs

SEED = 1
WORKERS = 2
SPREAD = 9


@dataclass(frozen=True, slots=True)
class Part:
    """The part `number` of `parts` equal ones, counted from 1."""

    number: int = 1
    parts: int = 1

    def of(self, triples: Iterable[Triple]) -> list[Triple]:
        """The triples of this part."""
        return [t for index, t in enumerate(triples) if index % self.parts == self.number - 1]


def chosen(only: str | None, part: Part) -> list[Triple]:
    """The triples of one fault (None: of all), of a part; spread over all faults from the beginning on."""
    found = part.of(t for t in all_triples() if only in (None, t.fault))
    return [triple for first in range(SPREAD) for triple in found[first::SPREAD]]


def play_all(
    triples: Sequence[Triple],
    seed: int,
    workers: int,
    on_result: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """The results in the order of the triples."""
    jobs = [(triple, seed) for triple in triples]
    results: list[Result] = []
    if workers <= 1:
        for job in jobs:
            results.append(_play(job))
            on_result(results[-1])
        return results
    with multiprocessing.get_context("spawn").Pool(workers, initializer=silence_logs) as pool:
        for result in pool.imap(_play, jobs, chunksize=4):
            results.append(result)
            on_result(result)
    return results


def _play(job: tuple[Triple, int]) -> Result:
    return play(*job)


def digest(results: Iterable[Result]) -> str:
    """The same for the same results in the same order."""
    text = "\n".join(json.dumps(result.as_row(), sort_keys=True) for result in results)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class ResultFile:
    """Takes results as they come, one line of JSON for each; the results of an interrupted run are kept."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._out = file.open("w", encoding="utf-8")

    def add(self, result: Result) -> None:
        """Writes one."""
        self._out.write(json.dumps(result.as_row(), sort_keys=True, ensure_ascii=False) + "\n")
        self._out.flush()

    def close(self) -> None:
        """Closes the file."""
        self._out.close()


def read_results(file: Path) -> list[Result]:
    """What a `ResultFile` holds, in the order of the triples."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        row["triple"] = Triple(**row["triple"])
        row["problems"] = tuple(row["problems"])
        found.append(Result(**row))
    order = {triple: number for number, triple in enumerate(all_triples())}
    return sorted(found, key=lambda result: order[result.triple])


class Progress:
    """Prints the progress periodically, and every red at once."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._began_s = time.monotonic()

    def note(self, result: Result) -> None:
        """Counts one more result."""
        self._done += 1
        if result.verdict == RED:
            print(f"RED {result.triple.name}", *result.problems, sep="\n    ", flush=True)
        if self._done % 100 == 0 or self._done == self._total:
            spent_s = time.monotonic() - self._began_s
            print(f"{self._done} of {self._total} in {spent_s:.0f} s", flush=True)
