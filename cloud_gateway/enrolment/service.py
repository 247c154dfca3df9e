"""Enrols machines: takes claims, lets a person approve them by their code, issues and renews certificates."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from cloud_gateway.db.store import Store
from cloud_gateway.enrolment.authority import Authority
from cloud_gateway.enrolment.claims import (
    APPROVED,
    PENDING,
    Claim,
    EnrolledMachine,
    add_claim,
    approve,
    claims_with,
    enrolled,
    find_claim,
    put_enrolled,
    record_attempt,
)
from cloud_gateway.enrolment.machine_keys import has_signed, public_key_of
from cloud_gateway.settings import EnrolmentSettings
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.enrolment import (
    BrokerPlace,
    ClaimAccepted,
    ClaimBody,
    Enrolled,
    RenewBody,
    Renewed,
    ServiceKeyPlace,
    code_hash,
    signed_request,
)

DAY_S = 86_400.0
EXPIRED_CODE = "the claim code has expired; let the machine show a new one"
UNKNOWN_CODE = "no machine shows this code"
ANOTHER_CLAIM = "another machine shows this code, not the one that was chosen"
IS_ENROLLED = " is enrolled already; replace it or revoke it"
TOO_LATE = "the certificate ended longer ago than the grace; claim the machine again"


@dataclass(frozen=True, slots=True)
class MachinePlace:
    """Who and where a new machine is, as a person says."""

    machine_id: str
    name: str
    location: str
    latitude: float
    longitude: float


class Enrolment:
    """`authority_pem`: what machines trust at the broker; `signing_keys`, `service_keys`: the public keys
    that they are to know, by name."""

    def __init__(
        self,
        store: Store,
        settings: EnrolmentSettings,
        authority: Authority,
        authority_pem: str,
        clock: Callable[[], float],
        *,
        signing_keys: Mapping[str, str],
        service_keys: Mapping[str, str],
    ) -> None:
        self._store = store
        self._settings = settings
        self._authority = authority
        self._authority_pem = authority_pem
        self._clock = clock
        self._signing_keys = signing_keys
        self._service_keys = service_keys

    async def ask(self, body: ClaimBody, address: str) -> ClaimAccepted:
        """Takes a claim. Raises `Refusal` (`NO_CELL`: too many wait)."""
        now_s = self._clock()
        claim = Claim(
            f"claim_{uuid.uuid4().hex}",
            body.public_key,
            body.code_hash,
            body.board,
            body.agent_version,
            address,
            now_s,
            now_s + self._settings.claim_minutes * 60,
        )
        if not await self._store.write(lambda db: add_claim(db, claim, now_s)):
            raise Refusal(Code.NO_CELL, "too many machines wait to be claimed; try again later")
        return ClaimAccepted(claim_id=claim.claim_id, expires_at=rfc3339(claim.expires_s))

    async def approve(
        self,
        code: str,
        place: MachinePlace,
        actor: str,
        *,
        replaces: bool,
        claim_id: str | None = None,
        also: Callable[[Connection, str], None],
    ) -> EnrolledMachine:
        """Claims the machine that shows a code, and issues its certificate. `replaces`: the machine_id is
        enrolled already, and the board was exchanged. `claim_id`: the claim that is meant, if the person
        chose one. `also` is done in the same transaction, with the result.

        Raises `Refusal`: `NOT_FOUND` for an unknown or expired code, `NOT_ALLOWED` for one that was used or
        belongs to another claim, or for a machine_id that is enrolled.
        """
        now_s = self._clock()
        refusals: list[Refusal] = []

        def work(db: Connection) -> EnrolledMachine | None:
            refusals.clear()
            try:
                claim = self._usable(db, code, claim_id, now_s)
                known = enrolled(db, place.machine_id)
                if known is not None and known.revoked_s is None and not replaces:
                    raise Refusal(Code.NOT_ALLOWED, f"{place.machine_id}{IS_ENROLLED}")
                if not approve(db, claim.claim_id, place.machine_id):
                    raise _used(claim)
                machine = self._issued(claim, place, actor, now_s)
            except Refusal as refusal:
                refusals.append(refusal)
                also(db, refusal.message)
                record_attempt(db, place.machine_id, "", refusal.message, now_s)
                return None
            put_enrolled(db, machine)
            also(db, "done")
            return machine

        machine = await self._store.write(work)
        if machine is None:
            raise refusals[0]
        return machine

    def _usable(self, db: Connection, code: str, claim_id: str | None, now_s: float) -> Claim:
        found = claims_with(db, code_hash(code))
        usable = [claim for claim in found if claim.state == PENDING and claim.expires_s >= now_s]
        for claim in usable:
            if claim_id in (None, claim.claim_id):
                return claim
        if usable:
            raise Refusal(Code.NOT_ALLOWED, ANOTHER_CLAIM)
        if any(claim.state == APPROVED for claim in found):
            raise _used(found[0])
        raise Refusal(Code.NOT_FOUND, EXPIRED_CODE if found else UNKNOWN_CODE)

    def _issued(self, claim: Claim, place: MachinePlace, actor: str, now_s: float) -> EnrolledMachine:
        issued = self._authority.issue(public_key_of(claim.public_key), place.machine_id, now_s)
        return EnrolledMachine(
            place.machine_id,
            claim.public_key,
            place.name,
            place.location,
            place.latitude,
            place.longitude,
            issued.certificate,
            issued.serial,
            issued.not_before_s,
            issued.not_after_s,
            now_s,
            actor,
        )

    async def collect(self, claim_id: str, path: str, signature: str) -> Enrolled | None:
        """The certificate of a claim that was approved; None while it waits. Raises `Refusal`: `NOT_FOUND`,
        `EXPIRED`, `PERMISSION_DENIED` if the machine's key has not signed the request."""
        claim = await self._store.read(lambda db: find_claim(db, claim_id))
        if claim is None:
            raise Refusal(Code.NOT_FOUND, "no such claim")
        require_signature(claim.public_key, path, b"", signature)
        if claim.state == PENDING:
            if claim.expires_s < self._clock():
                raise Refusal(Code.EXPIRED, "the claim has expired")
            return None
        machine_id = claim.machine_id or ""
        machine = await self._store.read(lambda db: enrolled(db, machine_id))
        if machine is None or machine.public_key != claim.public_key or machine.revoked_s is not None:
            raise Refusal(Code.PERMISSION_DENIED, "another machine has taken the place of this one")
        return self._view(machine)

    def _view(self, machine: EnrolledMachine) -> Enrolled:
        settings = self._settings
        service_keys = {
            name: ServiceKeyPlace(public_key=key, rights=list(settings.service_rights))
            for name, key in self._service_keys.items()
        }
        return Enrolled(
            machine_id=machine.machine_id,
            name=machine.name,
            location=machine.location,
            latitude=machine.latitude,
            longitude=machine.longitude,
            certificate=machine.certificate,
            authority=self._authority_pem,
            not_before=rfc3339(machine.not_before_s),
            not_after=rfc3339(machine.not_after_s),
            broker=BrokerPlace(host=settings.broker_host, port=settings.broker_port),
            signing_keys=dict(self._signing_keys),
            service_keys=service_keys if settings.service_rights else {},
        )

    async def renew(self, body: RenewBody, raw: bytes, path: str, signature: str, address: str) -> Renewed:
        """A new certificate for the key of a machine. Raises `Refusal` (`PERMISSION_DENIED`) for a key that
        is not the machine's, one that was revoked, and a certificate that ended longer ago than the grace;
        each such attempt is kept for the operators."""
        now_s = self._clock()
        machine = await self._store.read(lambda db: enrolled(db, body.machine_id))
        try:
            require_signature(body.public_key, path, raw, signature)
            self._require_renewable(machine, body, now_s)
        except Refusal as refusal:
            why = refusal.message
            await self._store.write(lambda db: record_attempt(db, body.machine_id, address, why, now_s))
            raise
        assert machine is not None
        issued = self._authority.issue(public_key_of(machine.public_key), machine.machine_id, now_s)
        renewed = replace(
            machine,
            certificate=issued.certificate,
            serial=issued.serial,
            not_before_s=issued.not_before_s,
            not_after_s=issued.not_after_s,
        )

        def work(db: Connection) -> bool:
            present = enrolled(db, machine.machine_id)
            if present is None or present.public_key != machine.public_key or present.revoked_s is not None:
                return False
            put_enrolled(db, renewed)
            return True

        if not await self._store.write(work):
            raise Refusal(Code.PERMISSION_DENIED, "another machine has taken the place of this one")
        return Renewed(
            certificate=renewed.certificate,
            not_before=rfc3339(renewed.not_before_s),
            not_after=rfc3339(renewed.not_after_s),
        )

    def _require_renewable(self, machine: EnrolledMachine | None, body: RenewBody, now_s: float) -> None:
        if machine is None:
            raise Refusal(Code.PERMISSION_DENIED, "the machine is not enrolled here; claim it again")
        if machine.public_key != body.public_key:
            raise Refusal(Code.PERMISSION_DENIED, "the key is not this machine's")
        if machine.revoked_s is not None:
            raise Refusal(Code.PERMISSION_DENIED, "the machine's key was revoked; claim it again")
        if now_s > machine.not_after_s + self._settings.grace_days * DAY_S:
            raise Refusal(Code.PERMISSION_DENIED, TOO_LATE)


def _used(claim: Claim) -> Refusal:
    machine = "" if claim.machine_id is None else f" for {claim.machine_id}"
    return Refusal(Code.NOT_ALLOWED, f"the claim code was used{machine} already")


def require_signature(public_key: str, path: str, body: bytes, signature: str) -> None:
    """Raises `Refusal` (`PERMISSION_DENIED`) unless the key has signed the request."""
    if not has_signed(public_key, signed_request(path, body), signature):
        raise Refusal(Code.PERMISSION_DENIED, "the machine's key has not signed this request")
