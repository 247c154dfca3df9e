"""What the parts of the local API share: bodies that are checked, and rows told as they come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import StreamingResponse

from edge_agent.protocol.api import Body, refusal_from

AnyBody = TypeVar("AnyBody", bound=Body)


async def read_body(request: Request, model: type[AnyBody]) -> AnyBody:
    """The request's body. Raises `Refusal` code 3 naming the field."""
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise refusal_from(error) from None


def server_sent(rows: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    """Rows as server-sent events (WHATWG HTML, 9.2), each one message."""
    return StreamingResponse(_messages(rows), media_type="text/event-stream")


async def _messages(rows: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    yield ": following\n\n"
    async for row in rows:
        yield f"data: {json.dumps(row, ensure_ascii=False)}\n\n"
