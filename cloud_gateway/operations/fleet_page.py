"""The fleet page: its files, at `/fleet`, and at `/` where no wall is. Behind HTTP Basic, as all pages of the
operators. The page reads `/api/operations/v1` and nothing else."""

from __future__ import annotations

import json
from functools import cache
from html import escape
from importlib import resources

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response

from cloud_gateway.api.errors import not_found
from cloud_gateway.operations.api import PREFIX
from cloud_gateway.operations.routes import Acting, actor_of

TYPES = {"css": "text/css", "js": "text/javascript", "json": "application/json"}
PAGE = "fleet.html"
REMOTE = f"{PREFIX}/machines/{{machine_id}}/service-commands"
"""The page shows remote work if the gateway has this route."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}

router = APIRouter(include_in_schema=False, dependencies=[Depends(actor_of)])
at_root = APIRouter(include_in_schema=False, dependencies=[Depends(actor_of)])
"""The page at `/`."""


@at_root.get("/")
@router.get("/fleet")
async def fleet_page(request: Request, actor: Acting) -> HTMLResponse:
    """The page, with the person's name and role."""
    has_remote = any(getattr(route, "path", "") == REMOTE for route in request.app.state.routes)
    enrols = request.app.state.parts.enrolment is not None
    given = {"name": actor.name, "role": str(actor.role), "remote": has_remote, "enrols": enrols}
    page = _file("static", PAGE).replace("{{settings}}", escape(json.dumps(given), quote=True))
    return HTMLResponse(page, headers={**HEADERS, "Cache-Control": "no-store"})


@router.get("/fleet/files/{name}")
async def file(name: str) -> Response:
    """A file of the page."""
    return _response("static", name)


@router.get("/fleet/messages/{name}")
async def messages(name: str) -> Response:
    """The page's texts in one language; their keys are the English texts."""
    return _response("messages", name)


def _response(folder: str, name: str) -> Response:
    media_type = TYPES.get(name.rpartition(".")[2])
    if media_type is None or name not in _names(folder):
        raise not_found("file")
    return Response(
        _file(folder, name), media_type=media_type, headers={**HEADERS, "Cache-Control": "no-cache"}
    )


@cache
def _names(folder: str) -> frozenset[str]:
    files = resources.files("cloud_gateway.operations").joinpath(folder).iterdir()
    return frozenset(entry.name for entry in files if entry.name != PAGE)


@cache
def _file(folder: str, name: str) -> str:
    return resources.files("cloud_gateway.operations").joinpath(folder, name).read_text(encoding="utf-8")
