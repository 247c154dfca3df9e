"""Releases and how far each machine is with them, in the database; works inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, exists, insert, select, update

from cloud_gateway.db.tables import release_machines, releases
from cloud_gateway.rollouts.plan import Progress, Result, waves

RUNNING, PAUSED, STOPPED, FINISHED = "RUNNING", "PAUSED", "STOPPED", "FINISHED"


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """One release; times in Unix seconds. `state`: RUNNING, PAUSED, STOPPED or FINISHED; `reason`: why it
    stopped."""

    release_id: str
    version: str
    actor: str
    begun_s: float
    state: str = RUNNING
    reason: str = ""
    ended_s: float | None = None


def add_release(db: Connection, release: ReleaseRow, machines: Sequence[str]) -> None:
    """Stores a new release for these machines, with the wave of each."""
    db.execute(
        insert(releases).values(
            release_id=release.release_id,
            version=release.version,
            actor=release.actor,
            begun_s=release.begun_s,
            state=release.state,
            reason="",
        )
    )
    rows = [
        {
            "release_id": release.release_id,
            "machine_id": machine_id,
            "wave": wave,
            "result": "WAITING",
            "since_s": release.begun_s,
        }
        for machine_id, wave in waves(release.release_id, machines).items()
    ]
    db.execute(insert(release_machines), rows)


def progress_of(db: Connection, release_id: str) -> dict[str, Progress]:
    """How far each machine of a release is."""
    table = release_machines.c
    query = select(release_machines).where(table.release_id == release_id)
    return {
        row.machine_id: Progress(row.wave, cast(Result, row.result), row.since_s) for row in db.execute(query)
    }


def set_sent(db: Connection, release_id: str, machine_id: str, request_id: str, now_s: float) -> bool:
    """Records by which request a machine gets a release; False if it got it already, from another gateway,
    or if the release was paused or stopped meanwhile."""
    table = release_machines
    runs = exists().where(releases.c.release_id == release_id, releases.c.state == RUNNING)
    values: dict[str, Any] = {"result": "SENT", "since_s": now_s, "request_id": request_id}
    chosen = (table.c.release_id == release_id) & (table.c.machine_id == machine_id)
    waits = update(table).where(chosen, table.c.result == "WAITING", runs)
    return db.execute(waits.values(**values)).rowcount == 1


def set_result_of_request(db: Connection, request_id: str, result: Result, now_s: float) -> None:
    """Records what came of the request by which a machine got a release; of another one nothing."""
    table = release_machines
    chosen = (table.c.request_id == request_id) & (table.c.result == "SENT")
    db.execute(update(table).where(chosen).values(result=result, since_s=now_s))


def end_release(db: Connection, release_id: str, state: str, reason: str, now_s: float) -> bool:
    """Ends a release that is under way or paused; False if it is neither."""
    chosen = (releases.c.release_id == release_id) & releases.c.state.in_((RUNNING, PAUSED))
    values = {"state": state, "reason": reason, "ended_s": now_s}
    return db.execute(update(releases).where(chosen).values(**values)).rowcount == 1


def pause_release(db: Connection, release_id: str, *, paused: bool) -> bool:
    """Lets a release rest, or go on; False if it is over, or does so already."""
    before, after = (RUNNING, PAUSED) if paused else (PAUSED, RUNNING)
    chosen = (releases.c.release_id == release_id) & (releases.c.state == before)
    return db.execute(update(releases).where(chosen).values(state=after)).rowcount == 1


def releases_under_way(db: Connection) -> list[ReleaseRow]:
    """Every release that is under way."""
    return [_row(row) for row in db.execute(select(releases).where(releases.c.state == RUNNING))]


def newest_releases(db: Connection, limit: int) -> list[ReleaseRow]:
    """The newest releases, newest first."""
    query = select(releases).order_by(releases.c.position.desc()).limit(limit)
    return [_row(row) for row in db.execute(query)]


def find_release(db: Connection, release_id: str) -> ReleaseRow | None:
    """One release; None if it is not known."""
    row = db.execute(select(releases).where(releases.c.release_id == release_id)).one_or_none()
    return None if row is None else _row(row)


def _row(row: Any) -> ReleaseRow:
    return ReleaseRow(row.release_id, row.version, row.actor, row.begun_s, row.state, row.reason, row.ended_s)
