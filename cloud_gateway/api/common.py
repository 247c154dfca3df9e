"""What all routes of the API share: the caller's identity, the parts that they use, and sending commands."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.responses import Response
from fastapi.security import APIKeyHeader

from cloud_gateway.api.bodies import ErrorResponse
from cloud_gateway.api.errors import machine_refusal_response, not_found
from cloud_gateway.api.idempotency import (
    CommandIds,
    Idempotency,
    RequestScope,
    StoredResponse,
    new_reservation_id,
)
from cloud_gateway.api.images import QrImages
from cloud_gateway.api.search import preferred_now
from cloud_gateway.api_keys import SCOPES, KeyRing, key_hash
from cloud_gateway.db.store import Store
from cloud_gateway.enrolment.service import Enrolment
from cloud_gateway.events.twins import Twins
from cloud_gateway.machines.commands import MachineCommands, MachineRefusal, Reply
from cloud_gateway.machines.message_validation import MachineAccounts
from cloud_gateway.machines.observations import Observations
from cloud_gateway.machines.sealed_ids import Seals
from cloud_gateway.rate_limits import RateLimits
from cloud_gateway.remote.work import RemoteWork
from cloud_gateway.settings import Platform, Settings, Timing
from cloud_gateway.users import Users
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import Body, Machine

PREFIX = "/api/delivery/external/v1"


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """The objects that the routes use; `clock` gives Unix seconds."""

    settings: Settings
    store: Store
    machines: MachineCommands
    idempotency: Idempotency
    limits: RateLimits
    wake_webhooks: Callable[[], None]
    clock: Callable[[], float] = time.time
    twins: Twins | None = None
    check_machine: Callable[[str], None] = lambda machine_id: None
    """Makes the reconciler check a machine again (`Reconciler.check_machine`); that also starts a pending
    audit."""
    timing: Timing = field(default_factory=Timing)
    accounts: MachineAccounts = field(default_factory=MachineAccounts)
    seals: Seals = field(default_factory=lambda: Seals(()))
    qr_images: QrImages = field(default_factory=QrImages)
    observations: Observations = field(default_factory=lambda: Observations(time.time))
    users: Users = field(default_factory=lambda: Users(None))
    remote: RemoteWork | None = None
    """None only in tests of single parts."""
    enrolment: Enrolment | None = None
    """None if this gateway enrols no machines."""
    keys: KeyRing = field(default_factory=lambda: KeyRing(None, (), time.time))


def parts_of(request: Request) -> GatewayParts:
    """Returns the parts that the composition root stored."""
    parts: GatewayParts = request.app.state.parts
    return parts


_KEY = APIKeyHeader(name="X-API-Key", auto_error=False)


async def platform_of(request: Request, api_key: Annotated[str | None, Security(_KEY)] = None) -> Platform:
    """Returns the platform that sent the request.

    Raises `Refusal`: UNAUTHENTICATED without a key, PERMISSION_DENIED with a wrong one or without the right
    to this part of the API, NO_CELL for too many wrong keys or too many requests of the platform.
    """
    parts, address = parts_of(request), address_of(request)
    if not api_key:
        raise Refusal(Code.UNAUTHENTICATED, "the X-API-Key header is missing")
    given, found = key_hash(api_key), None
    for platform in parts.settings.platforms:
        if hmac.compare_digest(given, key_hash(platform.api_key.get_secret_value())):
            found = platform
    stored = parts.keys.find(given)
    if found is None and stored is not None:
        found = next((one for one in parts.settings.platforms if one.name == stored.platform), None)
    if found is None:
        parts.limits.wrong_key(address)
        raise Refusal(Code.PERMISSION_DENIED, "the X-API-Key header is not valid")
    request.state.platform_name = found.name
    if stored is not None:
        request.state.key_name = stored.name
        scope = request.url.path.removeprefix(f"{PREFIX}/").partition("/")[0]
        if scope in SCOPES and scope not in stored.scopes:
            raise Refusal(Code.PERMISSION_DENIED, f"the key {stored.name} has no right to {scope}")
    parts.limits.request(found.name)
    return found


def address_of(request: Request) -> str | None:
    """The address that a request came from."""
    return None if request.client is None else request.client.host


async def _parts(request: Request) -> GatewayParts:
    """`parts_of` as a dependency; async, because the framework runs a plain function in a thread."""
    return parts_of(request)


Caller = Annotated[Platform, Depends(platform_of)]
WithParts = Annotated[GatewayParts, Depends(_parts)]


@dataclass(frozen=True, slots=True)
class Call:
    """One POST that is carried out by commands to a machine: the request, its platform, and its body."""

    request: Request
    caller: Platform
    parts: GatewayParts
    document: Any

    async def run_once(
        self,
        carry_out: Callable[[CommandIds], Awaitable[Body]],
        new_id: Callable[[], str] = new_reservation_id,
    ) -> Response:
        """Runs `carry_out` once for the request's id. The machine's decision is the response; a refusal is a
        decision, too. `new_id` makes the id of the reservation that `reserve` creates; other requests do not
        use it."""

        async def decide(command_ids: CommandIds) -> StoredResponse:
            try:
                done = await carry_out(command_ids)
                return StoredResponse(200, done.model_dump_json(exclude_none=True))
            except MachineRefusal as refusal:
                if not refusal.is_decision:
                    raise
                status, body = machine_refusal_response(refusal)
                return StoredResponse(status, json.dumps(body))

        request = self.request
        state = request.state
        scope = RequestScope(
            self.caller.name, request.method, request.url.path, state.x_request_id_given, state.x_request_id
        )
        response = await self.parts.idempotency.run_once(scope, self.document, decide, new_id)
        return Response(response.body, response.status, media_type="application/json")

    async def send_command(
        self, machine_id: str, name: str, fields: dict[str, Any], command_ids: CommandIds
    ) -> Reply:
        """Sends a command with the ids of this request and waits for the reply."""
        return await self.parts.machines.call(
            machine_id,
            name,
            fields,
            command_id=command_ids.command_id,
            x_request_id=self.request.state.x_request_id,
        )


def answer_of(body: Body) -> Response:
    """A response with a body that is valid already: the framework would validate it once more."""
    return Response(body.model_dump_json(exclude_none=True), media_type="application/json")


def reply_does_not_fit() -> Refusal:
    """INTERNAL: the reply does not fit the command."""
    return Refusal(Code.INTERNAL, "the machine's reply does not fit the request")


async def present_machine(parts: GatewayParts, machine_id: str) -> Machine:
    """One machine in its present state. Raises `Refusal` NOT_FOUND if it never published its state."""
    machine = await parts.store.machine(machine_id)
    if machine is None:
        raise not_found("machine")
    return with_present_state(parts, machine)


def with_present_state(parts: GatewayParts, machine: Machine) -> Machine:
    """A machine's published state, with its present online state and the preferred cells that are still
    free."""
    online = parts.machines.is_online(machine.machine_id)
    return machine.model_copy(update={"online": online, "preferred_cells": preferred_now(machine)})


Responses = dict[int | str, dict[str, Any]]


def error_responses(**codes: str) -> Responses:
    """Error responses for /openapi.json: `error_responses(s404="NOT_FOUND (5)")`."""
    return {int(key[1:]): {"model": ErrorResponse, "description": text} for key, text in codes.items()}


COMMON_ERRORS = error_responses(
    s400="INVALID_ARGUMENT (3): a field is wrong, or the X-Request-ID was used with another body",
    s403="UNAUTHENTICATED (16) without a key, PERMISSION_DENIED (7) with a wrong one",
    s429="NO_CELL (8): too many requests, or too many wrong keys from one address; "
    "Retry-After gives the seconds to wait",
    s500="INTERNAL (13)",
)
NOT_FOUND_ERRORS = error_responses(s404="NOT_FOUND (5)")
COMMAND_ERRORS: Responses = NOT_FOUND_ERRORS | error_responses(
    s400="INVALID_ARGUMENT (3): a field is wrong, or the X-Request-ID was used with another body; "
    "NOT_ALLOWED (9): not allowed in this state or at this time",
    s429="NO_CELL (8): no cell fits or is free; with Retry-After: too many requests",
    s501="NOT_BUILT (12): the machine's version cannot do this",
    s503="OFFLINE (14): the machine is offline",
    s504="EXPIRED (4): the machine did not answer in time",
)
