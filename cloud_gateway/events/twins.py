"""Detects two machines that use one machine_id, as after a copied memory card.

Each start of a machine has a random id, its `run`. A run that publishes again after another run did shows
that both machines are alive. No command that grants anything is sent to that machine_id until an operator has
decided.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, select, update

from cloud_gateway.db.store import Store
from cloud_gateway.db.tables import sources
from cloud_gateway.events import audit
from cloud_gateway.events.sequence import lock_machine
from cloud_gateway.logs import log
from edge_agent.protocol.api import Body, rfc3339
from edge_agent.protocol.events import Online

RUNS_KEPT = 50
"""How many earlier runs of a machine are remembered."""


def _no_record(_db: Connection, _found: bool) -> None:
    """Records nothing."""


class TwinsFound(Body):
    """Two machines that use one machine_id: what each published of itself, and since when it is known."""

    instances: list[str]
    since: str


class Twins:
    """Used on the event loop only. The findings are in the database and stay until an operator's decision; if
    several gateways share the database, the database is authoritative."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._runs: dict[str, list[tuple[str, str]]] = {}
        """Run and instance of a machine's births, oldest first."""
        self._found: dict[str, TwinsFound] = {}
        self._released: dict[str, float] = {}
        """When an operator decided, as far as this gateway has processed it."""

    async def load(self) -> None:
        """Loads the findings from before this start."""
        self._found = await self._store.read(kept)

    async def has_unresolved(self, machine_id: str) -> bool:
        """Whether two machines use this machine_id, and no operator has decided yet."""
        if self._store.shared:
            await self._follow(machine_id)
        return machine_id in self._found

    def last_run(self, machine_id: str) -> str | None:
        """The run of the last birth."""
        runs = self._runs.get(machine_id)
        return runs[-1][0] if runs else None

    async def take_online(self, machine_id: str, state: Online, *, retained: bool) -> None:
        """Takes a published `state/online`, and detects a second machine."""
        if state.run is None or not state.online:
            return
        if self._store.shared:
            await self._follow(machine_id)
        runs = self._runs.setdefault(machine_id, [])
        if runs and runs[-1][0] == state.run:
            return
        before = [instance for run, instance in runs if run == state.run]
        mine = f"{state.instance or 'unknown'} run {state.run[-8:]}"
        if before and not retained:
            other = runs[-1][1]
            log().error("twins_found", machine_id=machine_id, instances=[other, mine])
            await self._note(machine_id, TwinsFound(instances=[other, mine], since=rfc3339(self._clock())))
        self._runs[machine_id] = [*(one for one in runs if one[0] != state.run), (state.run, mine)][
            -RUNS_KEPT:
        ]

    async def release(self, machine_id: str, record: Callable[[Connection, bool], None] = _no_record) -> bool:
        """An operator states that only the right machine runs now: its journal is compared with the events of
        both (`audit`). False if there was nothing to decide. `record` is called in the same transaction, with
        what is returned."""
        now_s = self._clock()

        def work(db: Connection) -> bool:
            found = _release(db, machine_id, now_s)
            record(db, found)
            return found

        if not await self._store.write(work):
            return False
        self._settle(machine_id, None, now_s)
        log().warning("twins_released", machine_id=machine_id)
        return True

    async def _follow(self, machine_id: str) -> None:
        """Takes over the findings of other gateways and the operators' decisions there."""
        row = await self._store.read(lambda db: _row(db, machine_id))
        if row is not None:
            found = None if row.twins is None else TwinsFound.model_validate_json(row.twins)
            self._settle(machine_id, found, row.released_s)

    def _settle(self, machine_id: str, found: TwinsFound | None, released_s: float) -> None:
        if found is None:
            self._found.pop(machine_id, None)
        else:
            self._found[machine_id] = found
        if released_s != self._released.get(machine_id, 0.0):
            self._released[machine_id] = released_s
            self._runs[machine_id] = self._runs.get(machine_id, [])[-1:]

    async def _note(self, machine_id: str, found: TwinsFound) -> None:
        if machine_id not in self._found:
            await self._store.write(lambda db: _store_twins(db, machine_id, found))
            self._found[machine_id] = found


def kept(db: Connection) -> dict[str, TwinsFound]:
    """The findings that are not decided yet."""
    query = select(sources.c.machine_id, sources.c.twins).where(sources.c.twins.is_not(None))
    return {row.machine_id: TwinsFound.model_validate_json(row.twins) for row in db.execute(query)}


def _row(db: Connection, machine_id: str) -> Any:
    query = select(sources.c.twins, sources.c.released_s).where(sources.c.machine_id == machine_id)
    return db.execute(query).one_or_none()


def _store_twins(db: Connection, machine_id: str, found: TwinsFound) -> None:
    lock_machine(db, machine_id)
    mine = (sources.c.machine_id == machine_id, sources.c.twins.is_(None))
    db.execute(update(sources).where(*mine).values(twins=json.dumps(found.model_dump())))


def _release(db: Connection, machine_id: str, now_s: float) -> bool:
    lock_machine(db, machine_id)
    row = _row(db, machine_id)
    if row is None or row.twins is None:
        return False
    audit.begin(db, machine_id, now_s)
    return True
