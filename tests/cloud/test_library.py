"""The library's client with a thread that does not end in time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from edge_agent.mqtt.credentials import CheckedCredentials
from edge_agent.mqtt.library import THREAD_END_S, LibraryClient
from edge_agent.mqtt.settings import Bounds, LinkSettings
from tools.bench.ports import HOST, free_port


class Ignored:
    """What happens to the connection does not matter here (`LibraryEvents`)."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


async def test_a_thread_that_was_left_alone_closes_its_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    connecting, over = threading.Event(), threading.Event()

    def stuck(*_: Any) -> Any:
        connecting.set()
        over.wait()
        raise OSError("given up")

    monkeypatch.setattr(LibraryClient, "_create_socket_connection", stuck)
    settings = LinkSettings(HOST, free_port(), "m1", keepalive_s=5, session_expiry_s=60)
    bounds = Bounds(connect_s=1.0, subscribe_s=1.0, steady_s=1.0, goodbye_s=0.01)
    client: Any = LibraryClient(settings, bounds, CheckedCredentials(None, None, None), None)
    client.start(Ignored())
    thread = client._thread
    assert await asyncio.to_thread(connecting.wait, 10)
    async with asyncio.timeout(10 * THREAD_END_S):
        await client.stop()
    assert thread.is_alive()
    assert client._sockpairR is not None
    over.set()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
    assert client._sockpairR is None
    assert client._sockpairW is None
