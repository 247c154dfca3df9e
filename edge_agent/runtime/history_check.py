"""Finds out whether the journal holds everything that this machine did, from its own retained digest and from
the gateway.

The core decides what the machine does about it (`edge_agent.statemachine.history`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from pydantic import ValidationError

from edge_agent.errors import Code, Refusal
from edge_agent.model import Instant, Packaging, Reservation, ReservationStatus
from edge_agent.protocol.commands import LostReservation, RestoreCommand
from edge_agent.protocol.events import HistoryState
from edge_agent.protocol.sync import Digest
from edge_agent.runtime.ids import Ids
from edge_agent.runtime.loop import LockerLoop
from edge_agent.statemachine.history import FROZEN, LOST, TO_LOSE, YOUNG, former_key
from edge_agent.statemachine.inputs import HistoryAhead, HistoryCompared, HistoryLost

log = structlog.get_logger()

SOME_PACKAGING = Packaging(width_mm=1, height_mm=1, depth_mm=1)
"""For a reservation whose packaging the gateway does not know."""
STATUS_ORDER = {
    ReservationStatus.PENDING: 1,
    ReservationStatus.DROPPED_OFF: 2,
    ReservationStatus.PICKED_UP: 3,
}
"""The order in which a live reservation passes through its statuses."""
BEFORE_THE_LOSS = "before the journal was lost"
"""Boot id of moments that come from the gateway."""


class HistoryCheck:
    """Compares histories; keeps the gateway's offer until a technician takes it.

    `on_change`: the content of `state/online` has changed. `on_twin`: another machine publishes under our
    name. `run_id` identifies this start.
    """

    def __init__(
        self,
        machine_id: str,
        run_id: str,
        journal_id: Callable[[], str],
        loop: LockerLoop,
        ids: Ids,
        *,
        ended: Callable[[str], ReservationStatus | None],
        on_change: Callable[[], None],
        on_twin: Callable[[], None],
    ) -> None:
        """`ended`: the last status of a reservation that is over, None if the journal knows none."""
        self._machine_id = machine_id
        self._run_id = run_id
        self._retained_digest: bytes | None = None
        """The digest that the broker last reported as retained."""
        self._twins: set[str] = set()
        """Runs of other machines; the same digest of one of them may be read again."""
        self._journal_id = journal_id
        self._loop = loop
        self._ids = ids
        self._ended = ended
        self.offer: RestoreCommand | None = None
        self._on_change = on_change
        self._on_twin = on_twin

    @property
    def state(self) -> HistoryState:
        """The state of the history as it is published."""
        state = self._loop.state
        if LOST in state.alarms or TO_LOSE in state.history:
            return "lost"
        return "asking" if FROZEN in state.history or YOUNG in state.history else "sound"

    def retained_digest_read(self, payload: bytes) -> None:
        """Takes the broker's copy of the last digest that this machine published. Any client may have written
        it."""
        try:
            digest = Digest.model_validate_json(payload)
        except ValidationError:
            log.error("the retained digest cannot be read")
            return
        if self._is_a_twins(digest, payload):
            log.error("another machine uses our machine_id", run=digest.run)
            self._on_twin()
            return  # its journal shows nothing about ours, which this start has written since
        if digest.run == self._run_id:
            return
        # A digest of an earlier run: events since this start do not count, since an older copy numbers them
        # anew.
        state, ours, last = self._loop.state, self._journal_id(), self._loop.started_sequence
        if digest.machine_id != self._machine_id or former_key(digest.journal_id) in state.history:
            return
        if digest.journal_id == ours and digest.last_sequence <= last:
            return
        kept = f"the broker keeps a digest of journal {digest.journal_id[:8]}, event {digest.last_sequence}"
        if YOUNG in state.history:
            why = f"the journal is new, and {kept}"
            self._loop.submit(HistoryLost(why), on_done=self._on_change)
        else:
            why = f"{kept}; the journal is {ours[:8]} and ends at event {last}"
            self._loop.submit(HistoryAhead(why), on_done=self._on_change)
        log.error("history in doubt", reason=why)

    def digest_acknowledged(self, payload: bytes) -> None:
        """The broker has acknowledged a digest of this start and retains it from now on."""
        self._retained_digest = payload

    def _is_a_twins(self, digest: Digest, payload: bytes) -> bool:
        """Whether another start has published a digest since this one first connected."""
        before, self._retained_digest = self._retained_digest, payload
        if digest.run is None or digest.run == self._run_id:
            return False
        if before not in (None, payload):
            self._twins.add(digest.run)
        return digest.run in self._twins

    def restore(self, command: RestoreCommand) -> dict[str, Any]:
        """Takes what the gateway holds of this machine; returns the result of the command `restore`."""
        state = self._loop.state
        if self.state == "lost":
            self.offer = command
        elif FROZEN in state.history:
            self._compare(command)
        elif YOUNG in state.history:
            self._compare_new_journal(command)
        return {"history": self.state}

    def _compare(self, command: RestoreCommand) -> None:
        state, ours = self._loop.state, self._journal_id()
        current = command.journal_id
        known = current in (None, ours) or former_key(current or "") in state.history
        beyond = not known or command.applied.get(ours, 0) > self._loop.last_sequence
        beyond = beyond or any(self._unknown(one) for one in command.reservations)
        new_id = self._ids.unique("j").removeprefix("j_") if beyond else None
        theirs = {one.reservation_id: (one.cell, one.status) for one in command.reservations}
        self.offer = command if beyond else None
        given = HistoryCompared(theirs, new_id, ours)
        self._loop.submit(given, on_done=self._on_change)

    def _unknown(self, offered: LostReservation) -> bool:
        """Whether the gateway has seen more of a reservation than the journal holds. The gateway may lag, but
        it is never ahead of what the machine did."""
        ours = self._loop.state.reservations.get(offered.reservation_id)
        if ours is None:
            return self._ended(offered.reservation_id) is None
        return STATUS_ORDER.get(offered.status, 0) > STATUS_ORDER.get(ours.status, 0)

    def _compare_new_journal(self, command: RestoreCommand) -> None:
        """Handles the first message of a gateway to a machine with a new journal and no sign of an earlier
        one."""
        earlier = [
            name for name, applied in command.applied.items() if name != self._journal_id() and applied
        ]
        held = [r for r in command.reservations if r.reservation_id not in self._loop.state.reservations]
        if earlier or held:
            self.offer = command
            why = f"the journal is new, and the gateway holds {len(held)} reservations of this machine"
            log.error("history lost", reason=why)
            self._loop.submit(HistoryLost(why), on_done=self._on_change)
        else:
            self._loop.submit(HistoryCompared({}), on_done=self._on_change)

    def offered(self) -> list[Reservation]:
        """The reservations that the gateway has offered and that have not ended here meanwhile.

        Raises `Refusal` (`OFFLINE`) if it has not answered yet.
        """
        if self.offer is None:
            raise Refusal(Code.OFFLINE, "the gateway has not sent what it holds yet: is the link up?")
        offered = self.offer.reservations
        return [_reservation(one) for one in offered if self._ended(one.reservation_id) is None]


def _reservation(lost: LostReservation) -> Reservation:
    dropped_off = _moment(lost.dropped_off_at)
    created = _moment(lost.created_at)
    assert created is not None
    return Reservation(
        reservation_id=lost.reservation_id,
        platform=lost.platform,
        platform_order_id=lost.platform_order_id,
        packaging=SOME_PACKAGING if lost.packaging is None else lost.packaging.to_model(),
        cell=lost.cell,
        drop_off_code=lost.drop_off_code,
        pickup_code=lost.pickup_code,
        created=created,
        status=lost.status,
        notes=lost.notes,
        webhook_url=lost.webhook_url,
        eta_minutes=lost.eta_minutes,
        grace_pickup_s=lost.grace_period_pickup_in_seconds,
        grace_dropoff_s=lost.grace_period_dropoff_in_seconds,
        first_dropoff=dropped_off,
        dropped_off=dropped_off,
        picked_up=_moment(lost.picked_up_at),
    )


def _moment(at: datetime | None) -> Instant | None:
    return None if at is None else Instant(BEFORE_THE_LOSS, 0, at.timestamp(), synced=True)
