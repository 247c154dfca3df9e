"""`/api/enrolment/v1`: what machines ask before they have a certificate, and to renew it. No API key: each
request is signed by the machine's own key."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Header, Request
from fastapi.responses import JSONResponse, Response

from cloud_gateway.api.common import GatewayParts, WithParts, address_of
from cloud_gateway.api.errors import not_built
from cloud_gateway.enrolment.service import Enrolment, require_signature
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.enrolment import (
    PREFIX,
    SIGNATURE_HEADER,
    ClaimAccepted,
    ClaimBody,
    RenewBody,
    Renewed,
)

router = APIRouter(
    prefix=PREFIX,
    include_in_schema=False,  # it is for machines, see docs/decisions/0056-enrolment.md
)
Signature = Annotated[str, Header(alias=SIGNATURE_HEADER, max_length=128)]


def _enrolment(parts: GatewayParts) -> Enrolment:
    if parts.enrolment is None:
        raise not_built()
    return parts.enrolment


def _address(request: Request) -> str:
    return address_of(request) or ""


@router.post("/claims", status_code=202)
async def claim(
    request: Request, body: Annotated[ClaimBody, Body()], parts: WithParts, signature: Signature = ""
) -> ClaimAccepted:
    """A new machine asks to be claimed. A person enters the code that it shows at the fleet page."""
    enrolment = _enrolment(parts)
    try:
        require_signature(body.public_key, request.url.path, await request.body(), signature)
    except Refusal:
        parts.limits.wrong_key(address_of(request))
        raise
    return await enrolment.ask(body, _address(request))


@router.get(
    "/claims/{claim_id}/certificate",
)
async def certificate(
    request: Request, claim_id: str, parts: WithParts, signature: Signature = ""
) -> Response:
    """The certificate, once the claim was approved; until then 202."""
    try:
        found = await _enrolment(parts).collect(claim_id, request.url.path, signature)
    except Refusal as refusal:
        if refusal.code in (Code.NOT_FOUND, Code.PERMISSION_DENIED):
            parts.limits.wrong_key(address_of(request))
        raise
    if found is None:
        return JSONResponse({}, 202)
    return Response(found.model_dump_json(), media_type="application/json")


@router.post("/renewals")
async def renew(
    request: Request, body: Annotated[RenewBody, Body()], parts: WithParts, signature: Signature = ""
) -> Renewed:
    """A new certificate for the machine's own key."""
    raw, path = await request.body(), request.url.path
    try:
        return await _enrolment(parts).renew(body, raw, path, signature, _address(request))
    except Refusal:
        parts.limits.wrong_key(address_of(request))
        raise
