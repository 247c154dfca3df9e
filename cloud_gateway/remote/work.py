"""Remote work at machines: sends service commands, wanted configurations and releases, and takes in outcomes.

Everything that is sent is signed with the service key. What could not be sent is tried again for
configurations and releases; a person repeats the rest.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from cloud_gateway.db.store import DATABASE_GONE, Store
from cloud_gateway.logs import error_fields, log
from cloud_gateway.machines.commands import MachineCommands, MachineRefusal
from cloud_gateway.remote import configurations, releases
from cloud_gateway.remote.configurations import take_reported, to_send
from cloud_gateway.remote.releases import (
    FINISHED,
    STOPPED,
    ReleaseRow,
    end_release,
    progress_of,
    releases_under_way,
    set_result_of_request,
)
from cloud_gateway.remote.requests import (
    ServiceRequest,
    add_request,
    overdue,
    set_failed,
    set_running,
    take_report,
)
from cloud_gateway.rollouts.plan import Result, decide
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import refusal_from, rpc_status
from edge_agent.protocol.service_commands import (
    SERVICE_COMMANDS,
    ReportedConfiguration,
    ServiceReport,
)

ROUND_S = 10.0
"""Pause between two looks at what has to be sent."""
OVERDUE_S = 7 * 24 * 3600.0
"""A request without an outcome for this long has failed: the machine was replaced, or lost its journal."""
NO_KEY = "this gateway has no service_key_file, so it requests no remote work"
RELEASES, CONFIGURATIONS = "releases", "configurations"
"""Who requests what nobody requests at that moment; after it stands the person who began it."""


class SentAlready(Exception):
    """Another gateway has sent it."""


class RemoteWork:
    """Sends and takes in; `signed`: whether there is a service key."""

    def __init__(
        self, store: Store, machines: MachineCommands, clock: Callable[[], float], *, signed: bool
    ) -> None:
        self._store = store
        self._machines = machines
        self._clock = clock
        self._signed = signed
        self._wake = asyncio.Event()

    @property
    def signed(self) -> bool:
        """Whether service commands can be sent."""
        return self._signed

    async def request(
        self,
        machine_id: str,
        command: str,
        arguments: dict[str, Any],
        actor: str,
        also: Callable[[Connection, str], None] = lambda _db, _request_id: None,
    ) -> ServiceRequest:
        """Sends a service command, and returns the request with its state then. `also` is done in the
        transaction that stores it, and gets its id.

        Raises `Refusal`: `NOT_BUILT` without a service key, `INVALID_ARGUMENT` for wrong arguments, `OFFLINE`
        for a machine that is not online; nothing is stored then.
        """
        self._check(command, arguments, actor)
        if not self._machines.is_online(machine_id):
            raise Refusal(Code.OFFLINE, "the machine is offline")
        request = ServiceRequest(
            f"svc_{uuid.uuid4().hex}", machine_id, command, arguments, actor, self._clock(), "SENT"
        )

        def store(db: Connection) -> None:
            add_request(db, request)
            also(db, request.request_id)

        await self._store.write(store)
        return await self._send(request)

    def _check(self, command: str, arguments: dict[str, Any], actor: str) -> None:
        if not self._signed:
            raise Refusal(
                Code.NOT_BUILT, "this gateway has no service_key_file, so it requests no remote work"
            )
        model = SERVICE_COMMANDS.get(command)  # type: ignore[call-overload]
        if model is None:
            raise Refusal(Code.INVALID_ARGUMENT, f"command: must be one of {', '.join(SERVICE_COMMANDS)}")
        known = {"request_id": "r", "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T00:00:00Z"}
        try:
            model.model_validate({**arguments, **known, "by": actor[:128]})
        except ValidationError as error:
            raise refusal_from(error) from None
        unknown = sorted(set(arguments) - set(model.model_fields))
        if unknown:
            raise Refusal(Code.INVALID_ARGUMENT, f"arguments.{unknown[0]}: is not known for {command}")

    async def _send(self, request: ServiceRequest) -> ServiceRequest:
        """Sends a stored request, and stores what the machine replies."""
        fields = {**request.arguments, "by": request.actor[:128]}
        error: dict[str, Any] | None = None
        try:
            await self._machines.call(
                request.machine_id,
                request.command,
                fields,
                command_id=request.request_id,
                x_request_id=request.request_id,
            )
        except MachineRefusal as refusal:
            error = {"code": refusal.code, "message": refusal.message, "details": refusal.details}
        except Refusal as refusal:
            error = rpc_status(refusal)
        request_id, now_s = request.request_id, self._clock()

        def settle(db: Connection) -> ServiceRequest | None:
            if error is None:
                set_running(db, request_id)
                return None
            set_failed(db, request_id, error, now_s)
            set_result_of_request(db, request_id, _undone(error), now_s)
            return None

        await self._store.write(settle)
        state = "RUNNING" if error is None else "FAILED"
        return ServiceRequest(
            request_id,
            request.machine_id,
            request.command,
            request.arguments,
            request.actor,
            request.requested_s,
            state,
            None if error is None else now_s,
            error,
        )

    async def take_report(self, report: ServiceReport) -> None:
        """Stores what a machine reports of a request."""
        now_s = self._clock()

        def work(db: Connection) -> None:
            ended = take_report(db, report, now_s)
            if ended is not None and ended.command == "update":
                set_result_of_request(db, ended.request_id, _release_result(ended), now_s)

        await self._store.write(work)
        self._wake.set()

    async def take_configuration(self, reported: ReportedConfiguration) -> None:
        """Stores the configuration that a machine reports."""
        now_s = self._clock()
        await self._store.write(lambda db: take_reported(db, reported, now_s))
        self._wake.set()

    def wake(self) -> None:
        """Something may have to be sent."""
        self._wake.set()

    async def run(self) -> None:
        """Sends wanted configurations and releases until cancelled."""
        while True:
            try:
                if self._signed and self._machines.connected:
                    await self._send_configurations()
                    await self._send_releases()
                await self._end_overdue()
            except DATABASE_GONE as error:
                log().error("database_failed", **error_fields(error))
            self._wake.clear()
            try:
                async with asyncio.timeout(ROUND_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _send_configurations(self) -> None:
        """Asks each machine that is online to take what is wanted of it, once for each version."""
        for wanted in await self._store.read(to_send):
            version = wanted.version
            if version is None or not self._machines.is_online(wanted.machine_id):
                continue
            machine_id, arguments = wanted.machine_id, {"version": version, "settings": wanted.settings}

            def mark(db: Connection, _id: str, machine_id: str = machine_id, version: int = version) -> None:
                if not configurations.set_sent(db, machine_id, version):
                    raise SentAlready

            actor = f"{CONFIGURATIONS} ({wanted.actor})"
            try:
                await self.request(machine_id, "config-set", arguments, actor, mark)
            except SentAlready:
                continue
            except Refusal as refusal:
                log().warning("configuration_not_sent", machine_id=machine_id, reason=refusal.message)

    async def _send_releases(self) -> None:
        for release in await self._store.read(releases_under_way):
            await self._step(release)

    async def _step(self, release: ReleaseRow) -> None:
        """Does what is due for one release."""
        release_id, now_s = release.release_id, self._clock()
        progress = await self._store.read(lambda db: progress_of(db, release_id))
        decision = decide(progress, frozenset(self._machines.online()), now_s)
        if decision.stop or decision.finished:
            state = STOPPED if decision.stop else FINISHED
            await self._store.write(lambda db: end_release(db, release_id, state, decision.stop, now_s))
            log().warning("release_ended", release_id=release_id, state=state, reason=decision.stop)
            return
        for machine_id in decision.send:

            def mark(db: Connection, request_id: str, machine_id: str = machine_id) -> None:
                if not releases.set_sent(db, release_id, machine_id, request_id, now_s):
                    raise SentAlready

            actor = f"{RELEASES} ({release.actor})"
            try:
                await self.request(machine_id, "update", {"version": release.version}, actor, mark)
            except SentAlready:
                continue
            except Refusal as refusal:
                log().warning("release_not_sent", machine_id=machine_id, reason=refusal.message)

    async def _end_overdue(self) -> None:
        now_s = self._clock()
        late = rpc_status(Refusal(Code.EXPIRED, "the machine reported no outcome"))

        def work(db: Connection) -> None:
            for request_id in overdue(db, now_s - OVERDUE_S):
                set_failed(db, request_id, late, now_s)

        await self._store.write(work)


def _undone(error: dict[str, Any]) -> Result:
    """What a release makes of a request that a machine did not accept: one that it did not get may be sent
    again."""
    return "WAITING" if error["code"] in (Code.EXPIRED, Code.OFFLINE) else "FAILED"


def _release_result(ended: ServiceRequest) -> Result:
    if ended.state == "DONE":
        return "APPLIED"
    message = "" if ended.error is None else str(ended.error.get("message", ""))
    return "REVERTED" if message.startswith("REVERTED") else "FAILED"
