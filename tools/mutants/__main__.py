"""`python -m tools.mutants`: puts small faults into the pure core, runs its tests on each, writes the page.

Exit codes: 0 done, 1 too few were noticed or mutmut failed, 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.mutants.page import UNWRITTEN, idle, rate, read_reasons, render, why
from tools.mutants.results import forget_survivors, read_mutants

LEAST = 98.0
"""The percentage of mutants that must be noticed."""
EFFORTS = ("least", "fast")
"""How long the random lives of the core (`tests/statemachine/whole/test_model.py`) search: most mutants are
noticed by the other tests, and need no long search."""
FOLDER = Path("mutants")
PAGE, REASONS = Path("docs/mutants.md"), Path("docs/mutants.reasons.toml")


def main(arguments: list[str] | None = None) -> int:
    """Runs mutmut unless only the page is wanted; returns the exit code."""
    options = _parser().parse_args(arguments)
    if not options.only_page:
        code = run(options.processes, anew=not options.go_on)
        if code:
            return code
    if not FOLDER.is_dir():
        print("there are no results yet", file=sys.stderr)
        return 1
    mutants, reasons = list(read_mutants(FOLDER)), read_reasons(REASONS)
    unknown = sorted({m.verdict for m in mutants} - {"killed", "timeout", "survived", "no tests"})
    if unknown or not mutants:
        print(f"the run is not complete: {', '.join(unknown) or 'no mutants'}", file=sys.stderr)
        return 1
    PAGE.write_text(render(mutants, reasons), encoding="utf-8")
    noticed = sum(mutant.noticed for mutant in mutants)
    print(f"{noticed} of {len(mutants)} mutants noticed: {rate(mutants):.1f} %; the rest in {PAGE}")
    open_ones = sum(not m.noticed and why(m, reasons) == UNWRITTEN for m in mutants)
    if open_ones:
        print(f"{open_ones} of them without a reason in {REASONS}")
    for reason in idle(mutants, reasons):
        print(f"no longer needed in {REASONS}: {reason.place}: {reason.was} -> {reason.becomes}")
    return 0 if rate(mutants) >= LEAST else 1


def run(processes: int, *, anew: bool) -> int:
    """Runs mutmut in the repository, then once more on the survivors, with longer random lives; returns its
    exit code."""
    if anew and FOLDER.is_dir():
        shutil.rmtree(FOLDER)
    for effort in EFFORTS:
        forget_survivors(FOLDER)
        code = _run_once(processes, effort)
        if code:
            return code
    return 0


def _run_once(processes: int, effort: str) -> int:
    beside = Path(sys.executable).with_name("mutmut")
    program = str(beside) if beside.exists() else shutil.which("mutmut")
    if program is None:
        print("mutmut is not installed; it is in the extra 'dev'", file=sys.stderr)
        return 1
    environment = os.environ | {"CORE_EFFORT": effort}
    done = subprocess.run([program, "run", "--max-children", str(processes)], env=environment, check=False)
    return done.returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("--processes", type=int, default=2, help="how many at once (default: 2)")
    parser.add_argument("--go-on", action="store_true", help="keep what an earlier run found")
    parser.add_argument("--only-page", action="store_true", help="write the page from the last run")
    return parser


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
