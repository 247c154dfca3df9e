"""The part of the local API for lights and buzzers at the doors."""

from __future__ import annotations

from typing import Annotated

import structlog
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_agent.console.access import Access
from edge_agent.console.streams import read_body
from edge_agent.errors import Code, Refusal
from edge_agent.field.signals import Signals
from edge_agent.protocol.api import Body
from edge_agent.runtime.local_requests import LocalRequests

log = structlog.get_logger()


class BlinkBody(Body):
    """How long the signals of a cell blink."""

    seconds: Annotated[int, Field(strict=True, ge=1, le=60)] = 10


def signal_routes(signals: Signals, local: LocalRequests, access: Access) -> list[Route]:
    """The route that makes the signals of a cell blink; no lock moves."""

    async def blink(request: Request) -> Response:
        label = local.label_of(request.path_params["label"])
        body = await read_body(request, BlinkBody)
        actor = await access.actor(request, proven=False)
        if label not in local.loop.state.cells:
            raise Refusal(Code.NOT_FOUND, f"no such cell: {label}")
        shown = await signals.blink(label, body.seconds)
        log.info("signal", cell=label, signals=shown, seconds=body.seconds, by=actor)
        return JSONResponse({"cell": {"description": label}, "signals": shown, "seconds": body.seconds})

    return [Route("/v1/cells/{label}/signal", blink, methods=["POST"])]
