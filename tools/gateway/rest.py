"""The routes of the delivery locker API, to the letter of the API reference."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import segno
from fastapi import APIRouter, Depends, Query, Request, Security
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyHeader

from edge_agent.errors import Code, Refusal
from edge_agent.model import Purpose, parse_qr, qr_text
from edge_agent.protocol.api import Body, Machine, ReserveBody, rfc3339
from tools.gateway.bodies import (
    CellAnswer,
    EchoBody,
    FoundMachine,
    ListAnswer,
    ListedReservation,
    MachineAnswer,
    NothingAnswer,
    OpenedAnswer,
    QueryInteger,
    ReservationAnswer,
    ReservedAnswer,
    SearchAnswer,
    SearchBody,
    StatusAnswer,
    read_body,
    read_json,
)
from tools.gateway.errors import invalid, machine_refused, not_built, not_found
from tools.gateway.idempotency import Answer, Attempt, Idempotency, Scope
from tools.gateway.machines import MachineRefusal, Machines, Reply
from tools.gateway.search import distance_m, suits
from tools.gateway.settings import Platform, Settings
from tools.gateway.store import ReservationRow, Store

PREFIX = "/api/delivery/external/v1"
INT64_MAX = 2**63 - 1
QR_SCALE = 8


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with; `clock` gives Unix seconds."""

    settings: Settings
    store: Store
    machines: Machines
    idempotency: Idempotency
    clock: Callable[[], float] = time.time


def parts_of(request: Request) -> Parts:
    """The parts, put there by the composition root."""
    parts: Parts = request.app.state.parts
    return parts


_KEY = APIKeyHeader(name="X-API-Key", auto_error=False)


def key_hash(api_key: str) -> bytes:
    """What keys are looked up by."""
    return hashlib.sha256(api_key.encode("utf-8", "surrogateescape")).digest()


def platform_of(request: Request, api_key: Annotated[str | None, Security(_KEY)] = None) -> Platform:
    """Whose request this is. Raises `Refusal` 16 without a key, 7 with a wrong one."""
    if not api_key:
        raise Refusal(Code.UNAUTHENTICATED, "the X-API-Key header is missing")
    given, found = key_hash(api_key), None
    for platform in parts_of(request).settings.platforms:
        if hmac.compare_digest(given, key_hash(platform.api_key.get_secret_value())):
            found = platform
    if found is None:
        raise Refusal(Code.PERMISSION_DENIED, "the X-API-Key header is not valid")
    request.state.platform_name = found.name
    return found


Caller = Annotated[Platform, Depends(platform_of)]
WithParts = Annotated[Parts, Depends(parts_of)]


def takes(model: type[Body]) -> dict[str, Any]:
    """The request's body for /openapi.json; `openapi.describe` puts the model among the schemas."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"content": {"application/json": {"schema": reference}}, "required": True}}


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": StatusAnswer, "description": "code 3 or 9"},
    403: {"model": StatusAnswer, "description": "code 16 without a key, 7 with a wrong one"},
    "default": {"model": StatusAnswer, "description": "any other error"},
}
MISSING: dict[int | str, dict[str, Any]] = {404: {"model": StatusAnswer, "description": "code 5"}}
ASKED: dict[int | str, dict[str, Any]] = {
    **MISSING,
    429: {"model": StatusAnswer, "description": "code 8: no cell fits or is free"},
    503: {"model": StatusAnswer, "description": "code 14: the machine is offline"},
    504: {"model": StatusAnswer, "description": "code 4: the machine did not answer in time"},
}
LATER: dict[int | str, dict[str, Any]] = {501: {"model": StatusAnswer, "description": "code 12: not built"}}

api = APIRouter(prefix=PREFIX, responses=ERRORS)
public = APIRouter()


@api.post("/echo", response_model=EchoBody, openapi_extra=takes(EchoBody))
async def echo(request: Request, caller: Caller) -> EchoBody:
    """Tests connectivity and the key; answered by the gateway itself."""
    return read_body(EchoBody, await read_json(request))


@api.post("/machines/search", response_model=SearchAnswer, openapi_extra=takes(SearchBody))
async def search_machines(request: Request, caller: Caller, parts: WithParts) -> SearchAnswer:
    """Finds machines by place and need, nearest first."""
    wish = read_body(SearchBody, await read_json(request))
    found: list[tuple[float, Machine]] = []
    for stored in await parts.store.all_machines():
        machine = _as_now(parts, stored)
        distance = distance_m(wish.latitude, wish.longitude, machine)
        if distance <= wish.radius and suits(
            machine, wish.packaging, only_available=wish.only_available_lockers
        ):
            found.append((distance, machine))
    found.sort(key=lambda item: (item[0], item[1].machine_id))
    return SearchAnswer(
        machines=[
            FoundMachine(machine=machine, distance_in_metres=round(distance))
            for distance, machine in found[: wish.limit]
        ]
    )


@api.get(
    "/machines/{machine_id}",
    response_model=MachineAnswer,
    response_model_exclude_none=True,
    responses=MISSING,
)
async def get_machine(machine_id: str, caller: Caller, parts: WithParts) -> MachineAnswer:
    """One machine, as it last told of itself."""
    return MachineAnswer(machine=await _machine(parts, machine_id))


@api.post("/reservations", response_model=ReservedAnswer, responses=ASKED, openapi_extra=takes(ReserveBody))
async def reserve(request: Request, caller: Caller, parts: WithParts) -> Response:
    """Reserves a cell; the machine chooses it and makes the codes."""
    document = await read_json(request)
    wish = read_body(ReserveBody, document)

    async def act(attempt: Attempt) -> Body:
        if parts.machines.connected:
            await _machine(parts, wish.machine_id)
        fields = wish.model_dump(mode="json", exclude_none=True)
        fields |= {"reservation_id": attempt.reservation_id, "platform": caller.name}
        reply = await _call(request, parts, wish.machine_id, "reserve", fields, attempt)
        if reply.reservation is None or reply.reservation.reservation_id != attempt.reservation_id:
            raise Refusal(Code.INTERNAL, "the machine's reply does not fit the request")
        row = await parts.store.reservation(attempt.reservation_id)
        if row is None:
            raise Refusal(Code.INTERNAL, "the reservation was not stored")
        return ReservedAnswer(
            reservation_id=row.reservation_id,
            machine_id=row.machine_id,
            machine=await _machine(parts, row.machine_id),
            **_codes(parts, row),
        )

    return await _once(request, caller, parts, document, act)


@api.get(
    "/reservations",
    response_model=ListAnswer,
    response_model_exclude_none=True,
)
async def list_reservations(
    caller: Caller,
    parts: WithParts,
    page_size: Annotated[QueryInteger, Query(ge=1, le=1000)] = 100,
    page_token: Annotated[str, Query()] = "",
    created_after: Annotated[QueryInteger | None, Query(ge=-INT64_MAX, le=INT64_MAX)] = None,
) -> ListAnswer:
    """The platform's ongoing reservations, oldest first; `created_after` in Unix seconds, exclusive."""
    rows, total = await parts.store.ongoing(
        caller.name,
        now_s=parts.clock(),
        page_size=page_size + 1,
        after=_place(page_token) if page_token else None,
        created_after_s=created_after,
    )
    page = rows[:page_size]
    token = _token(page[-1]) if len(rows) > page_size else ""
    listed = [ListedReservation(**_common(row)) for row in page]
    return ListAnswer(reservations=listed, next_page_token=token, total_count=total)


@api.get(
    "/reservations/{reservation_id}",
    response_model=ReservationAnswer,
    response_model_exclude_none=True,
    responses=MISSING,
)
async def get_reservation(reservation_id: str, caller: Caller, parts: WithParts) -> ReservationAnswer:
    """One reservation, from the projection: the machine need not be there."""
    row = await _own(parts, caller, reservation_id)
    stored = await parts.store.machine(row.machine_id)
    machine = None if stored is None else _as_now(parts, stored)
    return ReservationAnswer(machine=machine, notes=row.notes, **_common(row), **_codes(parts, row))


@api.post("/reservations/{reservation_id}/dropoffs", response_model=OpenedAnswer, responses=ASKED)
async def drop_off(reservation_id: str, request: Request, caller: Caller, parts: WithParts) -> Response:
    """Opens the cell for the rider; answers when the machine knows the outcome."""
    return await _open(request, caller, parts, reservation_id, "dropoff")


@api.post("/reservations/{reservation_id}/pickups", response_model=OpenedAnswer, responses=ASKED)
async def pick_up(reservation_id: str, request: Request, caller: Caller, parts: WithParts) -> Response:
    """Opens the cell for the consumer; answers when the machine knows the outcome."""
    return await _open(request, caller, parts, reservation_id, "pickup")


@api.post("/reservations/{reservation_id}/deletes", response_model=NothingAnswer, responses=ASKED)
async def cancel(reservation_id: str, request: Request, caller: Caller, parts: WithParts) -> Response:
    """Cancels a reservation before anything was dropped off."""
    document = await read_json(request)
    row = await _own(parts, caller, reservation_id)

    async def act(attempt: Attempt) -> Body:
        fields = {"reservation_id": reservation_id}
        await _call(request, parts, row.machine_id, "cancel", fields, attempt)
        return NothingAnswer()

    return await _once(request, caller, parts, document, act)


@api.post("/reservations/{reservation_id}/abandons", responses=LATER, status_code=501)
async def abandon(reservation_id: str, caller: Caller) -> Response:
    """Not built in this version."""
    raise not_built()


@api.post("/reservations/{reservation_id}/open-door", responses=LATER, status_code=501)
async def open_door(reservation_id: str, caller: Caller) -> Response:
    """Not built in this version."""
    raise not_built()


@api.post("/maintenances", responses=LATER, status_code=501)
async def maintenance(caller: Caller) -> Response:
    """Not built in this version."""
    raise not_built()


@public.get(
    "/qrcode/{text}", response_class=Response, responses={200: {"content": {"image/png": {}}}, **ERRORS}
)
async def qr_image(text: str) -> Response:
    """The QR image (PNG) of a QR text of this API; needs no key."""
    if parse_qr(text) is None:
        raise not_found("QR code")
    image = io.BytesIO()
    segno.make_qr(text, error="m").save(image, kind="png", scale=QR_SCALE)
    return Response(image.getvalue(), media_type="image/png", headers={"Cache-Control": "private, no-store"})


@public.get("/healthz", responses={503: {"description": "the broker is not connected"}})
async def health(parts: WithParts) -> JSONResponse:
    """200 while the broker is connected, else 503."""
    up = parts.machines.connected
    return JSONResponse({"status": "ok" if up else "broker not connected"}, 200 if up else 503)


@public.get("/", responses=LATER, status_code=501)
async def wall() -> Response:
    """The live page of the locker wall: not built in this version."""
    raise not_built()


async def _open(request: Request, caller: Platform, parts: Parts, reservation_id: str, name: str) -> Response:
    document = await read_json(request)
    row = await _own(parts, caller, reservation_id)

    async def act(attempt: Attempt) -> Body:
        fields = {"reservation_id": reservation_id}
        reply = await _call(request, parts, row.machine_id, name, fields, attempt)
        cell = reply.result.get("cell")
        if not isinstance(cell, dict) or not isinstance(cell.get("description"), str):
            raise Refusal(Code.INTERNAL, "the machine's reply does not fit the request")
        return OpenedAnswer(cell=CellAnswer(description=cell["description"]))

    return await _once(request, caller, parts, document, act)


async def _once(
    request: Request, caller: Platform, parts: Parts, document: Any, act: Callable[[Attempt], Any]
) -> Response:
    """Runs `act` under the request's id; what the machine decided is the answer, also a no."""

    async def decided(attempt: Attempt) -> Answer:
        try:
            done: Body = await act(attempt)
            return Answer(200, done.model_dump_json())
        except MachineRefusal as refusal:
            if not refusal.is_decision:
                raise
            status, body = machine_refused(refusal)
            return Answer(status, json.dumps(body))

    scope = Scope(caller.name, request.method, request.url.path, request.state.x_request_id_given)
    answer = await parts.idempotency.once(scope, document, decided)
    return Response(answer.body, answer.status, media_type="application/json")


async def _call(
    request: Request, parts: Parts, machine_id: str, name: str, fields: dict[str, Any], attempt: Attempt
) -> Reply:
    return await parts.machines.call(
        machine_id,
        name,
        fields,
        request_id=attempt.request_id,
        x_request_id=request.state.x_request_id,
    )


async def _own(parts: Parts, caller: Platform, reservation_id: str) -> ReservationRow:
    """A reservation of this platform; another's is as unknown as none."""
    row = await parts.store.reservation(reservation_id)
    if row is None or row.platform != caller.name:
        raise not_found("reservation")
    return row


async def _machine(parts: Parts, machine_id: str) -> Machine:
    machine = await parts.store.machine(machine_id)
    if machine is None:
        raise not_found("machine")
    return _as_now(parts, machine)


def _as_now(parts: Parts, machine: Machine) -> Machine:
    return machine.model_copy(update={"online": parts.machines.is_online(machine.machine_id)})


def _codes(parts: Parts, row: ReservationRow) -> dict[str, str]:
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


def _common(row: ReservationRow) -> dict[str, Any]:
    return {
        "reservation_id": row.reservation_id,
        "machine_id": row.machine_id,
        "platform_order_id": row.platform_order_id,
        "status": row.status,
        "created_at": rfc3339(row.created_s),
        "cell": None if row.cell_label is None else CellAnswer(description=row.cell_label),
        "dropped_off_at": None if row.dropped_off_s is None else rfc3339(row.dropped_off_s),
        "picked_up_at": None if row.picked_up_s is None else rfc3339(row.picked_up_s),
    }


def _token(row: ReservationRow) -> str:
    """An opaque place in the list, with a checksum that tells a token from a guess."""
    place = f"{row.created_s}.{row.position}"
    return base64.urlsafe_b64encode(f"{place}.{_checksum(place)}".encode()).decode().rstrip("=")


def _place(token: str) -> tuple[int, int]:
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode(
            "ascii"
        )
        place, _, checksum = text.rpartition(".")
        if hmac.compare_digest(checksum, _checksum(place)):
            created_s, position = place.split(".")
            return int(created_s), int(position)
    except ValueError:
        pass
    raise invalid("page_token", "is not a token of this API")


def _checksum(place: str) -> str:
    return hashlib.sha256(f"page {place}".encode()).hexdigest()[:16]
