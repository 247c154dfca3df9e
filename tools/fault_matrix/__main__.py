"""`python -m tools.fault_matrix`: plays the fault matrix and writes its page.

Without an option: every triple, then the planted bugs, then random pairs, then `docs/faults.md`. With
`--only` or `--part` the chosen triples, and no page. Exit codes: 0 no red, 1 a red or a planted bug that was
not caught, 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tools.fault_matrix import pairs, planted
from tools.fault_matrix.faults import FAULTS
from tools.fault_matrix.page import Run, render
from tools.fault_matrix.run import (
    SEED,
    WORKERS,
    Part,
    Progress,
    ResultFile,
    chosen,
    digest,
    play_all,
    read_results,
)
from tools.fault_matrix.triples import RED, Result

RESULTS = Path("build/fault-matrix")
PAGE = Path("docs/faults.md")
PAIRS = 2000


def main(arguments: list[str] | None = None) -> int:
    """Runs what the options select; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.page:
        if not (RESULTS / "triples.jsonl").exists():
            print(f"there are no results in {RESULTS} yet: run without an option first", file=sys.stderr)
            return 2
        PAGE.write_text(_page(), encoding="utf-8")
        return 0
    if options.planted:
        return _planted(options.workers)
    if options.pairs is not None:
        return _pairs(options.pairs, options.seed, options.workers)
    part = _part(options.part)
    code = _triples(options.only, part, options.seed, options.workers)
    if options.only is not None or part.parts > 1:
        return code
    code |= _planted(options.workers)
    code |= _pairs(PAIRS, options.seed, options.workers)
    PAGE.write_text(_page(), encoding="utf-8")
    print(f"the page is {PAGE}")
    return code


def _triples(only: str | None, part: Part, seed: int, workers: int) -> int:
    triples = chosen(only, part)
    name = "triples.jsonl" if only is None and part.parts == 1 else "part.jsonl"
    file, progress = ResultFile(RESULTS / name), Progress(len(triples))

    def on_result(result: Result) -> None:
        file.add(result)
        progress.note(result)

    play_all(triples, seed, workers, on_result)
    file.close()
    results = read_results(RESULTS / name)
    counts = {verdict: sum(r.verdict == verdict for r in results) for verdict in {r.verdict for r in results}}
    counted = ", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items()))
    print(f"{len(results)} triples: {counted}; seed {seed}, digest {digest(results)}")
    return int(any(result.verdict == RED for result in results))


def _planted(workers: int) -> int:
    rows = planted.run_all(workers)
    _write_json("planted.json", rows)
    missed = [row["bug"] for row in rows if not row["caught"]]
    print(f"{len(rows) - len(missed)} of {len(rows)} planted bugs caught")
    for bug in missed:
        print(f"NOT CAUGHT {bug}")
    return int(bool(missed))


def _pairs(number: int, seed: int, workers: int) -> int:
    found = pairs.run_all(number, seed, workers)
    _write_json("pairs.json", found)
    print(f"{number} pairs: (a) broken in {found['a']}, (c) broken in {found['c']}; digest {found['digest']}")
    return int(found["a"] + found["c"] > 0)


def _write_json(name: str, value: Any) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / name).write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")


def _page() -> str:
    results = read_results(RESULTS / "triples.jsonl")
    bugs, found = (RESULTS / "planted.json", RESULTS / "pairs.json")
    return render(
        Run(
            results,
            SEED,
            digest(results),
            json.loads(bugs.read_text(encoding="utf-8")) if bugs.exists() else [],
            json.loads(found.read_text(encoding="utf-8")) if found.exists() else {},
        )
    )


def _part(text: str) -> Part:
    number, _, parts = text.partition("/")
    return Part(int(number), int(parts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.fault_matrix", description=__doc__)
    parser.add_argument("--only", metavar="FAULT", choices=sorted(FAULTS), help="the triples of one fault")
    parser.add_argument("--part", metavar="N/M", default="1/1", help="one of M equal parts of the triples")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of all chance (default: {SEED})")
    parser.add_argument("--pairs", type=int, metavar="N", help="N random pairs of faults, and nothing else")
    parser.add_argument("--planted", action="store_true", help="the planted bugs, and nothing else")
    parser.add_argument("--page", action="store_true", help="the page, from the results of the last run")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"processes (default: {WORKERS})")
    return parser


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
