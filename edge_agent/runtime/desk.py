"""Takes commands from the cloud and requests from the kiosk, and sends their answers.

A request id that was seen before gets its stored reply and acts only once, also after a restart; an expired
request never acts.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

import structlog

from edge_agent.errors import Code, FieldViolation, Forged, Refusal, StorageFault, Unreadable
from edge_agent.journal.store import InboxRow, JournalStore
from edge_agent.model import Alarm, Purpose, Reservation, ReservationStatus, Source, Verdict
from edge_agent.protocol.api import rpc_status
from edge_agent.protocol.commands import (
    QUERIES,
    AbandonCommand,
    BlockCellCommand,
    CancelCommand,
    ClearCellCommand,
    Command,
    DropoffCommand,
    EchoCommand,
    GetMachineCommand,
    GetReservationCommand,
    ListReservationsCommand,
    MaintenanceCommand,
    OpenDoorCommand,
    PickupCommand,
    ReserveCommand,
    RestoreCommand,
    SyncCommand,
    UnblockCellCommand,
    decode,
    life_ns,
)
from edge_agent.protocol.sync import SYNC_PAGE
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.clock import Clock, Witnessed
from edge_agent.runtime.ids import Ids
from edge_agent.runtime.incoming import Guard, Incoming
from edge_agent.runtime.loop import LOCAL, LockerLoop, journal_fault
from edge_agent.runtime.views import Views
from edge_agent.statemachine.history import LOST
from edge_agent.statemachine.inputs import (
    Abandon,
    BlockCell,
    Cancel,
    Clear,
    Condition,
    EnterCode,
    Input,
    OpenCell,
    OpenFor,
    RequestMaintenance,
    Reserve,
    Resolve,
    Restore,
    Tare,
    UnblockCell,
)
from edge_agent.statemachine.outputs import Answer
from edge_agent.statemachine.reservation import within

log = structlog.get_logger()

UNDECIDED = (Code.EXPIRED, Code.OFFLINE)
"""Codes that mean that the machine decided nothing: the same command may be sent again."""
STRIPPED = "it carries no MQTT 5 property: something on its way, such as a bridge, speaks MQTT 3.1.1"
REFUSED_KEPT_NS = 3600 * 10**9
"""How long such a refusal is remembered outside the journal; no command lives longer."""
MOST_REFUSED = 4096
"""At most this many are remembered; the oldest are dropped first."""
MOST_WAITING = 512
"""At most this many commands wait for their outcome; any further one is answered `OFFLINE` and never acts."""


Address = tuple[str | None, bytes | None]


class Desk:
    """Takes requests and sends answers. `publish_reply` gets topic, Correlation Data and JSON."""

    def __init__(
        self,
        store: JournalStore,
        clock: Clock,
        ids: Ids,
        views: Views,
        machine_id: str,
        publish_reply: Callable[[str, bytes | None, str], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._views = views
        self._machine_id = machine_id
        self._publish_reply = publish_reply
        self._replies = Topics(machine_id).reply("")
        self._waiting: dict[str, list[Address]] = {}
        self._digests: dict[str, str] = {}
        """Digests of the bodies of the commands that wait."""
        self._refused: dict[tuple[str, str], tuple[int, str]] = {}
        """Refusals with `EXPIRED` or `OFFLINE`: id and digest; until when (CLOCK_BOOTTIME) it is remembered;
        the reply."""
        self._local: dict[str, asyncio.Future[Answer]] = {}
        self._local_numbers = 0
        self.loop: LockerLoop
        self.weigh: Callable[[str], None] = lambda cell: None
        """Makes the weighing report the present reading of a cell's scale to the loop."""
        self.guard: Guard | None = None
        self.restore_told: Callable[[RestoreCommand], dict[str, Any]] = lambda command: {"history": "sound"}
        """Takes what the gateway holds of this machine and returns the command's result."""
        self.offered: Callable[[], list[Reservation]] = list
        """The reservations that the gateway has offered for restoring."""
        self.history_changed: Callable[[], None] = lambda: None

    def adopt(self, requests: list[InboxRow]) -> None:
        """Takes over requests from before a restart. An answered one gets its reply again, in case it had not
        left. One whose unlock is still open is answered when the unlock ends. Any other never acted: it is
        refused with `OFFLINE`, and its sender may retry."""
        awaited = {ticket.request_key for ticket in self.loop.state.tickets.values()}
        for row in requests:
            address = (row.response_topic, row.correlation)
            if row.reply is not None:
                self._reply(address, row.reply)
            elif row.request_id in awaited:
                self._waiting[row.request_id] = [address]
            else:
                told = _error(Refusal(Code.OFFLINE, "the machine restarted before it acted"))
                self._remember_refused(row.request_id, row.body_digest or "", told)
                self.loop.refuse_request(row.request_id, told)
                self._reply(address, told)

    def handle(self, incoming: Incoming) -> None:
        """Handles one command from the cloud. Never raises; every fault becomes an answer."""
        if incoming.retained:
            log.warning("retained command ignored", command=incoming.command[:64])
            incoming.acknowledge()
            return
        address = (incoming.response_topic, incoming.correlation)
        try:
            if incoming.stripped:
                raise Unreadable(Code.INVALID_ARGUMENT, STRIPPED)
            if incoming.response_topic is not None and not self._is_ours(incoming.response_topic):
                address = (None, None)  # a reply on such a topic could pass for another machine's
                raise Forged(Code.PERMISSION_DENIED, "its Response Topic is not one of this machine's")
            self._take(incoming, address)
        except Refusal as refusal:
            if isinstance(refusal, Unreadable | Forged):
                self._tell_rejected(incoming, refusal)
            # A forged message with the address of a command that is still awaited must not answer it.
            if not (isinstance(refusal, Forged) and self._awaited(address)):
                self._refuse(address, refusal)
            incoming.acknowledge()
        except StorageFault as fault:
            log.error("journal cannot be read", error=str(fault))
            self._refuse(address, journal_fault())
            incoming.acknowledge()

    def _is_ours(self, response_topic: str) -> bool:
        below = response_topic.removeprefix(self._replies)
        return below not in ("", response_topic) and not set(below) & set("+#\0")

    def _awaited(self, address: Address) -> bool:
        return any(address in addresses for addresses in self._waiting.values())

    def _tell_rejected(self, incoming: Incoming, refusal: Refusal) -> None:
        command = incoming.command[:64]
        if isinstance(refusal, Forged):
            key = (incoming.signature_key or "")[:64]
            log.error("command rejected", command=command, key=key, reason=refusal.message)
        detail = f"{command}: {refusal.message}"
        self.loop.submit(Condition(Alarm.COMMAND_REJECTED, "", True, detail))

    def _take(self, incoming: Incoming, address: Address) -> None:
        now = self._clock.now()
        first = self.guard is None or self.guard.admit(incoming, now)
        command = decode(incoming.command, incoming.payload)
        if incoming.command in QUERIES:
            self._reply(address, json.dumps({"result": self._query(command)}, ensure_ascii=False))
            incoming.acknowledge()
            return
        if isinstance(command, RestoreCommand):
            life_ns(incoming.command, command, now, incoming.message_expiry_s)
            if self.guard is not None:
                self.guard.demand_fresh(incoming.command, command, now)
            self._reply(address, json.dumps({"result": self.restore_told(command)}))
            incoming.acknowledge()
            return
        waiting = self._waiting.get(command.request_id)
        if waiting is not None:
            if address not in waiting:
                waiting.append(address)
            incoming.acknowledge()
            return
        digest = hashlib.sha256(incoming.payload).hexdigest()
        told = self._told(command.request_id, digest)
        if told is not None:
            self._reply(address, told)
            incoming.acknowledge()
            return
        if not first:
            raise Refusal(Code.EXPIRED, "the command was refused before")
        if len(self._waiting) >= MOST_WAITING:
            refusal = Refusal(Code.OFFLINE, f"{MOST_WAITING} commands are waiting; try again later")
            self._remember_refused(command.request_id, digest, _error(refusal))
            raise refusal
        self._witness_clock(command, incoming)
        now = self._clock.now()
        left_ns = life_ns(incoming.command, command, now, incoming.message_expiry_s)
        if self.guard is not None:
            self.guard.demand_fresh(incoming.command, command, now)
        given = self._input(command, now.boottime_ns + left_ns, incoming.x_request_id)
        row = InboxRow(command.request_id, now.wall_s, *address, body_digest=digest, synced=now.synced)
        self._waiting[command.request_id] = [address]
        self._digests[command.request_id] = digest
        log.info(
            "command",
            command=incoming.command,
            request_id=command.request_id,
            x_request_id=incoming.x_request_id,
            unlock_id=getattr(given, "unlock_id", None),
        )
        self.loop.submit(given, request=row, taken=incoming.acknowledge)

    def _witness_clock(self, command: Command, incoming: Incoming) -> None:
        """Compares the clock with a command that arrived fresh from its sender."""
        clock, left_s = self._clock, incoming.message_expiry_s
        issued_s = command.issued_at.timestamp()
        if not isinstance(clock, Witnessed) or incoming.duplicate or left_s is None:
            return
        if left_s < (command.expires_at.timestamp() - issued_s) / 2:
            return
        before = clock.contradicted
        clock.heard(issued_s)
        if clock.contradicted and not before:
            detail = f"the clock differs by {clock.difference_s:+.0f} s from the senders of commands"
            log.error("clock contradicted", difference_s=clock.difference_s)
            self.loop.submit(Condition(Alarm.CLOCK_UNSYNCED, "", True, detail))

    def _told(self, request_id: str, digest: str) -> str | None:
        """The reply that a request got before, if it is still valid. After `EXPIRED` and `OFFLINE` the same
        request may be sent again with a new body; the same bytes get the same refusal, because their sender
        was promised that nothing will happen."""
        remembered = self._refused.get((request_id, digest))
        if remembered is not None and remembered[0] > self._clock.now().boottime_ns:
            return remembered[1]
        seen = self._store.request(request_id)
        if seen is None or seen.reply is None:
            return None
        error = json.loads(seen.reply).get("error", {})
        anew = error.get("code") in UNDECIDED and seen.body_digest != digest
        return None if anew else seen.reply

    def _remember_refused(self, request_id: str, digest: str, reply: str) -> None:
        now_ns = self._clock.now().boottime_ns
        self._refused = {key: value for key, value in self._refused.items() if value[0] > now_ns}
        self._refused[request_id, digest] = now_ns + REFUSED_KEPT_NS, reply
        if len(self._refused) > MOST_REFUSED:
            del self._refused[next(iter(self._refused))]

    def _input(self, command: Command, expires_ns: int, x_request_id: str | None) -> Input:
        key = command.request_id
        match command:
            case ReserveCommand():
                return self._reserve(command, expires_ns)
            case DropoffCommand() | PickupCommand():
                purpose = Purpose.DROPOFF if isinstance(command, DropoffCommand) else Purpose.PICKUP
                return OpenFor(
                    request_key=key,
                    reservation_id=command.reservation_id,
                    purpose=purpose,
                    unlock_id=self._ids.unique("unl"),
                    expires_ns=expires_ns,
                )
            case OpenDoorCommand():
                return OpenFor(
                    request_key=key,
                    reservation_id=command.reservation_id,
                    purpose=Purpose.OPEN_DOOR,
                    unlock_id=self._ids.unique("unl"),
                    expires_ns=expires_ns,
                    reason=command.reason,
                    platform_reference_id=command.platform_reference_id,
                    echo_id=x_request_id,
                )
            case CancelCommand():
                return Cancel(key, command.reservation_id, expires_ns)
            case AbandonCommand():
                return Abandon(key, command.reservation_id, expires_ns)
            case MaintenanceCommand():
                return self._maintenance(command, expires_ns)
            case BlockCellCommand():
                return BlockCell(key, self._label(command.cell_id), command.reason, Source.API, expires_ns)
            case UnblockCellCommand():
                return UnblockCell(key, self._label(command.cell_id), Source.API, expires_ns)
            case ClearCellCommand():
                return Clear(key, self._label(command.cell_id), Source.API, expires_ns)
            case _:
                raise Refusal(Code.NOT_BUILT, f"{type(command).__name__} is not built in this version")

    def _label(self, cell_id: str) -> str:
        """The label of a cell. Raises `Refusal` (`NOT_FOUND`) for an unknown cell id."""
        for spec in self.loop.layout.specs.values():
            if spec.cell_id == cell_id:
                return spec.label
        raise Refusal(Code.NOT_FOUND, f"no such cell: {cell_id}")

    def _demand_me(self, machine_id: str) -> None:
        if machine_id != self._machine_id:
            violation = FieldViolation("machine_id", f"this is machine {self._machine_id!r}")
            message = f"{violation.field}: {violation.description}"
            raise Refusal(Code.INVALID_ARGUMENT, message, (violation,))

    def _maintenance(self, command: MaintenanceCommand, expires_ns: int) -> RequestMaintenance:
        if command.machine_id is not None:
            self._demand_me(command.machine_id)
        return RequestMaintenance(
            request_key=command.request_id,
            maintenance_ticket_id=self._ids.unique("maint"),
            description=command.description,
            severity=command.severity,
            cell=None if command.cell_id is None else self._label(command.cell_id),
            block=command.block_cell_immediately,
            expires_ns=expires_ns,
        )

    def _reserve(self, command: ReserveCommand, expires_ns: int) -> Reserve:
        self._demand_me(command.machine_id)
        return Reserve(
            request_key=command.request_id,
            reservation_id=command.reservation_id,
            platform=command.platform,
            platform_order_id=command.platform_order_id,
            packaging=command.packaging.to_model(),
            candidate_codes=self._ids.candidate_codes(self.loop.layout.code_digits),
            notes=command.notes,
            webhook_url=command.webhook_url,
            eta_minutes=command.eta_minutes,
            grace_pickup_s=command.grace_period_pickup_in_seconds,
            grace_dropoff_s=command.grace_period_dropoff_in_seconds,
            expires_ns=expires_ns,
        )

    def _query(self, command: Command) -> dict[str, Any]:
        state = self.loop.state
        match command:
            case EchoCommand():
                return {"message": command.message}
            case GetMachineCommand():
                return {"machine": self._views.machine(state).model_dump(mode="json", exclude_none=True)}
            case GetReservationCommand():
                found = state.reservations.get(command.reservation_id)
                found = found or self._store.reservation(command.reservation_id)
                if found is None:
                    raise Refusal(Code.NOT_FOUND, f"no such reservation: {command.reservation_id}")
                view = self._views.reservation(found).model_dump(mode="json", exclude_none=True)
                return {"reservation": view}
            case ListReservationsCommand():
                return {"reservations": self._ongoing(command.platform)}
            case SyncCommand():
                return self._sync(command.from_sequence)
            case _:
                raise Refusal(Code.NOT_BUILT, f"{type(command).__name__} is not built in this version")

    def _sync(self, from_sequence: int) -> dict[str, Any]:
        """A page of events; the last page also has the live reservations as they stand after it."""
        oldest, last = self._store.oldest_sequence(), self.loop.last_sequence
        rows = self._store.events_kept(from_sequence, SYNC_PAGE)
        # Events that are on the disk but not yet in the state come with the next event.
        page = [json.loads(body) for sequence, body in rows if sequence <= last]
        answer: dict[str, Any] = {
            "journal_id": self._store.journal_id,
            "oldest_sequence": last + 1 if oldest is None else min(oldest, last + 1),
            "last_sequence": last,
            "events": page,
        }
        if not page or page[-1]["sequence"] == last:
            live = self.loop.state.reservations.values()
            views = [self._views.reservation(r).model_dump(mode="json", exclude_none=True) for r in live]
            answer["reservations"] = views
        return answer

    def _ongoing(self, platform: str | None) -> list[dict[str, Any]]:
        now = self._clock.now()
        return [
            self._views.reservation(r).model_dump(mode="json", exclude_none=True)
            for r in self.loop.state.reservations.values()
            if platform in (None, r.platform)
            and (r.status is not ReservationStatus.PICKED_UP or within(r.picked_up, r.grace_pickup_s, now))
        ]

    async def enter_code(self, text: str, waited_s: float = 0.0) -> Answer:
        """Takes digits or a QR text from the kiosk, read `waited_s` ago, to its outcome. The text is not
        stored.

        A wrong code is refused with "not valid" only; a valid code whose door does not open gets the reason.
        """
        key = self._local_key()
        entered_ns = self._clock.now().boottime_ns - round(waited_s * 1e9)
        answer = await self._submit_local(key, EnterCode(key, text, self._ids.unique("unl"), entered_ns))
        if answer.refusal is not None:
            log.info("entry at the kiosk refused", reason=answer.refusal.message)
        return answer

    async def open_cell(
        self, cell: str, reason: str, actor: str = "", purpose: Purpose = Purpose.TECHNICIAN
    ) -> Answer:
        """A technician opens a cell, or tests its lock; returns the outcome. `actor`: the technician's name,
        here and in all other actions."""
        key = self._local_key()
        asked_ns = self._clock.now().boottime_ns
        given = OpenCell(key, cell, reason, self._ids.unique("unl"), actor, purpose, asked_ns)
        return await self._submit_local(key, given)

    async def clear(self, cell: str, actor: str = "") -> Answer:
        """A technician has checked the cell."""
        key = self._local_key()
        return await self._submit_local(key, Clear(key, cell, Source.MACHINE, actor=actor))

    async def block(self, cell: str, reason: str, actor: str = "") -> Answer:
        """A technician takes a cell out of allocation."""
        key = self._local_key()
        return await self._submit_local(key, BlockCell(key, cell, reason, Source.MACHINE, actor=actor))

    async def unblock(self, cell: str, actor: str = "") -> Answer:
        """A technician returns a blocked cell to allocation."""
        key = self._local_key()
        return await self._submit_local(key, UnblockCell(key, cell, Source.MACHINE, actor=actor))

    async def resolve(self, cell: str, verdict: Verdict, actor: str = "") -> Answer:
        """A technician states what is true of a cell in doubt."""
        key = self._local_key()
        return await self._submit_local(key, Resolve(key, cell, verdict, Source.MACHINE, actor=actor))

    async def restore(self, *, none: bool, place: dict[str, str], actor: str = "") -> Answer:
        """A technician lets lost reservations hold their cells again; `none`: he restores none and starts
        empty.

        Raises `Refusal` (`OFFLINE`) if the gateway has not yet sent what it holds.
        """
        key = self._local_key()
        lost = LOST in self.loop.state.alarms
        restored = () if none or not lost else tuple(self.offered())
        answer = await self._submit_local(key, Restore(key, restored, place, actor))
        self.history_changed()
        return answer

    async def tare(self, cell: str, actor: str = "") -> Answer:
        """A technician confirms that a cell is empty: the present reading of its scale becomes zero."""
        key = self._local_key()
        self.weigh(cell)
        return await self._submit_local(key, Tare(key, cell, Source.MACHINE, actor=actor))

    def _local_key(self) -> str:
        self._local_numbers += 1
        return f"{LOCAL}{self._local_numbers}"

    async def _submit_local(self, key: str, given: Input) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._local[key] = future
        self.loop.submit(given)
        try:
            return await future
        finally:
            self._local.pop(key, None)

    def answered(self, request_key: str, reply: str, answer: Answer) -> None:
        """Called when a request's outcome is on the disk."""
        future = self._local.get(request_key)
        if future is not None:
            if not future.done():
                future.set_result(answer)
            return
        code = 0 if answer.refusal is None else int(answer.refusal.code)
        digest = self._digests.pop(request_key, "")
        if code in UNDECIDED:
            self._remember_refused(request_key, digest, reply)
        log.info("answered", request_id=request_key, code=code)
        for address in self._waiting.pop(request_key, []):
            self._reply(address, reply)

    def _reply(self, address: Address, reply: str) -> None:
        topic, correlation = address
        if topic is not None:
            self._publish_reply(topic, correlation, reply)

    def _refuse(self, address: Address, refusal: Refusal) -> None:
        self._reply(address, _error(refusal))


def _error(refusal: Refusal) -> str:
    return json.dumps({"error": rpc_status(refusal)}, ensure_ascii=False)
