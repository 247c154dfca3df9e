"""Lights and buzzers at the doors: the right one, for long enough, and never in the way of a lock."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import tomli_w

from edge_agent.config import load_settings
from edge_agent.console.api import ConsolePort, create_app
from edge_agent.drivers.interfaces import SignalOutput
from edge_agent.errors import BusTimeout, Code, NotSent
from edge_agent.field.signals import LONGEST_BACKOFF_S, SIGNALS_CHECK_S, Signal, Signals
from edge_agent.model import Alarm, Door
from tests.support.site import Site
from tools.bench.settings import REPOSITORY
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

CONFIG = REPOSITORY / "config"
LIGHTS = 30
LABELS = [f"A{number:02}" for number in range(1, 9)]


def machine(folder: Path, profile: str = "waveshare-relay-8ch", **signal: Any) -> Path:
    """The demo machine with a light at A01 to A07, and a buzzer for A01 and A02."""
    document = tomllib.loads((CONFIG / "demo.toml").read_text(encoding="utf-8"))
    document["paths"] = {"profiles": str(CONFIG / "devices")}
    document["devices"]["lights"] = {"bus": "main", "address": LIGHTS, "profile": profile}
    for cell in document["cells"]:
        if cell["label"] in LABELS[:7]:
            cell["signal"] = {"device": "lights", "channel": int(cell["label"][1:])}
    cabinet = {"device": "lights", "channel": 8, "cells": ["A01", "A02"], "on_max_s": 3}
    document["signal"] = {"cabinets": {"buzzer": cabinet}} | signal
    file = folder / "machine.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    return file


def lit(site: Site) -> list[str]:
    world = site.plant.world
    cells = [cell.label for cell in world.cells() if cell.signal]
    return cells + [name for name, on in world.cabinet_signals.on().items() if on]


def at_lights(tmp_path: Path, test: Callable[[Site], Awaitable[None]], file: Path | None = None) -> None:
    """Runs a test at a site with signals."""

    async def run() -> None:
        settings = load_settings(file or machine(tmp_path))
        site = Site(Plant(with_journal(settings, tmp_path / "journal.sqlite"), 7))
        site.plant.start()
        topic = f"locker/v1/{settings.machine.machine_id}/state/machine"
        await site.until(lambda: topic in site.plant.broker.retained)
        await test(site)
        if site.plant.agent is not None:
            await site.plant.stop()
        assert lit(site) == []

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


async def opened(site: Site, label: str) -> None:
    assert site.plant.agent is not None
    answer = await site.plant.agent.local.open_cell(label, "a look")
    assert answer.refusal is None


async def ask(site: Site, label: str, body: dict[str, Any]) -> httpx.Response:
    agent = site.plant.agent
    assert agent is not None
    app = create_app(agent._console())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://agent") as client:
        return await client.post(f"/v1/cells/{label}/signal", json=body)


def test_the_light_of_the_opened_door_is_on_until_the_door_is_closed(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        assert lit(site) == []
        await opened(site, "A03")
        await site.until(lambda: lit(site) == ["A03"], 1)
        await asyncio.sleep(15)  # longer than one pulse of the board
        assert lit(site) == ["A03"]
        site.plant.world.close("A03")
        await site.until(lambda: lit(site) == [], 1)

    at_lights(tmp_path, test)


def test_the_food_locker_of_the_bench_shows_its_doors(tmp_path: Path) -> None:
    """As `BENCH_CONFIG=config/food.toml make demo`: the lights are free outputs of a lock board."""

    async def test(site: Site) -> None:
        assert lit(site) == []
        await opened(site, "F11")
        await site.until(lambda: lit(site) == ["F11", "counter"], 1)
        await site.until(lambda: lit(site) == ["F11"], 6)
        site.plant.world.close("F11")
        await site.until(lambda: lit(site) == [], 1)
        await opened(site, "F01")
        await site.until(lambda: lit(site) == ["counter"], 1)
        site.plant.world.close("F01")
        await site.until(lambda: lit(site) == [], 1)

    at_lights(tmp_path, test, CONFIG / "food.toml")


def test_a_customer_is_shown_the_door_and_the_cabinet(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        assert label in ("A01", "A02")
        assert site.plant.agent is not None
        await site.plant.agent.local.enter_code(made["drop_off_code"])
        await site.until(lambda: lit(site) == [label, "buzzer"], 1)
        await site.until(lambda: lit(site) == [label], 4)  # a buzzer has a shorter time
        site.plant.world.close(label)
        await site.until(lambda: lit(site) == [], 1)

    at_lights(tmp_path, test)


def test_a_door_that_is_left_open_has_its_light_off_after_a_time_and_on_again_for_the_next_code(
    tmp_path: Path,
) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        assert site.plant.agent is not None
        await site.plant.agent.local.enter_code(made["drop_off_code"])
        await site.until(lambda: label in lit(site), 1)
        await asyncio.sleep(19)
        assert label in lit(site)
        await site.until(lambda: lit(site) == [], 3)
        await site.plant.agent.local.enter_code(made["drop_off_code"])
        assert site.pulses() == 1  # it stands open
        await site.until(lambda: label in lit(site), 1)

    at_lights(tmp_path, test, machine(tmp_path, on_max_s=20))


def test_a_door_that_does_not_open_is_not_shown(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label = made["cell"]["description"]
        site.plant.world.jam(label, True)
        reply = await site.call("dropoff", "res_1")
        moved = reply["result"]["cell"]["description"]
        assert moved != label
        await site.until(lambda: moved in lit(site) and label not in lit(site), 1)

    at_lights(tmp_path, test)


def test_nothing_is_on_after_a_stop_nor_after_a_kill(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await opened(site, "A04")
        await site.until(lambda: lit(site) == ["A04"], 1)
        await site.plant.stop()
        assert lit(site) == []
        site.plant.start()
        await asyncio.sleep(5)
        await opened(site, "A05")
        await site.until(lambda: lit(site) == ["A05"], 1)
        await site.plant.kill()
        assert lit(site) == ["A05"]
        await site.until(lambda: lit(site) == [], 11)  # the board ends the pulse

    at_lights(tmp_path, test)


def test_a_silent_signal_board_leaves_every_opening_as_it_was(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent, trouble = site.plant.agent, site.plant.cables["main"].trouble
        assert agent is not None
        end = trouble.silences[LIGHTS].begin(None)
        for label in LABELS:
            begun_s = asyncio.get_running_loop().time()
            await opened(site, label)
            assert asyncio.get_running_loop().time() - begun_s < 0.5
        assert site.pulses() == len(LABELS)
        await asyncio.sleep(30)
        assert {a.alarm for a in agent.loop.state.alarms.values()} <= {Alarm.DOOR_AJAR}
        asked = agent.devices.buses["main"].record(LIGHTS).requests
        await asyncio.sleep(4 * LONGEST_BACKOFF_S)
        assert agent.devices.buses["main"].record(LIGHTS).requests - asked <= 6
        end()
        for label in LABELS:
            site.plant.world.close(label)
        await asyncio.sleep(LONGEST_BACKOFF_S + 1)
        await opened(site, "A01")
        await site.until(lambda: "A01" in lit(site), 1)

    at_lights(tmp_path, test)


def test_a_pulse_overtakes_the_writes_of_signals(tmp_path: Path) -> None:
    """The write of a light is never between the reading of a door and the pulse of its lock."""

    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        sent: list[bytes] = []
        agent.devices.buses["main"].frame_observers.append(
            lambda frame: sent.append(frame.data) if frame.direction == "sent" else None
        )
        for label in ("A01", "A02", "A03"):
            await ask(site, label, {"seconds": 60})
        await asyncio.gather(*(opened(site, label) for label in LABELS[3:7]))
        writes = [frame for frame in sent if frame[1] == 5]
        pulses = [place for place, frame in enumerate(writes) if frame[0] != LIGHTS]
        assert len(pulses) == 4
        for pulse in pulses:
            place = sent.index(writes[pulse])
            assert sent[place - 1][0] != LIGHTS

    at_lights(tmp_path, test)


class Late:
    """A lock whose pulse is never sent in time."""

    async def pulse(self, deadline_s: float) -> None:
        await asyncio.sleep(1)
        raise NotSent("too late")


def test_a_pulse_that_was_not_sent_lights_nothing(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        agent.devices.locks["A03"] = Late()
        answer = await agent.local.open_cell("A03", "a look")
        assert answer.refusal is not None
        assert answer.refusal.code is Code.EXPIRED
        assert agent.devices.buses["main"].record(LIGHTS).requests == 1  # all off, at the start

    at_lights(tmp_path, test)


def test_a_signal_blinks_on_request_and_no_lock_moves(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        done = await ask(site, "a02", {"seconds": 4})
        assert done.json() == {
            "cell": {"description": "A02"},
            "signals": ["of A02", "buzzer"],
            "seconds": 4,
        }
        assert lit(site) == ["A02", "buzzer"]
        seen = []
        for _ in range(40):
            await asyncio.sleep(0.1)
            seen.append(lit(site))
        assert 10 < seen.count([]) < 30
        await site.until(lambda: lit(site) == [], 1)
        assert site.pulses() == 0
        await opened(site, "A02")
        await ask(site, "A02", {"seconds": 2})
        await asyncio.sleep(3)
        assert "A02" in lit(site)  # its door stands open

    at_lights(tmp_path, test)


@pytest.mark.parametrize(
    ("label", "body", "status", "said"),
    [
        ("A08", {}, 404, "cell A08 has no signal"),
        ("Z99", {}, 404, "no such cell: Z99"),
        ("A01", {"seconds": 61}, 400, "seconds"),
        ("A01", {"seconds": 0}, 400, "seconds"),
    ],
)
def test_a_signal_that_cannot_blink_is_refused(
    tmp_path: Path, label: str, body: dict[str, Any], status: int, said: str
) -> None:
    async def test(site: Site) -> None:
        refused = await ask(site, label, body)
        assert refused.status_code == status
        assert said in refused.json()["message"]

    at_lights(tmp_path, test)


def test_a_signal_whose_board_is_silent_is_refused_naming_it(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        end = site.plant.cables["main"].trouble.silences[LIGHTS].begin(None)
        refused = await ask(site, "A01", {})
        assert (refused.status_code, refused.json()["code"]) == (503, 14)
        assert refused.json()["message"] == "the signal of cell A01 does not answer (device lights)"
        end()
        await asyncio.sleep(1)
        assert (await ask(site, "A01", {"seconds": 1})).status_code == 200
        await asyncio.sleep(3)

    at_lights(tmp_path, test)


def test_without_signals_the_route_is_not_there(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        app = create_app(ConsolePort(agent.local, agent.report))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            assert (await client.post("/v1/cells/A01/signal", json={})).status_code == 501

    at_lights(tmp_path, test)


class Light:
    """Records its writes with their times; `deaf`: the board does not answer."""

    board = "lights"
    hold_s = 10.0

    def __init__(self) -> None:
        self.deaf = False
        self.writes: list[tuple[float, str]] = []

    async def hold(self) -> None:
        self._note("on")

    async def off(self) -> None:
        self._note("off")

    def _note(self, word: str) -> None:
        self.writes.append((round(asyncio.get_running_loop().time(), 2), word))
        if self.deaf:
            raise BusTimeout("nothing")


def with_signals(test: Callable[[Signals, Light, dict[str, Door]], Awaitable[None]]) -> None:
    async def run() -> None:
        light, doors = Light(), {"A": Door.CLOSED, "B": Door.CLOSED}
        output: SignalOutput = light
        signals = Signals([Signal("of A", frozenset({"A"}), output, 60.0)], doors.__getitem__)
        task = asyncio.create_task(signals.run())
        await test(signals, light, doors)
        task.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_a_light_is_held_on_before_its_pulse_ends_and_a_closed_door_ends_it() -> None:
    async def test(signals: Signals, light: Light, doors: dict[str, Door]) -> None:
        signals.pulsed("A")
        signals.pulsed("B")  # has none
        doors["A"] = Door.OPEN
        await asyncio.sleep(12)
        held = [at_s for at_s, word in light.writes if word == "on"]
        assert [round(at_s) for at_s in held] == [0, 5, 10]
        doors["A"] = Door.UNKNOWN
        await asyncio.sleep(1)
        assert light.writes[-1][1] == "on"
        doors["A"] = Door.CLOSED
        await asyncio.sleep(2 * SIGNALS_CHECK_S)
        assert light.writes[-1][1] == "off"
        written = len(light.writes)
        await asyncio.sleep(100)
        assert len(light.writes) == written

    with_signals(test)


def test_a_deaf_board_is_asked_to_be_off_more_and_more_seldom_until_it_is() -> None:
    async def test(signals: Signals, light: Light, doors: dict[str, Door]) -> None:
        light.deaf = True
        signals.pulsed("A")
        await asyncio.sleep(0.5)
        signals.watched("A", Door.CLOSED)
        await asyncio.sleep(300)
        assert [word for _, word in light.writes] == ["on", *["off"] * (len(light.writes) - 1)]
        gaps = [round(b - a) for (a, _), (b, _) in zip(light.writes, light.writes[1:], strict=False)]
        assert gaps == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        light.deaf = False
        await asyncio.sleep(LONGEST_BACKOFF_S)
        written = len(light.writes)
        await asyncio.sleep(LONGEST_BACKOFF_S)
        assert len(light.writes) == written

    with_signals(test)
