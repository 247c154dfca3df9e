"""The API's routes about reservations."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from cloud_gateway.api.bodies import (
    DIGITS,
    AcceptedResponse,
    EmptyResponse,
    ListedReservation,
    ListResponse,
    NamedCell,
    OpenedResponse,
    ReservationResponse,
    ReservedResponse,
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
    answer_of,
    present_machine,
    reply_does_not_fit,
    with_present_state,
)
from cloud_gateway.api.errors import not_found
from cloud_gateway.api.idempotency import CommandIds
from cloud_gateway.api.paging import cursor_of, token_after
from cloud_gateway.db.store import ReservationRow
from cloud_gateway.events.given_up import cancelled_meanwhile, record_given_up, withdraw_cancellation
from cloud_gateway.machines.commands import Reply
from cloud_gateway.machines.sealed_ids import SealedRequest
from cloud_gateway.settings import Platform
from cloud_gateway.value_bounds import moment_s, shown_date
from edge_agent.errors import Code, Refusal
from edge_agent.model import Purpose, ReservationStatus, qr_text
from edge_agent.protocol.api import Body, OpenDoorBody, ReserveBody

INT64_MAX = 2**63 - 1

router = APIRouter(prefix=PREFIX, responses=COMMON_ERRORS)


@router.post("/reservations", response_model=ReservedResponse, responses=COMMAND_ERRORS)
async def reserve(request: Request, caller: Caller, parts: WithParts) -> Response:
    """Reserves a cell; the machine chooses it and makes the codes."""
    document = await read_json(request)
    body = read_body(ReserveBody, document)
    call = Call(request, caller, parts, document)

    async def carry_out(command_ids: CommandIds) -> Body:
        if parts.machines.connected:
            await present_machine(parts, body.machine_id)
        unused = set() if body.accessible else {"accessible"}  # older machines do not know it
        fields = body.model_dump(mode="json", exclude_none=True, exclude=unused)
        fields |= {"reservation_id": command_ids.reservation_id, "platform": caller.name}
        reply = await _send_reserve(call, body.machine_id, fields, command_ids)
        if reply.reservation is None or reply.reservation.reservation_id != command_ids.reservation_id:
            raise reply_does_not_fit()
        row, machine = await parts.store.reservation_and_machine(command_ids.reservation_id)
        if row is None or machine is None:
            raise Refusal(Code.INTERNAL, "the reservation was not stored")
        return ReservedResponse(
            reservation_id=row.reservation_id,
            machine_id=row.machine_id,
            machine=with_present_state(parts, machine),
            **_code_fields(parts, row),
        )

    sealed_request = SealedRequest(
        body.machine_id, caller.name, body.platform_order_id, body.notes, body.webhook_url
    )
    return await call.run_once(carry_out, lambda: parts.seals.new_id(sealed_request))


@router.get(
    "/reservations",
    response_model=ListResponse,
    response_model_exclude_none=True,
)
async def list_reservations(
    caller: Caller,
    parts: WithParts,
    page_size: Annotated[int, Query(ge=1, le=1000), DIGITS] = 100,
    page_token: Annotated[str, Query()] = "",
    created_after: Annotated[int | None, Query(ge=-INT64_MAX, le=INT64_MAX), DIGITS] = None,
) -> ListResponse:
    """The platform's ongoing reservations, oldest first; `created_after` in Unix seconds, exclusive."""
    rows, total = await parts.store.ongoing(
        caller.name,
        now_s=parts.clock(),
        page_size=page_size + 1,
        after=cursor_of(page_token) if page_token else None,
        created_after_s=created_after,
    )
    page = rows[:page_size]
    token = token_after(page[-1]) if len(rows) > page_size else ""
    listed = [ListedReservation(**_common_fields(row)) for row in page]
    return ListResponse(reservations=listed, next_page_token=token, total_count=total)


@router.get(
    "/reservations/{reservation_id}",
    response_model=ReservationResponse,
    response_model_exclude_none=True,
    responses=NOT_FOUND_ERRORS,
)
async def get_reservation(reservation_id: str, caller: Caller, parts: WithParts) -> Response:
    """One reservation, from the projection; it works while the machine is offline, too."""
    row, stored = await parts.store.reservation_and_machine(reservation_id)
    if row is None or row.platform != caller.name:
        raise not_found("reservation")
    machine = None if stored is None else with_present_state(parts, stored)
    return answer_of(
        ReservationResponse(
            machine=machine, notes=row.notes, **_common_fields(row), **_code_fields(parts, row)
        )
    )


@router.post(
    "/reservations/{reservation_id}/dropoffs", response_model=OpenedResponse, responses=COMMAND_ERRORS
)
async def drop_off(reservation_id: str, request: Request, caller: Caller, parts: WithParts) -> Response:
    """Opens the cell for the courier; responds when the door is open or has failed to open. The status
    becomes DROPPED_OFF later, when the door has been closed again."""
    return await _open(request, caller, parts, reservation_id, "dropoff")


@router.post(
    "/reservations/{reservation_id}/pickups", response_model=OpenedResponse, responses=COMMAND_ERRORS
)
async def pick_up(reservation_id: str, request: Request, caller: Caller, parts: WithParts) -> Response:
    """Opens the cell for the customer; responds when the door is open or has failed to open."""
    return await _open(request, caller, parts, reservation_id, "pickup")


@router.post("/reservations/{reservation_id}/deletes", response_model=EmptyResponse, responses=COMMAND_ERRORS)
async def cancel(reservation_id: str, request: Request, caller: Caller, parts: WithParts) -> Response:
    """Cancels a reservation before a parcel was dropped off."""
    return await _end_reservation(request, caller, parts, reservation_id, "cancel")


@router.post(
    "/reservations/{reservation_id}/abandons", response_model=EmptyResponse, responses=COMMAND_ERRORS
)
async def abandon(reservation_id: str, request: Request, caller: Caller, parts: WithParts) -> Response:
    """Marks a dropped off parcel as abandoned; the cell awaits clean-up."""
    return await _end_reservation(request, caller, parts, reservation_id, "abandon")


@router.post(
    "/reservations/{reservation_id}/open-door", response_model=AcceptedResponse, responses=COMMAND_ERRORS
)
async def open_door(reservation_id: str, request: Request, caller: Caller, parts: WithParts) -> Response:
    """Opens the cell for support; responds when the machine has accepted it; a webhook reports the
    outcome."""
    document = await read_json(request)
    body = read_body(OpenDoorBody, document)
    row = await _reservation_of(parts, caller, reservation_id)
    call = Call(request, caller, parts, document)

    async def carry_out(command_ids: CommandIds) -> Body:
        fields = {"reservation_id": reservation_id, **body.model_dump(mode="json")}
        reply = await call.send_command(row.machine_id, "open-door", fields, command_ids)
        accepted_at = reply.result.get("accepted_at")
        try:
            moment_s(accepted_at if isinstance(accepted_at, str) else "")
        except ValueError:
            raise reply_does_not_fit() from None
        return AcceptedResponse(request_id=request.state.x_request_id, accepted_at=str(accepted_at))

    return await call.run_once(carry_out)


async def _send_reserve(
    call: Call, machine_id: str, fields: dict[str, Any], command_ids: CommandIds
) -> Reply:
    """Sends `reserve`. If an earlier attempt of the same request was given up, its cancellation is withdrawn
    first.

    Without a reply in time the reservation is recorded as given up (`events.given_up`): if the machine made
    it nevertheless, the gateway cancels it later.
    """
    parts, rid = call.parts, command_ids.reservation_id
    given = call.request.state.x_request_id_given is not None
    # Without an id of the caller's the reservation's id is new: there was no earlier attempt.
    may_be_cancelled = given and await parts.store.write(
        lambda db: withdraw_cancellation(db, rid, parts.clock())
    )
    try:
        reply = await call.send_command(machine_id, "reserve", fields, command_ids)
        if may_be_cancelled:  # the reply may be the stored one from before that cancel
            second = CommandIds(f"req_{uuid.uuid4().hex}", rid)
            reply = await call.send_command(machine_id, "get-reservation", {"reservation_id": rid}, second)
            if reply.reservation is not None and reply.reservation.status is ReservationStatus.CANCELLED:
                raise cancelled_meanwhile()
    except Refusal as refusal:
        if refusal.code in (Code.EXPIRED, Code.OFFLINE):
            retry_wait_s = parts.timing.retry_wait_s if given else 0.0
            await parts.store.write(
                lambda db: record_given_up(db, rid, machine_id, parts.clock(), retry_wait_s)
            )
        raise
    return reply


async def _end_reservation(
    request: Request, caller: Platform, parts: GatewayParts, reservation_id: str, name: str
) -> Response:
    """A command on a reservation that is answered with `{}`."""
    document = await read_json(request)
    row = await _reservation_of(parts, caller, reservation_id)
    call = Call(request, caller, parts, document)

    async def carry_out(command_ids: CommandIds) -> Body:
        await call.send_command(row.machine_id, name, {"reservation_id": reservation_id}, command_ids)
        return EmptyResponse()

    return await call.run_once(carry_out)


async def _open(
    request: Request, caller: Platform, parts: GatewayParts, reservation_id: str, name: str
) -> Response:
    """A command on a reservation that is answered with the cell that opened."""
    document = await read_json(request)
    row = await _reservation_of(parts, caller, reservation_id)
    call = Call(request, caller, parts, document)

    async def carry_out(command_ids: CommandIds) -> Body:
        reply = await call.send_command(row.machine_id, name, {"reservation_id": reservation_id}, command_ids)
        cell = reply.result.get("cell")
        if not isinstance(cell, dict) or not isinstance(cell.get("description"), str):
            raise reply_does_not_fit()
        return OpenedResponse(cell=NamedCell(description=cell["description"]))

    return await call.run_once(carry_out)


async def _reservation_of(parts: GatewayParts, caller: Platform, reservation_id: str) -> ReservationRow:
    """Returns a reservation of this platform. Raises `Refusal` NOT_FOUND if there is none, or if it is
    another platform's."""
    row = await parts.store.reservation(reservation_id)
    if row is None or row.platform != caller.name:
        raise not_found("reservation")
    return row


def _code_fields(parts: GatewayParts, row: ReservationRow) -> dict[str, str]:
    base = f"{parts.settings.public_url}/qrcode"
    drop = qr_text(Purpose.DROPOFF, row.reservation_id, row.drop_off_code)
    pick = qr_text(Purpose.PICKUP, row.reservation_id, row.pickup_code)
    return {
        "drop_off_code": row.drop_off_code,
        "drop_off_qrcode": drop,
        "drop_off_qrcode_url": f"{base}/{drop}",
        "pickup_code": row.pickup_code,
        "pickup_code_qrcode": pick,
        "pickup_code_qrcode_url": f"{base}/{pick}",
    }


def _common_fields(row: ReservationRow) -> dict[str, Any]:
    return {
        "reservation_id": row.reservation_id,
        "machine_id": row.machine_id,
        "platform_order_id": row.platform_order_id,
        "status": row.status,
        "created_at": shown_date(row.created_s),
        "cell": None if row.cell_label is None else NamedCell(description=row.cell_label),
        "dropped_off_at": None if row.dropped_off_s is None else shown_date(row.dropped_off_s),
        "picked_up_at": None if row.picked_up_s is None else shown_date(row.picked_up_s),
    }
