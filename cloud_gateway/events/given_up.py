"""Cancels reservations without a waiting caller: the caller was answered before the machine had replied.

A reserve that is answered EXPIRED or OFFLINE is recorded as given up. If its reservation turns up afterwards,
in an event, a late reply or `sync`, the gateway cancels it. It never cancels a reservation that it did not
give up, nor one that is past PENDING. A retry under the same X-Request-ID withdraws the cancellation first.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from sqlalchemy import Connection, delete, select, update

from cloud_gateway.db.store import DATABASE_GONE, Store, insert_once
from cloud_gateway.db.tables import given_up, reservations
from cloud_gateway.logs import error_fields, log
from cloud_gateway.machines.commands import MachineCommands, MachineRefusal
from cloud_gateway.settings import Timing
from edge_agent.errors import Code, Refusal
from edge_agent.model import ReservationStatus

CANCELS_AT_ONCE = 20
"""The most reservations that one round cancels."""


def record_given_up(
    db: Connection, reservation_id: str, machine_id: str, now_s: float, retry_wait_s: float
) -> None:
    """Records that the caller of a reserve was answered without the machine's reply.

    `retry_wait_s` is how long a cancellation waits for a retry under the same id.
    """
    values = {
        "reservation_id": reservation_id,
        "machine_id": machine_id,
        "cancel_after_s": now_s + retry_wait_s,
        "given_up_s": now_s,
    }
    insert_once(db, given_up, values)


def withdraw_cancellation(db: Connection, reservation_id: str, now_s: float) -> bool:
    """Withdraws the cancellation of a reservation that its caller requests again.

    Returns whether a cancel was sent before, whose outcome is not known. Raises `Refusal`: EXPIRED while a
    cancel is under way, NOT_ALLOWED where the machine has carried one out.
    """
    mine = given_up.c.reservation_id == reservation_id
    row = db.execute(select(given_up).where(mine).with_for_update()).one_or_none()
    if row is None:
        return False
    if row.cancelled_s is not None:
        raise cancelled_meanwhile()
    if row.attempt_until_s > now_s:
        raise Refusal(Code.EXPIRED, "the reservation is just being cancelled; try again")
    db.execute(delete(given_up).where(mine))
    return bool(row.attempts)


def cancelled_meanwhile() -> Refusal:
    """NOT_ALLOWED: the reservation of this request was given up and cancelled."""
    why = "the machine's reply to this request came too late, and its reservation was cancelled"
    return Refusal(Code.NOT_ALLOWED, f"{why}; send the request again with a new X-Request-ID")


def _turned_up(db: Connection, now_s: float) -> list[tuple[str, str]]:
    """(reservation id, machine id) of given-up reservations that hold a cell nevertheless, oldest first."""
    query = select(given_up.c.reservation_id, given_up.c.machine_id)
    query = query.join(reservations, reservations.c.reservation_id == given_up.c.reservation_id)
    query = query.where(
        given_up.c.cancelled_s.is_(None),
        given_up.c.cancel_after_s <= now_s,
        given_up.c.attempt_until_s <= now_s,
        given_up.c.machine_id == reservations.c.machine_id,
        reservations.c.status == ReservationStatus.PENDING.value,
        reservations.c.unknown_s.is_(None),
    )
    rows = db.execute(query.order_by(given_up.c.given_up_s))
    return [(row.reservation_id, row.machine_id) for row in rows]


def _claim(db: Connection, reservation_id: str, now_s: float, until_s: float) -> bool:
    """Claims the sending of a cancel; False if another gateway sends one, or a caller has withdrawn it."""
    free = (given_up.c.cancelled_s.is_(None), given_up.c.attempt_until_s <= now_s)
    mine = given_up.c.reservation_id == reservation_id
    values = {"attempt_until_s": until_s, "attempts": given_up.c.attempts + 1}
    return db.execute(update(given_up).where(mine, *free).values(values)).rowcount == 1


class GivenUpCanceller:
    """Searches for given-up reservations that turned up, and cancels them. Used on the event loop only."""

    def __init__(
        self, store: Store, machines: MachineCommands, timing: Timing, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._machines = machines
        self._timing = timing
        self._clock = clock

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            try:
                await self._round()
            except DATABASE_GONE as error:
                log().error("database_failed", **error_fields(error))
            await asyncio.sleep(self._timing.cancel_pause_s)

    async def _round(self) -> None:
        now_s = self._clock()
        found = await self._store.read(lambda db: _turned_up(db, now_s))
        there = [one for one in found if self._machines.is_online(one[1])]
        await asyncio.gather(*(self._cancel(*one) for one in there[:CANCELS_AT_ONCE]))

    async def _cancel(self, reservation_id: str, machine_id: str) -> None:
        now_s = self._clock()
        # A cancel whose reply is lost may be carried out until it expires; it is not retried before.
        until_s = now_s + 2 * self._timing.wait_s
        if not await self._store.write(lambda db: _claim(db, reservation_id, now_s, until_s)):
            return
        command_id = f"req_{uuid.uuid4().hex}"
        log().warning("reservation_given_up", machine_id=machine_id, reservation_id=reservation_id)
        try:
            await self._machines.call(
                machine_id,
                "cancel",
                {"reservation_id": reservation_id},
                command_id=command_id,
                x_request_id=command_id,
            )
        except MachineRefusal as refusal:
            log().warning("given_up_not_cancelled", machine_id=machine_id, code=refusal.code)
            # The machine decided: no cancel is under way. It is asked again if the status allows it.
            again_s = self._clock() + self._timing.completion_s
            await self._store.write(lambda db: _settle(db, reservation_id, again_s))
        except Refusal as refusal:
            log().warning("given_up_not_cancelled", machine_id=machine_id, code=int(refusal.code))
        else:
            done_s = self._clock()
            await self._store.write(lambda db: _settle(db, reservation_id, None, done_s))


def _settle(
    db: Connection, reservation_id: str, again_s: float | None, cancelled_s: float | None = None
) -> None:
    """Records that no cancel is under way any more."""
    values: dict[str, float | None] = {"attempt_until_s": 0.0, "cancelled_s": cancelled_s}
    if again_s is not None:
        values["cancel_after_s"] = again_s
    db.execute(update(given_up).where(given_up.c.reservation_id == reservation_id).values(values))
