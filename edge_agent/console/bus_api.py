"""The part of the local API for the buses."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_agent.console.streams import read_body, server_sent
from edge_agent.errors import Code, FieldViolation, Refusal
from edge_agent.protocol.api import Body
from edge_agent.service.bus_checks import Checks
from edge_agent.service.bus_scan import Scans
from edge_agent.service.bus_service import BusService

LONGEST_S = 86_400


class RangeBody(Body):
    """The addresses of a bus to ask; None: the limit of the bus."""

    first: int | None = None
    last: int | None = None


def bus_routes(service: BusService) -> list[Route]:
    """The routes below `/v1/bus`."""
    scans, checks = Scans(), Checks(service)

    async def stats(_: Request) -> Response:
        return JSONResponse(service.stats())

    async def device(request: Request) -> Response:
        return JSONResponse(service.device(request.path_params["device"]))

    async def monitor(request: Request) -> Response:
        seconds = _seconds(request.query_params.get("seconds"))
        return server_sent(service.monitor(request.query_params.get("bus"), seconds))

    async def scan(request: Request) -> Response:
        name = request.path_params["bus"]
        body = await read_body(request, RangeBody)
        return server_sent(scans.scan(name, service.place(name), body.first, body.last))

    async def check(_: Request) -> Response:
        return JSONResponse(await checks.run())

    async def doors(request: Request) -> Response:
        labels = request.query_params.getlist("cell")
        return server_sent(service.doors(_seconds(request.query_params.get("seconds")), labels))

    return [
        Route("/v1/bus", stats),
        Route("/v1/bus/monitor", monitor),
        Route("/v1/bus/devices/{device}", device),
        Route("/v1/bus/doors", doors),
        Route("/v1/bus/check", check, methods=["POST"]),
        Route("/v1/bus/{bus}/scan", scan, methods=["POST"]),
    ]


def _seconds(text: str | None) -> float | None:
    """How long to follow. Raises `Refusal` (`INVALID_ARGUMENT`)."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_S:
        problem = f"must be more than 0 and at most {LONGEST_S}"
        raise Refusal(Code.INVALID_ARGUMENT, f"seconds: {problem}", (FieldViolation("seconds", problem),))
    return seconds
