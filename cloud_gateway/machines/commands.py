"""Commands to machines and their replies: online state, correlation, time-outs.

A command is sent over the present connection or not at all. After EXPIRED or OFFLINE no door may open;
therefore a command's life is shorter than the time that its caller waits. If the connection breaks, the
caller of a door-opening command keeps waiting: the session is kept, so the reply comes over the next
connection.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Protocol

from cloud_gateway.figures import Figures
from cloud_gateway.logs import log
from cloud_gateway.machines.mqtt_link import OutgoingCommand
from cloud_gateway.settings import Timing
from edge_agent.errors import Code, EdgeAgentError, LinkFault, Refusal
from edge_agent.protocol.api import ReservationView
from edge_agent.protocol.commands import DOOR_OPENING, QUERIES
from edge_agent.protocol.events import Health, HistoryState, Online
from edge_agent.protocol.service_commands import SERVICE_COMMANDS
from edge_agent.protocol.topics import Topics

ALLOWED_IN_DOUBT = QUERIES | {"restore"} | set(SERVICE_COMMANDS)
"""Commands that are also sent while two machines may use one machine_id, or the history is in doubt: they
open no door and give no cell away."""
ENDED_MAX = 1000
ENDED_KEPT_S = 120.0
"""How many ended commands are kept, and for how long, so that a late or repeated reply still finds its
command."""


@dataclass(eq=False)
class MachineRefusal(EdgeAgentError):
    """The machine's own refusal: its code, its message and its details."""

    code: int
    message: str
    details: list[Any] = field(default_factory=list)

    def __str__(self) -> str:
        names = {int(code): code.name for code in Code}
        return f"the machine refused ({names.get(self.code, self.code)})"

    @property
    def is_decision(self) -> bool:
        """Whether it is final; after EXPIRED or OFFLINE the same request may be repeated."""
        return self.code not in (Code.EXPIRED, Code.OFFLINE)


@dataclass(frozen=True, slots=True)
class Reply:
    """A machine's result; `reservation` is parsed and validated if present."""

    result: dict[str, Any]
    reservation: ReservationView | None
    size: int = 0
    """Bytes of its payload."""


@dataclass(frozen=True, slots=True)
class SentCommand:
    """A command that was sent: awaited while its caller waits for the reply, then ended."""

    name: str
    machine_id: str
    reply: asyncio.Future[Reply]
    fields: dict[str, Any] = field(default_factory=dict)
    """The fields of the command."""


class CommandLink(Protocol):
    """The part of the link to the broker that sending commands needs."""

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and our subscriptions."""

    async def publish(self, command: OutgoingCommand, make_payload: Callable[[], tuple[bytes, int]]) -> None:
        """See `MqttLink.publish`."""


async def _never(machine_id: str) -> bool:
    return False


class MachineCommands:
    """Sends commands and passes the replies to their callers. Used on the event loop only."""

    def __init__(
        self,
        gateway_id: str,
        timing: Timing,
        clock: Callable[[], float],
        link: CommandLink,
        has_twins: Callable[[str], Awaitable[bool]] = _never,
        figures: Figures | None = None,
    ) -> None:
        """`has_twins`: whether two machines use one machine_id."""
        self._gateway_id = gateway_id
        self._timing = timing
        self._clock = clock
        self._link = link
        self._twins_found = has_twins
        self._figures = figures or Figures()
        self._online: dict[str, Online] = {}
        self._awaited: dict[bytes, SentCommand] = {}
        self._ended: OrderedDict[bytes, tuple[float, SentCommand]] = OrderedDict()

    async def has_twins(self, machine_id: str) -> bool:
        """Whether two machines use this machine_id."""
        return await self._twins_found(machine_id)

    @property
    def connected(self) -> bool:
        """Whether the broker is connected."""
        return self._link.connected

    def is_online(self, machine_id: str) -> bool:
        """Whether the broker is connected and the machine's last published state is online."""
        state = self._online.get(machine_id)
        return self.connected and state is not None and state.online

    def last_published_online(self, machine_id: str) -> bool:
        """Whether a machine's last published state is online, also before the link counts as connected."""
        state = self._online.get(machine_id)
        return state is not None and state.online

    def health(self, machine_id: str) -> Health | None:
        """The published health of a machine that is online; None if it is offline, or did not publish it."""
        state = self._online.get(machine_id)
        return state.health if state is not None and self.is_online(machine_id) else None

    def history(self, machine_id: str) -> HistoryState | None:
        """The published history state of a machine that is online."""
        state = self._online.get(machine_id)
        return state.history if state is not None and self.is_online(machine_id) else None

    def last_published_history(self, machine_id: str) -> HistoryState | None:
        """The last published history state of a machine; None if it published that it is offline."""
        state = self._online.get(machine_id)
        return state.history if state is not None and state.online else None

    def instance(self, machine_id: str) -> str | None:
        """The instance (board serial number and journal id) that the machine last published, online or
        not."""
        state = self._online.get(machine_id)
        return None if state is None else state.instance

    def online(self) -> list[str]:
        """Every machine that is online."""
        return [machine_id for machine_id in self._online if self.is_online(machine_id)]

    def set_online(self, machine_id: str, state: Online | None) -> None:
        """Records a `state/online`; None: the retained message was cleared."""
        if state is None:
            self._online.pop(machine_id, None)
        else:
            self._online[machine_id] = state

    async def call(
        self, machine_id: str, name: str, fields: dict[str, Any], *, command_id: str, x_request_id: str
    ) -> Reply:
        """Sends a command and waits for the reply, `Timing.wait_s` at most; logs one line.

        Raises `MachineRefusal` (the machine's refusal) or `Refusal`: OFFLINE when broker or machine is
        offline, EXPIRED when no reply came in time, INTERNAL when the reply is invalid.
        """
        started, code = perf_counter(), 0
        try:
            return await self._call(machine_id, name, fields, command_id, x_request_id)
        except (MachineRefusal, Refusal) as refusal:
            code = int(refusal.code)
            raise
        except BaseException:
            code = int(Code.INTERNAL)
            raise
        finally:
            took_s = perf_counter() - started
            self._figures.command_ended(name, code, took_s)
            log().info(
                "command",
                command=name,
                machine_id=machine_id,
                x_request_id=x_request_id,
                request_id=command_id,
                code=code,
                ms=round(took_s * 1000, 1),
            )

    async def _call(
        self, machine_id: str, name: str, fields: dict[str, Any], command_id: str, x_request_id: str
    ) -> Reply:
        if not self.connected:
            raise Refusal(Code.OFFLINE, "the broker is not connected")
        if not self.is_online(machine_id):
            raise Refusal(Code.OFFLINE, "the machine is offline")
        if name not in ALLOWED_IN_DOUBT:
            await self._require_one_known_machine(machine_id)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timing.wait_s
        correlation = uuid.uuid4().bytes
        command = SentCommand(name, machine_id, loop.create_future(), fields)
        self._awaited[correlation] = command
        topics = Topics(machine_id)
        try:
            async with asyncio.timeout_at(deadline):
                await self._link.publish(
                    OutgoingCommand(
                        topics.command(name),
                        topics.reply(self._gateway_id),
                        correlation,
                        x_request_id,
                        service=name in SERVICE_COMMANDS,
                    ),
                    lambda: self._payload(machine_id, fields, command_id, deadline - loop.time()),
                )
                return await command.reply
        except TimeoutError:
            raise Refusal(Code.EXPIRED, "the machine did not answer in time") from None
        except LinkFault:
            raise Refusal(Code.OFFLINE, "the broker is not connected") from None
        finally:
            del self._awaited[correlation]
            self._keep_ended(correlation, command, loop.time())
            if not command.reply.cancel() and not command.reply.cancelled():
                command.reply.exception()  # so that asyncio does not log one that came at the time-out

    async def _require_one_known_machine(self, machine_id: str) -> None:
        """Raises `Refusal` (OFFLINE) if two machines use the machine_id, or its history has not been compared
        yet."""
        if await self.has_twins(machine_id):
            why = "two machines use this machine_id: an operator has to resolve it at /operations"
            raise Refusal(Code.OFFLINE, why)
        if self.history(machine_id) == "asking":
            raise Refusal(Code.OFFLINE, "the machine has not finished comparing its history with the gateway")

    def _payload(
        self, machine_id: str, fields: dict[str, Any], command_id: str, left_s: float
    ) -> tuple[bytes, int]:
        """The payload of a command, and its life in whole seconds; `left_s`: how long its caller still waits.

        The payload repeats the machine's challenge, if the machine published one. Raises `Refusal` EXPIRED if
        too little time is left.
        """
        life_s = left_s - (self._timing.wait_s - self._timing.life_s)
        if life_s < 1:
            raise Refusal(Code.EXPIRED, "the broker is too busy: the command was not sent")
        now_s = self._clock()
        body = {
            **fields,
            "request_id": command_id,
            "issued_at": _rfc3339_ms(now_s),
            "expires_at": _rfc3339_ms(now_s + life_s),
        }
        online = self._online.get(machine_id)
        if online is not None and online.challenge is not None:
            body["challenge"] = online.challenge
        return json.dumps(body).encode(), int(life_s)

    def awaited_command(self, correlation: bytes | None) -> SentCommand | None:
        """The command that a reply belongs to; None when no caller waits for it any more."""
        return None if correlation is None else self._awaited.get(correlation)

    def sent_command(self, correlation: bytes | None) -> SentCommand | None:
        """The command that a reply belongs to, also one whose caller no longer waits (for `ENDED_KEPT_S`);
        None if no such command was sent."""
        awaited = self.awaited_command(correlation)
        if awaited is not None or correlation is None:
            return awaited
        at_s, ended = self._ended.get(correlation, (0.0, None))
        return ended if asyncio.get_running_loop().time() < at_s + ENDED_KEPT_S else None

    def _keep_ended(self, correlation: bytes, command: SentCommand, now_s: float) -> None:
        """Keeps a command whose reply may still come, or come again."""
        self._ended[correlation] = (now_s, command)
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def link_down(self) -> None:
        """Forgets all machine states; callers of commands that open no door get OFFLINE at once."""
        self._online.clear()
        for command in self._awaited.values():
            if command.name not in DOOR_OPENING:
                _fail(command, Refusal(Code.OFFLINE, "the connection to the broker was lost"))

    def refused_by_broker(self, correlation: bytes, reason: str) -> None:
        """The broker delivered the command to no client."""
        command = self._awaited.get(correlation)
        log().warning("command_not_delivered", reason=reason)
        if command is not None:
            _fail(command, Refusal(Code.OFFLINE, "the machine is offline"))


def hand_to_caller(command: SentCommand, outcome: Reply | EdgeAgentError) -> None:
    """Passes the reply, or why there is none, to the waiting caller."""
    if isinstance(outcome, EdgeAgentError):
        _fail(command, outcome)
    elif not command.reply.done():
        command.reply.set_result(outcome)


def _fail(command: SentCommand, error: EdgeAgentError) -> None:
    if not command.reply.done():
        command.reply.set_exception(error)


def _rfc3339_ms(wall_s: float) -> str:
    text = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
