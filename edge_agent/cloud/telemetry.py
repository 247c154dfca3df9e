"""Telemetry (QoS 0): doors, alarms, weights and temperatures when they change, and everything each `BEAT_S`.

Nothing depends on it and nothing of it is stored; the next beat repeats what a link that was down missed. The
machine's health is retained in `state/online` and published again when it changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edge_agent.cloud.interfaces import Link
from edge_agent.errors import StorageFault
from edge_agent.mqtt.messages import Message
from edge_agent.protocol.events import Health
from edge_agent.protocol.telemetry import TelemetryBody
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.loop_watch import HANGS_AFTER_S, MonitoredLoop
from edge_agent.service.report import Report

COMPARE_S = 1.0
"""Weights and temperatures are compared this often."""
MESSAGE_PAUSE_S = 0.05
"""Shortest pause between two messages: a door's change is published at once, those that follow together."""
BEAT_S = 60.0
"""How often everything is published, bus figures and overdue reservations included."""
HEALTH_PAUSE_S = 5.0
"""The machine's health is published at most this often."""
DEADBAND = {"mass_g": 20.0, "temperature_c": 0.5}
"""A smaller change is published with the next beat only; a door's change always at once."""
FIGURES = ("label", "door", "mass_g", "temperature_c", "alarms", "in_doubt")


class Telemetry:
    """Publishes on `telemetry`: `{"at", "cells": [...]}`, at the beat also `buses`, `overdue` and
    `figures`."""

    def __init__(
        self,
        link: Link,
        report: Report,
        topics: Topics,
        now: Callable[[], str],
        online: Callable[[], str] | None = None,
    ) -> None:
        """`now` gives the time, `online` the body of `state/online`."""
        self._online = online
        self._health: Health | None = None
        """The health in the last body of `state/online`, whichever caller made it."""
        self._health_s = 0.0
        self._link = link
        self._report = report
        self._topics = topics
        self._now = now
        self._published: dict[str, dict[str, Any]] = {}
        self._turns = 0
        self._changed = asyncio.Event()

    def state_changed(self) -> None:
        """Signals that a door or an alarm may have changed."""
        self._changed.set()

    def note_health(self, health: Health | None) -> None:
        """Records the health in a body of `state/online` that is being published."""
        self._health = health

    def monitored_loops(self) -> list[MonitoredLoop]:
        """See `HasLoops`."""
        return [MonitoredLoop("telemetry", lambda: self._turns, HANGS_AFTER_S)]

    async def run(self) -> None:
        """Works until cancelled."""
        beat_s = 0.0
        while True:
            self._turns += 1
            now_s = asyncio.get_running_loop().time()
            if self._link.up:
                self._publish_health(now_s)
                if now_s >= beat_s:
                    beat_s = now_s + BEAT_S
                    self._publish(self._cells(), self._at_the_beat())
                elif changed := [cell for cell in self._cells() if self._differs(cell)]:
                    self._publish(changed, {})
            await asyncio.sleep(MESSAGE_PAUSE_S)
            until_beat_s = max(0.0, beat_s - now_s - MESSAGE_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(COMPARE_S, until_beat_s or COMPARE_S)):
                    await self._changed.wait()
            self._changed.clear()

    def _publish_health(self, now_s: float) -> None:
        health = self._report.health()
        if self._online is None or health == self._health or now_s < self._health_s:
            return
        self._health_s = now_s + HEALTH_PAUSE_S
        self._link.publish(Message(self._topics.online, self._online(), retain=True))

    def _cells(self) -> list[dict[str, Any]]:
        return self._report.cell_figures()

    def _differs(self, cell: dict[str, Any]) -> bool:
        last = self._published.get(cell["label"], {})
        return any(_apart(name, last.get(name), cell[name]) for name in FIGURES)

    def _at_the_beat(self) -> dict[str, Any]:
        overdue = [
            {"reservation_id": row["reservation_id"], "overdue_s": row["overdue_s"]}
            for row in self._report.reservations()
            if row["overdue_s"] is not None
        ]
        figures = None
        with suppress(StorageFault):  # an alarm stands; the other figures need no journal
            figures = self._report.machine_figures()
        return {"buses": self._report.buses(), "overdue": overdue, "figures": figures}

    def _publish(self, cells: list[dict[str, Any]], more: dict[str, Any]) -> None:
        self._published |= {cell["label"]: cell for cell in cells}
        body = TelemetryBody.model_validate({"at": self._now(), "cells": cells, **more})
        text = body.model_dump_json(exclude_unset=True, exclude={"figures"} if body.figures is None else None)
        self._link.publish(Message(self._topics.telemetry, text, qos=0))


def _apart(name: str, last: Any, found: Any) -> bool:
    """Whether a figure has changed enough to be published."""
    if last is None or found is None or name not in DEADBAND:
        return bool(last != found)
    return bool(abs(found - last) >= DEADBAND[name])
