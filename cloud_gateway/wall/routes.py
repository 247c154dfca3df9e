"""Routes of the wall: the page, its files, its stream. All without a key: it is served on loopback only."""

from __future__ import annotations

import json
from functools import cache
from html import escape
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from cloud_gateway.api.errors import not_found
from cloud_gateway.wall.feed import WallFeed

TYPES = {"css": "text/css", "js": "text/javascript", "json": "application/json"}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def wall(request: Request) -> HTMLResponse:
    """The page."""
    settings = request.app.state.parts.settings
    section, platforms = settings.wall, {platform.name: platform for platform in settings.platforms}
    given = {
        "simulator": section.simulator_url,
        "key": platforms[section.platform].api_key.get_secret_value(),
        "public_url": settings.public_url,
    }
    page = _file("static", "wall.html").replace("{{settings}}", escape(json.dumps(given), quote=True))
    return HTMLResponse(page, headers=_headers(section.simulator_url))


@router.get("/wall/stream")
async def stream(request: Request) -> StreamingResponse:
    """Everything that the page shows, as server-sent events."""
    feed: WallFeed = request.app.state.wall_feed
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(feed.stream(), media_type="text/event-stream", headers=headers)


@router.get("/wall/{name}")
async def file(name: str) -> Response:
    """A file of the page."""
    return _response("static", name)


@router.get("/wall/messages/{name}")
async def messages(name: str) -> Response:
    """The page's texts in one language; their keys are the English texts."""
    return _response("messages", name)


def _response(folder: str, name: str) -> Response:
    media_type = TYPES.get(name.rpartition(".")[2])
    if media_type is None or name not in _names(folder):
        raise not_found("file")
    headers = {"Cache-Control": "no-cache", **_headers(None)}
    return Response(_file(folder, name), media_type=media_type, headers=headers)


def _headers(simulator_url: str | None) -> dict[str, str]:
    connect = f"'self' {simulator_url}" if simulator_url else "'self'"
    rules = (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        f"connect-src {connect}",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(rules),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


@cache
def _names(folder: str) -> frozenset[str]:
    files = resources.files("cloud_gateway.wall").joinpath(folder).iterdir()
    return frozenset(entry.name for entry in files if entry.name != "wall.html")


@cache
def _file(folder: str, name: str) -> str:
    return resources.files("cloud_gateway.wall").joinpath(folder, name).read_text(encoding="utf-8")
