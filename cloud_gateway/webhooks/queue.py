"""The queue of webhooks in the database, from which several gateways deliver.

The delivering gateway holds a lease meanwhile; a dead gateway's lease expires by itself. Only the first
waiting one of a reservation is ever handed out, which keeps their order. Every function works inside the
caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, or_, select, update

from cloud_gateway.db.tables import reservations, webhooks


@dataclass(frozen=True, slots=True)
class Due:
    """A webhook that may be delivered now, and its address: its own URL, or that of the platform."""

    position: int
    webhook_url: str
    platform: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A webhook that this gateway delivers."""

    position: int
    reservation_id: str
    platform_order_id: str
    body: str
    attempts: int
    queued_s: float
    x_request_id: str | None


@dataclass(frozen=True, slots=True)
class PlausibleAhead:
    """How far ahead a time can plausibly be, in seconds; one further away comes from a clock that was set
    back."""

    retry_max_s: float
    lease_s: float


def _is_due(column: ColumnElement[float], far: str) -> ColumnElement[bool]:
    """Whether a time is over, or so far ahead that it comes from a clock that was set back. `far`: the
    parameter of that."""
    return or_(column <= bindparam("now_s"), column > bindparam(far))


_CLAIMABLE = (
    select(
        webhooks.c.position,
        webhooks.c.reservation_id,
        webhooks.c.platform_order_id,
        webhooks.c.body,
        webhooks.c.attempts,
        webhooks.c.queued_s,
        webhooks.c.x_request_id,
    )
    .where(
        webhooks.c.position.in_(bindparam("positions", expanding=True)),
        webhooks.c.state == "waiting",
        _is_due(webhooks.c.next_attempt_s, "retry_far_s"),
        _is_due(webhooks.c.lease_until_s, "lease_far_s"),
    )
    .with_for_update(skip_locked=True)
)
_LEASE = update(webhooks).where(webhooks.c.position.in_(bindparam("positions", expanding=True)))
_MINE = update(webhooks).where(
    webhooks.c.position == bindparam("at_position"),
    webhooks.c.lease_owner == bindparam("of_gateway"),
    webhooks.c.state == "waiting",
)


def due_webhooks(
    db: Connection,
    now_s: float,
    plausible_ahead: PlausibleAhead,
    limit: int,
    full: tuple[Collection[tuple[str, str]], Collection[str]] = ((), ()),
    after: int = 0,
) -> list[Due]:
    """What may be delivered now, oldest first: the first waiting one of each reservation whose details are
    known.

    `full`: receivers without a free slot, as `Deliverer._full_receivers` gives them. `after` is a position.
    """
    pairs, platforms = full
    query = _due_query(tuple(sorted(pairs)), tuple(sorted(platforms)))
    bounds = {
        "now_s": now_s,
        "retry_far_s": now_s + 2 * plausible_ahead.retry_max_s,
        "lease_far_s": now_s + 2 * plausible_ahead.lease_s,
        "after": after,
        "most": limit,
    }
    return [Due(*row) for row in db.execute(query, bounds)]


@lru_cache(maxsize=64)
def _due_query(pairs: tuple[tuple[str, str], ...], platforms: tuple[str, ...]) -> Select[Any]:
    """The query of `due_webhooks`; to build it costs more than to run it."""
    earlier = webhooks.alias("earlier")
    before = select(earlier.c.position).where(
        earlier.c.state == "waiting",
        earlier.c.reservation_id == webhooks.c.reservation_id,
        earlier.c.position < webhooks.c.position,
    )
    table = reservations.c
    default = reservations.c.webhook_url == ""
    return (
        select(webhooks.c.position, reservations.c.webhook_url, reservations.c.platform)
        .join(reservations, reservations.c.reservation_id == webhooks.c.reservation_id)
        .where(
            webhooks.c.state == "waiting",
            webhooks.c.position > bindparam("after"),
            _is_due(webhooks.c.next_attempt_s, "retry_far_s"),
            _is_due(webhooks.c.lease_until_s, "lease_far_s"),
            reservations.c.details_known.is_(True),
            *(~and_(table.platform == platform, table.webhook_url == url) for platform, url in pairs),
            ~and_(default, reservations.c.platform.in_(platforms)),
            ~before.exists(),
        )
        .order_by(webhooks.c.position)
        .limit(bindparam("most"))
    )


def claim(
    db: Connection, positions: Sequence[int], gateway_id: str, now_s: float, plausible_ahead: PlausibleAhead
) -> dict[int, Claimed]:
    """Leases webhooks to this gateway; without those that another gateway takes or took meanwhile."""
    bounds = {
        "positions": list(positions),
        "now_s": now_s,
        "retry_far_s": now_s + 2 * plausible_ahead.retry_max_s,
        "lease_far_s": now_s + 2 * plausible_ahead.lease_s,
    }
    ours = {row.position: Claimed(*row) for row in db.execute(_CLAIMABLE, bounds)}
    lease = {"lease_owner": gateway_id, "lease_until_s": now_s + plausible_ahead.lease_s}
    if ours:
        db.execute(_LEASE, {"positions": list(ours), **lease})
    return ours


def record_result(db: Connection, position: int, gateway_id: str, values: dict[str, Any]) -> bool:
    """Records the result of a delivery and returns the lease; False if it was no longer ours."""
    mine = {"at_position": position, "of_gateway": gateway_id, "lease_owner": None, "lease_until_s": 0.0}
    return db.execute(_MINE, mine | values).rowcount == 1


def postpone(
    db: Connection, webhook: Claimed, gateway_id: str, values: dict[str, Any], next_s: float
) -> bool:
    """Records a failed delivery and returns the lease: the webhook is due again at `next_s`, and the later
    ones of its reservation not before it. False if the lease was no longer ours."""
    if not record_result(db, webhook.position, gateway_id, values | {"next_attempt_s": next_s}):
        return False
    behind = (webhooks.c.reservation_id == webhook.reservation_id, webhooks.c.state == "waiting")
    later = webhooks.c.position > webhook.position
    db.execute(update(webhooks).where(*behind, later).values(next_attempt_s=next_s))
    return True


def release(db: Connection, gateway_id: str) -> None:
    """Releases the leases that a gateway of this name holds, from an earlier run or at its end."""
    mine = (webhooks.c.lease_owner == gateway_id, webhooks.c.state == "waiting")
    db.execute(update(webhooks).where(*mine).values(lease_owner=None, lease_until_s=0.0))


def requeue(db: Connection, position: int, now_s: float) -> bool:
    """Puts a dead webhook back into the queue as if it were new; False if there is no dead one."""
    dead = (webhooks.c.position == position, webhooks.c.state == "dead")
    values = {"state": "waiting", "attempts": 0, "next_attempt_s": now_s, "queued_s": now_s, "ended_s": None}
    return db.execute(update(webhooks).where(*dead).values(values)).rowcount == 1
