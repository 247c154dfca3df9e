"""Every error as the API's rpcStatus; the framework's own error bodies never appear."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from cloud_gateway.machines.commands import MachineRefusal
from cloud_gateway.rate_limits import RateLimits, TooMany
from edge_agent.errors import Code, FieldViolation, Refusal
from edge_agent.protocol.api import rpc_status
from edge_agent.validation_findings import field_path, sentence_of

HTTP_STATUS: dict[int, int] = {
    Code.INVALID_ARGUMENT: 400,
    Code.EXPIRED: 504,
    Code.NOT_FOUND: 404,
    Code.PERMISSION_DENIED: 403,
    Code.NO_CELL: 429,  # google.rpc RESOURCE_EXHAUSTED: no free cell, or too many requests
    Code.NOT_ALLOWED: 400,
    Code.NOT_BUILT: 501,
    Code.INTERNAL: 500,
    Code.OFFLINE: 503,
    Code.UNAUTHENTICATED: 403,  # unlike the local API of a machine, which answers 401
}


def refusal_response(refusal: Refusal, http_status: int | None = None) -> JSONResponse:
    """Returns the response for a refusal."""
    return JSONResponse(rpc_status(refusal), http_status or HTTP_STATUS[refusal.code])


def machine_refusal_response(refusal: MachineRefusal) -> tuple[int, dict[str, Any]]:
    """HTTP status and body for a machine's refusal."""
    body = {"code": refusal.code, "message": refusal.message, "details": refusal.details}
    return HTTP_STATUS[refusal.code], body


def invalid(field: str, problem: str) -> Refusal:
    """INVALID_ARGUMENT about one field."""
    return Refusal(Code.INVALID_ARGUMENT, f"{field}: {problem}", (FieldViolation(field, problem),))


def not_found(what: str) -> Refusal:
    """NOT_FOUND."""
    return Refusal(Code.NOT_FOUND, f"{what} not found")


def not_built() -> Refusal:
    """NOT_BUILT, for what the reference has and this version does not."""
    return Refusal(Code.NOT_BUILT, "not built in this version")


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    if isinstance(error, TooMany) and error.without_key:
        limits: RateLimits = request.app.state.parts.limits
        await limits.pauses.hold()
    response = refusal_response(error)
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


async def _on_machine_refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, MachineRefusal)
    status, body = machine_refusal_response(error)
    return JSONResponse(body, status)


async def _on_parameter(_request: Request, error: Exception) -> Response:
    """A query parameter that the framework refused."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = field_path(tuple(first["loc"])[1:]) or "query"
    return refusal_response(invalid(name, sentence_of(first)))


async def _on_http(request: Request, error: Exception) -> Response:
    """The framework's own 404 and 405, and the 401 of the operators' pages."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        refusal = Refusal(Code.NOT_BUILT, "method not allowed")
    elif error.status_code == 404:
        refusal = not_found("path")
    elif error.status_code == 401:
        refusal = Refusal(Code.UNAUTHENTICATED, "the operations key is missing or wrong")
    else:
        refusal = Refusal(Code.INVALID_ARGUMENT, "the request cannot be understood")
    response = refusal_response(refusal, error.status_code)
    response.headers.update(error.headers or {})
    if error.status_code == 405 and (allowed := _allowed(request)):
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _allowed(request: Request) -> set[str]:
    """The methods of a path over all its routes; the framework lists those of the first one only."""
    path = request.scope["path"]
    there = [r for r in request.app.state.routes if isinstance(r, Route) and r.path_regex.match(path)]
    return {method for route in there if route.path == there[0].path for method in route.methods or ()}


def install(app: FastAPI) -> None:
    """Registers the handlers; `middleware.RequestMiddleware` answers an unexpected error."""
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(MachineRefusal, _on_machine_refusal)
    app.add_exception_handler(RequestValidationError, _on_parameter)
    app.add_exception_handler(HTTPException, _on_http)
