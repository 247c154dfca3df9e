"""What surrounds a daemon: clock, ids, transports, link, console. The real one, and the interface by which a
simulation provides its own."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edge_agent.app.housekeeping import RunBlocking
from edge_agent.app.startup import NOTHING, Confirmed
from edge_agent.app.transports import transport_to
from edge_agent.cloud.interfaces import Link
from edge_agent.cloud.link import MqttLink
from edge_agent.config import BusSection, Settings
from edge_agent.console.access import Access, group_of
from edge_agent.console.api import ConsolePort, Reloads, create_app
from edge_agent.console.unix_server import serve
from edge_agent.drivers.port_identity import SYSFS
from edge_agent.drivers.transport import Transport
from edge_agent.journal.configurations import ConfigurationChange
from edge_agent.journal.store import JournalStore
from edge_agent.mqtt.credentials import Credentials
from edge_agent.mqtt.settings import LinkSettings
from edge_agent.process.board_serial import board_serial
from edge_agent.protocol.topics import Topics
from edge_agent.remote.interfaces import ServiceControl
from edge_agent.runtime.clock import Clock, SystemClock
from edge_agent.runtime.ids import Ids
from edge_agent.runtime.writer import ThreadWriter, Writer
from edge_agent.supervisor import Supervisor


async def run_inline(work: Callable[[], list[str]]) -> list[str]:
    """Runs the work at once, where there are no threads."""
    return work()


class RunningService(Reloads, ServiceControl, Protocol):
    """What an agent needs of the service that runs it."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What surrounds a daemon; a simulation provides its own."""

    clock: Clock
    ids: Ids
    transport: Callable[[BusSection], Transport]
    writer: Callable[[JournalStore], Writer]
    link: Callable[[Settings, Callable[[bool], str]], Link]
    console: Callable[[ConsolePort], Any] | None
    """Serves the local API until cancelled; None: no console."""
    scanner: bool = True
    """Whether the configured scanner and keypad are present."""
    confirmed: Confirmed = NOTHING
    """What a technician has confirmed with this start."""
    change: ConfigurationChange | None = None
    """How the configuration came into use; None: that is not recorded."""
    board: str = "unknown"
    """The serial number of the board; a copied memory card does not carry it along."""
    sysfs: Path = SYSFS
    """Where the kernel shows which adapter is behind a port."""
    service: RunningService | None = None
    """Applies a new configuration, and starts the daemon again; None: not possible."""
    supervisor: Supervisor | None = None
    """Gets notice that the service is alive; None: no supervisor."""
    access: Access = field(default_factory=Access)
    """The permissions on the local API."""
    run_blocking: RunBlocking = run_inline
    """Runs blocking calls where they hold up no door."""


def link_settings(settings: Settings) -> LinkSettings:
    """The broker of the configuration, and our session with it."""
    mqtt = settings.mqtt
    return LinkSettings(
        mqtt.host,
        mqtt.port,
        settings.machine.machine_id,
        mqtt.keepalive_s,
        mqtt.session_expiry_s,
        mqtt.transport,
        mqtt.websocket_path,
        Credentials.of(mqtt),
        reconnect_max_s=mqtt.reconnect_max_s,
    )


def system_environment(settings: Settings) -> Environment:
    """The real machine: kernel clocks, ttys, a writer thread, the broker, the Unix socket, systemd."""

    def link(settings: Settings, online: Callable[[bool], str]) -> Link:
        topics = Topics(settings.machine.machine_id)
        return MqttLink(link_settings(settings), topics, online, random.Random(), clock)

    clock = SystemClock(trusted=settings.machine.clock == "rtc")
    access = Access.of(settings)
    group = None if settings.access.group is None else group_of(settings.access.group)
    return Environment(
        clock=clock,
        ids=Ids(),
        transport=transport_to,
        writer=ThreadWriter,
        link=link,
        console=lambda port: serve(create_app(port), settings.path(settings.paths.socket), group, access),
        supervisor=Supervisor.of(os.environ, os.getpid()),
        board=board_serial(),
        access=access,
        run_blocking=asyncio.to_thread,
    )
