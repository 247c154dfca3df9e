"""One light machine: the daemon's loop, journal, request handler, publisher and link; a cabinet in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_agent.app import layout_of, system_environment
from edge_agent.app.listeners import DaemonLoopListener
from edge_agent.cloud.publisher import Publisher
from edge_agent.config import Settings
from edge_agent.drivers.bus import Priority
from edge_agent.field.climate_outputs import ClimateOutputs
from edge_agent.field.closings import SETTLE_S
from edge_agent.field.doors import DEBOUNCE_S, DoorPlace, Doors
from edge_agent.field.executor import Executor
from edge_agent.field.signals import Signals
from edge_agent.field.weighing import Weighing
from edge_agent.journal.recovery import restore
from edge_agent.journal.store import JournalStore
from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.events import Online
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.command_handler import CommandHandler
from edge_agent.runtime.incoming import IncomingCommand
from edge_agent.runtime.local_requests import LocalRequests
from edge_agent.runtime.loop import LockerLoop
from edge_agent.runtime.views import Identity, Views
from edge_agent.runtime.writer import ThreadWriter
from edge_agent.statemachine.inputs import Boot
from edge_agent.statemachine.outputs import Effect
from tools.fleet.cabinet import Cabinet, CabinetLock

VERSION = "fleet"
LOOKS = 2 + round(SETTLE_S / DEBOUNCE_S)
"""How many readings after a change show a closing settled."""


def settings_of(settings: Settings, machine_id: str, folder: Path, mqtt_port: int) -> Settings:
    """The same locker as another machine, on a given broker."""
    return settings.model_copy(
        update={
            "machine": settings.machine.model_copy(update={"machine_id": machine_id}),
            "cells": [
                cell.model_copy(update={"cell_id": f"{machine_id}_{cell.label}"}) for cell in settings.cells
            ],
            "mqtt": settings.mqtt.model_copy(update={"port": mqtt_port}),
            "paths": settings.paths.model_copy(update={"journal": str(folder / f"{machine_id}.sqlite")}),
        }
    )


class LightMachine:
    """Runs on the event loop beside many others; its cells have neither scales nor climate."""

    def __init__(self, settings: Settings, seed: int) -> None:
        environment = system_environment(settings)
        self._clock = environment.clock
        machine = settings.machine
        layout = replace(layout_of(settings), climate={}, thermometers=frozenset(), weighed=frozenset())
        self._store = store = JournalStore(settings.path(settings.paths.journal))
        self._writer = ThreadWriter(store)
        now = environment.clock.now()
        loaded = store.load(now.wall_s)
        identity = Identity(
            machine.machine_id, machine.name, machine.location, machine.latitude, machine.longitude
        )
        views = Views(identity, layout, environment.ids, store.journal_id)
        self.link = environment.link(settings, self._online)
        self.loop = LockerLoop(
            restore(loaded, layout, now),
            layout,
            loaded.last_sequence,
            self._writer,
            environment.clock,
            views,
            ended_status=store.ended_status,
        )
        self._journaled_requests = loaded.requests
        self.publisher = Publisher(
            self.link,
            store,
            self.loop,
            Topics(machine.machine_id),
            machine=lambda: views.machine(self.loop.state).model_dump_json(exclude_none=True),
            digest=lambda: self._digest(views),
            on_digest_acknowledged=lambda payload: None,
            on_refusal=self.link_refused,
        )
        self.local = LocalRequests(self.loop, environment.clock, environment.ids)
        self.commands = CommandHandler(
            self.loop,
            store,
            environment.clock,
            environment.ids,
            views,
            machine.machine_id,
            self.publisher.reply,
            self.local,
            restore=lambda command: {"history": "sound"},
        )
        self._loop_listener = DaemonLoopListener(
            self.publisher,
            self.commands,
            self._start_effect,
            lambda: None,
            lambda: None,
            lambda: None,
        )
        self._furnish(settings, list(layout.specs), random.Random(seed))
        self._group: asyncio.TaskGroup

    def _furnish(self, settings: Settings, labels: list[str], rng: random.Random) -> None:
        self._cabinet = Cabinet(len(labels), rng)
        places = {label: DoorPlace("cabinet", n, 1) for n, label in enumerate(labels, start=1)}
        self._doors = Doors({"cabinet": self._cabinet}, places, self.loop.submit)
        self._executor = Executor(
            {label: CabinetLock(self._cabinet, place.channel) for label, place in places.items()},
            self._doors,
            self.loop.submit,
            self._clock,
            Weighing(frozenset(), self.loop.submit),
            ClimateOutputs({}, {}, lambda: True),
            Signals([], self._doors.reported),
            watch_s=settings.unlock.watch_ms / 1000,
            pulse_s=settings.unlock.pulse_ms / 1000,
            most_energised=settings.unlock.max_concurrent_unlocks,
        )

    async def run(self) -> None:
        """Works until cancelled."""
        try:
            self.loop.submit(Boot(await self._doors.read_at_start()))
            self.commands.take_over_requests(self._journaled_requests)
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._cabinet.on_change = lambda: self._spawn(self._look())
                for work in (self.loop.run(self._loop_listener), self.publisher.run(), self.link.run(self)):
                    self._spawn(work)
        finally:
            self._writer.close()
            self._store.close()

    async def chatter(self, times: int) -> None:
        """A technician blocks and unblocks the last cell repeatedly."""
        *_, label = self.loop.layout.specs
        for _ in range(times):
            await self.local.block(label, "a look")
            await self.local.unblock(label)

    async def _look(self) -> None:
        """Reports what polling would read of a changed contact, until a closing has settled."""
        await self._doors.read_board("cabinet", Priority.POLL)
        for _ in range(LOOKS):
            await asyncio.sleep(DEBOUNCE_S)
            await self._doors.read_board("cabinet", Priority.POLL)

    def link_is_up(self) -> None:
        """See `LinkListener`."""
        self.publisher.link_is_up()

    def take_command(self, incoming: IncomingCommand) -> None:
        """See `LinkListener`."""
        self.commands.handle(incoming)

    def take_digest(self, payload: bytes) -> None:
        """See `LinkListener`: a light machine knows its history."""

    def link_refused(self, cause: str) -> None:
        """See `LinkListener`: a light machine has no alarms of its link."""

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._group.create_task(work)

    def _start_effect(self, effect: Effect) -> None:
        self._spawn(self._executor.carry_out(effect))

    def _digest(self, views: Views) -> str:
        last = self.loop.last_sequence
        oldest = self._store.oldest_sequence()
        return views.digest(self.loop.state, oldest, last, self._clock.now()).model_dump_json()

    def _online(self, online: bool) -> str:
        now = self._clock.now()
        body = Online(online=online, boot_id=now.boot_id, agent_version=VERSION, at=rfc3339(now.wall_s))
        return body.model_dump_json()
