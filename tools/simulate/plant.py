"""One simulated site: world, cables, broker and disk outlive the agents that run on it in turn."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_agent.app import Agent, Environment
from edge_agent.cloud.interfaces import Link, LinkListener
from edge_agent.cloud.link import STEADY_S
from edge_agent.config import BusSection, Settings
from edge_agent.drivers.simulated.cable import MemoryCable
from edge_agent.drivers.simulated.devices import framing_of
from edge_agent.drivers.transport import Transport
from edge_agent.errors import LinkFault, PortLost, StorageFault
from edge_agent.journal.store import Batch, JournalStore
from edge_agent.model import Instant
from edge_agent.mqtt.event_queue import EventQueue
from edge_agent.mqtt.messages import Message, OnAcknowledged
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.ids import Ids
from edge_agent.runtime.incoming import IncomingCommand
from edge_agent.supervisor import Supervisor
from tools.bus_simulator.plant import build_devices, build_world, line_baud

EPOCH_S = 1_750_000_000.0
COMMIT_MS = (0.3, 8.0)
"""How long a commit takes: from an SSD's to a worn SD card's time."""
NETWORK_MS = (5.0, 60.0)


class VirtualClock:
    """The clocks of one boot on the loop's virtual time.

    `synced`, `off_s` (how far the wall clock is ahead) and `stands_s` (the value of a wall clock that stands
    still) may be changed at any time.
    """

    def __init__(self) -> None:
        self.synced = True
        self.off_s = 0.0
        self.stands_s: float | None = None
        self._boot = 1
        self._booted_s = 0.0

    def reboot(self) -> None:
        """The machine had no power; CLOCK_BOOTTIME starts again."""
        self._boot += 1
        self._booted_s = asyncio.get_running_loop().time()

    def now(self) -> Instant:
        """See `Clock.now`."""
        at_s = asyncio.get_running_loop().time()
        wall_s = EPOCH_S + at_s + self.off_s if self.stands_s is None else self.stands_s
        return Instant(f"boot-{self._boot}", round((at_s - self._booted_s) * 1e9), wall_s, self.synced)


class Severed(Exception):
    """The agent of this object was killed."""


class Lifeline:
    """Whether an agent still lives; what it does after its death does not reach the world.

    `disk_full`: commits fail for as long as it is set. `disk_tight`: they fail until the journal uses its
    reserve. `disk_stall_s`: how much longer a commit takes. `refused`: how many commits have failed.
    `at_commit` is called just before each commit (True) and just after it (False).
    """

    def __init__(self) -> None:
        self.alive = True
        self.disk_full = False
        self.disk_tight = False
        self.disk_stall_s = 0.0
        self.refused = 0
        self.at_commit: Callable[[bool], None] = lambda before: None


class SimulatedDisk:
    """Commits for real, inline, with a latency; a kill comes before the disk has it or after."""

    def __init__(self, store: JournalStore, rng: random.Random, lifeline: Lifeline) -> None:
        self._store = store
        self._rng = rng
        self._lifeline = lifeline

    async def commit(self, batch: Batch) -> None:
        """See `Writer.commit`."""
        latency_s = self._rng.uniform(*COMMIT_MS) / 1000
        before_s = latency_s * self._rng.random()
        await asyncio.sleep(before_s + self._lifeline.disk_stall_s)
        self._lifeline.at_commit(True)
        if not self._lifeline.alive:
            raise Severed
        if self._lifeline.disk_full or (self._lifeline.disk_tight and self._store.has_spare_space):
            self._lifeline.refused += 1
            raise StorageFault("journal: database or disk is full")
        self._store.commit(batch)
        self._lifeline.at_commit(False)
        if not self._lifeline.alive:
            raise Severed
        await asyncio.sleep(latency_s - before_s)

    def close(self) -> None:
        """See `Writer.close`: nothing runs on."""


class MortalTransport:
    """A cable end that a dead agent no longer holds; what it had sent is still on the wire."""

    def __init__(self, cable: MemoryCable, lifeline: Lifeline) -> None:
        self._cable = cable
        self._lifeline = lifeline

    async def dial(self) -> None:
        """See `Transport.dial`."""

    def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        """See `Transport.open`."""
        self._cable.open(on_bytes, on_lost)

    def write(self, frame: bytes) -> None:
        """See `Transport.write`."""
        if not self._lifeline.alive:
            raise PortLost("the process is dead")
        self._cable.write(frame)

    def close(self) -> None:
        """See `Transport.close`. A killed process closes nothing itself; the plant takes the cable back."""
        if self._lifeline.alive:
            self._cable.close()


@dataclass(slots=True)
class _Command:
    name: str
    payload: bytes
    correlation: bytes
    expires_s: float
    x_request_id: str | None


@dataclass(slots=True)
class Broker:
    """Keeps a session's messages until they are acknowledged, as MQTT 5 demands; and the cloud behind it."""

    rng: random.Random
    commands: deque[_Command] = field(default_factory=deque)
    events: list[str] = field(default_factory=list)
    replies: dict[bytes, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    retained: dict[str, str] = field(default_factory=dict)
    on_event: Callable[[dict[str, Any]], None] = lambda event: None
    on_message: Callable[[Message], None] = lambda message: None
    link: SimulatedLink | None = None
    away: bool = False
    """The broker is unreachable."""
    twice: bool = False
    """It delivers every command again, at once and seconds later, without the DUP mark."""
    strips: bool = False
    """A bridge in front of it strips all MQTT 5 properties off the commands."""

    def leave(self) -> None:
        """It is unreachable, until `come_back`; it keeps its messages."""
        self.away = True
        if self.link is not None:
            self.link.lose()

    def come_back(self) -> None:
        """It is reachable again, and the link of the running machine connects."""
        self.away = False
        if self.link is not None:
            self.link.find()

    def delay_s(self) -> float:
        """The delay of one way through the network."""
        return self.rng.uniform(*NETWORK_MS) / 1000

    async def call(
        self,
        name: str,
        body: dict[str, Any],
        timeout_s: float = 10.0,
        *,
        message_expiry: bool = True,
        x_request_id: str | None = None,
    ) -> dict[str, Any]:
        """Sends a command and waits for its reply; an EXPIRED error if none comes.

        Times in `body` are sent as they are. `message_expiry`: whether the message carries a Message Expiry
        Interval.
        """
        loop = asyncio.get_running_loop()
        correlation = f"{len(self.replies)}/{self.rng.getrandbits(32):08x}".encode()
        now_s = loop.time()
        times = {"issued_at": rfc3339(now_s), "expires_at": rfc3339(now_s + timeout_s)}
        payload = json.dumps(times | body).encode()
        self.replies[correlation] = future = loop.create_future()
        expires_s = now_s + timeout_s if message_expiry else math.inf
        self.commands.append(_Command(name, payload, correlation, expires_s, x_request_id))
        if self.link is not None:
            self.link.deliver_soon()
        try:
            async with asyncio.timeout(timeout_s):
                reply: dict[str, Any] = await future
        except TimeoutError:
            return {"error": {"code": 4, "message": "no reply"}}
        return reply

    def take(self, message: Message) -> None:
        """A publication of the machine has arrived."""
        self.on_message(message)
        if message.topic.endswith("/evt"):
            self.events.append(message.payload)
            self.on_event(json.loads(message.payload))
        elif message.correlation is not None:
            future = self.replies.get(message.correlation)
            if future is not None and not future.done():
                future.set_result(json.loads(message.payload))
        elif message.retain:
            self.retained[message.topic] = message.payload


def rfc3339(at_s: float) -> str:
    """An instant of virtual time as a command's sender writes it."""
    return datetime.fromtimestamp(EPOCH_S + at_s, UTC).isoformat(timespec="milliseconds")


class SimulatedLink:
    """`Link` to the plant's broker, with the network's delay, for one agent."""

    def __init__(self, broker: Broker, lifeline: Lifeline, machine_id: str) -> None:
        self._reply_topic = Topics(machine_id).reply("plant")
        self._events_topic = Topics(machine_id).events
        self._listener: LinkListener
        self._digest_topic = Topics(machine_id).digest
        self._broker = broker
        self._lifeline = lifeline
        self._up, self._connections, self._taken = False, 0, False
        self._out: deque[tuple[Message, OnAcknowledged | None]] = deque()
        self._in_flight: set[bytes] = set()

    @property
    def up(self) -> bool:
        """See `Link.up`."""
        return self._up

    async def run(self, listener: LinkListener) -> None:
        """See `Link.run`."""
        self._listener = listener
        await asyncio.sleep(self._broker.delay_s())
        self._broker.link = self
        if not self._broker.away:
            self.find()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._up = False
        raise LinkFault("unreachable")

    def taken_over(self) -> None:
        """See `Link.taken_over`."""
        self._taken = True
        self._listener.link_refused("another machine uses our machine_id")

    def _report_steady(self, connection: int) -> None:
        """The connection has been good for some time: no twin takes it from us at present."""
        if self._up and self._taken and connection == self._connections:
            self._taken = False
            self._listener.link_refused("")

    def lose(self) -> None:
        """The connection breaks; messages on their way are lost."""
        self._up = False
        self._out.clear()
        self._in_flight.clear()

    def find(self) -> None:
        """The connection is made."""
        self._up, self._connections = True, self._connections + 1
        asyncio.get_running_loop().call_later(STEADY_S, self._report_steady, self._connections)
        kept = self._broker.retained.get(self._digest_topic)
        if kept is not None:
            self._listener.take_digest(kept.encode())
        self.report_up()
        self.deliver_soon()

    def report_up(self) -> None:
        """Reports that the connection is made."""
        self._listener.link_is_up()

    def publish(self, message: Message, on_acknowledged: OnAcknowledged | None = None) -> None:
        """See `Link.publish`. Messages keep their order."""
        if not self._up or not self._lifeline.alive:
            return
        self._out.append((message, on_acknowledged))
        asyncio.get_running_loop().call_later(self._broker.delay_s(), self._arrive)

    def send_events(self, events: EventQueue) -> None:
        """See `Link.send_events`. PUBACKs make the next page be fetched, as in the real link."""
        while self._up and (row := events.next()) is not None:
            self.publish(Message(self._events_topic, row[1]), functools.partial(_note, events, row[0]))

    def pause_events(self, paused: bool) -> None:
        """See `Link.pause_events`: in virtual time no task waits for the processor."""

    def _arrive(self) -> None:
        if not self._out:
            return  # the connection broke meanwhile
        message, on_acknowledged = self._out.popleft()
        if not self._lifeline.alive:
            return
        self._broker.take(message)
        if on_acknowledged is not None:
            asyncio.get_running_loop().call_later(self._broker.delay_s(), self._acknowledged, on_acknowledged)

    def _acknowledged(self, on_acknowledged: OnAcknowledged) -> None:
        if self._lifeline.alive:
            on_acknowledged(True)

    def deliver_soon(self) -> None:
        """Makes the broker deliver its messages, after the network's delay."""
        asyncio.get_running_loop().call_later(self._broker.delay_s(), self._deliver)

    def _deliver(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for command in tuple(self._broker.commands):
            if not self._up or not self._lifeline.alive:
                return
            if command.expires_s <= now_s:
                self._broker.commands.remove(command)
            elif command.correlation not in self._in_flight:
                self._in_flight.add(command.correlation)
                for after_s in (0.0, 0.05, 4.0) if self._broker.twice else (0.0,):
                    self._hand_over_after(after_s, self._incoming(command, now_s))

    def _hand_over_after(self, after_s: float, incoming: IncomingCommand) -> None:
        if self._broker.strips:
            incoming = replace(
                incoming,
                response_topic=None,
                correlation=None,
                message_expiry_s=None,
                without_properties=True,
            )

        def hand_over() -> None:
            if self._lifeline.alive and self._up:
                self._listener.take_command(incoming)

        if after_s:
            asyncio.get_running_loop().call_later(after_s, hand_over)
        else:
            hand_over()

    def _incoming(self, command: _Command, now_s: float) -> IncomingCommand:
        def acknowledge() -> None:
            if self._lifeline.alive and command in self._broker.commands:
                self._broker.commands.remove(command)

        return IncomingCommand(
            command=command.name,
            payload=command.payload,
            acknowledge=acknowledge,
            response_topic=self._reply_topic,
            correlation=command.correlation,
            message_expiry_s=_left_s(command.expires_s, now_s),
            x_request_id=command.x_request_id,
        )


def _note(events: EventQueue, sequence: int, accepted: bool) -> None:
    events.record_puback(sequence, accepted)
    events.report_progress()


def _left_s(expires_s: float, now_s: float) -> int | None:
    return None if math.isinf(expires_s) else max(1, round(expires_s - now_s))


class Plant:
    """The site. `start` starts an agent, `kill` ends it like SIGKILL."""

    def __init__(self, settings: Settings, seed: int, *, split: int | None = None) -> None:
        """`split`: replies arrive in pieces of this many bytes."""
        loop = asyncio.get_running_loop()
        self.settings = settings
        self.rng = random.Random(f"{seed}/plant")
        self.broker = Broker(random.Random(f"{seed}/network"))
        self.world = build_world(
            settings,
            clock_ns=lambda: round(loop.time() * 1e9),
            wall_s=lambda: EPOCH_S + loop.time(),
            seed=seed,
        )
        self.slaves = build_devices(settings, self.world)
        self.cables = {
            name: MemoryCable(
                loop,
                slaves,
                baud=line_baud(settings.buses[name]),
                bits_per_character=settings.buses[name].bits_per_character,
                split=split,
                framing=framing_of(settings.buses[name].protocol),
            )
            for name, slaves in self.slaves.items()
        }
        self._ids = Ids(random.Random(f"{seed}/ids"))
        self._disk_rng = random.Random(f"{seed}/disk")
        self.agent: Agent | None = None
        self._task: asyncio.Task[None] | None = None
        self._lifeline = Lifeline()
        self.clock = VirtualClock()
        self.starts = 0
        self.supervisor: Supervisor | None = None
        """The supervisor that gets the agents' signs of life, if any."""
        self.replaced: dict[str, Any] = {}
        """What replaces the usual environment of later agents, by the names of `Environment`."""
        self.on_agent: Callable[[Agent], None] = lambda agent: None
        """Called with every agent before it runs."""
        self.plugged: dict[str, str] = {}
        """The buses whose port leads to another bus's wires, and that other bus."""

    @property
    def lifeline(self) -> Lifeline:
        """The lifeline of the running agent."""
        return self._lifeline

    def start(self) -> None:
        """Starts an agent on the journal on the disk."""
        self._lifeline = lifeline = Lifeline()
        cables = {
            self.settings.buses[name].port: self.cables[self.plugged.get(name, name)] for name in self.cables
        }

        def transport(bus: BusSection) -> Transport:
            return MortalTransport(cables[bus.port], lifeline)

        def link(settings: Settings, _: Callable[[bool], str]) -> Link:
            return SimulatedLink(self.broker, lifeline, settings.machine.machine_id)

        environment = Environment(
            clock=self.clock,
            ids=self._ids,
            transport=transport,
            writer=lambda store: SimulatedDisk(store, self._disk_rng, lifeline),
            link=link,
            console=None,
            scanner=False,
            supervisor=self.supervisor,
        )
        self.starts += 1
        self.agent = Agent(self.settings, replace(environment, **self.replaced))
        self.on_agent(self.agent)
        self._task = asyncio.create_task(self.agent.run(), name=f"agent {self.starts}")

    async def kill(self) -> None:
        """The agent is gone from this instant: its further acts do not reach cable, disk or network."""
        assert self._task is not None
        if self._task.done():
            self._task.result()  # it ended by itself: raise the cause
        self._lifeline.alive = False
        self.broker.link = None
        self.agent = None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Severed, ExceptionGroup):
            await self._task
        for cable in self.cables.values():
            cable.let_go()

    async def stop(self) -> None:
        """Ends the agent cleanly. Raises the error that ended it before, if any."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.broker.link = None
        self.agent = None


def with_journal(settings: Settings, path: Path) -> Settings:
    """The same machine with its journal elsewhere."""
    return settings.model_copy(update={"paths": settings.paths.model_copy(update={"journal": str(path)})})
