"""The operators' pages, behind HTTP Basic; present only if the configuration has the key."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from cloud_gateway.api.common import (
    NOT_FOUND_ERRORS,
    Parts,
    WithParts,
    address_of,
    error_responses,
    parts_of,
)
from cloud_gateway.api.errors import not_found
from cloud_gateway.api_keys import key_hash
from cloud_gateway.events.tickets import close_ticket
from cloud_gateway.operations.overview import Overview, overview
from cloud_gateway.operations.page import HEADERS, render
from cloud_gateway.webhooks.queue import requeue
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import rfc3339

POSITION_MAX = 2**63 - 1
CHALLENGE = {"WWW-Authenticate": 'Basic realm="Locker operations", charset="UTF-8"'}


async def for_operations(request: Request) -> None:
    """Admits requests with the operations key, under any user name. Raises 401, or `Refusal` NO_CELL for too
    many wrong ones."""
    parts, address = parts_of(request), address_of(request)
    key = parts.settings.operations_key
    given = _password(request.headers.get("authorization", ""))
    if key is None or given is None:
        raise HTTPException(401, headers=CHALLENGE)
    if not hmac.compare_digest(key_hash(given), key_hash(key.get_secret_value())):
        parts.limits.wrong_key(address)
        raise HTTPException(401, headers=CHALLENGE)


def _password(header: str) -> str | None:
    """The password of an `Authorization: Basic` header (RFC 7617)."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    _, colon, password = text.partition(":")
    return password if colon else None


router = APIRouter(
    dependencies=[Depends(for_operations)],
    responses=error_responses(
        s400="INVALID_ARGUMENT (3): the X-Request-ID cannot be used",
        s401="UNAUTHENTICATED (16): the operations key is missing or wrong",
        s429="NO_CELL (8): too many wrong keys from one address; Retry-After gives the seconds to wait",
        s500="INTERNAL (13)",
    ),
)


@router.get("/operations", response_class=Response, responses={200: {"content": {"text/html": {}}}})
async def operations_page(parts: WithParts) -> HTMLResponse:
    """The page: tickets, dead webhooks, unknown reservations, abandoned parcels, notes and machines."""
    now_s = parts.clock()
    seen = await _seen(parts, now_s)
    return HTMLResponse(render(seen, rfc3339(now_s)), headers=HEADERS)


@router.get("/operations.json", response_model=Overview, response_model_exclude_none=True)
async def operations_json(parts: WithParts, response: Response) -> Overview:
    """The same as JSON."""
    response.headers["Cache-Control"] = "no-store"
    return await _seen(parts, parts.clock())


async def _seen(parts: Parts, now_s: float) -> Overview:
    urls = {platform.name: platform.webhook_url for platform in parts.settings.platforms}
    return await overview(parts.store, parts.machines, parts.accounts, urls, now_s)


def same_site(
    request: Request,
    sec_fetch_site: Annotated[str | None, Header(include_in_schema=False)] = None,
    origin: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> None:
    """Refuses requests that another site made a browser send; programs send neither header. Raises `Refusal`
    PERMISSION_DENIED."""
    if sec_fetch_site is not None:
        ours = sec_fetch_site in ("same-origin", "none")
    elif origin is not None:
        place = origin.partition("://")[2]
        public = urlsplit(parts_of(request).settings.public_url).netloc
        ours = place != "" and place in (request.headers.get("host", ""), public)
    else:
        ours = True
    if not ours:
        raise Refusal(Code.PERMISSION_DENIED, "the request comes from another site")


@router.post(
    "/operations/tickets/{ticket_id}/close",
    dependencies=[Depends(same_site)],
    status_code=303,
    response_class=Response,
    responses={
        303: {"description": "closed; the page is at Location"},
        **NOT_FOUND_ERRORS,
        **error_responses(
            s400="INVALID_ARGUMENT (3): several machines have a ticket with this id",
            s403="PERMISSION_DENIED (7): the request comes from another site",
        ),
    },
)
async def close(ticket_id: str, parts: WithParts, machine_id: str | None = None) -> Response:
    """Closes a maintenance ticket; a repeat is harmless. `machine_id` is needed where several machines have a
    ticket with this id."""
    now_s = int(parts.clock())
    try:
        found = await parts.store.write(lambda db: close_ticket(db, ticket_id, now_s, machine_id))
    except LookupError as error:
        raise Refusal(Code.INVALID_ARGUMENT, f"machine_id: {error}") from None
    if not found:
        raise not_found("ticket")
    return RedirectResponse("/operations", 303)


@router.post(
    "/operations/machines/{machine_id}/release",
    dependencies=[Depends(same_site)],
    status_code=303,
    response_class=Response,
    responses={
        303: {"description": "commands are sent to it again; the page is at Location"},
        **NOT_FOUND_ERRORS,
        **error_responses(s403="PERMISSION_DENIED (7): the request comes from another site"),
    },
)
async def release(machine_id: str, parts: WithParts) -> Response:
    """Confirms that only the right one of two machines with one machine_id runs now: commands are sent to
    it again."""
    if parts.twins is None or not await parts.twins.release(machine_id):
        raise not_found("second machine with this machine_id")
    parts.check_machine(machine_id)
    return RedirectResponse("/operations", 303)


@router.post(
    "/operations/webhooks/{position}/retry",
    dependencies=[Depends(same_site)],
    status_code=303,
    response_class=Response,
    responses={
        303: {"description": "back in the queue; the page is at Location"},
        **NOT_FOUND_ERRORS,
        **error_responses(s403="PERMISSION_DENIED (7): the request comes from another site"),
    },
)
async def retry(position: Annotated[int, Path(ge=1, le=POSITION_MAX)], parts: WithParts) -> Response:
    """Queues a dead webhook again."""
    now_s = parts.clock()
    if not await parts.store.write(lambda db: requeue(db, position, now_s)):
        raise not_found("dead webhook with this number")
    parts.wake_webhooks()
    return RedirectResponse("/operations", 303)
