"""`/api/operations/v1`, enrolment: claims that wait, approving one by its code, certificates, refused
attempts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy import Connection

from cloud_gateway.api.common import NOT_FOUND_ERRORS, GatewayParts, WithParts, error_responses
from cloud_gateway.api.errors import not_built, not_found
from cloud_gateway.enrolment.claims import (
    EnrolledMachine,
    all_enrolled,
    attempts,
    pending_claims,
    revoke,
)
from cloud_gateway.enrolment.service import Enrolment, MachinePlace
from cloud_gateway.operations.acts import record_act
from cloud_gateway.operations.remote_api import PREFIX, described
from cloud_gateway.operations.routes import Acting, actor_of, refuse_without, same_site
from cloud_gateway.users import Role
from edge_agent.protocol.api import Body as JsonBody
from edge_agent.protocol.api import Text, rfc3339

AT = "2026-11-30T10:00:00Z"
MachineId = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class ApprovalBody(JsonBody):
    """A person claims the machine that shows a code."""

    code: Annotated[str, Field(strict=True, min_length=8, max_length=32)] = described(
        "The claim code that the machine shows.", "7KQ2M-XW4RT"
    )
    machine_id: MachineId = described("The id that the machine gets.", "machine_731")
    name: Text = described("What people call it.", "Station North")
    location: Text = described("Where it stands.", "Main hall, platform 3")
    latitude: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)] = described("Degrees north.", 52.52)
    longitude: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)] = described(
        "Degrees east.", 13.4
    )
    replaces: bool = described(
        "Whether the machine_id is enrolled already, and its board was exchanged.", False, default=False
    )
    claim_id: Annotated[str, Field(strict=True, min_length=1, max_length=64)] | None = described(
        "Which claim is meant; the code of another one is refused then.", "claim_0f1e2d3c", default=None
    )


class ClaimView(JsonBody):
    """A machine that waits to be claimed; its code is shown by the machine only."""

    claim_id: str = described("Its id.", "claim_0f1e2d3c")
    board: str = described("The serial number of its board.", "10000000a1b2c3d4")
    agent_version: str = described("Its version.", "0.2.0")
    address: str = described("Where it asked from.", "192.0.2.7")
    asked_at: str = described("When it asked.", AT)
    expires_at: str = described("Until when it waits.", AT)


class EnrolledView(JsonBody):
    """A machine with a certificate."""

    machine_id: str = described("The machine.", "machine_731")
    name: str = described("What people call it.", "Station North")
    location: str = described("Where it stands.", "Main hall, platform 3")
    serial: str = described("The serial number of its certificate.", "1f2e3d")
    not_after: str = described("When its certificate ends.", AT)
    enrolled_at: str = described("When it was claimed.", AT)
    by: str = described("Who claimed it.", "ada@example.org")
    revoked_at: str | None = described("Since when its key counts for nothing.", AT, default=None)


class AttemptView(JsonBody):
    """An attempt at enrolment or renewal that was refused."""

    machine_id: str = described("The machine that it was about.", "machine_731")
    address: str = described("Where it came from; empty if from this page.", "192.0.2.7")
    reason: str = described("Why it was refused.", "the key is not this machine's")
    at: str = described("When.", AT)


router = APIRouter(
    prefix=PREFIX,
    dependencies=[Depends(actor_of)],
    tags=["enrolment"],
    responses=error_responses(
        s400="INVALID_ARGUMENT (3): a field is wrong; NOT_ALLOWED (9): the code or the id is used",
        s401="UNAUTHENTICATED (16): name and password are missing or wrong",
        s403="PERMISSION_DENIED (7): the request comes from another site, or needs another role",
        s429="NO_CELL (8): too many wrong codes or keys from one address",
        s500="INTERNAL (13)",
        s501="NOT_BUILT (12): this gateway enrols no machines",
    ),
)
Limit = Annotated[int, Query(ge=1, le=1000)]


def _enrolment(parts: GatewayParts) -> Enrolment:
    if parts.enrolment is None:
        raise not_built()
    return parts.enrolment


@router.get("/claims")
async def claims(parts: WithParts, limit: Limit = 200) -> list[ClaimView]:
    """The machines that wait to be claimed, newest first."""
    now_s = parts.clock()
    found = await parts.store.read(lambda db: pending_claims(db, now_s, limit))
    return [
        ClaimView(
            claim_id=one.claim_id,
            board=one.board,
            agent_version=one.agent_version,
            address=one.address,
            asked_at=rfc3339(one.asked_s),
            expires_at=rfc3339(one.expires_s),
        )
        for one in found
    ]


@router.post(
    "/claims/approve",
    status_code=201,
    response_model_exclude_none=True,
    responses=NOT_FOUND_ERRORS,
    dependencies=[Depends(same_site)],
)
async def approve(body: Annotated[ApprovalBody, Body()], parts: WithParts, actor: Acting) -> EnrolledView:
    """Claims the machine that shows this code. A code works once."""
    await refuse_without(parts, actor, Role.OPERATOR, "claim machine", body.machine_id)
    now_s = parts.clock()

    def record(db: Connection, result: str) -> None:
        record_act(db, actor, "claim machine", body.machine_id, result[:64], now_s)

    place = MachinePlace(body.machine_id, body.name, body.location, body.latitude, body.longitude)
    made = await _enrolment(parts).approve(
        body.code, place, actor.name, replaces=body.replaces, claim_id=body.claim_id, also=record
    )
    return _view(made)


@router.get("/enrolments", response_model_exclude_none=True)
async def enrolments(parts: WithParts) -> list[EnrolledView]:
    """Every enrolled machine; those whose certificate ends first come first."""
    return [_view(one) for one in await parts.store.read(all_enrolled)]


@router.get("/enrolments/attempts")
async def refused_attempts(parts: WithParts, limit: Limit = 200) -> list[AttemptView]:
    """Refused attempts at enrolment and renewal, newest first."""
    rows = await parts.store.read(lambda db: attempts(db, limit))
    return [AttemptView(**_attempt(row)) for row in rows]


@router.post(
    "/enrolments/{machine_id}/revoke",
    status_code=204,
    response_class=Response,
    responses=NOT_FOUND_ERRORS,
    dependencies=[Depends(same_site)],
)
async def revoke_machine(machine_id: str, parts: WithParts, actor: Acting) -> None:
    """Lets a machine's key count for nothing: its certificate is not renewed. Until it ends, only the broker
    can shut the machine out (its list of revoked certificates, or its access list)."""
    await refuse_without(parts, actor, Role.OPERATOR, "revoke machine", machine_id)
    now_s = parts.clock()

    def work(db: Connection) -> bool:
        found = revoke(db, machine_id, now_s)
        record_act(db, actor, "revoke machine", machine_id, "done" if found else "not found", now_s)
        return found

    if not await parts.store.write(work):
        raise not_found("enrolled machine")


def _view(machine: EnrolledMachine) -> EnrolledView:
    return EnrolledView(
        machine_id=machine.machine_id,
        name=machine.name,
        location=machine.location,
        serial=machine.serial,
        not_after=rfc3339(machine.not_after_s),
        enrolled_at=rfc3339(machine.enrolled_s),
        by=machine.actor,
        revoked_at=None if machine.revoked_s is None else rfc3339(machine.revoked_s),
    )


def _attempt(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine_id": row["machine_id"],
        "address": row["address"],
        "reason": row["reason"],
        "at": rfc3339(row["at_s"]),
    }
