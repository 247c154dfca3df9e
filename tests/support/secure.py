"""What the link's tests with TLS stand on: brokers with certificates, a watched link, a deaf proxy."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from edge_agent.cloud import link as link_module
from edge_agent.cloud.link import MqttLink
from edge_agent.mqtt.credentials import Credentials
from edge_agent.mqtt.settings import LinkSettings
from edge_agent.protocol.topics import Topics
from tests.support.broker import Broker
from tests.support.link_user import RecordingUser
from tests.support.pki import Authority, Pair

LOCALHOST = "127.0.0.1"
LOOK_S = 0.1


@dataclass
class Keys:
    """One authority, with a broker's and a machine's certificate."""

    authority: Authority
    server: Pair
    client: Pair

    @classmethod
    def make(cls, folder: Path, machine_id: str = "m1") -> Keys:
        authority = Authority(folder)
        server = authority.issue("broker", hosts=(LOCALHOST, "localhost"))
        return cls(authority, server, authority.issue(machine_id))

    def credentials(self, **changes: Any) -> Credentials:
        """What a machine with good files has."""
        given: dict[str, Any] = {
            "tls": True,
            "ca_file": self.authority.file,
            "cert_file": self.client.cert,
            "key_file": self.client.key,
        }
        return Credentials(**(given | changes))


class SecureBroker(Broker):
    """A Mosquitto that uses TLS and demands a certificate, unless an argument changes that."""

    def __init__(self, folder: Path, server: Pair, clients: Path, *more: str, required: bool = True) -> None:
        super().__init__(folder)
        self.server = server
        self._clients = clients
        self._more = more
        self._required = required

    def listener(self) -> list[str]:
        """See `Broker.listener`."""
        required = "true" if self._required else "false"
        return [
            f"listener {self.port} {LOCALHOST}",
            *(() if "allow_anonymous false" in self._more else ("allow_anonymous true",)),
            f"cafile {self._clients}",
            f"certfile {self.server.cert}",
            f"keyfile {self.server.key}",
            f"require_certificate {required}",
            *self._more,
        ]


def password_file(folder: Path, **users: str) -> Path:
    """A Mosquitto password file with these users."""
    program = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
    path = folder / "passwords"
    path.touch(mode=0o600)
    for name, password in users.items():
        subprocess.run([program, "-b", str(path), name, password], check=True, capture_output=True)
    return path


@dataclass
class Watched:
    """A link that runs, and what it reported and logged."""

    link: MqttLink
    user: RecordingUser
    logs: list[Any]
    attempts: list[int]

    @property
    def refusals(self) -> list[str]:
        """Every cause that was reported."""
        return self.user.refusals

    async def until(self, condition: Any, limit_s: float = 60) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.01)

    async def refused(self, cause: str, attempts: int = 4) -> None:
        """Waits until it was refused and retried some times: it must have reported it exactly once."""
        await self.until(lambda: len(self.attempts) >= attempts and self.refusals)
        assert not self.link.up
        assert len(self.refusals) == 1, self.refusals
        assert cause in self.refusals[0], self.refusals
        refused = [entry for entry in self.logs if entry["event"] == "link refused"]
        assert [entry["cause"] for entry in refused] == self.refusals
        assert [entry["log_level"] for entry in refused] == ["error"]

    async def mended(self) -> None:
        """Waits until it is up, and has reported it."""
        await self.until(lambda: self.link.up)
        assert self.refusals[-1] == ""


def make_link(port: int, credentials: Credentials, **changes: Any) -> MqttLink:
    """A link of machine m1 that looks at its files often."""
    given: dict[str, Any] = {"keepalive_s": 10, "session_expiry_s": 600, "check_s": LOOK_S}
    settings = LinkSettings(
        changes.pop("host", LOCALHOST), port, "m1", credentials=credentials, **(given | changes)
    )
    return MqttLink(settings, Topics("m1"), lambda up: json.dumps({"online": up}), random.Random(1))


class Recorder:
    """A logger that keeps its entries; the tests' own configuration drops everything."""

    def __init__(self, kept: list[Any]) -> None:
        self._kept = kept

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **fields: self._kept.append({"event": event, "log_level": level, **fields})


@asynccontextmanager
async def watched(link: MqttLink) -> AsyncIterator[Watched]:
    """Runs a link for the length of a `with`, and takes what it logs meanwhile."""
    user = RecordingUser()
    attempts: list[int] = []
    check = link.client.check_credentials

    def counting() -> Any:
        attempts.append(1)
        return check()

    link.client.check_credentials = counting  # type: ignore[method-assign]
    logs: list[Any] = []
    with patch.object(link_module, "log", Recorder(logs)):
        task = asyncio.create_task(link.run(user))
        try:
            yield Watched(link, user, logs, attempts)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class DeafProxy:
    """A TCP proxy to a port on loopback; once `deaf`, it keeps every connection and passes nothing on."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.deaf = False
        self.accepted = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> DeafProxy:
        self._server = await asyncio.start_server(self._serve, LOCALHOST, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = [writer]
        try:
            if self.deaf:
                await asyncio.get_running_loop().create_future()
            there, other = await asyncio.open_connection(LOCALHOST, self._to)
            ends.append(other)
            for stream in ends:
                stream.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, other))
                group.create_task(self._pass_on(there, writer))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for stream in ends:
                stream.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            while self.deaf:
                await asyncio.sleep(0.01)
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError
