"""The self-test: listens, reads and tries, and yields a row for each finding as it comes.

Its bus requests go at poll priority through the bus owner, so every command overtakes them; the machine
serves as always while the buses are watched. Without `doors` no door moves. Only one self-test runs at a
time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

from edge_agent.drivers.bus import Priority
from edge_agent.errors import BusFault, Code, DeviceFault, PortLost, Refusal
from edge_agent.field.doors import Doors
from edge_agent.model import Alarm
from edge_agent.runtime.local_requests import LocalRequests
from edge_agent.service.bus_checks import Checks
from edge_agent.service.bus_scan import PROBE_TRIES, ask, probe, reads_of
from edge_agent.service.bus_service import BusPlace, BusService, Placed
from edge_agent.service.diagnosis.cell_watch import HEAT_S, CellWatch, Sensors
from edge_agent.service.diagnosis.door_checks import DoorChecks
from edge_agent.service.diagnosis.findings import Found, announce, progress
from edge_agent.service.diagnosis.machine_checks import Machine, alarms, check
from edge_agent.service.diagnosis.wire_verdicts import Heard, Probe, answering, judge
from edge_agent.service.diagnosis.wire_watch import Passage, WireWatch
from edge_agent.statemachine.state import StandingAlarm

WINDOW_S = 20.0
"""How long buses, scales and thermometers are watched."""
UNASKED_READS = 5
"""How often a device is asked that is not polled regularly."""
PATIENCE_MS = 2000
"""How long one answer is awaited, to distinguish a late one from none."""
PATIENT_PROBES = 4
"""At most this many silent devices of a bus are awaited; the others are not."""
PATIENT_TRIES = 3

Row = dict[str, Any]


class Diagnosis:
    """Runs the self-test of one machine; `cells` makes the watcher of its cells, a new one each time."""

    def __init__(
        self,
        buses: BusService,
        local: LocalRequests,
        doors: Doors,
        machine: Machine,
        sensors: Sensors,
        cells: Callable[[], CellWatch],
    ) -> None:
        self._buses = buses
        self._doors = doors
        self._machine = machine
        self._sensors = sensors
        self._cells = cells
        self._checks = Checks(buses)
        self._door_checks = DoorChecks(local, doors)
        self._running = False

    def run(self, *, doors: bool, outputs: bool = True, actor: str) -> AsyncGenerator[Row, None]:
        """Yields the rows (`findings.Found`) and the progress (`findings.progress`, `announce`, `ask`).

        `doors`: also open every free cell, in the name of `actor`. `outputs`: also switch on the heaters of
        free cells for some seconds. Raises `Refusal` (`NOT_ALLOWED`) while another self-test runs.
        """
        if self._running:
            raise Refusal(Code.NOT_ALLOWED, "a self-test is running already")
        return self._run(doors, outputs, actor)

    async def _run(self, doors: bool, outputs: bool, actor: str) -> AsyncGenerator[Row, None]:
        if self._running:  # two were let in at the same moment: an empty answer would look like good news
            yield Found("self-test", "", "unknown", "another one runs already", "look again later").row()
            return
        self._running = True
        try:
            found: list[Found] = await check(self._machine)
            for one in found:
                yield one.row()
            watch = self._cells()
            with self._listening() as watches:
                async with aclosing(self._watched(watch, outputs)) as rows:
                    async for row in rows:
                        yield row
                probes = {name: await self._others(place) for name, place in self._buses.places.items()}
                passages = {name: one.end() for name, one in watches.items()}
            async for one in self._field(passages, probes, watch, doors):
                found.append(one)
                yield one.row()
            if doors:
                async with aclosing(self._door_checks.tried(actor)) as tries:
                    async for tried in tries:
                        if isinstance(tried, Found):
                            found.append(tried)
                        yield tried.row() if isinstance(tried, Found) else tried
            for one in alarms(self._machine, found, self._behind):
                yield one.row()
        finally:
            self._running = False

    def _behind(self, alarm: StandingAlarm) -> list[str]:
        """The devices and buses whose fault may be the only cause of an alarm."""
        label, _, part = alarm.place.partition("/")
        device: str | None = alarm.place
        if alarm.alarm is Alarm.SENSOR_FAULT:
            of_part = {"": self._sensors.thermometers, "contact": {}}.get(part, self._sensors.scales)
            device = of_part.get(label)
        elif alarm.alarm not in (Alarm.DEVICE_SILENT, Alarm.BUS_DOWN):
            return []
        buses = [name for name, place in self._buses.places.items() if _on(place, device)]
        return [*buses, *([] if device is None else [device])]

    @contextmanager
    def _listening(self) -> Iterator[dict[str, WireWatch]]:
        watches = {name: WireWatch(place) for name, place in self._buses.places.items()}
        for watch in watches.values():
            watch.begin()
        try:
            yield watches
        finally:
            for watch in watches.values():
                watch.stop()

    async def _watched(self, watch: CellWatch, outputs: bool) -> AsyncGenerator[Row, None]:
        """Watches for the window; reports the seconds, and which heaters are switched on."""
        passed: asyncio.Queue[float | None] = asyncio.Queue()

        async def run() -> None:
            try:
                await watch.run(WINDOW_S, passed.put_nowait, outputs=outputs)
            finally:
                passed.put_nowait(None)

        watching = asyncio.create_task(run(), name="watch cells")
        try:
            shown_s, announced = -1, False
            while (at_s := await passed.get()) is not None:
                if int(at_s) > shown_s:
                    shown_s = int(at_s)
                    yield progress(shown_s, int(WINDOW_S), "listening to buses, scales and thermometers")
                if watch.heated and not announced:
                    announced = True
                    warm = f"the heaters of these cells are on for {HEAT_S:.0f} s: {', '.join(watch.heated)}"
                    yield announce(shown_s, int(WINDOW_S), warm)
            await watching
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _others(self, place: BusPlace) -> dict[str, Probe]:
        """Asks the devices that are not polled regularly, and waits for those that did not answer."""
        found: dict[str, Probe] = {}
        patient = 0
        for device in place.devices:
            record = place.bus.record(device.address)
            if not place.bus.up or patient >= PATIENT_PROBES:
                break
            if not reads_of(device.profile):
                found[device.name] = await _ask_often(place, device)
            if found.get(device.name) == "silent" or record.failures:
                patient += 1
                found[device.name] = await _wait_for(place, device)
        return found

    async def _field(
        self,
        passages: dict[str, Passage],
        probes: dict[str, dict[str, Probe]],
        watch: CellWatch,
        doors: bool,
    ) -> AsyncIterator[Found]:
        cells_of: dict[str, list[str]] = defaultdict(list)
        for label in self._machine.loop.state.cells:
            cells_of[self._doors.board_of(label)].append(label)
        answer: set[str] = set()
        for name, place in self._buses.places.items():
            heard = Heard(name, place, passages[name], probes[name], cells_of)
            answer |= answering(heard)
            for one in judge(heard):
                yield one
        for row in await self._checks.registers() if answer else ():
            read = row["found"] or "exception" in (row["detail"] or "")
            if read and not row["ok"] and row["device"] in answer:
                why = f"{row['check']}: {row['detail']}"
                yield Found("device", row["device"], "fault", why, f"set it right: {row['why']}")
        for one in watch.judge(answer, WINDOW_S):
            yield one
        for one in self._door_checks.passive(answer, tried=doors):
            yield one


def _on(place: BusPlace, device: str | None) -> bool:
    return any(placed.name == device for placed in place.devices)


async def _ask_often(place: BusPlace, device: Placed) -> Probe:
    """Whether a device that is not polled regularly answers a harmless request."""
    answered = 0
    for _ in range(UNASKED_READS):
        try:
            heard = await ask(
                place, device.address, probe(place, device.profile), device.profile.bus, PROBE_TRIES
            )
        except BusFault:
            return "silent"
        answered += heard.outcome in ("answers", "exception")
        if heard.outcome == "silent":
            break
    return "answers" if answered else "silent"


async def _wait_for(place: BusPlace, device: Placed) -> Probe:
    """Asks and listens for a long time, to hear an answer that regular polling would miss.

    No command waits behind it: BusOwner stops waiting for a dead device when a more urgent request
    arrives, and it waits no longer than usual for any other device.
    """
    request = probe(place, device.profile)
    patient = device.profile.bus.model_copy(update={"turnaround_ms": PATIENCE_MS})
    loop, record = asyncio.get_running_loop(), place.bus.record(device.address)
    watch = WireWatch(replace(place, devices=(device,)))
    watch.begin()
    try:
        for _ in range(PATIENT_TRIES):
            needs = patient if record.dead else device.profile.bus
            await asyncio.sleep(max(0.0, record.rests_until_s - loop.time()))
            try:
                await place.bus.transact(device.address, request, needs, Priority.POLL)
            except DeviceFault:
                break  # it refuses, so it is there
            except PortLost:
                return "silent"
            except BusFault:
                continue
            break
        else:
            return "silent"
    finally:
        (answers,) = watch.end().devices
    late_s = max(answers.late_s, default=0.0)
    return "late" if late_s > device.profile.bus.turnaround_ms / 1000 else "answers"
