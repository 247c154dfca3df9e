"""`/api/operations/v1/forget`: forgets whose the reservations of an order were, here and at the machines."""

from __future__ import annotations

from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Body, Depends
from sqlalchemy import Connection

from cloud_gateway.api.common import NOT_FOUND_ERRORS, WithParts, error_responses
from cloud_gateway.operations.acts import record_act
from cloud_gateway.operations.remote_api import PREFIX, described
from cloud_gateway.operations.routes import Acting, actor_of, refuse_without, same_site
from cloud_gateway.remote.forgetting import forget_order
from cloud_gateway.users import Role
from edge_agent.errors import Refusal
from edge_agent.protocol.api import Body as JsonBody
from edge_agent.protocol.api import Identifier


class ForgetBody(JsonBody):
    """The order to forget."""

    platform_order_id: Identifier = described("The platform's id of the order.", "order-1234")


class ForgottenView(JsonBody):
    """What was forgotten."""

    reservation_ids: list[str] = described("The reservations; their ids name nobody.", ["res_0f1e2d3c"])
    machines: dict[str, str] = described(
        "For each machine what it was asked: the id of the service command, or why it was not.",
        {"machine_123": "svc_0f1e2d3c"},
    )


router = APIRouter(
    prefix=PREFIX,
    dependencies=[Depends(actor_of)],
    tags=["privacy"],
    responses=error_responses(
        s400="INVALID_ARGUMENT (3): a field is wrong; NOT_ALLOWED (9): the order is not over",
        s401="UNAUTHENTICATED (16): name and password are missing or wrong",
        s403="PERMISSION_DENIED (7): the request comes from another site, or needs another role",
        s429="NO_CELL (8): too many wrong keys from one address; Retry-After gives the seconds to wait",
        s500="INTERNAL (13)",
    ),
)


@router.post("/forget", responses=NOT_FOUND_ERRORS, dependencies=[Depends(same_site)])
async def forget(body: Annotated[ForgetBody, Body()], parts: WithParts, actor: Acting) -> ForgottenView:
    """Forgets order id, notes, addresses and codes of an order's reservations, and asks their machines to do
    the same. A machine that is offline is named; repeat `edge-agent forget` there."""
    await refuse_without(parts, actor, Role.OPERATOR, "forget order", "")
    now_s = parts.clock()

    def work(db: Connection) -> dict[str, list[str]]:
        found = forget_order(db, body.platform_order_id, now_s)
        ids = ", ".join(sorted(chain.from_iterable(found.values())))
        record_act(db, actor, "forget order", ids, "done", now_s)
        return found

    by_machine = await parts.store.write(work)
    await parts.store.scrub()
    asked = {}
    for machine_id, ids in by_machine.items():
        try:
            assert parts.remote is not None
            made = await parts.remote.request(machine_id, "forget", {"reservation_ids": ids}, actor.name)
            asked[machine_id] = made.request_id if made.error is None else str(made.error["message"])
        except Refusal as refusal:
            asked[machine_id] = refusal.message
    return ForgottenView(reservation_ids=sorted(chain.from_iterable(by_machine.values())), machines=asked)
