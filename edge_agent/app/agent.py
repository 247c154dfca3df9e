"""Makes the parts of one machine's daemon and connects them; starts and stops them in order."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping

import structlog

from edge_agent import __version__
from edge_agent.app.adapters import BoundAdapters
from edge_agent.app.core_layout import layout_of
from edge_agent.app.devices import Devices
from edge_agent.app.entry_readers import readers_of
from edge_agent.app.environment import Environment
from edge_agent.app.housekeeping import check_devices, keep_mark, watch_disk
from edge_agent.app.listeners import DaemonBusListener, DaemonLinkListener, DaemonLoopListener, refusal
from edge_agent.app.remote_parts import RemoteParts
from edge_agent.app.renewal import certificate_renewal
from edge_agent.app.sender_checks import SenderChecks
from edge_agent.app.startup import files_beside, load_state, record_configuration, write_this_mark
from edge_agent.app.transports import fails_with
from edge_agent.app.watchdog import Watchdog
from edge_agent.cloud.publisher import Publisher
from edge_agent.cloud.telemetry import Telemetry
from edge_agent.config import BusSection, Settings
from edge_agent.console.api import ConsolePort
from edge_agent.console.api_watch import ApiWatch
from edge_agent.console.metrics import Numbers, serve_metrics
from edge_agent.console.screen.feed import ScreenFeed
from edge_agent.console.screen.server import create_screen, serve_screen
from edge_agent.console.unix_server import serve_on
from edge_agent.drivers.bus import BusOwner
from edge_agent.drivers.transport import Transport
from edge_agent.field.doors import Doors
from edge_agent.field.executor import Executor
from edge_agent.field.poller import Poller
from edge_agent.field.temperatures import Temperatures
from edge_agent.field.weighing import Weighing
from edge_agent.journal.store import JournalStore
from edge_agent.model import Alarm, Door
from edge_agent.mqtt.messages import Message
from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.events import Online
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.clock import Clock
from edge_agent.runtime.command_handler import CommandHandler
from edge_agent.runtime.credentials import Credentials
from edge_agent.runtime.history_check import HistoryCheck
from edge_agent.runtime.local_requests import LocalRequests
from edge_agent.runtime.loop import LockerLoop
from edge_agent.runtime.loop_watch import HasLoops, MonitoredLoop
from edge_agent.runtime.views import Identity, Views
from edge_agent.service.bus_checks import Checks
from edge_agent.service.bus_service import BusService
from edge_agent.service.diagnosis.cell_watch import CellWatch
from edge_agent.service.diagnosis.diagnose import Diagnosis
from edge_agent.service.diagnosis.machine_checks import Machine
from edge_agent.service.report import Report
from edge_agent.statemachine.inputs import Boot, Condition, DeviceHealth
from edge_agent.statemachine.outputs import Answer, Effect
from edge_agent.statemachine.state import Layout

log = structlog.get_logger()

PORT_WAIT_S = 2.0
"""How long a start waits for a serial port before it continues without."""
BUS_HANGS_AFTER_S, POLLER_HANGS_AFTER_S = 15.0, 30.0
"""A bus, or its poller, that makes no turn for this long hangs: the longest exchange takes seconds."""
OFF_AT_STOP_S = 0.7
"""How long boards are asked at a stop to switch off. Outputs with a timed pulse or a communication timeout go
off by themselves later; a lock switched on and off by the daemon (`SwitchedPulse`) stays on."""
RECENT_S = 15.0
"""Replies to requests not older than this are published again at a start: their callers may still wait."""


class Agent:
    """One machine's daemon, built but not yet running."""

    def __init__(self, settings: Settings, environment: Environment) -> None:
        self.settings = settings
        self._environment = environment
        layout = layout_of(settings)
        self._supervisor = environment.supervisor
        self._files_beside_journal = files_beside(settings.path(settings.paths.journal))
        self.store = JournalStore(settings.path(settings.paths.journal), self._upgrading)
        try:
            self._make_parts(layout)
        except BaseException:
            self.store.close()  # the next daemon needs it
            raise

    def _make_parts(self, layout: Layout) -> None:
        """Makes all the parts, on the journal that is now ours."""
        settings, environment = self.settings, self._environment
        self._writer = environment.writer(self.store)
        self._started = started = environment.clock.now()
        loaded = self.store.load(started.wall_s - RECENT_S)
        state = load_state(
            self.store, loaded, settings, layout, environment.confirmed, started, self._files_beside_journal
        )
        self._journaled_requests = loaded.requests
        machine = settings.machine
        self.views = Views(
            Identity(machine.machine_id, machine.name, machine.location, machine.latitude, machine.longitude),
            layout,
            environment.ids,
            self.store.journal_id,
        )
        rewired = environment.confirmed.rewired
        self.bound_adapters = BoundAdapters(
            self.store, environment.sysfs, self._adapter_changed, rewired=rewired
        )
        self.devices = Devices(settings, self._transport)
        self._sender_checks = SenderChecks(settings, environment.clock, environment.ids)
        self.link = environment.link(settings, self._online)
        self._topics = topics = Topics(machine.machine_id)
        self.loop = LockerLoop(
            state,
            layout,
            loaded.last_sequence,
            self._writer,
            environment.clock,
            self.views,
            ended_status=self.store.ended_status,
            use_spare_space=self.store.use_spare_space,
        )
        self._run_id = environment.ids.unique("run")
        self.history_check = self._make_history_check()
        self.report = self._make_report()
        self.publisher = Publisher(
            self.link,
            self.store,
            self.loop,
            topics,
            machine=self._machine_json,
            digest=self._digest_json,
            on_digest_acknowledged=self.history_check.digest_acknowledged,
            on_refusal=lambda cause: self.loop.submit(refusal(cause)),
        )
        self._weighing = Weighing(layout.weighed, self.loop.submit)
        online = functools.partial(self._online, True)
        self._telemetry = Telemetry(self.link, self.report, topics, self._clock_text, online)
        self._make_command_handling()
        self._make_door_reading()
        self._make_remote_parts()
        self._executor = self._make_executor()
        self._group: asyncio.TaskGroup  # set by `_serve`; `_start_effect` starts tasks in it

    def _make_command_handling(self) -> None:
        """Makes the parts that handle commands and entries, and the listeners that pass them on."""
        environment = self._environment
        self.local = LocalRequests(
            self.loop,
            environment.clock,
            environment.ids,
            weigh=self._weighing.report,
            offered=self.history_check.offered,
            history_changed=self._publish_online,
            credentials=Credentials(one.credential(name) for name, one in self.settings.credentials.items()),
        )
        self.commands = CommandHandler(
            self.loop,
            self.store,
            environment.clock,
            environment.ids,
            self.views,
            self._topics.machine_id,
            self.publisher.reply,
            self.local,
            restore=self.history_check.restore,
            sender_check=self._sender_checks.commands,
        )
        buses = self.devices.buses.values()
        self.screen_feed = ScreenFeed(
            self.loop,
            environment.clock,
            environment.ids,
            link_up=lambda: self.link.up,
            any_bus=lambda: any(bus.up for bus in buses),
        )
        wake = self.report.wake_followers
        self._loop_listener = DaemonLoopListener(
            self.publisher,
            self.commands,
            self._start_effect,
            self._state_changed,
            wake,
            self._new_journal,
        )

    def _make_door_reading(self) -> None:
        """Makes the parts that read doors and sensors."""
        environment, standing = self._environment, self.loop.state.alarms.values()
        self._silent = [alarm.place for alarm in standing if alarm.alarm is Alarm.DEVICE_SILENT]
        places = self.devices.door_places()
        boottime = functools.partial(_boottime_ns, environment.clock)
        self.doors = Doors(self.devices.door_boards, places, self.loop.submit, self._silent, boottime)
        self.buses = BusService(
            self.devices.bus_places(),
            self.doors,
            self.devices.door_places(),
            environment.clock,
            self.loop.submit,
        )
        self.climate = self.devices.climate_outputs(lambda: self.loop.storage_fault is None)
        self.signals = self.devices.signals(self.doors)

    def _make_remote_parts(self) -> None:
        """Makes the parts that take service commands, and the listener of the link."""
        self.remote = RemoteParts(
            self.settings,
            self._environment,
            self.loop,
            self.store,
            self._writer,
            self.link,
            self.publisher,
            self.buses,
            commands_wait=lambda: self.commands.busy,
            diagnosis=lambda: self.diagnosis,
            sender_check=self._sender_checks.service,
        )
        self._link_listener = DaemonLinkListener(
            self.publisher, self.commands, self.history_check, self.loop, self.remote
        )

    async def configuration_changed(self) -> None:
        """See `RemoteParts.configuration_changed`."""
        await self.remote.configuration_changed()

    def _make_history_check(self) -> HistoryCheck:
        machine_id, ids, store = self._topics.machine_id, self._environment.ids, self.store
        return HistoryCheck(
            machine_id,
            self._run_id,
            lambda: store.journal_id,
            self.loop,
            ids,
            ended=store.ended_status,
            on_change=self._publish_online,
            on_twin=self.link.taken_over,
        )

    def _transport(self, name: str, bus: BusSection) -> Transport:
        return self.bound_adapters.bound(name, bus.port, self._environment.transport(bus))

    def _make_report(self) -> Report:
        return Report(
            self.settings.machine.machine_id,
            self.loop,
            self.store,
            self.views,
            self._environment.clock,
            values=self.devices.values,
            buses=self.devices.buses,
            broker_up=lambda: self.link.up,
            history=lambda: self.history_check.state,
        )

    @functools.cached_property
    def diagnosis(self) -> Diagnosis:
        """The self-test, made on request."""
        sensors = self.devices.sensors()

        def cells() -> CellWatch:
            return CellWatch(sensors, self.loop, self.devices.values, self.climate)

        machine = Machine(
            self.loop,
            self.store,
            self._environment.clock,
            self._started,
            lambda: self.link.up,
            self._environment.run_blocking,
        )
        return Diagnosis(self.buses, self.local, self.doors, machine, sensors, cells)

    def _make_executor(self) -> Executor:
        unlock = self.settings.unlock
        return Executor(
            self.devices.locks,
            self.doors,
            self.loop.submit,
            self._environment.clock,
            self._weighing,
            self.climate,
            self.signals,
            watch_s=unlock.watch_ms / 1000,
            pulse_s=unlock.pulse_ms / 1000,
            most_energised=unlock.max_concurrent_unlocks,
        )

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Runs until cancelled; ends with every output off and the journal closed.

        Raises (in an exception group) `InvariantBroken` and every other error that must end the daemon.
        """
        buses = [
            asyncio.create_task(bus.run(self._bus_listener(name)), name=f"bus {name}")
            for name, bus in self.devices.buses.items()
        ]
        try:
            for bus in self.devices.buses.values():
                if not await bus.wait_open(PORT_WAIT_S):
                    log.error("serial port cannot be opened", bus=bus.name)
            await self.devices.all_off()
            seen = await self.doors.read_at_start()
            self.loop.submit(Boot(seen))
            await self.doors.settle(self._closed_meanwhile(seen))
            self._end_what_is_gone()
            if not self.store.keep_spare_space():
                self.loop.submit(Condition(Alarm.STORAGE_FAULT, "", True, "the disk is nearly full"))
            self.commands.take_over_requests(self._journaled_requests)
            taken, last_sequence = self._environment.change, self.loop.last_sequence
            record_configuration(self.store, self.settings, taken, last_sequence, self._started)
            await self._serve(on_ready, buses)
        finally:
            try:
                async with asyncio.timeout(OFF_AT_STOP_S):
                    await self.devices.all_off()
            except TimeoutError:
                log.error("outputs could not be switched off in time; those without a timer stay on")
            for task in buses:
                task.cancel()
            await asyncio.gather(*buses, return_exceptions=True)
            self.close()

    def _bus_listener(self, name: str) -> DaemonBusListener:
        return DaemonBusListener(
            functools.partial(self._bus_port, name), self.devices.door_boards_on(name), self.doors
        )

    def _adapter_changed(self, name: str) -> None:
        self._bus_port(name, False)

    def _bus_port(self, name: str, up: bool) -> None:
        why = "" if up else self.bound_adapters.problem(name) or "its port is not there"
        self.loop.submit(Condition(Alarm.BUS_DOWN, name, not up, why))

    def _closed_meanwhile(self, seen: Mapping[str, Door]) -> list[str]:
        """Cells whose door a drop-off had opened, and which is closed at the start: the closing takes effect
        before commands are taken."""
        live = self.loop.state.reservations.values()
        return [r.cell for r in live if r.dropoff_opened and seen.get(r.cell) is Door.CLOSED]

    def _end_what_is_gone(self) -> None:
        """Clears alarms of devices and buses that are no longer configured."""
        for standing in self.loop.state.alarms.values():
            if standing.alarm is Alarm.DEVICE_SILENT and standing.place not in self.devices.by_name:
                self.loop.submit(DeviceHealth(standing.place, True, ()))
            elif standing.alarm is Alarm.BUS_DOWN and standing.place not in self.devices.buses:
                self.loop.submit(Condition(standing.alarm, standing.place, False))

    async def _serve(self, on_ready: Callable[[], None], buses: list[asyncio.Task[None]]) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(fails_with(buses), name="failure of a bus")
            group.create_task(self.loop.run(self._loop_listener), name="locker loop")
            group.create_task(self.climate.run(), name="climate")
            group.create_task(self.signals.run(), name="signals")
            temperatures = Temperatures(self.loop.submit, self._climate_active, self._door_closed)
            sensing = (self.doors, self._weighing, temperatures, self.loop, self._silent)
            self.pollers = self.devices.pollers(*sensing)
            for poller in self.pollers:
                group.create_task(poller.run(), name="poller of a bus")
            group.create_task(watch_disk(self.loop, self.store), name="disk check")
            mark = keep_mark(self.settings, self.loop, self.store, self._environment.run_blocking)
            group.create_task(mark, name="commissioning mark")
            group.create_task(check_devices(Checks(self.buses)), name="device settings check")
            group.create_task(self.publisher.run(), name="publisher")
            group.create_task(self._telemetry.run(), name="telemetry")
            group.create_task(self.link.run(self._link_listener), name="broker link")
            group.create_task(self.remote.run(), name="service commands")
            if (renewal := certificate_renewal(self.settings, self._environment, self.loop)) is not None:
                group.create_task(renewal.run(), name="certificate renewal")
            group.create_task(self._sender_checks.run(self._publish_online), name="challenge renewal")
            if self._environment.scanner:
                for name, reader in readers_of(self.settings, self._read).items():
                    group.create_task(reader.run(), name=name)
            if self._environment.console is not None:
                group.create_task(self._environment.console(self._console()), name="local API")
                if (metrics := self.settings.metrics) is not None:
                    numbers = Numbers(self.report, self.buses, self._environment.access.connections)
                    group.create_task(serve_metrics(numbers, metrics.place, serve_on), name="metrics server")
                if (screen := self.settings.screen) is not None:
                    app = create_screen(self.local, self.screen_feed, screen, self.settings.machine.name)
                    group.create_task(self.screen_feed.run(), name="screen feed")
                    group.create_task(serve_screen(app, screen.port, serve_on), name="screen server")
            if self._supervisor is None:
                on_ready()
            else:
                self.watchdog = Watchdog(self._supervisor, self._loops(group), self.report.in_words)
                group.create_task(self.watchdog.run(on_ready), name="watchdog")

    def _state_changed(self) -> None:
        self._telemetry.state_changed()
        self.screen_feed.state_changed()

    async def _read(self, text: str, waited_s: float) -> Answer:
        """A text of the scanner, the keypad or the card reader."""
        return await self.screen_feed.entered(lambda: self.local.enter_code(text, waited_s))

    def _loops(self, group: asyncio.TaskGroup) -> list[MonitoredLoop]:
        """Every loop that serves callers, for the watchdog."""
        buses = self.devices.buses
        loops = []
        for (name, bus), poller in zip(buses.items(), self.pollers, strict=True):
            loops.append(MonitoredLoop(f"bus {name}", _turns_of(bus), BUS_HANGS_AFTER_S, bus.nudge))
            loops.append(MonitoredLoop(f"poller of {name}", _turns_of(poller), POLLER_HANGS_AFTER_S))
        parts = [self.loop, self._writer, self.link, self.publisher, self._telemetry]
        if self._environment.console is not None:
            parts.append(api := ApiWatch(self.settings.path(self.settings.paths.socket)))
            group.create_task(api.run(), name="local API check")
        for part in (*parts, self.climate):
            loops += part.monitored_loops() if isinstance(part, HasLoops) else []
        return loops

    def _upgrading(self) -> None:
        if self._supervisor is not None:
            self._supervisor.extend("upgrading the journal")

    def _publish_online(self) -> None:
        self.link.publish(Message(self._topics.online, self._online(True), retain=True))

    def _new_journal(self) -> None:
        write_this_mark(self.settings, self.store.journal_id, self.loop.last_sequence)
        self.publisher.resend_after(self.loop.started_sequence)

    def close(self) -> None:
        """Ends the writer and closes the journal."""
        self._writer.close()
        self.store.close()

    def _start_effect(self, effect: Effect) -> None:
        self._group.create_task(self._executor.carry_out(effect), name=f"effect {effect.cell}")

    def _door_closed(self, label: str) -> bool:
        return self.doors.reported(label) is Door.CLOSED

    def _climate_active(self, label: str) -> bool:
        climate = self.loop.state.climate.get(label)
        return climate is not None and climate.active

    def _online(self, online: bool) -> str:
        now = self._environment.clock.now()
        health = self.report.health() if online else None
        if online:
            self._telemetry.note_health(health)
        body = Online(
            online=online,
            boot_id=now.boot_id,
            instance=f"{self._environment.board}/{self.store.journal_id}",
            run=self._run_id,
            history=self.history_check.state if online else None,
            agent_version=__version__,
            at=rfc3339(now.wall_s),
            challenge=self._sender_checks.challenge(now) if online else None,
            health=health,
        )
        return body.model_dump_json(exclude_none=True)

    def _clock_text(self) -> str:
        return rfc3339(self._environment.clock.now().wall_s)

    def _machine_json(self) -> str:
        return self.views.machine(self.loop.state).model_dump_json(exclude_none=True)

    def _digest_json(self) -> str:
        oldest, last, now = (
            self.store.oldest_sequence(),
            self.loop.last_sequence,
            self._environment.clock.now(),
        )
        return self.views.digest(self.loop.state, oldest, last, now, self._run_id).model_dump_json()

    def _console(self) -> ConsolePort:
        environment = self._environment
        return ConsolePort(
            self.local,
            self.report,
            self.buses,
            environment.access,
            environment.service,
            self.diagnosis,
            self.signals,
            self.remote.readiness,
            self.remote.forgetting,
        )


def _turns_of(part: BusOwner | Poller) -> Callable[[], int]:
    return lambda: part.turns


def _boottime_ns(clock: Clock) -> int:
    return clock.now().boottime_ns
