"""Makes the parts that take service commands, and connects them with the rest of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from edge_agent.app.environment import Environment
from edge_agent.cloud.interfaces import Link
from edge_agent.cloud.publisher import Publisher
from edge_agent.cloud.signature_check import SignatureCheck
from edge_agent.config import Settings
from edge_agent.config.changes import digest
from edge_agent.config.remote_settings import RemoteState
from edge_agent.journal.store import JournalStore
from edge_agent.mqtt.messages import Message
from edge_agent.process.child_command import run_command
from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.service_commands import DriftedKey, LastChange, ReportedConfiguration
from edge_agent.protocol.topics import Topics
from edge_agent.remote.handler import ServiceCommandHandler, is_service_command
from edge_agent.remote.interfaces import ServiceParts, UpdateOutcome
from edge_agent.remote.reporter import ServiceReporter
from edge_agent.remote.work import ServiceWork
from edge_agent.runtime.incoming import IncomingCommand
from edge_agent.runtime.loop import LockerLoop
from edge_agent.runtime.writer import Writer
from edge_agent.service.bus_service import BusService
from edge_agent.service.diagnosis.diagnose import Diagnosis
from edge_agent.service.forgetting import Forgetting
from edge_agent.service.readiness import Readiness

log = structlog.get_logger()


class RemoteParts:
    """The service commands of one agent, and the report on its configuration."""

    def __init__(
        self,
        settings: Settings,
        environment: Environment,
        loop: LockerLoop,
        store: JournalStore,
        writer: Writer,
        link: Link,
        publisher: Publisher,
        buses: BusService,
        *,
        commands_wait: Callable[[], bool],
        diagnosis: Callable[[], Diagnosis],
        sender_check: SignatureCheck | None,
    ) -> None:
        """`commands_wait`: whether a command of the gateway waits for its outcome."""
        self._settings = settings
        self._control = environment.service
        self._link = link
        self._topics = topics = Topics(settings.machine.machine_id)
        socket = settings.path(settings.paths.socket)
        days = settings.retention.reservations_days
        self.forgetting = Forgetting(loop, store, writer, environment.clock, days)
        parts = ServiceParts(buses, diagnosis, environment.service, socket, run_command, self.forgetting)
        self._commands_wait = commands_wait
        owners = {name: place.bus for name, place in buses.places.items()}
        self.readiness = Readiness(loop, environment.clock, owners, lambda: link.up, self._busy_with)
        self.reporter = ServiceReporter(loop, store, writer, topics, link.publish)
        self.handler = ServiceCommandHandler(
            loop,
            store,
            writer,
            environment.clock,
            topics.machine_id,
            keys=settings.service.keys,
            sender_check=sender_check,
            work=ServiceWork(parts),
            reporter=self.reporter,
            publish_reply=publisher.reply,
            remote_state=self._remote_state,
            update_outcome=self._update_outcome,
        )

    def takes(self, incoming: IncomingCommand) -> bool:
        """Takes a command if it is a service command; whether it is one."""
        if not is_service_command(incoming.command):
            return False
        self.handler.handle(incoming)
        return True

    def link_is_up(self) -> None:
        """A connection was made."""
        self.reporter.link_is_up()
        self._publish_configuration()

    async def configuration_changed(self) -> None:
        """The remote settings have changed, or their trial has ended."""
        await self.handler.settle_configuration()
        self._publish_configuration()

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.handler.run(), name="service commands")
            group.create_task(self.reporter.run(), name="reports on service commands")
            group.create_task(self.forgetting.run(), name="retention")

    def _busy_with(self) -> str:
        """Which work an update would interrupt, besides doors; "" if there is none."""
        if self._commands_wait():
            return "a command is under way"
        if self._remote_state().trial is not None:
            return "remote settings are on trial"
        command = self.handler.busy_with
        return f"the service command {command} is under way" if command else ""

    def _update_outcome(self) -> UpdateOutcome | None:
        return None if self._control is None else self._control.update_outcome()

    def _remote_state(self) -> RemoteState:
        return RemoteState() if self._control is None else self._control.remote_state()

    def _publish_configuration(self) -> None:
        if self._control is None:
            return  # no file, and nothing that could change it
        state, settings = self._remote_state(), self._settings
        last = None
        if state.last is not None:
            named = state.last.model_dump(exclude={"at_s"}) | {"at": rfc3339(state.last.at_s)}
            last = LastChange.model_validate(named)
        body = ReportedConfiguration(
            machine_id=self._topics.machine_id,
            hash=digest(settings),
            version=None if state.applied is None else state.applied.version,
            settings={} if state.applied is None else state.applied.settings,
            trial=None if state.trial is None else state.trial.version,
            drift=[DriftedKey(key=one.key, local=one.local, desired=one.desired) for one in settings.drift],
            last=last,
        )
        self._link.publish(Message(self._topics.configuration, body.model_dump_json(), retain=True))
