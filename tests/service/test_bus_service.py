"""What the daemon shows a technician of its buses, on simulated wires in virtual time."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge_agent.app import Agent
from edge_agent.console.api import ConsolePort, create_app
from edge_agent.drivers.health import ObservedFrame
from edge_agent.service.bus_service import QUEUE_FRAMES, Tap
from tests.support.site import Site, at_site


def agent_of(site: Site) -> Agent:
    assert site.plant.agent is not None
    return site.plant.agent


async def get(agent: Agent, path: str) -> httpx.Response:
    app = create_app(ConsolePort(agent.local, agent.report, agent.buses))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://agent") as client:
        return await client.get(path)


def test_stats_count_frames_and_separate_silent_devices_from_answering_ones(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent, cable = agent_of(site), site.plant.cables["main"]
        await asyncio.sleep(5)
        (before,) = (await get(agent, "/v1/bus")).json()
        assert (before["bus"], before["port"], before["up"]) == ("main", "/dev/ttyUSB0", True)
        assert [device["state"] for device in before["devices"]] == ["answering"] * 13
        assert before["requests"] == sum(device["requests"] for device in before["devices"])
        assert before["requests"] - before["replies"] in (0, 1)  # one may be on the wire
        wire = cable.figures()
        assert abs(before["utilisation"] - wire.utilisation) < 0.01
        assert 0.2 < before["utilisation"] < 0.95
        cable.trouble.silences[5].begin(None)
        await asyncio.sleep(10)
        (row,) = agent.buses.stats()
        states = {device["device"]: device for device in row["devices"]}
        assert states["thermometer"]["state"] == "dead"
        assert states["thermometer"]["timeouts"] == row["timeouts"] > 3
        assert states["thermometer"]["owed"] > 0
        assert states["locks_a"]["state"] == "answering"
        latency = states["locks_a"]["latency_ms"]
        assert 0 < latency["p50"] <= latency["p99"] <= latency["max"] < 20

    at_site(tmp_path, test)


def test_without_a_bus_service_nothing_is_served(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = agent_of(site)
        app = create_app(ConsolePort(agent.local, agent.report))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
            assert (await client.get("/v1/bus")).status_code == 404

    at_site(tmp_path, test)


def test_the_monitor_decodes_frames_only_while_a_client_follows(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = agent_of(site)
        bus = agent.devices.buses["main"]
        assert not bus.frame_observers
        rows: list[dict[str, Any]] = []

        async def listen() -> None:
            async for row in agent.buses.monitor("main"):
                rows.append(row)

        listening = asyncio.create_task(listen())
        made = await site.reserve()
        label = made["cell"]["description"]
        await site.call("open-door", "res_1", "od-1", body={"reason": "help"})
        await site.until(lambda: any("pulse" in row["words"] for row in rows))
        await asyncio.sleep(1)
        assert len(bus.frame_observers) == 1
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        assert not bus.frame_observers
        words = [row["words"] for row in rows]
        assert label == "A01"
        pulse = words.index("-> locks_a(1) pulse channel 1 for 300 ms")
        assert words[pulse + 1] == "<- locks_a(1) done"
        assert rows[pulse]["hex"] == "01 05 02 00 00 03 8C 73"
        assert "<- locks_a(1) inputs 2,3,4,5,6,7,8 high" in words
        assert [row["at_s"] for row in rows] == sorted(row["at_s"] for row in rows)
        assert {row["direction"] for row in rows} == {"sent", "heard"}
        assert all(re.fullmatch(r"2025-06-15T15:06:\d\d\.\d\d\dZ", row["at"]) for row in rows)

    at_site(tmp_path, test)


def test_a_slow_follower_loses_frames_and_gets_their_number(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = agent_of(site)
        follower = agent.buses.monitor(None)
        first = await anext(follower)
        bus = agent.devices.buses["main"]
        for number in range(QUEUE_FRAMES + 7):
            bus.frame_observers[0](
                ObservedFrame(asyncio.get_running_loop().time(), "heard", bytes([number & 255]), "rubbish")
            )
        rows = [first]
        while rows[-1]["direction"] != "lost":
            rows.append(await anext(follower))
        assert rows[-1]["note"] == "7"
        assert len(rows) <= QUEUE_FRAMES + 2 + 2
        assert rows[-2]["words"] == "<- rubbish, 1 bytes"
        await follower.aclose()  # type: ignore[attr-defined]
        assert not bus.frame_observers

    at_site(tmp_path, test)


def test_the_monitor_ends_when_its_time_is_over(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = agent_of(site)
        began_s = asyncio.get_running_loop().time()
        response = await get(agent, "/v1/bus/monitor?bus=main&seconds=2")
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(2)
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.text.count("data: ") > 50
        for wrong in ("0", "-1", "nan", "inf", "x"):
            assert (await get(agent, f"/v1/bus/monitor?seconds={wrong}")).json()["code"] == 3

    at_site(tmp_path, test)


def test_an_unknown_bus_is_refused(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        refused = await get(agent_of(site), "/v1/bus/monitor?bus=upstairs")
        assert (refused.status_code, refused.json()["code"]) == (404, 5)
        assert "there are: main" in refused.json()["message"]

    at_site(tmp_path, test)


def test_a_closed_monitor_receives_no_frames(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        bus = agent_of(site).devices.buses["main"]
        arrived = asyncio.Event()
        with Tap(bus, arrived) as tap:
            await arrived.wait()
            frames, dropped = tap.fetch()
            assert frames
            assert dropped == 0
        await asyncio.sleep(1)
        assert tap.fetch() == ([], 0)

    at_site(tmp_path, test)


def test_door_changes_are_streamed_as_they_happen(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = agent_of(site)
        rows: list[dict[str, Any]] = []

        async def listen() -> None:
            async for row in agent.buses.doors():
                rows.append(row)

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0.2)
        assert {row["label"] for row in rows} == set(agent.devices.locks)
        assert {(row["door"], row["level"]) for row in rows} == {("closed", 1)}
        rows.clear()
        await site.reserve()
        await site.call("open-door", "res_1", "od-1", body={"reason": "help"})
        await site.until(lambda: bool(rows))
        (row,) = rows
        assert (row["label"], row["device"], row["channel"]) == ("A01", "locks_a", 1)
        assert (row["door"], row["level"]) == ("open", 0)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    at_site(tmp_path, test)
