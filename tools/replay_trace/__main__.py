"""`python -m tools.replay_trace FILE`: judges a recorded trace again, one line for each request."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from edge_agent.drivers.trace import read_trace
from edge_agent.errors import ConfigError
from tools.replay_trace.judge import LATE_S, Judged, judge


def line_of(one: Judged) -> str:
    """One request in readable form."""
    more = [one.words] if one.words else []
    more += [f"late: {words}" for words in one.late]
    more += [f"{one.unasked} unasked"] if one.unasked else []
    more += [f"left over: {one.rest.hex(' ').upper()}"] if one.rest else []
    return f"{one.at_s:12.4f}  {one.bus}  {one.request:<34}  {one.taken}" + "".join(f"; {m}" for m in more)


def main(arguments: list[str]) -> int:
    """Prints how each reply was classified. Returns 0, or 2 if the file is not a recording."""
    parser = argparse.ArgumentParser(prog="python -m tools.replay_trace", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="from edge-agent bus monitor --record")
    parser.add_argument("--channels", type=int, help="of the lock boards, whose frames do not say it")
    parser.add_argument("--late-ms", type=int, default=round(LATE_S * 1000), help="how long a reply is owed")
    parser.add_argument("--json", action="store_true", help="for scripts")
    options = parser.parse_args(arguments)
    try:
        frames = read_trace(options.file)
    except ConfigError as error:
        sys.stderr.writelines(f"{finding}\n" for finding in error.findings)
        return 2
    judged = judge(frames, options.channels, options.late_ms / 1000)
    if options.json:
        print(json.dumps([asdict(one) | {"rest": one.rest.hex()} for one in judged], indent=2))
        return 0
    for one in judged:
        print(line_of(one))
    counts = Counter(one.taken for one in judged)
    print(
        f"{len(judged)} requests: " + ", ".join(f"{count} {taken}" for taken, count in counts.most_common())
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
