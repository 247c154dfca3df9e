"""The part of the local API that runs the self-test."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_agent.console.access import Access
from edge_agent.console.streams import read_body, server_sent
from edge_agent.protocol.api import Body
from edge_agent.service.diagnosis.diagnose import Diagnosis


class DiagnoseBody(Body):
    """`doors`: also open every free cell, which needs a technician if there are any. `outputs`: also switch
    on the heaters of free cells for some seconds."""

    doors: Annotated[bool, Field(strict=True)] = False
    outputs: Annotated[bool, Field(strict=True)] = True


def diagnose_routes(diagnosis: Diagnosis, access: Access) -> list[Route]:
    """The route `/v1/diagnose`."""

    async def diagnose(request: Request) -> Response:
        body = await read_body(request, DiagnoseBody)
        actor = await access.actor(request, proven=body.doors)
        return server_sent(diagnosis.run(doors=body.doors, outputs=body.outputs, actor=actor))

    return [Route("/v1/diagnose", diagnose, methods=["POST"])]
