"""The local API: HTTP on a Unix socket of the machine. Nothing that it shows contains a code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import structlog
from pydantic import Field
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ExceptionHandler

from edge_agent.config.changes import Change
from edge_agent.console.access import PROVEN_ACTS, Access, PermissionMiddleware
from edge_agent.console.bus_api import bus_routes
from edge_agent.console.diagnose_api import diagnose_routes
from edge_agent.console.metrics import Numbers, metrics_route
from edge_agent.console.restore_api import restore_routes
from edge_agent.console.signal_api import signal_routes
from edge_agent.console.streams import numbered, read_body
from edge_agent.errors import Code, FieldViolation, Refusal, StorageFault
from edge_agent.field.signals import Signals
from edge_agent.model import Verdict
from edge_agent.protocol.api import Body, Identifier, rpc_status
from edge_agent.runtime.local_requests import LocalRequests
from edge_agent.runtime.loop import journal_fault
from edge_agent.service.bus_service import BusService
from edge_agent.service.diagnosis.diagnose import Diagnosis
from edge_agent.service.forgetting import Forgetting
from edge_agent.service.readiness import Readiness
from edge_agent.service.report import LONGEST_LIST, Report
from edge_agent.service.timeline import Place
from edge_agent.statemachine.outputs import Answer

log = structlog.get_logger()

HTTP_STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.NOT_ALLOWED: 400,
    Code.NOT_FOUND: 404,
    Code.NO_CELL: 429,
    Code.NOT_BUILT: 501,
    Code.OFFLINE: 503,
    Code.EXPIRED: 504,
    Code.PERMISSION_DENIED: 403,
    Code.UNAUTHENTICATED: 401,
}
"""HTTP status for the code of a refusal; 500 for all others."""


class CodeBody(Body):
    """The input of the keypad or scanner."""

    text: Identifier = Field(repr=False)


class ReasonBody(Body):
    """A technician's reason for an action."""

    reason: Identifier


class VerdictBody(Body):
    """A technician's verdict on a cell in doubt."""

    verdict: Verdict


class ForgetBody(Body):
    """The order whose personal data are to be forgotten."""

    platform_order_id: Identifier = Field(repr=False)


class Reloads(Protocol):
    """Applies a new configuration."""

    def in_use(self) -> dict[str, Any]:
        """Which configuration is in use."""

    def effective(self) -> list[dict[str, Any]]:
        """Every key of the configuration in use: `key`, `value`, and `from`, `file` or `default`."""

    async def reload(self, actor: str) -> list[Change]:
        """Starts to apply the file's changes and returns them. Raises `Refusal`."""


@dataclass(frozen=True, slots=True)
class ConsolePort:
    """What the console needs of the daemon; without `buses` nothing below `/v1/bus` is served."""

    local: LocalRequests
    report: Report
    buses: BusService | None = None
    access: Access = field(default_factory=Access)
    """The permissions of the callers."""
    service: Reloads | None = None
    diagnosis: Diagnosis | None = None
    """Without it there is no self-test."""
    signals: Signals | None = None
    """Without it no signal blinks."""
    readiness: Readiness | None = None
    """For the updater."""
    forgetting: Forgetting | None = None


def create_app(port: ConsolePort) -> Starlette:
    """The application behind the socket."""
    local, report = port.local, port.report

    async def code(request: Request) -> Response:
        body = await read_body(request, CodeBody)
        return _answer(await local.enter_code(body.text))

    async def events(request: Request) -> Response:
        limit = _limit(request.query_params.get("limit", "100"))
        if request.query_params.get("follow") != "1":
            return JSONResponse(report.timeline(limit=limit))
        after = _place(request.headers.get("last-event-id")) or report.newest_place()
        return numbered(after, report.follow(after))

    async def temperatures(request: Request) -> Response:
        return JSONResponse(report.temperatures(request.path_params["rid"]))

    async def act(request: Request) -> Response:
        name, label = request.path_params["act"], local.label_of(request.path_params["label"])
        actor = await port.access.actor(request, proven=name in PROVEN_ACTS)
        return _answer(await _act(local, name, label, actor, request))

    def shows(what: Callable[[], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def show(_: Request) -> Response:
            return JSONResponse(what())

        return show

    async def refused(_: Request, error: Exception) -> Response:
        if isinstance(error, StorageFault):
            log.error("journal cannot be read", error=str(error))
            error = journal_fault()
        assert isinstance(error, Refusal)
        return JSONResponse(rpc_status(error), HTTP_STATUS.get(error.code, 500))

    handlers: dict[Any, ExceptionHandler] = {Refusal: refused, StorageFault: refused}
    return Starlette(
        routes=[
            Route("/v1/code", code, methods=["POST"]),
            Route("/v1/alive", shows(lambda: {"alive": True})),
            Route("/v1/status", shows(partial(_status, port))),
            Route("/v1/configuration", shows(partial(_configuration, port))),
            Route("/v1/reload", partial(_reload, port), methods=["POST"]),
            Route("/v1/cells", shows(report.cells)),
            Route("/v1/alarms", shows(report.alarms)),
            Route("/v1/reservations", partial(_reservations, report)),
            Route("/v1/reservations/{rid:path}/temperatures", temperatures),
            Route("/v1/events", events),
            *_remote_routes(port),
            *([] if port.signals is None else signal_routes(port.signals, local, port.access)),
            Route("/v1/cells/{label}/{act}", act, methods=["POST"]),
            metrics_route(Numbers(report, port.buses, port.access.connections)),
            *([] if port.buses is None else bus_routes(port.buses)),
            *restore_routes(local, port.access),
            *([] if port.diagnosis is None else diagnose_routes(port.diagnosis, port.access)),
        ],
        middleware=[Middleware(PermissionMiddleware, access=port.access)],
        exception_handlers=handlers,
    )


def _status(port: ConsolePort) -> dict[str, Any]:
    service = port.service
    return port.report.status() | ({} if service is None else {"configuration": service.in_use()})


def _service(port: ConsolePort) -> Reloads:
    if port.service is None:
        raise Refusal(Code.NOT_BUILT, "this daemon has no configuration file")
    return port.service


def _configuration(port: ConsolePort) -> list[dict[str, Any]]:
    return _service(port).effective()


async def _reload(port: ConsolePort, request: Request) -> Response:
    service = _service(port)
    actor = await port.access.actor(request, proven=False)
    number = service.in_use()["number"]
    found = await service.reload(actor)
    rows = [{"path": one.path, "before": one.before, "after": one.after} for one in found]
    return JSONResponse({"changes": rows, "number": number})


async def _reservations(report: Report, request: Request) -> Response:
    if request.query_params.get("all") != "1":
        return JSONResponse(report.reservations())
    limit = _limit(request.query_params.get("limit", "100"))
    return JSONResponse(await report.all_reservations(limit))


def _remote_routes(port: ConsolePort) -> list[Route]:
    """What was requested remotely, and whether the daemon may be replaced now."""

    async def service_commands(request: Request) -> Response:
        limit = _limit(request.query_params.get("limit", "50"))
        return JSONResponse(port.report.service_commands(limit))

    async def readiness(_: Request) -> Response:
        assert port.readiness is not None
        return JSONResponse(port.readiness.report())

    async def forget(request: Request) -> Response:
        assert port.forgetting is not None
        await port.access.actor(request, proven=True)
        body = await read_body(request, ForgetBody)
        return JSONResponse({"reservations": await port.forgetting.order(body.platform_order_id)})

    routes = [Route("/v1/service-commands", service_commands)]
    routes += [] if port.readiness is None else [Route("/v1/readiness", readiness)]
    routes += [] if port.forgetting is None else [Route("/v1/forget", forget, methods=["POST"])]
    return routes


async def _act(local: LocalRequests, name: str, label: str, actor: str, request: Request) -> Answer:
    """Carries out a technician's action on a cell."""
    match name:
        case "clear":
            return await local.clear(label, actor)
        case "unblock":
            return await local.unblock(label, actor)
        case "tare":
            return await local.tare(label, actor)
        case "resolve":
            said = await read_body(request, VerdictBody)
            return await local.resolve(label, said.verdict, actor)
        case "block":
            body = await read_body(request, ReasonBody)
            return await local.block(label, body.reason, actor)
        case "open":
            body = await read_body(request, ReasonBody)
            return await local.open_cell(label, body.reason, actor)
    raise Refusal(Code.NOT_BUILT, f"{name} is not built in this version")


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= LONGEST_LIST:
        problem = f"must be 1 to {LONGEST_LIST}"
        raise Refusal(Code.INVALID_ARGUMENT, f"limit: {problem}", (FieldViolation("limit", problem),))
    return int(text)


def _place(text: str | None) -> Place | None:
    try:
        return None if text is None else Place.read(text)
    except ValueError as problem:
        name = "last-event-id"
        violation = FieldViolation(name, str(problem))
        raise Refusal(Code.INVALID_ARGUMENT, f"{name}: {problem}", (violation,)) from None


def _answer(answer: Answer) -> Response:
    if answer.refusal is not None:
        raise answer.refusal
    tare = {} if answer.tare_g is None else {"tare_g": answer.tare_g}
    return JSONResponse({"cell": {"description": answer.cell}, **tare})
