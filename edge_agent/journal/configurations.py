"""Which configurations the machine has worked with: when each came into use, how, by whom, what changed.

It is for technicians and never published: the events between machine and gateway are a closed list.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from edge_agent.journal.store import JournalStore

How = Literal["init", "start", "reload", "remote", "revert"]
"""By a start with a file that `edge-agent init` wrote, by any other start, by a reload, by remote
settings, or because one of the last two failed."""
MOST_CHANGES, LONGEST = 20, 200
"""At most this many changes of a reload are kept, each with at most this many characters."""
COLUMNS = ("n", "wall_s", "after_sequence", "how", "actor", "changes")


@dataclass(frozen=True, slots=True)
class ConfigurationChange:
    """How a configuration came into use. `origin`: when `edge-agent init` wrote the file, empty if it did
    not; `changes`: in words."""

    how: How
    actor: str = ""
    origin: str = ""
    changes: tuple[str, ...] = ()


def keep_configuration(
    store: JournalStore, change: ConfigurationChange, digest: str, wall_s: float, after_sequence: int
) -> bool:
    """Stores that a configuration came into use, unless it was the last one already (`digest`); whether it
    did. Raises `StorageFault`."""
    last = store.rows("SELECT digest FROM configuration ORDER BY n DESC LIMIT 1")
    if last and last[0][0] == digest:
        return False
    how = change.how
    if how == "init" and store.rows("SELECT 1 FROM configuration WHERE origin = ?", (change.origin,)):
        how = "start"  # the same file, changed by hand since
    shown = [text[:LONGEST] for text in change.changes[:MOST_CHANGES]]
    if len(change.changes) > MOST_CHANGES:
        shown.append(f"and {len(change.changes) - MOST_CHANGES} more")
    row = (wall_s, after_sequence, how, change.actor, change.origin, digest, json.dumps(shown))
    columns = "wall_s, after_sequence, how, actor, origin, digest, changes"
    store.write_all([(f"INSERT INTO configuration ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", [row])])
    return True


def configurations(store: JournalStore, limit: int, after: int = 0) -> list[dict[str, Any]]:
    """The newest `limit` configurations that came into use after number `after`, oldest first. Raises
    `StorageFault`."""
    query = f"SELECT {', '.join(COLUMNS)} FROM configuration WHERE n > ? ORDER BY n DESC LIMIT ?"
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in store.rows(query, (after, limit))]
    return [{"kind": "configuration", **row, "changes": json.loads(row["changes"])} for row in reversed(rows)]


def newest_configuration(store: JournalStore) -> int:
    """The number of the last configuration that came into use; 0 if there is none. Raises `StorageFault`."""
    ((number,),) = store.rows("SELECT ifnull(max(n), 0) FROM configuration", ())
    return int(number)
