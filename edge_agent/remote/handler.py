"""Takes service commands: checks the sender and its rights, journals them, and has them carried out one after
the other.

A command whose request id was seen before acts only once, also after a restart. An expired one never acts.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import structlog

from edge_agent.config.remote_settings import RemoteState
from edge_agent.config.service import ServiceKey
from edge_agent.errors import Code, EdgeAgentError, FieldViolation, Forged, Refusal, StorageFault, Unreadable
from edge_agent.journal.service_commands import ServiceRow, added, ended, service_command, unfinished
from edge_agent.journal.store import Batch, JournalStore, Statement
from edge_agent.model import Alarm
from edge_agent.protocol.api import rpc_status
from edge_agent.protocol.commands import remaining_ns
from edge_agent.protocol.service_commands import (
    LONGEST_RESULT_BYTES,
    SERVICE_COMMANDS,
    ServiceAccepted,
    ServiceCommand,
    decode_service,
)
from edge_agent.protocol.topics import Topics
from edge_agent.remote.interfaces import UpdateOutcome
from edge_agent.remote.reporter import ServiceReporter
from edge_agent.remote.work import JSON, Result, ServiceWork
from edge_agent.runtime.admission import require_our_reply_topic, require_properties
from edge_agent.runtime.clock import Clock
from edge_agent.runtime.incoming import IncomingCommand, SenderCheck
from edge_agent.runtime.loop import LockerLoop, journal_fault
from edge_agent.runtime.writer import Writer
from edge_agent.statemachine.inputs import Condition

log = structlog.get_logger()

MOST_WAITING = 16
"""At most this many service commands wait for their turn; any further one is refused with `OFFLINE`."""
UPDATE_CHECK_S = 5.0
"""How often the state of the updater is read."""
OUTLIVE_PROCESS = frozenset({"config-set", "restart-service", "update"})
"""Commands whose outcome is settled after a restart, or by another process."""
NO_KEYS = "this machine takes no service commands: its configuration has no key in [service.keys]"
RESTARTED = Refusal(Code.OFFLINE, "the machine restarted before the work was done")

ReplyAddress = tuple[str | None, bytes | None]


class ServiceCommandHandler:
    """Takes the service commands of one machine.

    `keys`: the rights of each key; `sender_check` knows these keys only, and is None without any.
    `publish_reply` is called with topic, Correlation Data and JSON. `remote_state` gives the remote
    settings, which show what came of a `config-set`; `update_outcome` what came of an `update`.
    """

    def __init__(
        self,
        loop: LockerLoop,
        store: JournalStore,
        writer: Writer,
        clock: Clock,
        machine_id: str,
        *,
        keys: Mapping[str, ServiceKey],
        sender_check: SenderCheck | None,
        work: ServiceWork,
        reporter: ServiceReporter,
        publish_reply: Callable[[str, bytes | None, str], None],
        remote_state: Callable[[], RemoteState],
        update_outcome: Callable[[], UpdateOutcome | None],
    ) -> None:
        self._loop = loop
        self._store = store
        self._writer = writer
        self._clock = clock
        self._keys = keys
        self._sender_check = sender_check
        self._work = work
        self._reporter = reporter
        self._publish_reply = publish_reply
        self._remote_state = remote_state
        self._update_outcome = update_outcome
        self.busy_with = ""
        """The command that is being carried out; empty if there is none."""
        self._carried_out = ""  # its request_id
        self._one_at_a_time = asyncio.Lock()
        self._replies = Topics(machine_id).reply("")
        self._waiting: asyncio.Queue[tuple[ServiceRow, ServiceCommand]] = asyncio.Queue(MOST_WAITING)
        self._taking: set[asyncio.Task[None]] = set()

    def handle(self, incoming: IncomingCommand) -> None:
        """Handles one service command. Never raises; every fault becomes an answer."""
        if incoming.retained:
            log.warning("retained command ignored", command=incoming.command[:64])
            incoming.acknowledge()
            return
        task = asyncio.create_task(self._handle(incoming), name=f"service command {incoming.command}")
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _handle(self, incoming: IncomingCommand) -> None:
        address: ReplyAddress = (None, None)
        try:
            require_properties(incoming)
            require_our_reply_topic(incoming, self._replies)
            address = (incoming.response_topic, incoming.correlation)
            async with self._one_at_a_time:
                state = await self._take(incoming)
        except Refusal as refusal:
            if isinstance(refusal, Unreadable | Forged):
                self._report_rejected(incoming, refusal)
            self._reply(address, {"error": rpc_status(refusal)})
        except StorageFault as fault:
            log.error("journal cannot be used", error=str(fault))
            self._reply(address, {"error": rpc_status(journal_fault())})
        else:
            self._reply(address, {"result": state.model_dump()})
        incoming.acknowledge()

    async def _take(self, incoming: IncomingCommand) -> ServiceAccepted:
        """Checks a command, journals it and queues its work. Raises `Refusal` and `StorageFault`."""
        if self._sender_check is None:
            raise Refusal(Code.NOT_ALLOWED, NO_KEYS)
        now = self._clock.now()
        self._sender_check.admit(incoming, now)
        command = decode_service(incoming.command, incoming.payload)
        key = incoming.signature_key or ""
        if incoming.command not in self._keys[key].rights:
            raise Refusal(Code.PERMISSION_DENIED, f"key {key!r} has no right to {incoming.command}")
        digest = hashlib.sha256(incoming.payload).hexdigest()
        known = service_command(self._store, command.request_id)
        if known is not None:
            if known.body_digest != digest:
                violation = FieldViolation("request_id", "was used for another service command")
                text = f"{violation.field}: {violation.description}"
                raise Refusal(Code.INVALID_ARGUMENT, text, (violation,))
            return _accepted(known)
        remaining_ns(incoming.command, command, now, incoming.message_expiry_s)
        self._sender_check.require_present_challenge(incoming.command, command, now)
        if self._waiting.full():
            raise Refusal(Code.OFFLINE, f"{MOST_WAITING} service commands are waiting; try again later")
        given = command.model_dump(mode="json", exclude={*ServiceCommand.model_fields})
        row = ServiceRow(
            command.request_id, incoming.command, key, command.by, given, digest, received_s=now.wall_s
        )
        await self._write(added(row))
        log.info("service command", command=row.command, by=row.actor, key=key, request_id=row.request_id)
        self._waiting.put_nowait((row, command))
        return _accepted(row)

    async def run(self) -> None:
        """Carries out the queued commands until cancelled. First settles those that a restart interrupted."""
        for row in unfinished(self._store):
            if row.state != "RUNNING":
                continue
            if row.command not in OUTLIVE_PROCESS:
                await self._settle(row, RESTARTED)
            elif row.command == "restart-service":
                await self._settle(row, None, Result(JSON, b'{"restarted": true}'))
        await self.settle_configuration(restarted=True)
        try:
            while True:
                await self._carry_out_next()
                await self._settle_update()
        finally:
            for task in self._taking:
                task.cancel()

    async def _carry_out_next(self) -> None:
        """Carries out the next command, or returns after `UPDATE_CHECK_S` without one."""
        try:
            async with asyncio.timeout(UPDATE_CHECK_S):
                row, command = await self._waiting.get()
        except TimeoutError:
            return
        self.busy_with = row.command
        try:
            await self._carry_out(row, command)
        finally:
            self.busy_with = ""

    async def _settle_update(self) -> None:
        """Records what came of `update`, once the updater has written it."""
        for row in unfinished(self._store):
            if row.command != "update" or row.state != "RUNNING":
                continue
            outcome = self._update_outcome()
            if outcome is None or outcome.request_id != row.request_id:
                continue
            if outcome.result == "APPLIED":
                content = json.dumps({"version": outcome.version, "detail": outcome.detail}).encode()
                await self._settle(row, None, Result(JSON, content))
            else:
                await self._settle(row, Refusal(Code.NOT_ALLOWED, f"{outcome.result}: {outcome.detail}"))

    async def settle_configuration(self, *, restarted: bool = False) -> None:
        """Records what came of `config-set`, as far as it is known: its trial may outlive the agent that
        began it. `restarted`: no other trial can still be on its way."""
        state = self._remote_state()
        on_trial = None if state.trial is None else state.trial.request_id
        for row in unfinished(self._store):
            if row.command != "config-set" or row.state != "RUNNING":
                continue
            if row.request_id in (on_trial, self._carried_out):
                continue  # its outcome is not known, or about to be recorded with its own result
            last = state.last
            if last is not None and last.request_id == row.request_id:
                if last.outcome == "APPLIED":
                    content = json.dumps({"version": last.version, "changed": True}).encode()
                    await self._settle(row, None, Result(JSON, content))
                else:
                    await self._settle(row, Refusal(Code.NOT_ALLOWED, f"{last.outcome}: {last.detail}"))
            elif restarted:
                await self._settle(row, RESTARTED)

    async def _carry_out(self, row: ServiceRow, command: ServiceCommand) -> None:
        self._reporter.running(row)
        try:
            self._carried_out = row.request_id
            try:
                result = await self._work.run(command, f"{row.actor} (key {row.key})")
            finally:
                self._carried_out = ""
        except EdgeAgentError as problem:
            await self._settle(row, _as_refusal(problem))
        except OSError as problem:
            await self._settle(row, Refusal(Code.INTERNAL, str(problem)))
        else:
            if result is not None:
                await self._settle(row, None, result)

    async def _settle(self, row: ServiceRow, refusal: Refusal | None, result: Result | None = None) -> None:
        if result is not None and len(result.content) > LONGEST_RESULT_BYTES:
            why = f"the result has {len(result.content)} bytes, the limit is {LONGEST_RESULT_BYTES}"
            refusal = Refusal(Code.INTERNAL, why)
        done = replace(row, ended_s=self._clock.now().wall_s, state="DONE" if refusal is None else "FAILED")
        if refusal is not None:
            done = replace(done, error=rpc_status(refusal))
        elif result is not None:
            digest = hashlib.sha256(result.content).hexdigest()
            done = replace(done, content_type=result.content_type, bytes=len(result.content), sha256=digest)
            try:
                self._reporter.keep(row.request_id, result.content)
            except StorageFault as fault:
                error = rpc_status(_as_refusal(fault))
                done = replace(row, ended_s=done.ended_s, state="FAILED", error=error)
        log.info("service command ended", request_id=row.request_id, command=row.command, state=done.state)
        try:
            await self._write(ended(done))
        except StorageFault as fault:
            # It stays RUNNING in the journal, and is settled at the next start.
            log.error("the outcome of a service command is not journaled", error=str(fault))
            return
        self._reporter.wake()

    async def _write(self, statements: list[Statement]) -> None:
        state = self._loop.state
        await self._writer.commit(Batch(state, state, statements=statements))

    def _report_rejected(self, incoming: IncomingCommand, refusal: Refusal) -> None:
        command, key = incoming.command[:64], (incoming.signature_key or "")[:64]
        log.error("service command rejected", command=command, key=key, reason=refusal.message)
        detail = f"{command}: {refusal.message}"
        self._loop.submit(Condition(Alarm.COMMAND_REJECTED, "", True, detail))

    def _reply(self, address: ReplyAddress, body: dict[str, Any]) -> None:
        topic, correlation = address
        if topic is not None:
            self._publish_reply(topic, correlation, json.dumps(body, ensure_ascii=False))


def is_service_command(name: str) -> bool:
    """Whether a command of this name is a service command."""
    return name in SERVICE_COMMANDS


def _accepted(row: ServiceRow) -> ServiceAccepted:
    return ServiceAccepted.model_validate({"request_id": row.request_id, "state": row.state})


def _as_refusal(problem: EdgeAgentError) -> Refusal:
    return problem if isinstance(problem, Refusal) else Refusal(Code.INTERNAL, str(problem))
