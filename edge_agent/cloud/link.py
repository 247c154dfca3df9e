"""The machine's link to the broker: its topics, its birth, good-bye and will, and what it reports.

The subscription to the commands is persistent and asks for no retained messages; a command is acknowledged
(PUBACK) only when it is safe on our disk. `edge_agent.mqtt` does the rest.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from edge_agent.cloud.command_message import StallWatch, incoming_of
from edge_agent.cloud.interfaces import LinkListener
from edge_agent.cloud.takeovers import LONGEST_TAKEN_S, Pauses
from edge_agent.errors import LinkFault, LinkRefused, SessionTaken
from edge_agent.mqtt.client import MqttClient
from edge_agent.mqtt.credentials import WallTime
from edge_agent.mqtt.event_queue import EventQueue
from edge_agent.mqtt.messages import Message, OnAcknowledged, Received
from edge_agent.mqtt.settings import (
    LONGEST_PACKET_BYTES,
    MOST_WAITING_MESSAGES,
    RECEIVE_MAXIMUM,
    Bounds,
    InboundLimits,
    LinkSettings,
    Subscription,
    Traffic,
)
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.clock import Clock, SystemClock
from edge_agent.runtime.loop_watch import MonitoredLoop

log = structlog.get_logger()

FIRST_PAUSE_S = 0.2
"""Pause before the second attempt at a broker that is not there; later pauses double."""
FIRST_REFUSED_S, LONGEST_REFUSED_S = 5.0, 60.0
"""Pauses between attempts while the broker refuses us; a changed file ends the pause."""
STEADY_S = 10.0
"""A connection that was up for this long counts as steady: the next pause is short again."""
CONNECT_TIMEOUT_S = 10.0
"""For the TCP connection, and again from the broker's acceptance to its answer to our subscription."""
PUBACK_DELAY_S = 0.004
"""The event loop takes PUBACKs this long after the first one: many together cost little more than one."""
GOODBYE_S = 1.0
THREAD_HANGS_AFTER_S, CONNECTING_HANGS_AFTER_S = 30.0, 180.0
"""After this time without a turn of its loop the library's thread counts as hanging. While connected it makes
one turn a second; a name look-up and connecting to each address may take minutes."""
CHECKS_MISSED = 3
"""The link's task runs every `check_s`. It counts as hanging after this many runs are missed."""


class MqttLink:
    """`Link` over an `MqttClient`, whose listener it is."""

    def __init__(
        self,
        settings: LinkSettings,
        topics: Topics,
        online: Callable[[bool], str],
        jitter: random.Random,
        clock: Clock | None = None,
    ) -> None:
        """`online` gives the retained content of `state/online`; its argument: False for the good-bye and the
        will."""
        self._settings = settings
        self._topics = topics
        self._online = online
        self._clock = SystemClock() if clock is None else clock
        refused, taken = (FIRST_REFUSED_S, LONGEST_REFUSED_S), (LONGEST_REFUSED_S, LONGEST_TAKEN_S)
        self.pauses = Pauses((FIRST_PAUSE_S, settings.reconnect_max_s), refused, taken, jitter)
        self._why_down = ""
        self._listener: LinkListener | None = None
        self._stalls = StallWatch()
        self.client = MqttClient(settings, _bounds(), _traffic(topics), self, self._wall)

    @property
    def up(self) -> bool:
        """See `Link.up`."""
        return self.client.up

    async def run(self, listener: LinkListener) -> None:
        """See `Link.run`."""
        self._listener = listener
        self._stalls.start()
        try:
            await self.client.run()
        finally:
            self._stalls.stop()

    def publish(self, message: Message, on_acknowledged: OnAcknowledged | None = None) -> None:
        """See `Link.publish`. A message that is too big for the broker is not sent: see
        `BrokerLimits.fitting`."""
        limits = self.client.limits
        if limits is None or not self.up:
            return
        fitting = limits.fitting(message, self._topics.reply(""))
        if on_acknowledged is None:
            if fitting is not None:
                self.client.publish(fitting)
        elif fitting is not None:
            self.client.publish(fitting, lambda puback: on_acknowledged(puback.accepted))
        else:
            on_acknowledged(False)

    def send_events(self, events: EventQueue) -> None:
        """See `Link.send_events`."""
        self.client.send_events(events)

    def pause_events(self, paused: bool) -> None:
        """See `Link.pause_events`."""
        self.client.pause_events(paused)

    def taken_over(self) -> None:
        """See `Link.taken_over`."""
        self.pauses.takeovers.note()
        self.client.refused(SessionTaken())

    def monitored_loops(self) -> list[MonitoredLoop]:
        """See `HasLoops`. A link without a broker counts as alive while it tries to connect."""
        client = self.client
        return [
            MonitoredLoop("link", lambda: client.turns, CHECKS_MISSED * self._settings.check_s),
            MonitoredLoop("link's thread", self._thread_turns, THREAD_HANGS_AFTER_S),
            MonitoredLoop("link's thread, connecting", self._connecting, CONNECTING_HANGS_AFTER_S),
        ]

    def _thread_turns(self) -> int | None:
        library = self.client.library
        return None if library is None else library.turns or None

    def _connecting(self) -> int | None:
        library = self.client.library
        return None if library is None or library.turns else self.client.attempts

    def _wall(self) -> WallTime:
        now = self._clock.now()
        return WallTime(now.wall_s, now.synced)

    # The following are called by the client (`ClientListener`).

    def will(self) -> Message | None:
        """See `ClientListener.will`."""
        return Message(self._topics.online, self._online(False), retain=True)

    def came_up(self) -> None:
        """See `ClientListener.came_up`."""
        self.publish(Message(self._topics.online, self._online(True), retain=True))
        log.info("link", state="up", host=self._settings.host, port=self._settings.port)
        self._why_down = ""
        if not self.pauses.takeovers.may_return:
            self._report_steady()
        if self._listener is not None:
            self._listener.link_is_up()

    def became_steady(self) -> None:
        """See `ClientListener.became_steady`."""
        if self.pauses.takeovers.may_return:
            self._report_steady()

    def _report_steady(self) -> None:
        """The connection is steady: takeovers and refusals count as over, and the alarm LINK_REFUSED is
        cleared."""
        self.pauses.takeovers.end()
        self.client.not_refused()
        if self._listener is not None:
            self._listener.link_refused("")

    def received(self, message: Received) -> None:
        """See `ClientListener.received`."""
        if self._listener is None:
            return
        if message.topic == self._topics.digest:
            if message.retained:
                self._listener.take_digest(message.payload)
            return

        def acknowledge() -> None:
            self.client.acknowledge(message)  # does nothing for a message of an earlier connection

        self._listener.take_command(incoming_of(message, acknowledge, self._stalls.stalled_s()))

    async def say_goodbye(self) -> bool:
        """See `ClientListener.say_goodbye`: publishes offline."""
        acknowledged = asyncio.Event()
        offline = Message(self._topics.online, self._online(False), retain=True)
        self.publish(offline, lambda _: acknowledged.set())
        try:
            async with asyncio.timeout(GOODBYE_S):
                await acknowledged.wait()
        except TimeoutError:
            log.warning("the broker did not acknowledge the good-bye")
            return False
        return True

    def ended(self) -> None:
        """See `ClientListener.ended`."""

    def failed(self, fault: LinkFault, up_for_s: float | None) -> float:
        """See `ClientListener.failed`. Logged once for each reason: a broker may be away for days."""
        if isinstance(fault, LinkRefused):
            self.client.refused(fault)
        elif str(fault) != self._why_down:
            self._why_down = str(fault)
            log.info("link", state="down", reason=self._why_down)
        return self.pauses.after(fault, steady=up_for_s is not None and up_for_s >= STEADY_S)

    def refused(self, cause: str) -> None:
        """See `ClientListener.refused`."""
        log.error("link refused", cause=cause)
        if self._listener is not None:
            self._listener.link_refused(cause)

    def subscription_refused(self, reason: str) -> LinkFault:
        """See `ClientListener.subscription_refused`."""
        return LinkRefused(f"the broker refuses our subscription to commands: {reason}")


def _bounds() -> Bounds:
    return Bounds(
        connect_s=CONNECT_TIMEOUT_S,
        subscribe_s=CONNECT_TIMEOUT_S,
        steady_s=STEADY_S,
        puback_delay_s=PUBACK_DELAY_S,
        inbound=InboundLimits(RECEIVE_MAXIMUM, LONGEST_PACKET_BYTES, MOST_WAITING_MESSAGES),
    )


def _traffic(topics: Topics) -> Traffic:
    # Retain as published: otherwise the broker clears the flag of a retained command that it passes on at
    # once.
    commands = Subscription(topics.commands, retain_as_published=True, send_retained=False)
    # Retained only; our own publications of it are not sent back. The link does not depend on this one.
    digest = Subscription(topics.digest, qos=0, no_local=True, required=False)
    return Traffic((commands, digest), events_topic=topics.events)
