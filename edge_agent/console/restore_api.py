"""Restoring after JOURNAL_LOST: the gateway's offer, and a technician's decision on it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_agent.console.access import Access
from edge_agent.console.streams import read_body
from edge_agent.model import Reservation
from edge_agent.protocol.api import Body, Identifier
from edge_agent.runtime.local_requests import LocalRequests


class RestoreBody(Body):
    """`none`: start empty, with no reservation. `place`: the cell of a reservation, by its id, if the gateway
    did not give the right one."""

    none: bool = False
    place: Annotated[dict[Identifier, Identifier], Field(default_factory=dict)]


def restore_routes(local: LocalRequests, access: Access) -> list[Route]:
    """`GET` shows what would be restored, without codes; `POST` restores it."""

    async def show(_: Request) -> Response:
        return JSONResponse({"reservations": [_row(one) for one in local.offered()]})

    async def restore(request: Request) -> Response:
        actor = await access.actor(request, proven=True)
        body = await read_body(request, RestoreBody)
        answer = await local.restore(none=body.none, place=body.place, actor=actor)
        if answer.refusal is not None:
            raise answer.refusal
        return JSONResponse({"restored": True})

    return [
        Route("/v1/restore", show, methods=["GET"]),
        Route("/v1/restore", restore, methods=["POST"]),
    ]


def _row(reservation: Reservation) -> dict[str, Any]:
    return {
        "reservation_id": reservation.reservation_id,
        "platform_order_id": reservation.platform_order_id,
        "cell": reservation.cell,
        "status": reservation.status.value,
    }
