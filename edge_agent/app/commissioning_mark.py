"""The commissioning mark: a small file outside the journal's folder with the id of the machine's journal and
its last event."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from edge_agent.process.whole_file import write_whole

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Mark:
    """`machine_id` is None in a mark that cannot be read: there was one. `last_sequence`: the journal's last
    event when the mark was written; 0 in a mark of an earlier version."""

    machine_id: str | None
    journal_id: str
    last_sequence: int = 0


def read_mark(path: Path | None) -> Mark | None:
    """The mark; None if there is none."""
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Mark(str(found["machine_id"]), str(found["journal_id"]), int(found.get("last_sequence", 0)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.error("the commissioning mark cannot be read", path=str(path), error=str(error))
        return Mark(None, "unreadable")


def write_mark(path: Path | None, mark: Mark) -> None:
    """Writes it as a whole; a mark that cannot be written is logged, and the machine serves without it."""
    if path is None or read_mark(path) == mark:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(mark)).encode())
    except OSError as error:
        log.error("the commissioning mark cannot be written", path=str(path), error=str(error))
