"""Answers machines whose history is in doubt, with the command `restore`.

A machine reports the doubt itself, in `state/online`. The command states how far we have its events, journal
by journal, and the live reservations with their codes; the machine and a technician decide what to do with
them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import Any

from sqlalchemy import Connection, select

from cloud_gateway.db.store import DATABASE_GONE, Store
from cloud_gateway.db.tables import counts, reservations, sources
from cloud_gateway.events.sequence import is_suspected
from cloud_gateway.events.sync import live_on
from cloud_gateway.logs import error_fields, log
from cloud_gateway.machines.commands import MachineCommands, MachineRefusal
from cloud_gateway.value_bounds import shown_date
from edge_agent.errors import Code, Refusal

JOURNALS_MAX = 1000
ROUND_PAUSE_S = 0.5
"""Pause before `restore` is sent again to a machine that has not accepted it; it doubles."""
PAUSE_MAX_S = 60.0


class RestoreSender:
    """Sends `restore` to machines whose history is in doubt, one task for each. Used on the event loop
    only."""

    def __init__(self, store: Store, machines: MachineCommands) -> None:
        self._store = store
        self._machines = machines
        self._asking: asyncio.Queue[str] = asyncio.Queue()
        self._answering: dict[str, asyncio.Event] = {}
        """The machines that are being answered, each with an event that is set when it publishes its state
        again."""

    def machine_came_online(self, machine_id: str) -> None:
        """A machine has published that it is online.

        A retained state may arrive before the link to the broker counts as connected: the machine is answered
        when it does.
        """
        if machine_id in self._answering:
            self._answering[machine_id].set()
        elif self._machines.last_published_history(machine_id) in ("asking", "lost"):
            self._answering[machine_id] = asyncio.Event()
            self._asking.put_nowait(machine_id)

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                machine_id = await self._asking.get()
                group.create_task(self._answer(machine_id), name=f"restore {machine_id}")

    async def _answer(self, machine_id: str) -> None:
        """Sends `restore` until the machine reports a sound history or goes offline.

        A machine with a lost history stays so until a technician comes: it gets one answer. One that still
        asks after it has answered us gets another one, because what it published in between may have been
        lost.
        """
        pause_s, again = ROUND_PAUSE_S, self._answering[machine_id]
        try:
            while self._machines.last_published_history(machine_id) in ("asking", "lost"):
                again.clear()
                if (
                    await self._restore(machine_id)
                    and self._machines.last_published_history(machine_id) == "lost"
                ):
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):  # `wait_for` may lose a cancellation (Python 3.11)
                        await again.wait()
                pause_s = ROUND_PAUSE_S if again.is_set() else min(PAUSE_MAX_S, 2 * pause_s)
        finally:
            del self._answering[machine_id]

    async def _restore(self, machine_id: str) -> bool:
        command_id = f"req_{uuid.uuid4().hex}"
        try:
            if await self._store.read(lambda db: is_suspected(db, machine_id)):
                raise Refusal(Code.OFFLINE, "two machines use this machine_id")
            fields = await self._store.read(lambda db: held_of(db, machine_id))
            await self._machines.call(
                machine_id, "restore", fields, command_id=command_id, x_request_id=command_id
            )
        except (MachineRefusal, Refusal) as refusal:
            log().warning("restore_refused", machine_id=machine_id, code=int(refusal.code))
            return False
        except DATABASE_GONE as error:
            log().error("database_failed", **error_fields(error))
            return False
        log().info("restore_sent", machine_id=machine_id, reservations=len(fields["reservations"]))
        return True


def held_of(db: Connection, machine_id: str) -> dict[str, Any]:
    """The fields of `restore`: all that is known of a machine."""
    journal = select(sources.c.journal_id).where(sources.c.machine_id == machine_id)
    applied = select(counts.c.journal_id, counts.c.applied_sequence).where(
        counts.c.machine_id == machine_id, counts.c.applied_sequence.is_not(None), counts.c.journal_id != ""
    )
    live = select(reservations).where(live_on(machine_id), reservations.c.details_known.is_(True))
    return {
        "journal_id": db.execute(journal).scalar_one_or_none() or None,
        "applied": {row.journal_id: row.applied_sequence for row in db.execute(applied.limit(JOURNALS_MAX))},
        "reservations": [_fields_of(row) for row in db.execute(live.order_by(reservations.c.position))],
    }


def _fields_of(row: Any) -> dict[str, Any]:
    fields = {
        "reservation_id": row.reservation_id,
        "platform": row.platform,
        "platform_order_id": row.platform_order_id,
        "notes": row.notes,
        "webhook_url": row.webhook_url,
        "status": row.status,
        "created_at": shown_date(row.created_s),
        "cell": row.cell_label or "",
        "drop_off_code": row.drop_off_code,
        "pickup_code": row.pickup_code,
        "grace_period_pickup_in_seconds": row.grace_pickup_s,
        **json.loads(row.needs or "{}"),
    }
    for name, moment_s in (("dropped_off_at", row.dropped_off_s), ("picked_up_at", row.picked_up_s)):
        if moment_s is not None:
            fields[name] = shown_date(moment_s)
    return fields
