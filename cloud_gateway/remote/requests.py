"""The service commands that people requested, in the database; works inside the caller's transaction."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from cloud_gateway.db.store import insert_once
from cloud_gateway.db.tables import service_parts, service_requests
from edge_agent.errors import Code
from edge_agent.protocol.service_commands import LONGEST_RESULT_BYTES, PART_BYTES, ServiceReport

OPEN = ("SENT", "RUNNING")
"""States of a request whose outcome is not known yet."""
KEPT_PER_MACHINE = 200
"""This many of the newest requests of a machine are kept, with their results."""
DAMAGED = {"code": int(Code.INTERNAL), "message": "the result arrived damaged", "details": []}


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """One request; times in Unix seconds. `state`: SENT, RUNNING, DONE or FAILED; `error` as an rpcStatus."""

    request_id: str
    machine_id: str
    command: str
    arguments: dict[str, Any]
    actor: str
    requested_s: float
    state: str
    ended_s: float | None = None
    error: dict[str, Any] | None = None
    content_type: str | None = None
    bytes: int | None = None
    complete: bool = False
    """Whether the whole result is here."""


def add_request(db: Connection, request: ServiceRequest) -> None:
    """Stores a new request; deletes the oldest of too many of its machine."""
    db.execute(
        insert(service_requests).values(
            request_id=request.request_id,
            machine_id=request.machine_id,
            command=request.command,
            arguments=json.dumps(request.arguments, ensure_ascii=False),
            actor=request.actor,
            requested_s=request.requested_s,
            state=request.state,
        )
    )
    table = service_requests.c
    newest = select(table.position).where(table.machine_id == request.machine_id)
    bound = db.execute(
        newest.order_by(table.position.desc()).offset(KEPT_PER_MACHINE).limit(1)
    ).scalar_one_or_none()
    if bound is not None:
        old = select(table.request_id).where(table.machine_id == request.machine_id, table.position <= bound)
        db.execute(delete(service_parts).where(service_parts.c.request_id.in_(old)))
        db.execute(
            delete(service_requests).where(table.machine_id == request.machine_id, table.position <= bound)
        )


def set_running(db: Connection, request_id: str) -> None:
    """The machine has accepted the request."""
    table = service_requests
    db.execute(
        update(table).where(table.c.request_id == request_id, table.c.state == "SENT").values(state="RUNNING")
    )


def set_failed(db: Connection, request_id: str, error: dict[str, Any], now_s: float) -> None:
    """The request is over without a result."""
    table = service_requests
    values = {"state": "FAILED", "ended_s": now_s, "error": json.dumps(error, ensure_ascii=False)}
    db.execute(
        update(table).where(table.c.request_id == request_id, table.c.state.in_(OPEN)).values(**values)
    )


def take_report(db: Connection, report: ServiceReport, now_s: float) -> ServiceRequest | None:
    """Stores what a machine reports of a request. Returns the request if it is over with this report, whole
    result included; None if it is not, was over before, or is not one of this machine's."""
    known = find_request(db, report.request_id)
    if known is None or known.machine_id != report.machine_id or known.command != report.command:
        return None
    if report.state == "RUNNING":
        set_running(db, report.request_id)
        return None
    if known.state == "FAILED" or known.complete:
        return None
    if report.state == "FAILED":
        error = DAMAGED if report.error is None else report.error.model_dump()
        set_failed(db, report.request_id, error, now_s)
        return find_request(db, report.request_id)
    if not _store_part(db, report):
        set_failed(db, report.request_id, DAMAGED, now_s)
        return find_request(db, report.request_id)
    count = select(func.count()).where(service_parts.c.request_id == report.request_id)
    if db.execute(count).scalar_one() < (report.parts or 1):
        set_running(db, report.request_id)
        return None
    return _complete(db, report, now_s)


def _store_part(db: Connection, report: ServiceReport) -> bool:
    """Stores one part of a result; False if it is not a valid one."""
    part, parts, data = report.part, report.parts, report.data
    if part is None or parts is None or data is None or not 1 <= part <= parts:
        return False
    if parts > LONGEST_RESULT_BYTES // PART_BYTES + 1:
        return False
    try:
        if len(base64.b64decode(data, validate=True)) > PART_BYTES:
            return False
    except binascii.Error:
        return False
    row = {"request_id": report.request_id, "part": part, "data": data}
    insert_once(db, service_parts, row)
    return True


def _complete(db: Connection, report: ServiceReport, now_s: float) -> ServiceRequest | None:
    """Checks the whole result and ends the request."""
    content = result_of(db, report.request_id)
    if hashlib.sha256(content).hexdigest() != report.sha256 or len(content) != report.bytes:
        db.execute(delete(service_parts).where(service_parts.c.request_id == report.request_id))
        set_failed(db, report.request_id, DAMAGED, now_s)
        return find_request(db, report.request_id)
    values = {
        "state": "DONE",
        "ended_s": now_s,
        "content_type": report.content_type,
        "bytes": len(content),
        "complete": True,
    }
    table = service_requests
    db.execute(update(table).where(table.c.request_id == report.request_id).values(**values))
    return find_request(db, report.request_id)


def result_of(db: Connection, request_id: str) -> bytes:
    """The result of a request, as far as it is here."""
    table = service_parts.c
    query = select(table.data).where(table.request_id == request_id).order_by(table.part)
    return b"".join(base64.b64decode(data) for data in db.execute(query).scalars())


def find_request(db: Connection, request_id: str) -> ServiceRequest | None:
    """One request; None if it is not known."""
    row = db.execute(
        select(service_requests).where(service_requests.c.request_id == request_id)
    ).one_or_none()
    return None if row is None else _request(row)


def requests_of(db: Connection, machine_id: str, limit: int) -> list[ServiceRequest]:
    """The newest requests of a machine, newest first."""
    table = service_requests.c
    query = select(service_requests).where(table.machine_id == machine_id)
    return [_request(row) for row in db.execute(query.order_by(table.position.desc()).limit(limit))]


def newest_of(db: Connection, machine_id: str, command: str) -> ServiceRequest | None:
    """The newest request of one command at a machine; None if there is none."""
    table = service_requests.c
    query = select(service_requests).where(table.machine_id == machine_id, table.command == command)
    row = db.execute(query.order_by(table.position.desc()).limit(1)).one_or_none()
    return None if row is None else _request(row)


def overdue(db: Connection, before_s: float) -> list[str]:
    """The requests without an outcome that were made before an instant."""
    table = service_requests.c
    query = select(table.request_id).where(table.state.in_(OPEN), table.requested_s < before_s)
    return list(db.execute(query).scalars())


def _request(row: Any) -> ServiceRequest:
    return ServiceRequest(
        request_id=row.request_id,
        machine_id=row.machine_id,
        command=row.command,
        arguments=json.loads(row.arguments),
        actor=row.actor,
        requested_s=row.requested_s,
        state=row.state,
        ended_s=row.ended_s,
        error=None if row.error is None else json.loads(row.error),
        content_type=row.content_type,
        bytes=row.bytes,
        complete=row.complete,
    )
