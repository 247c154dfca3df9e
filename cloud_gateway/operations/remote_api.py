"""`/api/operations/v1`, remote work: service commands and configurations."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from fastapi.responses import Response
from pydantic import Field
from sqlalchemy import Connection

from cloud_gateway.api.common import NOT_FOUND_ERRORS, GatewayParts, WithParts, error_responses
from cloud_gateway.api.errors import invalid, not_found
from cloud_gateway.operations.acts import Actor, record_act
from cloud_gateway.operations.routes import Acting, actor_of, refuse_without, same_site
from cloud_gateway.remote.configurations import configuration_of, want
from cloud_gateway.remote.requests import (
    ServiceRequest,
    find_request,
    newest_of,
    requests_of,
    result_of,
)
from cloud_gateway.remote.work import NO_KEY, RemoteWork
from cloud_gateway.users import Role
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import Body as JsonBody
from edge_agent.protocol.api import Identifier, Text, rfc3339
from edge_agent.protocol.service_commands import (
    MOST_REMOTE_SETTINGS,
    Right,
    SettingValue,
)
from edge_agent.protocol.settable import SETTABLE, Kind, is_settable

PREFIX = "/api/operations/v1"
LONGEST_LIST = 200
RESULT_TYPES = ("application/json", "application/gzip")
NEEDED_ROLE: dict[str, Role] = {
    "diagnose": Role.SUPPORT,
    "bundle": Role.SUPPORT,
    "bus-check": Role.SUPPORT,
    "bus-stats": Role.SUPPORT,
    "logs": Role.SUPPORT,
    "config-get": Role.SUPPORT,
    "restart-service": Role.OPERATOR,
    "forget": Role.OPERATOR,
}
"""The role that a service command needs. `config-set` and `update` are requested as a wanted configuration
and as a release."""


def described(text: str, example: Any, **given: Any) -> Any:
    """A field with its description and an example, for /openapi.json."""
    return Field(description=text, examples=[example], **given)


NAME, AT = "ada@example.org", "2026-11-30T10:00:00Z"
SETTINGS = {"doors.door_ajar_s": 90}


class ServiceCommandBody(JsonBody):
    """A service command for one machine."""

    command: Right = described("Which work.", "diagnose")
    arguments: dict[str, Any] = described("What the command takes.", {"outputs": False}, default_factory=dict)


class ServiceCommandView(JsonBody):
    """A service command, and what came of it."""

    request_id: str = described("Its id.", "svc_0f1e2d3c")
    machine_id: str = described("The machine.", "machine_123")
    command: str = described("Which work.", "diagnose")
    arguments: dict[str, Any] = described("What was given with it.", {"outputs": False})
    by: str = described("Who requested it.", NAME)
    requested_at: str = described("When it was requested.", AT)
    state: str = described("SENT, RUNNING, DONE or FAILED.", "DONE")
    ended_at: str | None = described("When its outcome came.", AT, default=None)
    error: dict[str, Any] | None = described(
        "An rpcStatus, if it failed.", {"code": 9, "message": "a self-test is running already"}, default=None
    )
    content_type: str | None = described("Media type of the result.", "application/json", default=None)
    bytes: int | None = described("Length of the result.", 2048, default=None)


class ConfigurationBody(JsonBody):
    """The remote settings that are wanted of a machine: all of them."""

    settings: Annotated[dict[Identifier, SettingValue], Field(max_length=MOST_REMOTE_SETTINGS)] = described(
        "Key paths with values.", SETTINGS
    )
    reason: Text | None = described(
        "Why; it stands in the record of acts.", "doors close slowly", default=None
    )


class SettableView(JsonBody):
    """A key that may be set remotely."""

    key: str = described("Its key path; `*` stands for one name.", "doors.door_ajar_s")
    kind: Kind = described("What its value is.", "integer")
    choices: list[str] = described("The values of a choice.", [])


class ConfigurationView(JsonBody):
    """What is wanted of a machine's configuration, and what it reports."""

    machine_id: str = described("The machine.", "machine_123")
    version: int | None = described("Of the wanted settings; rises with each change.", 5, default=None)
    settings: dict[str, Any] = described("Key paths with values.", SETTINGS)
    by: str | None = described("Who wants it.", NAME, default=None)
    wanted_at: str | None = described("Since when.", AT, default=None)
    sent: ServiceCommandView | None = Field(
        default=None,
        description="The command that asked the machine to take this version, and what came of it: a refusal "
        "names the key path. Absent while it is not sent.",
    )
    reported: dict[str, Any] | None = described(
        "`state/config` of the machine, see asyncapi.yaml.", {"hash": "9f86d081", "version": 5}, default=None
    )
    reported_at: str | None = described("When it reported.", AT, default=None)


REMOTE_ERRORS = error_responses(
    s400="INVALID_ARGUMENT (3): a field is wrong; NOT_ALLOWED (9): not allowed in this state",
    s401="UNAUTHENTICATED (16): name and password are missing or wrong",
    s403="PERMISSION_DENIED (7): the request comes from another site, or needs another role",
    s429="NO_CELL (8): too many wrong keys from one address; Retry-After gives the seconds to wait",
    s500="INTERNAL (13)",
    s501="NOT_BUILT (12): this gateway has no service key",
    s503="OFFLINE (14): the machine is offline",
)
"""What requests for remote work may be refused with."""

router = APIRouter(
    prefix=PREFIX,
    dependencies=[Depends(actor_of)],
    tags=["remote work"],
    responses=REMOTE_ERRORS,
)
Limit = Annotated[int, Query(ge=1, le=LONGEST_LIST)]


def remote_work(parts: GatewayParts) -> RemoteWork:
    """The part that sends what is wanted of machines."""
    assert parts.remote is not None
    return parts.remote


async def _record(parts: GatewayParts, actor: Actor, act: str, target: str, result: str = "done") -> None:
    now_s = parts.clock()
    await parts.store.write(lambda db: record_act(db, actor, act, target, result, now_s))


@router.post(
    "/machines/{machine_id}/service-commands",
    status_code=202,
    response_model_exclude_none=True,
    dependencies=[Depends(same_site)],
)
async def request_service_command(
    machine_id: str, body: Annotated[ServiceCommandBody, Body()], parts: WithParts, actor: Acting
) -> ServiceCommandView:
    """Requests remote work of a machine that is online. The machine works off one command after the other;
    the outcome is at `/service-commands/{request_id}`."""
    act, target = f"request {body.command}", machine_id
    needed = NEEDED_ROLE.get(body.command)
    if needed is None:
        instead = "PUT …/configuration" if body.command == "config-set" else "POST /releases"
        raise invalid("command", f"is requested by {instead}")
    await refuse_without(parts, actor, needed, act, target)
    try:
        made = await remote_work(parts).request(machine_id, body.command, body.arguments, actor.name)
    except Refusal as refusal:
        await _record(parts, actor, act, target, refusal.code.name)
        raise
    await _record(parts, actor, act, f"{target} {made.request_id}")
    return _command_view(made)


@router.get("/machines/{machine_id}/service-commands", response_model_exclude_none=True)
async def service_commands_of(
    machine_id: str, parts: WithParts, limit: Limit = 50
) -> list[ServiceCommandView]:
    """The newest service commands of a machine, newest first."""
    found = await parts.store.read(lambda db: requests_of(db, machine_id, limit))
    return [_command_view(one) for one in found]


@router.get("/service-commands/{request_id}", response_model_exclude_none=True, responses=NOT_FOUND_ERRORS)
async def service_command(request_id: str, parts: WithParts) -> ServiceCommandView:
    """One service command, and what came of it."""
    return _command_view(await _found(parts, request_id))


@router.get(
    "/service-commands/{request_id}/result",
    response_class=Response,
    responses={**NOT_FOUND_ERRORS, 200: {"content": {"application/octet-stream": {}}}},
)
async def service_result(request_id: str, parts: WithParts, actor: Acting) -> Response:
    """The result of a service command: JSON, or a bundle (.tar.gz). Needs the role support."""
    await refuse_without(parts, actor, Role.SUPPORT, "read result", request_id)
    made = await _found(parts, request_id)
    if not made.complete:
        raise not_found("result of this service command")
    content = await parts.store.read(lambda db: result_of(db, request_id))
    ending = "json" if made.content_type == "application/json" else "tar.gz"
    name = f"{made.machine_id}-{made.command}-{request_id}.{ending}"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    kind = made.content_type if made.content_type in RESULT_TYPES else "application/octet-stream"
    return Response(content, media_type=kind, headers=headers)


async def _found(parts: GatewayParts, request_id: str) -> ServiceRequest:
    found = await parts.store.read(lambda db: find_request(db, request_id))
    if found is None:
        raise not_found("service command")
    return found


@router.get("/machines/{machine_id}/configuration", response_model_exclude_none=True)
async def configuration(machine_id: str, parts: WithParts) -> ConfigurationView:
    """The wanted remote settings of a machine, what it reports, and its drift."""
    return await parts.store.read(lambda db: _configuration_view(db, machine_id))


@router.get("/remote-settings")
async def remote_settings() -> list[SettableView]:
    """The keys that may be set remotely; a machine has those of its own sections only."""
    return [SettableView(key=one.key, kind=one.kind, choices=list(one.choices)) for one in SETTABLE]


@router.put(
    "/machines/{machine_id}/configuration",
    response_model_exclude_none=True,
    dependencies=[Depends(same_site)],
)
async def want_configuration(
    machine_id: str, body: Annotated[ConfigurationBody, Body()], parts: WithParts, actor: Acting
) -> ConfigurationView:
    """Replaces the wanted remote settings of a machine. It is asked to take them at once, or when it comes
    online; it takes them as a whole or not at all, and back by itself if it does not reach the broker."""
    await refuse_without(parts, actor, Role.OPERATOR, "set configuration", machine_id)
    if not remote_work(parts).signed:
        raise Refusal(Code.NOT_BUILT, NO_KEY)
    for key in body.settings:
        if not is_settable(key):
            raise invalid(f"settings.{key}", "cannot be set remotely")
    now_s = parts.clock()

    def work(db: Connection) -> ConfigurationView:
        version = want(db, machine_id, dict(body.settings), actor.name, now_s)
        target = f"{machine_id} version {version}"
        if body.reason is not None:
            target += f" ({body.reason})"
        record_act(db, actor, "set configuration", target, "done", now_s)
        return _configuration_view(db, machine_id)

    wanted = await parts.store.write(work)
    remote_work(parts).wake()
    return wanted


def _command_view(made: ServiceRequest) -> ServiceCommandView:
    return ServiceCommandView(
        request_id=made.request_id,
        machine_id=made.machine_id,
        command=made.command,
        arguments=made.arguments,
        by=made.actor,
        requested_at=rfc3339(made.requested_s),
        state=made.state,
        ended_at=None if made.ended_s is None else rfc3339(made.ended_s),
        error=made.error,
        content_type=made.content_type,
        bytes=made.bytes,
    )


def _configuration_view(db: Connection, machine_id: str) -> ConfigurationView:
    found = configuration_of(db, machine_id)
    sent = newest_of(db, machine_id, "config-set")
    if sent is not None and sent.arguments.get("version") != found.version:
        sent = None  # of a version before
    return ConfigurationView(
        machine_id=found.machine_id,
        version=found.version,
        settings=found.settings,
        by=found.actor,
        wanted_at=None if found.wanted_s is None else rfc3339(found.wanted_s),
        sent=None if sent is None else _command_view(sent),
        reported=None if found.reported is None else found.reported.model_dump(exclude_none=True),
        reported_at=None if found.reported_s is None else rfc3339(found.reported_s),
    )
