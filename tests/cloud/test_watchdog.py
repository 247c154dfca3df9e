"""The watchdog and what runs beside the event loop: threads, the link, the local API, and the loop itself.

Everything here is real but the wires: a broker, a thread that commits, a Unix socket.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from edge_agent.cloud import link as link_module
from edge_agent.cloud.link import MqttLink
from edge_agent.console import api_watch
from edge_agent.console.api import ConsolePort, create_app
from edge_agent.console.unix_server import serve
from edge_agent.mqtt.library import LibraryClient
from edge_agent.runtime import writer
from tests.support.broker import Broker, running_broker
from tests.support.real_site import RealSite, real_site
from tests.support.supervisor import Entries, FakeSupervisor, logged, silent
from tools.bench.ports import free_port

LOOKS = 10
"""This number of looks of the watchdog without feeding is enough to see it."""


@pytest.fixture(name="broker")
def _broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture(autouse=True)
def _short_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the machine, but in fewer seconds."""
    monkeypatch.setattr(writer, "LONGEST_COMMIT_S", 0.5)
    monkeypatch.setattr(link_module, "THREAD_HANGS_AFTER_S", 3.0)
    monkeypatch.setattr(link_module, "CONNECTING_HANGS_AFTER_S", 1.0)
    for name, seconds in (("REQUEST_S", 0.05), ("RESPONSE_LIMIT_S", 0.3), ("API_HANGS_AFTER_S", 1.0)):
        monkeypatch.setattr(api_watch, name, seconds)


class Watched:
    """A site with a supervisor, and what it received."""

    def __init__(self, site: RealSite, supervisor: FakeSupervisor, entries: Entries) -> None:
        self.site = site
        self.supervisor = supervisor
        self.entries = entries

    async def looks(self) -> int:
        """Waits for some looks of the watchdog; how often the service was fed meanwhile."""
        self.supervisor.receive()
        fed, end = 0, self.site.agent.watchdog.checks + LOOKS
        while self.site.agent.watchdog.checks < end:
            await asyncio.sleep(0.01)
            fed += self.supervisor.receive().count("WATCHDOG=1")
        return fed

    async def is_named(self, name: str) -> None:
        await self.site.until(lambda: name in silent(self.entries), 60)
        await asyncio.sleep(0)

    async def up(self) -> None:
        await self.site.until(lambda: self.site.agent.link.up)


@asynccontextmanager
async def watched(tmp_path: Path, port: int, *, answers: bool = True) -> AsyncIterator[Watched]:
    """Runs the daemon until READY is sent. `answers`: whether its local API answers after a while."""
    supervisor = FakeSupervisor(tmp_path, 0.3)
    service = supervisor.service()
    socket = tmp_path / "agent.sock"

    def console(port: ConsolePort) -> Any:
        app = create_app(port)

        async def mute(scope: Any, receive: Any, send: Any) -> None:
            if not answers and socket.with_suffix(".mute").exists():
                await asyncio.get_running_loop().create_future()
            await app(scope, receive, send)

        return serve(mute, socket)  # type: ignore[arg-type]

    mqtt = {"host": "127.0.0.1", "port": port}
    with logged() as entries:
        try:
            async with real_site(tmp_path, mqtt, supervisor=service, console=console) as site:
                at = Watched(site, supervisor, entries)
                await site.until(lambda: "READY=1" in supervisor.receive() + supervisor.received)
                yield at
        finally:
            service.close()
            supervisor.close()


async def test_a_healthy_daemon_feeds_and_is_ready_when_its_api_answers(
    tmp_path: Path, broker: Broker
) -> None:
    async with watched(tmp_path, broker.port) as at:
        await at.up()
        assert await at.looks() >= LOOKS - 1
        assert silent(at.entries) == []
        assert [line for line in at.supervisor.received if line.startswith("STATUS=starting")]
        await at.site.until(
            lambda: any(
                "broker connected" in line for line in at.supervisor.receive() + at.supervisor.received
            )
        )


async def test_a_daemon_without_a_broker_feeds_the_watchdog(tmp_path: Path) -> None:
    async with watched(tmp_path, free_port()) as at:
        assert await at.looks() >= LOOKS - 1
        assert silent(at.entries) == []


async def test_a_commit_that_never_returns(tmp_path: Path, broker: Broker) -> None:
    over = threading.Event()
    async with watched(tmp_path, broker.port) as at:
        store, commit = at.site.agent.store, at.site.agent.store.commit

        def stuck(batch: Any) -> None:
            over.wait()
            commit(batch)

        store.commit = stuck  # type: ignore[method-assign]
        try:
            at.site.reserve_here()
            await at.is_named("journal writer")
            assert await at.looks() == 0
        finally:
            over.set()


async def test_a_dead_writer_thread_is_noticed_without_a_commit(tmp_path: Path, broker: Broker) -> None:
    over = threading.Event()
    async with watched(tmp_path, broker.port) as at:
        pool: Any = at.site.agent._writer
        pool._pool.submit(over.wait)
        try:
            await at.is_named("journal writer")
            assert await at.looks() == 0
        finally:
            over.set()


async def test_the_library_s_thread_hangs(tmp_path: Path, broker: Broker) -> None:
    over = threading.Event()
    async with watched(tmp_path, broker.port) as at:
        await at.up()
        link: Any = at.site.agent.link
        assert isinstance(link, MqttLink)
        client: Any = link.client.library
        client.loop_misc = over.wait
        try:
            await at.is_named("link's thread")
            assert await at.looks() == 0
        finally:
            over.set()


async def test_the_library_s_thread_hangs_while_it_connects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def stuck(*_: Any) -> Any:
        over.wait()
        raise OSError("given up")

    monkeypatch.setattr(LibraryClient, "_create_socket_connection", stuck)
    async with watched(tmp_path, free_port()) as at:
        try:
            await at.is_named("link's thread, connecting")
            assert await at.looks() == 0
        finally:
            over.set()


async def test_the_link_s_task_hangs_in_its_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck(*_: Any) -> None:
        await asyncio.get_running_loop().create_future()

    async with watched(tmp_path, free_port()) as at:
        monkeypatch.setattr("edge_agent.mqtt.client.pause", stuck)
        await at.is_named("link")
        assert await at.looks() == 0


async def test_the_local_api_does_not_answer(tmp_path: Path, broker: Broker) -> None:
    async with watched(tmp_path, broker.port, answers=False) as at:
        (tmp_path / "agent.mute").touch()
        await at.is_named("local API")
        assert await at.looks() == 0
        (tmp_path / "agent.mute").unlink()


def test_the_event_loop_itself_hangs(tmp_path: Path) -> None:
    """The loop stands still in a call that does not come back; a thread says in which."""
    over, stands = threading.Event(), threading.Event()
    heard: list[str] = []
    entries: Entries = []

    def hang_here() -> None:
        stands.set()
        over.wait()

    async def run() -> None:
        nonlocal entries
        async with watched(tmp_path, free_port()) as at:
            entries = at.entries
            asyncio.get_running_loop().call_soon(hang_here)
            await asyncio.sleep(0.01)
            heard.extend(at.supervisor.receive())  # what came while it stood still

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert stands.wait(30)
        end = monotonic() + 30
        while "event loop" not in silent(entries):
            assert monotonic() < end
            over.wait(0.01)
    finally:
        over.set()
        thread.join()
    (entry,) = [e for e in entries if e.get("loop") == "event loop"]
    assert "hang_here" in entry["at"]
    assert heard.count("WATCHDOG=1") <= 1
