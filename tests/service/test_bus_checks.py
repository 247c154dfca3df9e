"""The checks of commissioning, on simulated devices in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge_agent.config import load_settings
from edge_agent.console.api import ConsolePort, create_app
from edge_agent.drivers.profiles import Check
from edge_agent.drivers.simulated.slave import with_crc
from tests.support.site import Site
from tools.bench.settings import REPOSITORY
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

MODE = Check(
    name="channel modes",
    function=3,
    address=0x1000,
    count=8,
    values=(0,),
    why="in another mode an input drives the relay",
)
NOT_THERE = Check(name="power-on state", function=3, address=0x7000, values=(0, 2), why="after power")


def at_checked_site(
    tmp_path: Path, test: Callable[[Site], Awaitable[None]], *checks: Check, before: Callable[[Site], None]
) -> None:
    """A site whose lock boards have these checks in their profile."""

    async def run() -> None:
        settings = with_journal(
            load_settings(REPOSITORY / "config" / "demo.toml"), tmp_path / "journal.sqlite"
        )
        profile = settings._profiles["waveshare-io-8ch"]
        settings._profiles["waveshare-io-8ch"] = profile.model_copy(update={"checks": list(checks)})
        site = Site(Plant(settings, 7))
        before(site)
        site.plant.start()
        await site.until(lambda: "locker/v1/machine_123/state/machine" in site.plant.broker.retained)
        await test(site)
        await site.plant.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def write(site: Site, address: int, register: int, value: int) -> None:
    """Somebody sets a register of a board by other means."""
    board = next(slave for slave in site.plant.slaves["main"] if slave.address == address)
    frame = bytes([address, 6]) + register.to_bytes(2, "big") + value.to_bytes(2, "big")
    assert board.answer(with_crc(frame), 0) == with_crc(frame)


async def check(site: Site) -> list[dict[str, Any]]:
    agent = site.plant.agent
    assert agent is not None
    transport = httpx.ASGITransport(app=create_app(ConsolePort(agent.local, agent.report, agent.buses)))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent", timeout=None) as client:
        rows: list[dict[str, Any]] = (await client.post("/v1/bus/check")).json()
    return rows


def nothing(_: Site) -> None:
    return


def test_boards_that_are_set_right_pass(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        rows = await check(site)
        assert all(row["ok"] for row in rows)
        assert [row["device"] for row in rows if row["check"] == "answers"] == list(
            site.plant.settings.devices
        )
        modes = [row for row in rows if row["check"] == "channel modes"]
        assert [row["device"] for row in modes] == ["locks_a", "locks_b", "locks_c"]
        assert modes[0]["found"] == [0] * 8

    at_checked_site(tmp_path, test, MODE, before=nothing)


def test_a_wrong_register_is_logged_at_the_start_and_shown_until_it_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        await site.until(lambda: "locks_c" in agent.buses.failing)
        (bus,) = agent.buses.stats()
        failing = {device["device"]: device["failing_checks"] for device in bus["devices"]}
        assert failing["locks_b"] == ["channel modes"]
        assert failing["locks_a"] == []
        wrong = [row for row in await check(site) if not row["ok"]]
        assert [(row["device"], row["detail"]) for row in wrong] == [("locks_b", "holds 2, not 0")]
        assert wrong[0]["why"] == MODE.why
        write(site, 2, 0x1003, 0)
        assert all(row["ok"] for row in await check(site))
        assert agent.buses.failing["locks_b"] == []

    log = Log()
    monkeypatch.setattr("edge_agent.app.housekeeping.log", log)
    at_checked_site(tmp_path, test, MODE, before=lambda site: write(site, 2, 0x1003, 2))
    assert [(entry["device"], entry["check"]) for entry in log.warnings] == [("locks_b", "channel modes")]


class Log:
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[dict[str, Any]] = []

    def warning(self, _: str, **fields: Any) -> None:
        self.warnings.append(fields)


def test_a_register_that_cannot_be_read_fails(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        wrong = [row for row in await check(site) if not row["ok"]]
        assert [row["detail"] for row in wrong] == ["cannot be read: exception 2"] * 3

    at_checked_site(tmp_path, test, NOT_THERE, before=nothing)


def test_a_silent_device_fails(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        site.plant.cables["main"].trouble.silences[11].begin(None)
        wrong = {row["device"]: row["detail"] for row in await check(site) if not row["ok"]}
        assert wrong == {"scale_b01": "does not answer"}

    at_checked_site(tmp_path, test, before=nothing)


def test_two_devices_on_one_address_are_suspected(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        board = next(slave for slave in site.plant.slaves["main"] if slave.address == 2)
        answer = board.answer

        def both(frame: bytes, at_ns: int) -> bytes | None:
            reply = answer(frame, at_ns)
            return None if reply is None else reply[:-2] + bytes([reply[-2] ^ 0x81, reply[-1]])

        board.answer = both  # type: ignore[method-assign]
        wrong = {row["device"]: row["detail"] for row in await check(site) if not row["ok"]}
        board.answer = answer  # type: ignore[method-assign]
        assert list(wrong) == ["locks_b"]
        assert "garbled replies: two devices on address 2, or a bad line?" in wrong["locks_b"]

    at_checked_site(tmp_path, test, before=nothing)
