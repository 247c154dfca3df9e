"""Takes commands from the gateway, and sends their replies.

A command whose request id was seen before gets the stored reply and acts only once, also after a restart. An
expired command never acts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import structlog

from edge_agent.errors import Code, Forged, Refusal, StorageFault, Unreadable
from edge_agent.journal.reader import InboxRow
from edge_agent.journal.store import JournalStore
from edge_agent.model import Alarm
from edge_agent.protocol.api import rpc_status
from edge_agent.protocol.commands import (
    QUERIES,
    UNDATED_LIFETIME_S,
    Command,
    RestoreCommand,
    decode,
    remaining_ns,
)
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.admission import require_our_reply_topic, require_properties
from edge_agent.runtime.clock import Clock, ComparedClock
from edge_agent.runtime.ids import Ids
from edge_agent.runtime.incoming import IncomingCommand, SenderCheck
from edge_agent.runtime.local_requests import LocalRequests
from edge_agent.runtime.loop import LockerLoop, journal_fault
from edge_agent.runtime.queries import Queries
from edge_agent.runtime.translator import CommandTranslator
from edge_agent.runtime.views import Views
from edge_agent.statemachine.inputs import Condition, OpenCell, OpenForReservation
from edge_agent.statemachine.outputs import Answer

log = structlog.get_logger()

UNDECIDED = (Code.EXPIRED, Code.OFFLINE)
"""Codes that mean that the machine decided nothing: the same command may be sent again."""
REFUSED_KEPT_NS = round(UNDATED_LIFETIME_S * 1e9)
"""How long a refusal with such a code is kept in memory, for a broker that delivers the same bytes again."""
MOST_REFUSED = 4096
"""At most this many of these refusals are kept; the oldest are dropped first."""
MOST_WAITING_COMMANDS = 512
"""At most this many commands wait for their outcome; any further one is answered `OFFLINE` and never acts."""


ReplyAddress = tuple[str | None, bytes | None]
"""Where a reply goes: Response Topic and Correlation Data."""


class CommandHandler:
    """Decodes commands, answers duplicates and queries, and submits the rest to the loop.

    `publish_reply` is called with topic, Correlation Data and JSON. Every answer is offered to `local` first,
    which takes those to requests made at the machine. `restore` handles the command of that name and returns
    its result.
    """

    def __init__(
        self,
        loop: LockerLoop,
        store: JournalStore,
        clock: Clock,
        ids: Ids,
        views: Views,
        machine_id: str,
        publish_reply: Callable[[str, bytes | None, str], None],
        local: LocalRequests,
        *,
        restore: Callable[[RestoreCommand], dict[str, Any]],
        sender_check: SenderCheck | None = None,
    ) -> None:
        """`sender_check` judges the senders, where commands have to be signed."""
        self._loop = loop
        self._store = store
        self._clock = clock
        self._publish_reply = publish_reply
        self._replies = Topics(machine_id).reply("")
        self._waiting: dict[str, list[ReplyAddress]] = {}
        self._body_hashes: dict[str, str] = {}
        """By request id: SHA-256 of the body of each command that waits for its outcome."""
        self._refused: dict[tuple[str, str], tuple[int, str]] = {}
        """Refusals with `EXPIRED` or `OFFLINE`, by request id and SHA-256 of the body: until when
        (CLOCK_BOOTTIME) each is remembered, and its reply."""
        self._local = local
        self._restore = restore
        self._sender_check = sender_check
        self._queries = Queries(loop, store, clock, views)
        self.translator = CommandTranslator(loop.layout, ids, machine_id)

    @property
    def busy(self) -> bool:
        """Whether a command waits for its outcome."""
        return bool(self._waiting)

    def take_over_requests(self, requests: list[InboxRow]) -> None:
        """Takes over the journal's recent requests at a start. A request with a reply gets that again, in
        case it was not sent. A request whose unlock attempt is not over is answered when that ends. Any other
        never acted: it is refused with `OFFLINE`, and its sender may retry."""
        awaited = {unlock.request_key for unlock in self._loop.state.unlock_attempts.values()}
        for row in requests:
            address = (row.response_topic, row.correlation)
            if row.reply is not None:
                self._reply(address, row.reply)
            elif row.request_id in awaited:
                self._waiting[row.request_id] = [address]
            else:
                reply = _error(Refusal(Code.OFFLINE, "the machine restarted before it acted"))
                self._remember_refused(row.request_id, row.body_digest or "", reply)
                self._loop.refuse_request(row.request_id, reply)
                self._reply(address, reply)

    def handle(self, incoming: IncomingCommand) -> None:
        """Handles one command from the cloud. Never raises; every fault becomes an answer."""
        if incoming.retained:
            log.warning("retained command ignored", command=incoming.command[:64])
            incoming.acknowledge()
            return
        address = (incoming.response_topic, incoming.correlation)
        try:
            require_properties(incoming)
            try:
                require_our_reply_topic(incoming, self._replies)
            except Forged:
                address = (None, None)
                raise
            self._answer_or_submit(incoming, address)
        except Refusal as refusal:
            if isinstance(refusal, Unreadable | Forged):
                self._report_rejected(incoming, refusal)
            # A forged message with the address of a command that is still awaited must not answer it.
            if not (isinstance(refusal, Forged) and self._awaited(address)):
                self._refuse(address, refusal)
            incoming.acknowledge()
        except StorageFault as fault:
            log.error("journal cannot be read", error=str(fault))
            self._refuse(address, journal_fault())
            incoming.acknowledge()

    def _awaited(self, address: ReplyAddress) -> bool:
        return any(address in addresses for addresses in self._waiting.values())

    def _report_rejected(self, incoming: IncomingCommand, refusal: Refusal) -> None:
        command = incoming.command[:64]
        if isinstance(refusal, Forged):
            key = (incoming.signature_key or "")[:64]
            log.error("command rejected", command=command, key=key, reason=refusal.message)
        detail = f"{command}: {refusal.message}"
        self._loop.submit(Condition(Alarm.COMMAND_REJECTED, "", True, detail))

    def _answer_or_submit(self, incoming: IncomingCommand, address: ReplyAddress) -> None:
        now = self._clock.now()
        is_new = self._sender_check is None or self._sender_check.admit(incoming, now)
        command = decode(incoming.command, incoming.payload)
        if incoming.command in QUERIES:
            self._reply(address, json.dumps({"result": self._queries.result(command)}, ensure_ascii=False))
            incoming.acknowledge()
            return
        if isinstance(command, RestoreCommand):
            remaining_ns(incoming.command, command, now, incoming.message_expiry_s)
            if self._sender_check is not None:
                self._sender_check.require_present_challenge(incoming.command, command, now)
            self._reply(address, json.dumps({"result": self._restore(command)}))
            incoming.acknowledge()
            return
        waiting = self._waiting.get(command.request_id)
        if waiting is not None:
            if address not in waiting:
                waiting.append(address)
            incoming.acknowledge()
            return
        body_hash = hashlib.sha256(incoming.payload).hexdigest()
        reply = self._earlier_reply(command.request_id, body_hash)
        if reply is not None:
            self._reply(address, reply)
            incoming.acknowledge()
            return
        if not is_new:
            # Its signature was seen before, and no reply is stored: it was refused, and the refusal is no
            # longer remembered.
            raise Refusal(Code.EXPIRED, "the command was refused before")
        if len(self._waiting) >= MOST_WAITING_COMMANDS:
            refusal = Refusal(Code.OFFLINE, f"{MOST_WAITING_COMMANDS} commands are waiting; try again later")
            self._remember_refused(command.request_id, body_hash, _error(refusal))
            raise refusal
        self._compare_clock(command, incoming)
        now = self._clock.now()
        left_ns = remaining_ns(incoming.command, command, now, incoming.message_expiry_s)
        if self._sender_check is not None:
            self._sender_check.require_present_challenge(incoming.command, command, now)
        given = self.translator.to_input(command, now.boottime_ns + left_ns, incoming.x_request_id)
        row = InboxRow(command.request_id, now.wall_s, *address, body_digest=body_hash, synced=now.synced)
        self._waiting[command.request_id] = [address]
        self._body_hashes[command.request_id] = body_hash
        log.info(
            "command",
            command=incoming.command,
            request_id=command.request_id,
            x_request_id=incoming.x_request_id,
            unlock_id=given.unlock_id if isinstance(given, OpenForReservation | OpenCell) else None,
        )
        self._loop.submit(given, request=row, on_done=incoming.acknowledge)

    def _compare_clock(self, command: Command, incoming: IncomingCommand) -> None:
        """Compares the clock with a command's time of issue, if the command arrived without delay."""
        clock, left_s = self._clock, incoming.message_expiry_s
        issued_s = command.issued_at.timestamp()
        if not isinstance(clock, ComparedClock) or incoming.duplicate or left_s is None:
            return
        if left_s < (command.expires_at.timestamp() - issued_s) / 2:
            return
        before = clock.contradicted
        clock.compare(issued_s)
        if clock.contradicted and not before:
            detail = (
                f"the clock differs by {clock.difference_s:+.0f} s from the clocks of the senders of commands"
            )
            log.error("clock contradicted", difference_s=clock.difference_s)
            self._loop.submit(Condition(Alarm.CLOCK_UNSYNCED, "", True, detail))

    def _earlier_reply(self, request_id: str, body_hash: str) -> str | None:
        """The reply that a request got before, if it is still valid. After `EXPIRED` and `OFFLINE` the same
        request may be sent again with a new body; the same bytes get the same refusal, because their sender
        was promised that nothing will happen."""
        remembered = self._refused.get((request_id, body_hash))
        if remembered is not None and remembered[0] > self._clock.now().boottime_ns:
            return remembered[1]
        seen = self._store.request(request_id)
        if seen is None or seen.reply is None:
            return None
        error = json.loads(seen.reply).get("error", {})
        is_new_attempt = error.get("code") in UNDECIDED and seen.body_digest != body_hash
        return None if is_new_attempt else seen.reply

    def _remember_refused(self, request_id: str, body_hash: str, reply: str) -> None:
        now_ns = self._clock.now().boottime_ns
        self._refused = {key: value for key, value in self._refused.items() if value[0] > now_ns}
        self._refused[request_id, body_hash] = now_ns + REFUSED_KEPT_NS, reply
        if len(self._refused) > MOST_REFUSED:
            del self._refused[next(iter(self._refused))]

    def answered(self, request_key: str, reply: str, answer: Answer) -> None:
        """Called when a request's outcome is on the disk, or when it is refused because the journal cannot be
        written."""
        if self._local.answered(request_key, answer):
            return
        code = 0 if answer.refusal is None else int(answer.refusal.code)
        body_hash = self._body_hashes.pop(request_key, "")
        if code in UNDECIDED:
            self._remember_refused(request_key, body_hash, reply)
        log.info("answered", request_id=request_key, code=code)
        for address in self._waiting.pop(request_key, []):
            self._reply(address, reply)

    def _reply(self, address: ReplyAddress, reply: str) -> None:
        topic, correlation = address
        if topic is not None:
            self._publish_reply(topic, correlation, reply)

    def _refuse(self, address: ReplyAddress, refusal: Refusal) -> None:
        self._reply(address, _error(refusal))


def _error(refusal: Refusal) -> str:
    return json.dumps({"error": rpc_status(refusal)}, ensure_ascii=False)
