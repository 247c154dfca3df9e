"""The API's routes about machines: echo, search, details, maintenance."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cloud_gateway.api.bodies import (
    EchoBody,
    EchoResponse,
    FoundMachine,
    MachineResponse,
    MaintenanceResponse,
    SearchBody,
    SearchResponse,
    read_body,
    read_json,
)
from cloud_gateway.api.common import (
    COMMAND_ERRORS,
    COMMON_ERRORS,
    NOT_FOUND_ERRORS,
    PREFIX,
    Call,
    Caller,
    GatewayParts,
    WithParts,
    present_machine,
    reply_does_not_fit,
    with_present_state,
)
from cloud_gateway.api.errors import invalid, not_found
from cloud_gateway.api.idempotency import CommandIds
from cloud_gateway.api.search import distance_m, suits
from cloud_gateway.events.projection import owner_of
from cloud_gateway.events.tickets import Ticket, put_ticket
from cloud_gateway.machines.commands import Reply
from cloud_gateway.value_bounds import moment_s
from edge_agent.errors import Code, FieldViolation, Refusal
from edge_agent.model import Source
from edge_agent.protocol.api import Body, CellDetail, Machine, MaintenanceBody

router = APIRouter(prefix=PREFIX, responses=COMMON_ERRORS)


@router.post("/echo", response_model=EchoResponse)
async def echo(request: Request, caller: Caller) -> EchoResponse:
    """Tests connectivity and the key; answered by the gateway itself."""
    return EchoResponse(message=read_body(EchoBody, await read_json(request)).message)


@router.post("/machines/search", response_model=SearchResponse, response_model_exclude_none=True)
async def search_machines(request: Request, caller: Caller, parts: WithParts) -> SearchResponse:
    """Finds machines by place and need, nearest first."""
    body = read_body(SearchBody, await read_json(request))
    parcel = None if body.packaging is None else body.packaging.to_model()
    found: list[tuple[float, Machine]] = []
    for stored in await parts.store.all_machines():
        machine = with_present_state(parts, stored)
        distance = distance_m(body.latitude, body.longitude, machine)
        if distance <= body.radius and suits(machine, parcel, only_available=body.only_available_lockers):
            found.append((distance, machine))
    found.sort(key=lambda item: (item[0], item[1].machine_id))
    return SearchResponse(
        machines=[
            FoundMachine(machine=machine, distance_in_metres=round(distance))
            for distance, machine in found[: body.limit]
        ]
    )


@router.get(
    "/machines/{machine_id}",
    response_model=MachineResponse,
    response_model_exclude_none=True,
    responses=NOT_FOUND_ERRORS,
)
async def get_machine(machine_id: str, caller: Caller, parts: WithParts) -> MachineResponse:
    """Returns one machine with its last published state."""
    return MachineResponse(machine=await present_machine(parts, machine_id))


@router.post("/maintenances", response_model=MaintenanceResponse, responses=COMMAND_ERRORS)
async def request_maintenance(request: Request, caller: Caller, parts: WithParts) -> Response:
    """Reports that a cell or a machine needs maintenance; the machine opens the ticket. Where `machine_id` is
    given, `cell_id` may also be the label on the door."""
    document = await read_json(request)
    body = read_body(MaintenanceBody, document)
    if body.cell_id is None and body.machine_id is None:
        problem = "cell_id or machine_id is needed"
        violations = tuple(FieldViolation(name, problem) for name in ("cell_id", "machine_id"))
        raise Refusal(Code.INVALID_ARGUMENT, problem, violations)
    call = Call(request, caller, parts, document)

    async def carry_out(command_ids: CommandIds) -> Body:
        subject = await _subject(parts, body)
        named = {"machine_id": subject.machine_id}
        if subject.cell is not None:
            named["cell_id"] = subject.cell.cell_id
        fields = body.model_dump(mode="json", exclude_none=True) | named
        reply = await call.send_command(subject.machine_id, "maintenance", fields, command_ids)
        response = _ticket_response(reply)
        ticket = _ticket(body, subject, response)
        try:
            await parts.store.write(lambda db: put_ticket(db, ticket))
        except ValueError:
            raise reply_does_not_fit() from None  # a ticket of another machine
        return response

    return await call.run_once(carry_out)


@dataclass(frozen=True, slots=True)
class _Subject:
    """The subject of a maintenance request: a machine, and one cell of it or none."""

    machine_id: str
    cell: CellDetail | None


async def _subject(parts: GatewayParts, body: MaintenanceBody) -> _Subject:
    """Returns what the request is about. A cell id belongs to the machine that had it first. Raises
    `Refusal`: NOT_FOUND if unknown, INVALID_ARGUMENT if several machines have such a cell and none is known
    to have had it first, OFFLINE."""
    if not parts.machines.connected:
        raise Refusal(Code.OFFLINE, "the broker is not connected")
    if body.machine_id is not None:
        machine = await present_machine(parts, body.machine_id)
        return _Subject(body.machine_id, _cell(machine, body.cell_id) or _labelled(machine, body.cell_id))
    subjects = [
        _Subject(machine.machine_id, cell)
        for machine in await parts.store.all_machines()
        if (cell := _cell(machine, body.cell_id)) is not None
    ]
    if not subjects:
        raise not_found("cell")
    if len(subjects) == 1:
        return subjects[0]
    # A machine that names another machine's cell must not divert its maintenance requests.
    owner = await parts.store.read(lambda db: owner_of(db, str(body.cell_id)))
    owned = [subject for subject in subjects if subject.machine_id == owner]
    if not owned:
        raise invalid("machine_id", "is needed: more than one machine has a cell with this cell_id")
    return owned[0]


def _cell(machine: Machine, cell_id: str | None) -> CellDetail | None:
    return next((cell for cell in machine.all_cells if cell.cell_id == cell_id), None)


def _labelled(machine: Machine, label: str | None) -> CellDetail | None:
    """The cell with this label on its door, in capitals or not."""
    wanted = (label or "").casefold()
    return next((cell for cell in machine.all_cells if cell.description.casefold() == wanted), None)


def _ticket_response(reply: Reply) -> MaintenanceResponse:
    try:
        response = MaintenanceResponse.model_validate(reply.result)
        moment_s(response.created_at)
    except ValueError:
        raise reply_does_not_fit() from None
    return response


def _ticket(body: MaintenanceBody, subject: _Subject, response: MaintenanceResponse) -> Ticket:
    return Ticket(
        ticket_id=response.maintenance_ticket_id,
        machine_id=subject.machine_id,
        cell_label=None if subject.cell is None else subject.cell.description,
        cell_id=body.cell_id if subject.cell is None else subject.cell.cell_id,
        description=body.description,
        severity=body.severity,
        created_s=moment_s(response.created_at),
        source=Source.API,
        blocked=body.block_cell_immediately,
    )
