"""The control API: a person's acts, and what is physically true.

Every error is an rpcStatus, `{"code", "message", "details"}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import httpx
from pydantic import Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from edge_agent.drivers.simulated.line import WireFigures
from edge_agent.drivers.simulated.world import CellState, World
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import Body, refusal_from
from tools.bus_simulator.faults import FaultBody, Faults
from tools.bus_simulator.stream import stream

HTTP_STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.NOT_FOUND: 404,
    Code.NOT_ALLOWED: 409,
    Code.NOT_BUILT: 501,
    Code.OFFLINE: 503,
}
PROCESSES = ("agent", "broker", "gateway")
ACTS = ("kill", "stop", "start")
BodyT = TypeVar("BodyT", bound=Body)
SUPERVISOR_TIMEOUT = httpx.Timeout(60.0, connect=2.0)


class PlaceBody(Body):
    """A parcel's weight in grams."""

    grams: Annotated[int, Field(strict=True, ge=0, le=1_000_000)]


class ScannerBody(Body):
    """The text that the scanner reads, without its terminator."""

    text: Annotated[str, Field(strict=True, min_length=1, max_length=1024, pattern=r"^[^\r\n]+\z")]


class Controls(Protocol):
    """The objects that the API controls."""

    world: World
    faults: Faults

    def figures(self) -> Mapping[str, WireFigures]:
        """The counters of every bus, by name."""

    def scan(self, text: str) -> None:
        """Makes the scanner read a text. Raises `Refusal` if there is no scanner."""

    def changed(self) -> None:
        """A person has changed something about a cell."""


class Supervisor:
    """Forwards process acts to the bench's supervisor, HTTP over its Unix socket."""

    def __init__(self, socket: Path | None) -> None:
        self._client = None
        if socket is not None:
            transport = httpx.AsyncHTTPTransport(uds=str(socket))
            self._client = httpx.AsyncClient(
                transport=transport, base_url="http://supervisor", timeout=SUPERVISOR_TIMEOUT
            )

    async def post(self, path: str) -> Response:
        """Returns the supervisor's own response. Raises `Refusal` (OFFLINE) if there is none."""
        if self._client is None:
            raise Refusal(Code.OFFLINE, "this simulator runs without a supervisor")
        try:
            answer = await self._client.post(path)
        except httpx.TransportError as error:
            raise Refusal(Code.OFFLINE, f"the supervisor does not answer: {error}") from None
        media_type = answer.headers.get("content-type")
        return Response(answer.content, status_code=answer.status_code, media_type=media_type)

    async def close(self) -> None:
        """Closes the connection."""
        if self._client is not None:
            await self._client.aclose()


class Api:
    """The routes. Everything runs on the loop's thread, between two frames."""

    def __init__(self, controls: Controls, supervisor: Supervisor, page_origin: str | None = None) -> None:
        """`page_origin`: the origin of a page whose scripts may use this API."""
        self._page_origin = page_origin
        self._controls = controls
        self._world = controls.world
        self._supervisor = supervisor

    def application(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/healthz", self.healthz),
            Route("/cells", self.cells),
            Route("/signals", self.signals),
            Route("/cells/{label}/{act}", self.act, methods=["POST"]),
            Route("/scanner", self.scanner, methods=["POST"]),
            Route("/actuations", self.actuations),
            Route("/faults", self.faults),
            Route("/faults", self.raise_fault, methods=["POST"]),
            Route("/faults/{fault_id}", self.clear_fault, methods=["DELETE"]),
            Route("/wire", self.wire),
            Route("/stream", self.stream),
            Route("/processes/{name}/{act}", self.process, methods=["POST"]),
        ]
        handlers: dict[Any, Any] = {
            Refusal: _refused,
            HTTPException: _http_error,
            Exception: _internal_error,
        }
        middleware = []
        if self._page_origin is not None:
            middleware = [
                Middleware(
                    CORSMiddleware,
                    allow_origins=[self._page_origin],
                    allow_methods=["GET", "POST", "DELETE"],
                    allow_headers=["content-type"],
                )
            ]
        return Starlette(routes=routes, exception_handlers=handlers, middleware=middleware)

    async def healthz(self, _: Request) -> Response:
        """200 as long as the process works."""
        return JSONResponse({"status": "ok"})

    async def signals(self, _: Request) -> Response:
        """The lights and buzzers that serve several cells: whether each is on. Those of one cell are in
        `/cells`."""
        return JSONResponse(self._world.cabinet_signals.on())

    async def cells(self, _: Request) -> Response:
        """Every cell as it physically is."""
        return JSONResponse([cell_json(cell) for cell in self._world.cells()])

    async def act(self, request: Request) -> Response:
        """A person's act on a cell; returns the cell."""
        label, act = request.path_params["label"], request.path_params["act"]
        self._world.cell(label)
        hands: dict[str, Callable[[], None]] = {
            "close": lambda: self._world.close(label),
            "open": lambda: self._world.open(label),
            "take": lambda: self._world.take(label),
        }
        if act == "place":
            body = await _body(request, PlaceBody)
            self._world.place(label, body.grams)
        elif act in hands:
            hands[act]()
        else:
            raise Refusal(Code.NOT_FOUND, f"no such act: {act}")
        self._controls.changed()
        return JSONResponse(cell_json(self._world.cell(label)))

    async def scanner(self, request: Request) -> Response:
        """Makes the scanner read a text."""
        body = await _body(request, ScannerBody)
        self._controls.scan(body.text)
        return JSONResponse({})

    async def actuations(self, request: Request) -> Response:
        """Every energising of a solenoid after number `since`."""
        text = request.query_params.get("since", "0")
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise Refusal(Code.INVALID_ARGUMENT, "since: a whole number from 0")
        return JSONResponse([asdict(actuation) for actuation in self._world.actuations(int(text))])

    async def wire(self, _: Request) -> Response:
        """Counters by bus."""
        return JSONResponse({name: asdict(figures) for name, figures in self._controls.figures().items()})

    async def stream(self, _: Request) -> Response:
        """What changes, as server-sent events."""
        controls = self._controls
        lines = stream(self._world, controls.figures, controls.faults.all, cell_json)
        return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def faults(self, _: Request) -> Response:
        """The active faults."""
        return JSONResponse(self._controls.faults.all())

    async def raise_fault(self, request: Request) -> Response:
        """Begins a fault."""
        return JSONResponse({"id": self._controls.faults.raise_fault(await _body(request, FaultBody))})

    async def clear_fault(self, request: Request) -> Response:
        """Ends a fault."""
        self._controls.faults.clear(request.path_params["fault_id"])
        return JSONResponse({})

    async def process(self, request: Request) -> Response:
        """Kills, stops or starts one of the bench's processes."""
        name, act = request.path_params["name"], request.path_params["act"]
        if name not in PROCESSES or act not in ACTS:
            raise Refusal(Code.NOT_FOUND, f"no such process or act: {name}/{act}")
        return await self._supervisor.post(f"/processes/{name}/{act}")


def cell_json(cell: CellState) -> dict[str, Any]:
    """A cell as the API shows it; hundredths of a degree."""
    return {**asdict(cell), "temperature_c": round(cell.temperature_c, 2)}


async def _body(request: Request, model: type[BodyT]) -> BodyT:
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise refusal_from(error) from None


async def _refused(_: Request, error: Refusal) -> Response:
    return _status(HTTP_STATUS[error.code], int(error.code), error.message)


async def _http_error(_: Request, error: HTTPException) -> Response:
    code = Code.NOT_FOUND if error.status_code == 404 else Code.NOT_BUILT
    return _status(error.status_code, int(code), error.detail)


async def _internal_error(_: Request, error: Exception) -> Response:
    return _status(500, int(Code.INTERNAL), f"{type(error).__name__} in the simulator")


def _status(http_status: int, code: int, message: str) -> Response:
    return JSONResponse({"code": code, "message": message, "details": []}, status_code=http_status)
