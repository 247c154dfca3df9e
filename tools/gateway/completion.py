"""Asks machines for reservations that are known from events only, because the reply was lost."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from edge_agent.errors import Refusal
from tools.gateway.logs import log, where
from tools.gateway.machines import MachineRefusal, Machines
from tools.gateway.settings import Timing
from tools.gateway.store import Store


class Completion:
    """A slow beat; the reply itself completes the reservation in the projection."""

    def __init__(self, store: Store, machines: Machines, timing: Timing, clock: Callable[[], float]) -> None:
        self._store = store
        self._machines = machines
        self._timing = timing
        self._clock = clock

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await asyncio.sleep(self._timing.completion_s)
            try:
                waiting = await self._store.incomplete(self._clock() - self._timing.completion_s)
            except SQLAlchemyError as error:
                log().error("database_failed", **where(error))
                continue
            for reservation_id, machine_id in waiting:
                if self._machines.is_online(machine_id):
                    await self._ask(reservation_id, machine_id)

    async def _ask(self, reservation_id: str, machine_id: str) -> None:
        request_id = f"req_{uuid.uuid4().hex}"
        try:
            await self._machines.call(
                machine_id,
                "get-reservation",
                {"reservation_id": reservation_id},
                request_id=request_id,
                x_request_id=request_id,
            )
        except (MachineRefusal, Refusal) as refusal:
            log().warning("completion_refused", machine_id=machine_id, code=int(refusal.code))
