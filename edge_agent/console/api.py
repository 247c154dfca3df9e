"""The local API: HTTP on a Unix socket of the machine. What it shows holds no code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ExceptionHandler

from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import Body, Identifier, refusal_from, rpc_status
from edge_agent.statemachine.outputs import Answer

HTTP_STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.NOT_ALLOWED: 400,
    Code.NOT_FOUND: 404,
    Code.NO_CELL: 429,
    Code.NOT_BUILT: 501,
    Code.OFFLINE: 503,
    Code.EXPIRED: 504,
}
"""HTTP status for a refusal's code; 500 for the rest."""


class CodeBody(Body):
    """What the keypad or scanner read."""

    text: Identifier = Field(repr=False)


class ConsolePort:
    """What the console needs of the agent."""

    def __init__(
        self,
        *,
        enter_code: Callable[[str], Any],
        clear: Callable[[str], Any],
        status: Callable[[], dict[str, Any]],
        cells: Callable[[], list[dict[str, Any]]],
    ) -> None:
        self.enter_code = enter_code
        self.clear = clear
        self.status = status
        self.cells = cells


def create_app(port: ConsolePort) -> Starlette:
    """The application behind the socket."""

    async def code(request: Request) -> Response:
        try:
            body = CodeBody.model_validate_json(await request.body())
        except ValidationError as error:
            raise refusal_from(error) from None
        return _answer(await port.enter_code(body.text))

    async def status(_: Request) -> Response:
        return JSONResponse(port.status())

    async def cells(_: Request) -> Response:
        return JSONResponse(port.cells())

    async def act(request: Request) -> Response:
        name = request.path_params["act"]
        if name != "clear":
            raise Refusal(Code.NOT_BUILT, f"{name} is not built in this version")
        return _answer(await port.clear(request.path_params["label"]))

    async def not_built(request: Request) -> Response:
        raise Refusal(Code.NOT_BUILT, f"{request.url.path} is not built in this version")

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return JSONResponse(rpc_status(error), HTTP_STATUS.get(error.code, 500))

    handlers: dict[Any, ExceptionHandler] = {Refusal: refused}
    return Starlette(
        routes=[
            Route("/v1/code", code, methods=["POST"]),
            Route("/v1/status", status),
            Route("/v1/cells", cells),
            Route("/v1/cells/{label}/{act}", act, methods=["POST"]),
            Route("/v1/reservations", not_built),
            Route("/v1/events", not_built),
        ],
        exception_handlers=handlers,
    )


def _answer(answer: Answer) -> Response:
    if answer.refusal is not None:
        raise answer.refusal
    return JSONResponse({"cell": {"description": answer.cell}})
