"""The operators' pages, behind HTTP Basic; present only if the configuration has the key or the users."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import Connection
from starlette.exceptions import HTTPException

from cloud_gateway.api.common import (
    NOT_FOUND_ERRORS,
    GatewayParts,
    WithParts,
    address_of,
    error_responses,
    parts_of,
)
from cloud_gateway.api.errors import not_found
from cloud_gateway.api_keys import key_hash
from cloud_gateway.events.tickets import close_ticket
from cloud_gateway.operations.acts import NAME_MAX, Actor, acts_after, record_act
from cloud_gateway.operations.overview import Overview, overview
from cloud_gateway.operations.page import HEADERS, render
from cloud_gateway.users import Role
from cloud_gateway.webhooks.queue import requeue
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import rfc3339

POSITION_MAX = 2**63 - 1
NDJSON = "application/x-ndjson"
FORBIDDEN = "PERMISSION_DENIED (7): the request comes from another site, or needs another role"
CHALLENGE = {"WWW-Authenticate": 'Basic realm="Locker operations", charset="UTF-8"'}


async def actor_of(request: Request) -> Actor:
    """The person who sent the request: one of the users file, or, with the operations key as the password,
    anybody under the given name.

    Raises 401, or `Refusal` NO_CELL for too many wrong passwords.
    """
    parts, address = parts_of(request), address_of(request)
    given = _name_and_password(request.headers.get("authorization", ""))
    if given is None:
        raise HTTPException(401, headers=CHALLENGE)
    name, password = given
    key = parts.settings.operations_key
    if key is not None and hmac.compare_digest(key_hash(password), key_hash(key.get_secret_value())):
        return Actor(f"{name[:NAME_MAX] or '?'} (operations key)", Role.OPERATOR)
    user = None
    if parts.settings.users_file is not None:
        user = await parts.users.find(name, password, lambda: parts.limits.refuse_guesser(address))
    if user is None:
        parts.limits.wrong_key(address)
        raise HTTPException(401, headers=CHALLENGE)
    return Actor(user.name, user.role)


def _name_and_password(header: str) -> tuple[str, str] | None:
    """Of an `Authorization: Basic` header (RFC 7617)."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    name, colon, password = text.partition(":")
    return (name, password) if colon else None


Acting = Annotated[Actor, Depends(actor_of)]


async def refuse_without(parts: GatewayParts, actor: Actor, role: Role, act: str, target: str) -> None:
    """Records the attempt and raises `Refusal` PERMISSION_DENIED if the person's role does not include this
    one."""
    if actor.role.may(role):
        return
    now_s = parts.clock()
    await parts.store.write(lambda db: record_act(db, actor, act, target, "refused", now_s))
    raise Refusal(Code.PERMISSION_DENIED, f"{act} needs the role {role}; {actor.name} is {actor.role}")


router = APIRouter(
    dependencies=[Depends(actor_of)],
    responses=error_responses(
        s400="INVALID_ARGUMENT (3): the X-Request-ID cannot be used",
        s401="UNAUTHENTICATED (16): name and password are missing or wrong",
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


@router.get("/operations/acts.jsonl", response_class=Response, responses={200: {"content": {NDJSON: {}}}})
async def acts(parts: WithParts, after: Annotated[int, Query(ge=0, le=POSITION_MAX)] = 0) -> Response:
    """Who did what at these pages, oldest first, one JSON object a line: at most 1,000 rows after the
    position `after`. Rows are never changed or deleted."""
    rows = await parts.store.read(lambda db: acts_after(db, after))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return Response(text, media_type=NDJSON, headers={"Cache-Control": "no-store"})


async def _seen(parts: GatewayParts, now_s: float) -> Overview:
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
            s403=FORBIDDEN,
        ),
    },
)
async def close(ticket_id: str, parts: WithParts, actor: Acting, machine_id: str | None = None) -> Response:
    """Closes a maintenance ticket; a repeat is harmless. `machine_id` is needed where several machines have a
    ticket with this id."""
    target = ticket_id if machine_id is None else f"{machine_id}/{ticket_id}"
    await refuse_without(parts, actor, Role.SUPPORT, "close ticket", target)
    now_s = parts.clock()

    def work(db: Connection) -> bool:
        found = close_ticket(db, ticket_id, int(now_s), machine_id)
        record_act(db, actor, "close ticket", target, "done" if found else "not found", now_s)
        return found

    try:
        found = await parts.store.write(work)
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
        **error_responses(s403=FORBIDDEN),
    },
)
async def release(machine_id: str, parts: WithParts, actor: Acting) -> Response:
    """Confirms that only the right one of two machines with one machine_id runs now: commands are sent to
    it again."""
    await refuse_without(parts, actor, Role.OPERATOR, "release machine", machine_id)
    now_s = parts.clock()

    def record(db: Connection, found: bool) -> None:
        record_act(db, actor, "release machine", machine_id, "done" if found else "not found", now_s)

    if parts.twins is None or not await parts.twins.release(machine_id, record):
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
        **error_responses(s403=FORBIDDEN),
    },
)
async def retry(
    position: Annotated[int, Path(ge=1, le=POSITION_MAX)], parts: WithParts, actor: Acting
) -> Response:
    """Queues a dead webhook again."""
    await refuse_without(parts, actor, Role.SUPPORT, "retry webhook", str(position))
    now_s = parts.clock()

    def work(db: Connection) -> bool:
        found = requeue(db, position, now_s)
        record_act(db, actor, "retry webhook", str(position), "done" if found else "not found", now_s)
        return found

    if not await parts.store.write(work):
        raise not_found("dead webhook with this number")
    parts.wake_webhooks()
    return RedirectResponse("/operations", 303)
