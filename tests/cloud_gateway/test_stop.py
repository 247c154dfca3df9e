"""How a gateway's process ends: requests under way are answered, no webhook and no event is lost."""

from __future__ import annotations

import asyncio
import signal
import socket
import sqlite3
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from time import monotonic

import httpx
import pytest

from cloud_gateway.settings import Timing
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.receiver import Hook, receiver
from tests.cloud_gateway.support import API, KEY, RESERVE, Peer, eventually, silent
from tests.cloud_gateway.test_process import post_until_taken, process, write_config
from tests.support.broker import Broker
from tests.support.supervisor import FakeSupervisor
from tools.bench.ports import free_port

PARCELS = 6


@asynccontextmanager
async def machine(broker: Broker, **scripts: object) -> AsyncIterator[Peer]:
    """A machine; gone at the end."""
    peer = Peer(broker.port, scripts=dict(scripts))  # type: ignore[arg-type]
    await asyncio.to_thread(peer.start)
    try:
        yield peer
    finally:
        await asyncio.to_thread(peer.stop)


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(headers={"X-API-Key": KEY}, trust_env=False, timeout=20)


def accepts(port: int) -> bool:
    """Whether somebody listens at a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return False
    return True


async def exit_code(running: subprocess.Popen[bytes], within_s: float) -> int:
    return await asyncio.to_thread(running.wait, within_s)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_request_under_way_is_answered_and_no_further_one_is_taken(
    tmp_path: Path, broker: Broker, number: signal.Signals
) -> None:
    port = free_port()
    config = write_config(tmp_path, port, broker.port)
    async with (
        machine(broker, reserve=silent) as peer,
        client() as http,
        process(config, port, tmp_path / "log") as running,
    ):
        url = f"http://127.0.0.1:{port}{API}/reservations"
        call = asyncio.create_task(post_until_taken(http, url, peer))
        await eventually(lambda: peer.late)
        running.send_signal(number)
        await eventually(lambda: not accepts(port))
        peer.late[0]()
        answer = await call
        assert (answer.status_code, answer.json()["machine_id"]) == (200, peer.machine_id)
        assert await exit_code(running, 10) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_a_second_signal_ends_the_wait_for_requests(tmp_path: Path, broker: Broker) -> None:
    port = free_port()
    config = write_config(tmp_path, port, broker.port)
    async with (
        machine(broker, reserve=silent) as peer,
        client() as http,
        process(config, port, tmp_path / "log") as running,
    ):
        url = f"http://127.0.0.1:{port}{API}/reservations"
        call = asyncio.create_task(post_until_taken(http, url, peer))
        await eventually(lambda: peer.late)
        running.send_signal(signal.SIGTERM)
        await eventually(lambda: not accepts(port))
        assert running.poll() is None
        running.send_signal(signal.SIGTERM)
        answer = await call
        assert (answer.status_code, answer.json()["code"]) == (500, 13)
        assert await exit_code(running, 6) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_an_open_page_of_the_wall_does_not_delay_the_stop(tmp_path: Path, broker: Broker) -> None:
    """Its stream would never end by itself: it ends with the stop, not with the time for requests."""
    port = free_port()
    config = write_config(tmp_path, port, broker.port)
    wall = '[wall]\nsimulator_url = "http://127.0.0.1:9"\nplatform = "acme"\n'
    config.write_text(config.read_text() + wall)
    async with process(config, port, tmp_path / "log") as running, client() as http:
        async with http.stream("GET", f"http://127.0.0.1:{port}/wall/stream") as stream:
            lines = stream.aiter_lines()
            assert (await anext(lines)).startswith("event: ")
            began_s = monotonic()
            running.send_signal(signal.SIGTERM)
            async for _ in lines:
                pass
        assert await exit_code(running, 20) == 0
        assert monotonic() - began_s < Timing().stop_s / 2


async def test_every_webhook_arrives_with_its_id_over_a_stop_in_the_middle(
    tmp_path: Path, broker: Broker
) -> None:
    """Four deliveries are under way when the signal comes: two are answered during the stop and are not sent
    again, two are cut off and are sent again."""
    port = free_port()
    answered: set[str] = set()
    stopped, first = asyncio.Event(), asyncio.Event()

    async with machine(broker) as peer, receiver() as target, client() as http:

        async def hold(hook: Hook) -> None:
            number = len(target.got)
            if number <= 4 and not first.is_set():
                await (stopped if number <= 2 else first).wait()
            answered.add(hook.body["idempotency_key"])

        target.hold = hold
        config = write_config(tmp_path, port, broker.port, target.url)
        async with process(config, port, tmp_path / "log") as running:
            url = f"http://127.0.0.1:{port}{API}/reservations"
            await post_until_taken(http, url, peer)
            for _ in range(PARCELS - 1):
                assert (await http.post(url, json=RESERVE)).status_code == 200
            sent = [
                await asyncio.to_thread(peer.event, EventType.DROPOFF, view)
                for view in list(peer.reservations.values())
            ]
            keys = {event["idempotency_key"] for event in sent}
            await eventually(lambda: len(target.got) == 4)
            running.send_signal(signal.SIGTERM)
            await eventually(lambda: not accepts(port))
            stopped.set()
            await eventually(lambda: len(answered) == 2)
            finished = set(answered)
            await eventually(lambda: delivered(tmp_path) == 2)
            assert running.poll() is None  # two are still under way
            running.send_signal(signal.SIGTERM)
            assert await exit_code(running, 6) == 0
        assert leases(tmp_path) == 0
        assert len(target.got) == 4  # nothing was started during the stop
        cut_off = {hook.body["idempotency_key"]: hook for hook in target.got}
        first.set()
        async with process(config, port, tmp_path / "log"):
            await eventually(lambda: delivered(tmp_path) == PARCELS)
        assert Counter(hook.body["idempotency_key"] for hook in target.got[4:]) == Counter(keys - finished)
        again = [hook for hook in target.got[4:] if hook.body["idempotency_key"] in cut_off]
        assert len(again) == 2
        for hook in again:
            assert hook.content == cut_off[hook.body["idempotency_key"]].content


async def test_no_event_is_lost_over_a_stop_in_the_middle(tmp_path: Path, broker: Broker) -> None:
    """The machine publishes before, during and after the stop. It answers no `sync`, so that only the broker
    can bring back what was not stored."""
    port = free_port()
    config = write_config(tmp_path, port, broker.port)
    async with machine(broker, sync=silent) as peer:
        async with process(config, port, tmp_path / "log") as running:
            await publish_while(peer, lambda: stored(tmp_path) < 20)
            running.send_signal(signal.SIGTERM)
            await publish_while(peer, lambda: running.poll() is None)
            assert running.returncode == 0
        await publish_while(peer, lambda: peer.sequence < stored(tmp_path) + 20)
        async with process(config, port, tmp_path / "log"):
            await eventually(lambda: stored(tmp_path) == peer.sequence)


async def test_an_event_that_could_not_be_stored_is_not_acknowledged(tmp_path: Path, broker: Broker) -> None:
    port = free_port()
    config = write_config(tmp_path, port, broker.port)
    async with machine(broker, sync=silent) as peer:
        async with process(config, port, tmp_path / "log") as running:
            with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")  # nobody else can write
                await publish_while(peer, lambda: peer.sequence < 10)
                running.send_signal(signal.SIGTERM)
                assert await exit_code(running, 25) == 0
        assert stored(tmp_path) == 0
        async with process(config, port, tmp_path / "log"):
            await eventually(lambda: stored(tmp_path) == 10)


async def publish_while(peer: Peer, condition: Callable[[], bool]) -> None:
    """Publishes one event after the other, each taken by the broker."""
    while condition():
        await asyncio.to_thread(peer.event, EventType.ALARM_RAISED)


async def test_systemd_is_notified_of_start_state_life_and_stop(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    config = write_config(tmp_path, port, broker.port)
    with closing(FakeSupervisor(tmp_path)) as systemd:

        def notified(line: str) -> bool:
            systemd.receive()
            return line in systemd.received

        for name, value in systemd.environment.items():
            monkeypatch.setenv(name, value)
        async with process(config, port, tmp_path / "log") as running:
            for line in ("READY=1", "STATUS=serving, broker connected", "WATCHDOG=1"):
                await eventually(partial(notified, line))
            await asyncio.to_thread(broker.stop)
            await eventually(lambda: notified("STATUS=serving, broker not connected"))
            assert not notified("STOPPING=1")
            running.send_signal(signal.SIGTERM)
            assert await exit_code(running, 10) == 0
        assert notified("STOPPING=1")


def _number(folder: Path, query: str) -> int:
    with closing(sqlite3.connect(folder / "gateway.db", timeout=10)) as db:
        return int(db.execute(query).fetchone()[0])


def stored(folder: Path) -> int:
    return _number(folder, "SELECT count(*) FROM events")


def delivered(folder: Path) -> int:
    return _number(folder, "SELECT count(*) FROM webhooks WHERE state = 'delivered'")


def leases(folder: Path) -> int:
    return _number(folder, "SELECT count(*) FROM webhooks WHERE lease_owner IS NOT NULL")
