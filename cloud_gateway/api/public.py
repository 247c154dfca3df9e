"""Routes without a key: QR images, health, the API's reference, the page of the cells."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from cloud_gateway.api import reference_page
from cloud_gateway.api.bodies import HealthResponse
from cloud_gateway.api.common import NOT_FOUND_ERRORS, WithParts, address_of, error_responses
from cloud_gateway.api.errors import not_built, not_found
from cloud_gateway.api.images import TEXT_MAX
from edge_agent.model import parse_qr

QR_ERRORS = NOT_FOUND_ERRORS | error_responses(
    s429="NO_CELL (8): too many images for one address or altogether; Retry-After gives the seconds to wait"
)

_ANY_ERRORS = error_responses(
    s400="INVALID_ARGUMENT (3): the X-Request-ID cannot be used", s500="INTERNAL (13)"
)

router = APIRouter(responses=_ANY_ERRORS)


@router.get(
    "/qrcode/{text}",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **QR_ERRORS},
)
async def qr_image(text: str, request: Request, parts: WithParts) -> Response:
    """The QR image (PNG) of a QR text of this API; needs no key."""
    parts.limits.qr_image(address_of(request))
    if len(text) > TEXT_MAX or parse_qr(text) is None:
        raise not_found("QR code")
    image = await parts.qr_images.image(text)
    return Response(image, media_type="image/png", headers={"Cache-Control": "private, no-store"})


@router.get(
    "/healthz",
    response_model=HealthResponse,
    responses={503: {"model": HealthResponse, "description": "the broker is not connected"}},
)
async def health(parts: WithParts) -> JSONResponse:
    """200 while the broker is connected, else 503."""
    up = parts.machines.connected
    return JSONResponse({"status": "ok" if up else "broker not connected"}, 200 if up else 503)


@router.get("/docs", response_class=Response, responses={200: {"content": {"text/html": {}}}})
async def reference(request: Request) -> HTMLResponse:
    """The OpenAPI document as a page for people."""
    return HTMLResponse(request.app.state.reference_page(), headers=reference_page.HEADERS)


no_wall = APIRouter(responses=_ANY_ERRORS)
"""The root of a gateway that nobody may operate."""


@no_wall.get("/", responses=error_responses(s501="NOT_BUILT (12): not built"), status_code=501)
async def front() -> Response:
    """The fleet page, where `operations_key` or `users_file` lets anybody in; this gateway has neither."""
    raise not_built()
