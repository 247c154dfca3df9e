"""`/api/operations/v1`: the machines as their operators see them, and what operators do to them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from sqlalchemy import Connection

from cloud_gateway.api.bodies import OperatorActBody, read_body, read_json
from cloud_gateway.api.common import (
    COMMAND_ERRORS,
    NOT_FOUND_ERRORS,
    GatewayParts,
    WithParts,
    error_responses,
)
from cloud_gateway.api.errors import invalid, machine_refusal_response, not_found
from cloud_gateway.api.idempotency import CommandIds, RequestScope, StoredResponse
from cloud_gateway.events.tickets import close_ticket
from cloud_gateway.machines.commands import MachineRefusal
from cloud_gateway.operations.acts import Actor, record_act
from cloud_gateway.operations.fleet import Fleet
from cloud_gateway.operations.fleet_models import (
    ActDone,
    FleetEvents,
    FleetMachine,
    FleetMachineDetail,
    FleetPage,
)
from cloud_gateway.operations.routes import FORBIDDEN, Acting, actor_of, refuse_without, same_site
from cloud_gateway.users import Role
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import CellDetail, rfc3339

PREFIX = "/api/operations/v1"
PAGE_MAX = 1_000
EVENTS_MAX = 200
SEQUENCE_MAX = 2**53
TEXT_MAX = 200
CELL_ACTS = {
    "block": ("block cell", "block-cell", Role.SUPPORT),
    "unblock": ("unblock cell", "unblock-cell", Role.SUPPORT),
    "clear": ("clear cell", "clear-cell", Role.OPERATOR),
}
"""By the last word of the path: the act's name in the record, the machine's command, the least role. To clear
states that a person has seen the cell empty, so it needs more than to block."""

State = Literal["online", "offline", "problem", "good"]
MachineId = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Label = Annotated[str, Path(min_length=1, max_length=64)]
NO_STORE = {"Cache-Control": "no-store"}

router = APIRouter(
    prefix=PREFIX,
    dependencies=[Depends(actor_of)],
    responses=error_responses(
        s400="INVALID_ARGUMENT (3): a parameter or a field is wrong, or the X-Request-ID cannot be used",
        s401="UNAUTHENTICATED (16): name and password are missing or wrong",
        s429="NO_CELL (8): too many wrong passwords from one address; Retry-After gives the seconds to wait",
        s500="INTERNAL (13)",
    ),
)


async def _fleet(request: Request) -> Fleet:
    fleet: Fleet = request.app.state.fleet
    return fleet


WithFleet = Annotated[Fleet, Depends(_fleet)]


@dataclass(frozen=True, slots=True)
class Filters:
    """What a machine has to fit; None: anything."""

    q: Annotated[str | None, Query(max_length=TEXT_MAX)] = None
    state: Annotated[State | None, Query()] = None
    version: Annotated[str | None, Query(max_length=TEXT_MAX)] = None
    site: Annotated[str | None, Query(max_length=4096)] = None

    def fits(self, row: FleetMachine) -> bool:
        """Whether a machine fits all of them."""
        if self.q is not None:
            text = f"{row.machine_id}\n{row.name}\n{row.location}\n{row.agent_version or ''}".casefold()
            if not all(word in text for word in self.q.casefold().split()):
                return False
        if self.version is not None and row.agent_version != self.version:
            return False
        if self.site is not None and row.location != self.site:
            return False
        states = {"online": row.online, "offline": not row.online, "problem": row.score > 0}
        return self.state is None or states.get(self.state, row.score == 0)


@router.get("/machines", response_model=FleetPage, response_model_exclude_none=True)
async def list_machines(
    fleet: WithFleet,
    parts: WithParts,
    filters: Annotated[Filters, Depends()],
    page_size: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    page_token: Annotated[str, Query(max_length=400)] = "",
) -> Response:
    """Lists the machines that fit, those with the weightiest problems first. Every word of `q` has to be in a
    machine's id, name, place or version."""
    rows = [row for row in await fleet.rows() if filters.fits(row)]
    start = 0
    if page_token:
        after = _place_of(page_token)
        start = sum((-row.score, row.machine_id) <= after for row in rows)
    page = rows[start : start + page_size]
    more = start + page_size < len(rows)
    return _json(
        FleetPage(
            machines=page,
            next_page_token=_token_after(page[-1]) if page and more else "",
            total_count=len(rows),
            broker_connected=parts.machines.connected,
            observed_since=fleet.observed_since,
            at=rfc3339(parts.clock()),
        )
    )


@router.get(
    "/machines/{machine_id}",
    response_model=FleetMachineDetail,
    response_model_exclude_none=True,
    responses=NOT_FOUND_ERRORS,
)
async def get_machine(machine_id: MachineId, fleet: WithFleet) -> Response:
    """One machine with its cells, tickets, last events, and what operators did to it."""
    found = await fleet.detail(machine_id)
    if found is None:
        raise not_found("machine")
    return _json(found)


@router.get(
    "/machines/{machine_id}/events",
    response_model=FleetEvents,
    response_model_exclude_none=True,
    responses=NOT_FOUND_ERRORS,
)
async def list_events(
    machine_id: MachineId,
    fleet: WithFleet,
    before: Annotated[int | None, Query(ge=1, le=SEQUENCE_MAX)] = None,
    page_size: Annotated[int, Query(ge=1, le=EVENTS_MAX)] = 50,
) -> Response:
    """The applied events of a machine's present journal, newest first."""
    found = await fleet.events(machine_id, before, page_size)
    if found is None:
        raise not_found("machine")
    return _json(found)


def _json(body: FleetPage | FleetMachineDetail | FleetEvents | ActDone) -> Response:
    """A response that is written once: the framework would check every row again."""
    text = body.model_dump_json(exclude_none=True)
    return Response(text, media_type="application/json", headers=NO_STORE)


def _token_after(row: FleetMachine) -> str:
    place = f"{row.score}.{row.machine_id}"
    return base64.urlsafe_b64encode(f"{place}.{_checksum(place)}".encode()).decode().rstrip("=")


def _place_of(token: str) -> tuple[int, str]:
    """The place after which a page begins. Raises `Refusal` INVALID_ARGUMENT."""
    try:
        padded = token + "=" * (-len(token) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
        place, _, checksum = text.rpartition(".")
        if hmac.compare_digest(checksum, _checksum(place)):
            score, _, machine_id = place.partition(".")
            return -int(score), machine_id
    except ValueError:
        pass
    raise invalid("page_token", "is not a token of this API")


def _checksum(place: str) -> str:
    return hashlib.sha256(f"fleet {place}".encode()).hexdigest()[:16]


ACT_ERRORS = COMMAND_ERRORS | error_responses(s403=FORBIDDEN)


@router.post(
    "/machines/{machine_id}/cells/{label}/block",
    response_model=ActDone,
    responses=ACT_ERRORS,
    dependencies=[Depends(same_site)],
)
async def block_cell(
    machine_id: MachineId, label: Label, request: Request, parts: WithParts, actor: Acting
) -> Response:
    """Takes a cell out of allocation. Needs the role support."""
    return await _act_on_cell("block", machine_id, label, request, parts, actor)


@router.post(
    "/machines/{machine_id}/cells/{label}/unblock",
    response_model=ActDone,
    responses=ACT_ERRORS,
    dependencies=[Depends(same_site)],
)
async def unblock_cell(
    machine_id: MachineId, label: Label, request: Request, parts: WithParts, actor: Acting
) -> Response:
    """Returns a blocked cell to allocation. Needs the role support."""
    return await _act_on_cell("unblock", machine_id, label, request, parts, actor)


@router.post(
    "/machines/{machine_id}/cells/{label}/clear",
    response_model=ActDone,
    responses=ACT_ERRORS,
    dependencies=[Depends(same_site)],
)
async def clear_cell(
    machine_id: MachineId, label: Label, request: Request, parts: WithParts, actor: Acting
) -> Response:
    """States that a person has checked the cell: it is empty and in order. Needs the role operator."""
    return await _act_on_cell("clear", machine_id, label, request, parts, actor)


async def _act_on_cell(
    word: str, machine_id: str, label: str, request: Request, parts: GatewayParts, actor: Actor
) -> Response:
    """Sends the command of an act and records it: before it is sent, and what the machine decided."""
    act, command, role = CELL_ACTS[word]
    await refuse_without(parts, actor, role, act, f"{machine_id}/{label}")
    body = read_body(OperatorActBody, await read_json(request))
    target = f"{machine_id}/{label} ({body.reason})"
    cell = await _cell_of(parts, machine_id, label)
    if cell is None:
        await _record(parts, actor, act, target, "not found")
        raise not_found("cell")
    fields = {"cell_id": cell.cell_id}
    if word == "block":
        fields["reason"] = f"{body.reason} ({actor.name})"
    x_request_id = request.state.x_request_id

    async def carry_out(ids: CommandIds) -> StoredResponse:
        await _record(parts, actor, act, target, "requested")
        try:
            await parts.machines.call(
                machine_id, command, fields, command_id=ids.command_id, x_request_id=x_request_id
            )
        except MachineRefusal as refusal:
            await _record(parts, actor, act, target, _name_of(refusal.code))
            if not refusal.is_decision:
                raise
            status, answer = machine_refusal_response(refusal)
            return StoredResponse(status, json.dumps(answer))
        except Refusal as refusal:
            await _record(parts, actor, act, target, refusal.code.name)
            raise
        await _record(parts, actor, act, target, "done")
        done = ActDone(machine_id=machine_id, target=label, act=act)
        return StoredResponse(200, done.model_dump_json())

    scope = RequestScope(
        f"operator {actor.name}",
        request.method,
        request.url.path,
        request.state.x_request_id_given,
        x_request_id,
    )
    response = await parts.idempotency.run_once(scope, body.model_dump(), carry_out)
    return Response(response.body, response.status, media_type="application/json", headers=NO_STORE)


async def _cell_of(parts: GatewayParts, machine_id: str, label: str) -> CellDetail | None:
    """The cell with this label. Raises `Refusal` NOT_FOUND for an unknown machine."""
    machine = await parts.store.machine(machine_id)
    if machine is None:
        raise not_found("machine")
    return next((cell for cell in machine.all_cells if cell.description == label), None)


def _name_of(code: int) -> str:
    """A machine's error code by name."""
    return next((one.name for one in Code if int(one) == code), f"error {code}")


async def _record(parts: GatewayParts, actor: Actor, act: str, target: str, result: str) -> None:
    now_s = parts.clock()
    await parts.store.write(lambda db: record_act(db, actor, act, target, result, now_s))


@router.post(
    "/tickets/{ticket_id}/close",
    response_model=ActDone,
    responses=NOT_FOUND_ERRORS | error_responses(s403=FORBIDDEN),
    dependencies=[Depends(same_site)],
)
async def close_one_ticket(
    ticket_id: Annotated[str, Path(min_length=1, max_length=128)],
    machine_id: Annotated[str, Query(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")],
    request: Request,
    parts: WithParts,
    actor: Acting,
) -> Response:
    """Closes a maintenance ticket of a machine; a repeat is harmless. It unblocks no cell. Needs the role
    support."""
    act, target = "close ticket", f"{machine_id}/{ticket_id}"
    await refuse_without(parts, actor, Role.SUPPORT, act, target)
    body = read_body(OperatorActBody, await read_json(request))
    now_s = parts.clock()

    def work(db: Connection) -> bool:
        found = close_ticket(db, ticket_id, int(now_s), machine_id)
        result = "done" if found else "not found"
        record_act(db, actor, act, f"{target} ({body.reason})", result, now_s)
        return found

    if not await parts.store.write(work):
        raise not_found("ticket")
    return _json(ActDone(machine_id=machine_id, target=ticket_id, act=act))
