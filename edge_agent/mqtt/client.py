"""The client of a broker: keeps one connection, tries again when it ends, and watches the credential files.

Each attempt has its own `Connection`, which is discarded when it ends, so the library queues nothing while
there is no connection. The session is persistent (clean start off, session expiry), and a message is
acknowledged (PUBACK) only when its listener calls `acknowledge`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from edge_agent.errors import LinkFault, LinkRefused
from edge_agent.mqtt.backoff import pause
from edge_agent.mqtt.broker_limits import BrokerLimits
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.credentials import CheckedCredentials, CredentialCheck, FileWatch, Stamp, WallTime
from edge_agent.mqtt.event_queue import EventQueue
from edge_agent.mqtt.interfaces import ClientListener
from edge_agent.mqtt.library import LibraryClient
from edge_agent.mqtt.messages import Message, OnPuback, Received
from edge_agent.mqtt.settings import Bounds, LinkSettings, NewCredentials, Traffic


class MqttClient:
    """Keeps one connection while `run` runs. Every method must be called on the event loop of `run`."""

    def __init__(
        self,
        settings: LinkSettings,
        bounds: Bounds,
        traffic: Traffic,
        listener: ClientListener,
        wall_clock: Callable[[], WallTime],
    ) -> None:
        """`wall_clock` gives the time by which certificates are checked."""
        self._settings = settings
        self._bounds = bounds
        self._traffic = traffic
        self._listener = listener
        self._wall_clock = wall_clock
        self._credential_check = CredentialCheck(settings.credentials)
        self._cause = ""
        """Why we were refused, as last reported to the listener."""
        self._connection: Connection | None = None
        self.turns = 0
        """Turns of `run`, for the watchdog: it checks its connection, or its pause, every `check_s`."""
        self.attempts = 0
        """How many connections were begun."""

    @property
    def up(self) -> bool:
        """Whether the broker has accepted us and our subscriptions."""
        return self._connection is not None and self._connection.up

    @property
    def limits(self) -> BrokerLimits | None:
        """The broker's limits; None without a connection."""
        return None if self._connection is None else self._connection.limits

    @property
    def library(self) -> LibraryClient | None:
        """The library's client of the present connection."""
        return None if self._connection is None else self._connection.library

    async def run(self) -> None:
        """Keeps a connection until cancelled."""
        while True:
            self.turns += 1
            stamp = self._settings.credentials.stamp()
            try:
                pause_s = await self._connect(stamp)
            except LinkRefused as fault:
                pause_s = self._failed(fault, None)
            # A changed credential file ends the pause: the fault may have been repaired.
            await pause(pause_s, self._settings.check_s, functools.partial(self._changed, stamp))

    async def _connect(self, stamp: Stamp) -> float:
        """One connection, made with files that had this `stamp`; returns the pause after it. Raises
        `LinkRefused` if the files are unusable."""
        checked = self.check_credentials()
        self.attempts += 1
        watch = FileWatch(self._settings.credentials, stamp)
        connection = self._connection = Connection(
            self.attempts, self._settings, self._bounds, self._traffic, self._listener, checked
        )
        try:
            await connection.run(lambda: self._check_files(watch))
        except LinkFault as fault:
            return self._failed(fault, connection.up_for_s)
        finally:
            self._connection = None
        return 0.0

    def _failed(self, fault: LinkFault, up_for_s: float | None) -> float:
        if isinstance(fault, LinkRefused):
            self._credential_check.forget()
        return self._listener.failed(fault, up_for_s)

    def _changed(self, stamp: Stamp) -> bool:
        self.turns += 1
        return self._settings.credentials.stamp() != stamp

    def _check_files(self, watch: FileWatch) -> None:
        """Raises `NewCredentials` if the files have changed and are valid. Reports invalid ones, and the
        connection stays."""
        self.turns += 1
        if not watch.changed():
            return
        try:
            self.check_credentials()
        except LinkRefused as fault:
            self._credential_check.forget()
            self.refused(fault)
        else:
            raise NewCredentials("new credentials")

    def check_credentials(self) -> CheckedCredentials:
        """The credentials as their files are now. Raises `LinkRefused` if they are unusable."""
        return self._credential_check.check(self._wall_clock())

    def refused(self, fault: LinkRefused) -> None:
        """Reports a refusal to the listener, once for each cause."""
        if str(fault) != self._cause:
            self._cause = str(fault)
            self._listener.refused(self._cause)

    def not_refused(self) -> None:
        """The next refusal is reported whatever its cause."""
        self._cause = ""

    def publish(self, message: Message, on_puback: OnPuback | None = None) -> bool:
        """Sends on the present connection; False, and `on_puback` is never called, if there is none."""
        connection = self._connection
        return connection is not None and connection.up and connection.publish(message, on_puback)

    def send_events(self, events: EventQueue) -> None:
        """Sends the events of the queue on the present connection, behind everything else; it replaces an
        earlier queue. Does nothing without a connection."""
        if self._connection is not None and self._connection.up and self._connection.send_window is not None:
            self._connection.send_window.send_events(events)

    def pause_events(self, paused: bool) -> None:
        """`paused`: events wait until further notice."""
        if self._connection is not None and self._connection.send_window is not None:
            self._connection.send_window.pause_events(paused)

    def is_current(self, message: Received) -> bool:
        """Whether the message came over the present connection."""
        connection = self._connection
        return connection is not None and not connection.ended and connection.number == message.connection

    def acknowledge(self, message: Received) -> None:
        """Sends the PUBACK of a message; one of an earlier connection is delivered again by the broker."""
        if self._connection is not None and self.is_current(message):
            self._connection.acknowledge(message)
