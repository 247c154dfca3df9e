"""Signals in the configuration: which channels may be one, and what a wrong one is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config import load_settings
from edge_agent.drivers.profiles import Profile, load_profile
from tests.test_config import CONFIG, demo, findings, write


def lights(channel: int = 1) -> dict[str, Any]:
    """The demo machine with a light at A01, on a relay board of its own."""
    document = demo()
    document["devices"]["lights"] = {"bus": "main", "address": 30, "profile": "waveshare-relay-8ch"}
    document["cells"][0]["signal"] = {"device": "lights", "channel": channel}
    return document


def test_signals_have_a_time_and_may_serve_a_cabinet(tmp_path: Path) -> None:
    document = lights()
    cabinet = {"device": "lights", "channel": 2, "cells": ["A02"], "on_max_s": 5}
    document["signal"] = {"cabinets": {"left": cabinet}}
    settings = load_settings(write(tmp_path, document))
    assert settings.signal.on_max_s == 60
    assert settings.signal.cabinets["left"].on_max_s == 5


def on_a_lock(d: dict[str, Any]) -> None:
    d["devices"]["locks_a"]["profile"] = "waveshare-relay-16ch"
    d["cells"][0]["signal"] = {"device": "locks_a", "channel": 2}


def on_a_heater(d: dict[str, Any]) -> None:
    place = next(cell["cooling"] for cell in d["cells"] if "cooling" in cell)
    d["cells"][0]["signal"] = {"device": "climate", "channel": place["channel"]}


def twice(d: dict[str, Any]) -> None:
    d["signal"] = {"cabinets": {"left": {"device": "lights", "channel": 1}}}


def beyond(d: dict[str, Any]) -> None:
    d["cells"][0]["signal"]["channel"] = 9


def on_a_thermometer(d: dict[str, Any]) -> None:
    d["cells"][0]["signal"]["device"] = "thermometer"


def of_nobody(d: dict[str, Any]) -> None:
    d["signal"] = {"cabinets": {"left": {"device": "lights", "channel": 2, "cells": ["Z01"]}}}


def no_time(d: dict[str, Any]) -> None:
    d["signal"] = {"on_max_s": 0}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (on_a_lock, "cells[1].lock: coil 2 of 'locks_a' is taken by cells[0].signal"),
        (on_a_heater, "is taken by cells[0].signal"),
        (twice, "signal.cabinets.left: coil 1 of 'lights' is taken by cells[0].signal"),
        (beyond, "cells[0].signal.channel: 'lights' (waveshare-relay-8ch) has channels 1 to 8"),
        (on_a_thermometer, "cells[0].signal.device: 'thermometer' (r4dcb08) has no signal"),
        (of_nobody, "signal.cabinets.left.cells: no such cell: 'Z01'"),
        (no_time, "signal.on_max_s"),
    ],
)
def test_a_wrong_signal_is_named(tmp_path: Path, spoil: Callable[[dict[str, Any]], None], said: str) -> None:
    """A signal on the coil of a lock would open a door to show it."""
    document = lights()
    spoil(document)
    assert any(said in finding for finding in findings(tmp_path, document))


def board(**signal: Any) -> Profile:
    """An IO board whose profile has signals, too."""
    document = load_profile(CONFIG / "devices" / "waveshare-io-8ch.toml").model_dump()
    parts = {
        "channels": 8,
        "on": {"function": 5, "address": 0x40, "value": 0xFF00},
        "off": {"function": 5, "address": 0x40, "value": 0},
    }
    return Profile.model_validate(document | {"signal": parts | signal})


def test_outputs_of_their_own_are_other_addresses_than_those_of_locks() -> None:
    assert board(own_outputs=True).channels("signal") == 8
    at_lock = {"function": 15, "address": 0x0204, "value": 1}
    with pytest.raises(ValueError, match="its writes go to addresses of lock, too"):
        board(own_outputs=True, on=at_lock)
    with pytest.raises(ValueError, match="its writes go to addresses of lock, too"):
        board(own_outputs=True, all_off={"function": 5, "address": 0x0207, "value": 0})
    assert board(on=at_lock).signal is not None


def test_a_pulse_that_is_too_short_to_hold_a_signal_is_refused() -> None:
    pulse = {"function": 5, "address": 0x0200, "unit_ms": 100, "min_ms": 100, "max_ms": 1500}
    with pytest.raises(ValueError, match="pulse must be able to do 2000 ms"):
        board(pulse=pulse)
    held = board(pulse=pulse | {"unit_ms": 700, "max_ms": 9900}).signal
    assert held is not None
    assert held.hold_ms == 9800
