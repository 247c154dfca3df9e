"""Middleware around every request: its X-Request-ID, a normalised method and path, the refusal of ambiguous
lengths and of compressed bodies, one log line, and the response to an internal error."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_gateway.api.errors import invalid, refusal_response
from cloud_gateway.logs import error_fields, log
from edge_agent.errors import Code, Refusal

HEADER = "X-Request-ID"
REQUEST_ID_MAX = 1024


class RequestMiddleware:
    """ASGI middleware. The log gets the route's template, never the path, which may hold a code."""

    def __init__(
        self,
        app: ASGIApp,
        on_ended: Callable[[str, str, int, float], None] = lambda _method, _route, _status, _took_s: None,
    ) -> None:
        """`on_ended` is called with method, route, status and seconds of every request."""
        self._app = app
        self._on_ended = on_ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request; anything else passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER)
        usable = given is not None and 1 <= len(given) <= REQUEST_ID_MAX and _printable(given)
        x_request_id = given if usable and given is not None else f"req_{uuid.uuid4().hex}"
        state = scope.setdefault("state", {})
        state["x_request_id"] = x_request_id
        state["x_request_id_given"] = given if usable else None
        started, status, method = perf_counter(), 0, scope["method"]
        _normalise(scope)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = x_request_id
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        try:
            refusal = _refusal_of(scope, given if not usable else None)
            if refusal is not None:
                await refusal(scope, receive, send_with_id)
            else:
                await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # Uvicorn cancels requests under way when the process ends, and would answer with its own text.
            if status:
                raise
            stopped = Refusal(Code.INTERNAL, "the gateway was stopped before the outcome was known")
            await refusal_response(stopped)(scope, receive, send_with_id)
        except ClientDisconnect:
            pass  # no client is left to answer
        except Exception as error:
            log().error("request_failed", **error_fields(error))
            if status:
                raise
            failure = Refusal(Code.INTERNAL, "internal error")
            await refusal_response(failure)(scope, receive, send_with_id)
        finally:
            took_s = perf_counter() - started
            route = getattr(scope.get("route"), "path", "unmatched")
            self._on_ended(method, route, status, took_s)
            log().info(
                "request",
                method=method,
                route=route,
                status=status,
                platform=state.get("platform_name"),
                key=state.get("key_name"),
                request_id=x_request_id,
                ms=round(took_s * 1000, 1),
            )


def _refusal_of(scope: Scope, unusable_id: str | None) -> Response | None:
    """The response to a request that is refused for its headers; None if they are usable."""
    if _has_two_lengths(scope):
        response = refusal_response(invalid("Content-Length", "must not come with Transfer-Encoding"))
        response.headers["Connection"] = "close"
        return response
    if unusable_id is not None:
        problem = f"must be 1 to {REQUEST_ID_MAX} printable ASCII characters"
        return refusal_response(invalid(HEADER, problem))
    if coding := _coding(scope):
        problem = f"must be absent: send the body as it is, not as {coding}"
        return refusal_response(invalid("Content-Encoding", problem), 415)
    return None


def _normalise(scope: Scope) -> None:
    """HEAD is a GET whose body is not sent (RFC 9110, 9.3.2); a slash at the end of a path means nothing."""
    if scope["method"] == "HEAD":
        scope["method"] = "GET"
    path = scope["path"]
    if len(path) > 1 and path.endswith("/") and not path.endswith("//"):
        scope["path"] = path[:-1]
        if raw := scope.get("raw_path"):
            scope["raw_path"] = raw.removesuffix(b"/")


def _coding(scope: Scope) -> str:
    """The content coding of a body; empty if it is not compressed. No route accepts one (RFC 9110, 8.4)."""
    given = Headers(scope=scope).get("Content-Encoding", "").strip().lower()
    return "" if given == "identity" else given[:32]


def _has_two_lengths(scope: Scope) -> bool:
    """Whether a request gives its length in two ways, which two servers may read differently (RFC 9112,
    6.1)."""
    names = {name.lower() for name, _ in scope["headers"]}
    return {b"content-length", b"transfer-encoding"} <= names


def _printable(text: str) -> bool:
    return all(" " <= letter <= "~" for letter in text)
