"""Claims, certificates and refused attempts, in the database; works inside the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from cloud_gateway.db.store import insert_once
from cloud_gateway.db.tables import claims, enrolled_machines, enrolment_attempts

MOST_PENDING = 5000
"""At most this many claims wait at once."""
ATTEMPTS_KEPT = 1000
PENDING, APPROVED = "PENDING", "APPROVED"


@dataclass(frozen=True, slots=True)
class Claim:
    """A machine that asks to be claimed; times in Unix seconds."""

    claim_id: str
    public_key: str
    code_hash: str
    board: str
    agent_version: str
    address: str
    asked_s: float
    expires_s: float
    state: str = PENDING
    machine_id: str | None = None


@dataclass(frozen=True, slots=True)
class EnrolledMachine:
    """A machine with a certificate; times in Unix seconds. `revoked_s`: since when its key counts for
    nothing."""

    machine_id: str
    public_key: str
    name: str
    location: str
    latitude: float
    longitude: float
    certificate: str
    serial: str
    not_before_s: float
    not_after_s: float
    enrolled_s: float
    actor: str
    revoked_s: float | None = None


def add_claim(db: Connection, claim: Claim, now_s: float) -> bool:
    """Stores a claim; one of the same key before it is replaced. False if too many wait. Expired ones go."""
    db.execute(delete(claims).where(claims.c.state == PENDING, claims.c.expires_s < now_s))
    db.execute(delete(claims).where(claims.c.state == PENDING, claims.c.public_key == claim.public_key))
    waiting = select(func.count()).select_from(claims).where(claims.c.state == PENDING)
    if db.execute(waiting).scalar_one() >= MOST_PENDING:
        return False
    db.execute(insert(claims).values(**_values(claim)))
    return True


def find_claim(db: Connection, claim_id: str) -> Claim | None:
    """A claim by its id."""
    row = db.execute(select(claims).where(claims.c.claim_id == claim_id)).one_or_none()
    return None if row is None else Claim(**row._mapping)


def claims_with(db: Connection, code_hash: str) -> list[Claim]:
    """The claims with this claim code, the newest first."""
    query = select(claims).where(claims.c.code_hash == code_hash).order_by(claims.c.asked_s.desc())
    return [Claim(**row._mapping) for row in db.execute(query)]


def pending_claims(db: Connection, now_s: float, limit: int) -> list[Claim]:
    """The claims that wait for a person, newest first."""
    query = select(claims).where(claims.c.state == PENDING, claims.c.expires_s >= now_s)
    rows = db.execute(query.order_by(claims.c.asked_s.desc()).limit(limit))
    return [Claim(**row._mapping) for row in rows]


def approve(db: Connection, claim_id: str, machine_id: str) -> bool:
    """Ends a claim's waiting; False if somebody else did."""
    chosen = (claims.c.claim_id == claim_id) & (claims.c.state == PENDING)
    values = {"state": APPROVED, "machine_id": machine_id}
    return db.execute(update(claims).where(chosen).values(**values)).rowcount == 1


def enrolled(db: Connection, machine_id: str) -> EnrolledMachine | None:
    """A machine that was enrolled."""
    table = enrolled_machines
    row = db.execute(select(table).where(table.c.machine_id == machine_id)).one_or_none()
    return None if row is None else EnrolledMachine(**row._mapping)


def put_enrolled(db: Connection, machine: EnrolledMachine) -> None:
    """Stores an enrolled machine, in place of one with the same id."""
    table = enrolled_machines
    if not insert_once(db, table, _values(machine)):
        db.execute(update(table).where(table.c.machine_id == machine.machine_id).values(**_values(machine)))


def all_enrolled(db: Connection) -> list[EnrolledMachine]:
    """Every enrolled machine; those whose certificate ends first come first."""
    query = select(enrolled_machines).order_by(enrolled_machines.c.not_after_s)
    return [EnrolledMachine(**row._mapping) for row in db.execute(query)]


def revoke(db: Connection, machine_id: str, now_s: float) -> bool:
    """Lets a machine's key count for nothing at the gateway; False if it is not enrolled, or was revoked."""
    table = enrolled_machines
    chosen = (table.c.machine_id == machine_id) & (table.c.revoked_s.is_(None))
    return db.execute(update(table).where(chosen).values(revoked_s=now_s)).rowcount == 1


def record_attempt(db: Connection, machine_id: str, address: str, why: str, now_s: float) -> None:
    """Keeps a refused attempt for the operators."""
    table = enrolment_attempts
    db.execute(insert(table).values(machine_id=machine_id, address=address[:64], reason=why, at_s=now_s))
    newest = select(table.c.position).order_by(table.c.position.desc()).offset(ATTEMPTS_KEPT).limit(1)
    bound = db.execute(newest).scalar_one_or_none()
    if bound is not None:
        db.execute(delete(table).where(table.c.position <= bound))


def attempts(db: Connection, limit: int) -> list[dict[str, Any]]:
    """The newest refused attempts, newest first."""
    query = select(enrolment_attempts).order_by(enrolment_attempts.c.position.desc()).limit(limit)
    return [dict(row._mapping) for row in db.execute(query)]


def _values(row: Claim | EnrolledMachine) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__slots__}
