"""What needs no key: QR images, health, the wall."""

from __future__ import annotations

import io

import segno
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from edge_agent.model import parse_qr
from tools.gateway.bodies import HealthAnswer
from tools.gateway.errors import not_built, not_found
from tools.gateway.routes.common import MISSING, WithParts, says

QR_SCALE = 8

router = APIRouter(responses=says(s400="code 3: the X-Request-ID cannot be used", s500="code 13"))


@router.get(
    "/qrcode/{text}", response_class=Response, responses={200: {"content": {"image/png": {}}}, **MISSING}
)
async def qr_image(text: str) -> Response:
    """The QR image (PNG) of a QR text of this API; needs no key."""
    if parse_qr(text) is None:
        raise not_found("QR code")
    image = io.BytesIO()
    segno.make_qr(text, error="m").save(image, kind="png", scale=QR_SCALE)
    return Response(image.getvalue(), media_type="image/png", headers={"Cache-Control": "private, no-store"})


@router.get(
    "/healthz",
    response_model=HealthAnswer,
    responses={503: {"model": HealthAnswer, "description": "the broker is not connected"}},
)
async def health(parts: WithParts) -> JSONResponse:
    """200 while the broker is connected, else 503."""
    up = parts.machines.connected
    return JSONResponse({"status": "ok" if up else "broker not connected"}, 200 if up else 503)


@router.get("/", responses=says(s501="code 12: not built"), status_code=501)
async def wall() -> Response:
    """The live page of the locker wall: not built in this version."""
    raise not_built()
