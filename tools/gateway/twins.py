"""Two machines under one name: a copied card.

Each start of a machine has a `run` of its own. A run that speaks again after another one spoke shows that
both are alive: nothing is granted there until an operator has decided.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from sqlalchemy import Connection, select, update

from edge_agent.protocol.api import Body, rfc3339
from edge_agent.protocol.events import Online
from tools.gateway.logs import log
from tools.gateway.order import lock_source
from tools.gateway.store import Store
from tools.gateway.tables import sources

RUNS_KEPT = 50
"""So many earlier runs of a machine are remembered."""


class TwinsFound(Body):
    """Two machines that answer to one name: what each told of itself, and since when it is known."""

    instances: list[str]
    since: str


class Twins:
    """Lives on the event loop; what was found is in the database and stays until an operator's word."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._runs: dict[str, list[tuple[str, str]]] = {}
        """Run and instance of a machine's births, the last one last."""
        self._found: dict[str, TwinsFound] = {}

    async def load(self) -> None:
        """What was found before this start."""
        self._found = await self._store.read(_kept)

    def of(self, machine_id: str) -> TwinsFound | None:
        """What was found of a machine; None if it is one."""
        return self._found.get(machine_id)

    def last_run(self, machine_id: str) -> str | None:
        """The run that was born last."""
        runs = self._runs.get(machine_id)
        return runs[-1][0] if runs else None

    async def heard(self, machine_id: str, state: Online, *, retained: bool) -> None:
        """A machine was born, or told of itself again."""
        if state.run is None or not state.online:
            return
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

    async def release(self, machine_id: str) -> bool:
        """An operator says that only the right one runs now. False if there was nothing to decide."""
        if self._found.pop(machine_id, None) is None:
            return False
        self._runs[machine_id] = self._runs.get(machine_id, [])[-1:]
        await self._store.write(lambda db: _keep(db, machine_id, None))
        log().warning("twins_released", machine_id=machine_id)
        return True

    async def _note(self, machine_id: str, found: TwinsFound) -> None:
        if machine_id not in self._found:
            self._found[machine_id] = found
            await self._store.write(lambda db: _keep(db, machine_id, found))


def _kept(db: Connection) -> dict[str, TwinsFound]:
    query = select(sources.c.machine_id, sources.c.twins).where(sources.c.twins.is_not(None))
    return {row.machine_id: TwinsFound.model_validate_json(row.twins) for row in db.execute(query)}


def _keep(db: Connection, machine_id: str, found: TwinsFound | None) -> None:
    lock_source(db, machine_id)
    text = None if found is None else json.dumps(found.model_dump())
    db.execute(update(sources).where(sources.c.machine_id == machine_id).values(twins=text))
