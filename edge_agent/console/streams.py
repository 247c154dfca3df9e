"""Shared parts of the local API: bodies that are checked, and rows sent as they come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse

from edge_agent.errors import Code, FieldViolation, Refusal
from edge_agent.protocol.api import Body, refusal_from

AnyBody = TypeVar("AnyBody", bound=Body)
LONGEST_BODY = 65_536
"""In bytes; a client that may only send codes must not fill the memory."""


async def read_body(request: Request, model: type[AnyBody], longest: int = LONGEST_BODY) -> AnyBody:
    """The request's body, at most `longest` bytes.

    Raises `Refusal` (`INVALID_ARGUMENT`) naming the field, also if the body is too long or the client
    disconnected before its end.
    """
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > longest:
                raise _bad_body(f"at most {longest} bytes")
    except ClientDisconnect:
        raise _bad_body("is not complete") from None
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise refusal_from(error) from None


def _bad_body(problem: str) -> Refusal:
    return Refusal(Code.INVALID_ARGUMENT, f"body: {problem}", (FieldViolation("body", problem),))


def server_sent(rows: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    """Sends rows as server-sent events (WHATWG HTML, 9.2), one message each."""
    return StreamingResponse(_messages(rows), media_type="text/event-stream")


async def _messages(rows: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    yield ": following\n\n"
    async for row in rows:
        yield _data(row)


def _data(row: dict[str, Any]) -> str:
    return f"data: {json.dumps(row, ensure_ascii=False)}\n\n"


def numbered(first: object, rows: AsyncIterator[tuple[dict[str, Any], object]]) -> StreamingResponse:
    """The same with an id before each row, from which a client can go on (header Last-Event-ID); `first`: the
    id before all rows."""
    return StreamingResponse(_numbered(first, rows), media_type="text/event-stream")


async def _numbered(first: object, rows: AsyncIterator[tuple[dict[str, Any], object]]) -> AsyncIterator[str]:
    yield f": following\nid: {first}\n\n"
    async for row, place in rows:
        yield f"id: {place}\n{_data(row)}"
