"""One connection to the broker, from its attempt to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from edge_agent.errors import LinkFault
from edge_agent.mqtt.broker_limits import BrokerLimits
from edge_agent.mqtt.credentials import CheckedCredentials
from edge_agent.mqtt.interfaces import ClientListener, LibraryMessage
from edge_agent.mqtt.library import LibraryClient
from edge_agent.mqtt.messages import Message, OnPuback, Received
from edge_agent.mqtt.packets import puback_of, received_of
from edge_agent.mqtt.receive_queue import ReceiveQueue
from edge_agent.mqtt.send_window import PubackWatch, SendWindow
from edge_agent.mqtt.settings import Bounds, LinkSettings, NewCredentials, Traffic

log = structlog.get_logger()


class Connection:
    """One attempt and its connection: the library's client, the window that sends, the queue that receives.
    The object is discarded when the connection ends.

    The library's thread only hands what it reports over to the event loop; when a PUBACK arrives,
    it also sends the next message.
    """

    def __init__(
        self,
        number: int,
        settings: LinkSettings,
        bounds: Bounds,
        traffic: Traffic,
        listener: ClientListener,
        checked: CheckedCredentials,
    ) -> None:
        self.number = number
        self.up_for_s: float | None = None
        """How long it was up, in seconds; connecting does not count. None: it never was."""
        self.limits: BrokerLimits | None = None
        """The broker's limits, once it has accepted us."""
        self.library = LibraryClient(settings, bounds, checked, listener.will())
        self._settings = settings
        self._bounds = bounds
        self._traffic = traffic
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._up_since_s: float | None = None
        self._send_window: SendWindow | None = None
        self._fault = LinkFault("")
        self._puback_watch = PubackWatch(settings.check_s)
        waiting = None if bounds.inbound is None else bounds.inbound.waiting
        self._receive_queue: ReceiveQueue[LibraryMessage] = ReceiveQueue(
            self._received, waiting, bounds.burst
        )
        # An event, not a future: cancelling `run` would cancel a future, and the connection would count as
        # over before the good-bye is acknowledged.
        self._over = asyncio.Event()

    @property
    def up(self) -> bool:
        """Whether the broker has accepted us and our subscriptions."""
        return self._up_since_s is not None and not self._over.is_set()

    async def run(self, check: Callable[[], None]) -> None:
        """Connects and stays until the connection ends; `check` is called every `check_s`.

        Raises `LinkFault` with the reason, or what `check` raises.
        """
        self.library.start(self)
        try:
            await self._until_over(check)
        except (asyncio.CancelledError, NewCredentials):
            if self.up:
                self.library.send_disconnect(with_will=not await self._listener.say_goodbye())
            raise
        except LinkFault:
            self.library.shut_down_socket()  # else the library keeps it until everything is acknowledged
            raise
        finally:
            if self._up_since_s is not None:
                self.up_for_s = self._loop.time() - self._up_since_s
            self._over.set()
            self._listener.ended()
            await self.library.stop()

    async def _until_over(self, check: Callable[[], None]) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.check_s):
                    await self._over.wait()
            if self._over.is_set():
                break
            if not self.library.alive:
                raise LinkFault("the library's thread died")
            if self._send_window is not None:
                self._puback_watch.check(self._send_window.puback_count)
            check()
        raise self._fault

    def publish(self, message: Message, on_puback: OnPuback | None = None) -> bool:
        """Sends as soon as there is room; False if the connection no longer accepts it."""
        return self._send_window is not None and self._send_window.put(message, on_puback)

    @property
    def ended(self) -> bool:
        """Whether the connection, or the attempt to make it, is over."""
        return self._over.is_set()

    @property
    def send_window(self) -> SendWindow | None:
        """The sending side; None before the broker has accepted us and after the end."""
        return None if self._over.is_set() else self._send_window

    def acknowledge(self, message: Received) -> None:
        """Sends the PUBACK of a message that arrived over this connection."""
        self.library.ack(message.mid, message.qos)

    # The following are called on the library's thread (`LibraryEvents`).

    def socket_opened(self) -> bool:
        """See `LibraryEvents`."""
        if self._over.is_set():
            return False
        if self._bounds.accept_s is not None:
            self._hand_over(self._loop.call_later, self._bounds.accept_s, self._demand_accepted)
        return True

    def accepted(self, limits: BrokerLimits) -> None:
        """See `LibraryEvents`."""
        self._hand_over(self._take_acceptance, limits)

    def subscribed(self, refusals: Sequence[str | None]) -> None:
        """See `LibraryEvents`."""
        self._hand_over(self._take_subscriptions, refusals)

    def arrived(self, message: LibraryMessage) -> None:
        """See `LibraryEvents`."""
        self._receive_queue.put(message)

    def puback_arrived(self, packet_id: int, reason: object, accepted: bool) -> None:
        """See `LibraryEvents`. The PUBACK frees its place in the window at once and is reported on the event
        loop."""
        if self._send_window is not None:
            self._send_window.puback_arrived(packet_id, reason, accepted)

    def connection_lost(self, fault: LinkFault) -> None:
        """See `LibraryEvents`."""
        self._hand_over(self._gone, fault)

    def _wake(self) -> None:
        """PUBACKs wait: the event loop takes them after `puback_delay_s`."""
        self._hand_over(self._loop.call_later, self._bounds.puback_delay_s, self._take_pubacks)

    def _hand_over(self, function: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed: there is no receiver any more
            self._loop.call_soon_threadsafe(function, *arguments)

    # The following are called on the event loop.

    def _take_acceptance(self, limits: BrokerLimits) -> None:
        if self._over.is_set():
            return
        library, topic = self.library, self._traffic.events_topic
        self.limits = limits
        window = min(self._bounds.window, limits.receive_maximum)
        self._send_window = SendWindow(
            window, library.publish_message, library.event_sender(topic, limits), self._wake
        )
        library.subscribe_all(self._traffic.subscriptions)
        self._loop.call_later(self._bounds.subscribe_s, self._demand_subscribed)

    def _take_subscriptions(self, refusals: Sequence[str | None]) -> None:
        for subscription, refusal in zip(self._traffic.subscriptions, refusals, strict=False):
            if refusal is not None and subscription.required:
                self.library.send_disconnect()
                self._gone(self._listener.subscription_refused(refusal))
                return
        if not self._over.is_set():
            self._up_since_s = self._loop.time()
            self._listener.came_up()
            self._loop.call_later(self._bounds.steady_s, self._became_steady)

    def _became_steady(self) -> None:
        if not self._over.is_set():
            self._listener.became_steady()

    def _demand_accepted(self) -> None:
        if self._send_window is None:
            self._gone(LinkFault("the broker does not answer"))

    def _demand_subscribed(self) -> None:
        if self._up_since_s is None:
            self._gone(LinkFault("the broker does not answer our subscription"))

    def _gone(self, fault: LinkFault) -> None:
        if not self._over.is_set():
            self._fault = fault
            self._over.set()

    def _received(self, message: LibraryMessage) -> None:
        if self._over.is_set():
            return
        try:
            received = received_of(message, self.number)
        except UnicodeDecodeError:
            log.error("a message is dropped: its topic is not UTF-8")
            return
        self._listener.received(received)

    def _take_pubacks(self) -> None:
        if self._send_window is None or self._over.is_set():
            return
        for on_puback, reason, accepted in self._send_window.take_pubacks():
            if on_puback is not None:
                on_puback(puback_of(reason, accepted))
            elif not accepted:
                log.error("the broker refused a publication", reason=str(reason))
