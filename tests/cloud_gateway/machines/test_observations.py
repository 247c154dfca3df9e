"""What the gateway keeps in memory of its machines' messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloud_gateway.machines.observations import MESSAGES_BURST, Observations, offline_s
from edge_agent.mqtt.messages import Received
from edge_agent.protocol.events import Online

HOUR = 3600.0
CELL = {"label": "A01", "door": "closed", "mass_g": None, "temperature_c": None}
FIGURES = {"events_waiting": 3, "worn": ["A01"], "locks": [{"label": "A01", "unlocks": 4, "opened_first": 3}]}


class Clock:
    """A clock that the test controls."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def message(topic: str, body: Any, *, retained: bool = False) -> Received:
    """A message of `machine_1`."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Received(f"locker/v1/machine_1/{topic}", payload, None, 1, 0, 0, retained)


def state(online: bool, run: str = "run-1") -> Online:
    """A `state/online`."""
    return Online(online=online, boot_id="b", run=run, agent_version="1.0", at="2026-01-01T00:00:00Z")


def test_losses_restarts_and_the_time_offline_are_counted(clock: Clock) -> None:
    seen = Observations(clock)
    seen.take_online("machine_1", state(True), retained=True)
    clock.now_s += HOUR
    seen.take_online("machine_1", state(False), retained=False)
    clock.now_s += 600
    seen.take_online("machine_1", state(True, "run-2"), retained=False)
    seen.take_online("machine_1", state(True, "run-2"), retained=False)  # its health has changed
    clock.now_s += HOUR
    seen.take_online("machine_1", state(False), retained=False)
    clock.now_s += 60
    found = seen.of("machine_1")
    assert found is not None
    assert (len(found.went_offline_s), len(found.restarted_s), found.version) == (2, 1, "1.0")
    assert offline_s(found, clock.now_s, clock.now_s - 24 * HOUR) == 660
    assert offline_s(found, clock.now_s, clock.now_s - 30) == 30


def test_a_machine_that_was_offline_from_the_start_is_known_to_be_so_since_then(clock: Clock) -> None:
    seen = Observations(clock)
    seen.take_online("machine_1", state(False), retained=True)
    clock.now_s += 120
    found = seen.of("machine_1")
    assert found is not None
    assert (found.seen_s, len(found.went_offline_s)) == (None, 0)
    assert offline_s(found, clock.now_s, clock.now_s - 24 * HOUR) == 120


def test_telemetry_is_merged_and_replaced_at_the_beat(clock: Clock) -> None:
    seen = Observations(clock)
    seen.take_message(message("telemetry", {"at": "2026-01-01T00:00:00Z", "cells": [CELL], "buses": {}}))
    other = {**CELL, "label": "A02", "door": "open"}
    seen.take_message(message("telemetry", {"at": "2026-01-01T00:00:00Z", "cells": [other]}))
    found = seen.of("machine_1")
    assert found is not None
    assert {label: cell.door for label, cell in found.cells.items()} == {"A01": "closed", "A02": "open"}
    assert found.figures is None
    beat = {"at": "2026-01-01T00:00:00Z", "cells": [other], "buses": {}, "figures": FIGURES}
    seen.take_message(message("telemetry", beat))
    assert set(found.cells) == {"A02"}
    assert found.figures is not None
    assert found.figures.events_waiting == 3


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        {"cells": []},
        {"at": "2026-01-01T00:00:00Z", "cells": [{**CELL, "door": "ajar"}]},
        {"at": "2026-01-01T00:00:00Z", "cells": [{**CELL, "label": f"A{n}"} for n in range(2000)]},
        {"at": "2026-01-01T00:00:00Z", "cells": [], "buses": {}, "figures": {**FIGURES, "up_since": "soon"}},
    ],
)
def test_unusable_telemetry_is_counted_and_changes_nothing(clock: Clock, body: Any) -> None:
    counted: list[tuple[str, str]] = []
    seen = Observations(clock, lambda machine_id, kind: counted.append((machine_id, kind)))
    seen.take_message(message("telemetry", body))
    found = seen.of("machine_1")
    assert counted == [("machine_1", "telemetry")]
    assert found is not None
    assert (found.cells, found.telemetry_s) == ({}, None)


def test_a_flood_of_telemetry_is_not_read(clock: Clock) -> None:
    counted: list[str] = []
    seen = Observations(clock, lambda _id, kind: counted.append(kind))
    for _ in range(MESSAGES_BURST + 500):
        seen.take_message(message("telemetry", b"{"))
    assert len(counted) == MESSAGES_BURST
