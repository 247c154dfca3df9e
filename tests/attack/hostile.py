"""A machine in virtual time that hostile calls and messages reach, and what they made it do."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from edge_agent.config import load_settings
from edge_agent.console.api import ConsolePort, create_app
from edge_agent.runtime.incoming import IncomingCommand
from tests.support.site import Site
from tools.bench.settings import REPOSITORY
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

_WANTED = os.environ.get("HOSTILE_EFFORT")
EFFORT = settings(
    max_examples=int(_WANTED or 150),
    derandomize=_WANTED is None,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PAGES = (
    "/v1/status",
    "/v1/cells",
    "/v1/alarms",
    "/v1/reservations",
    "/v1/events",
    "/v1/events?limit=1000",
    "/metrics",
    "/v1/bus",
)
LONGEST_LOG, LONGEST_LINE = 6, 8192
"""Lines that one message may cause, and characters of one."""

Text = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", "\x00", "\u202e\x1b[2J", "A01", "res_1", "x" * 1024, "x" * 1025, "../..", "%s{}", "1e999"]
    ),
)
Number = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -1, 2**31, 2**53, 2**63, 2**64, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
)
Time = st.one_of(
    st.sampled_from(
        [
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2199-12-31T23:59:59Z",
            "2026-02-30T00:00:00Z",
            "2026-01-01T00:00:00",
            "100000000000000",
        ]
    ),
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
)
Value = st.recursive(
    st.one_of(st.none(), st.booleans(), Number, Text, Time),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(Text, inner, max_size=3)),
    max_leaves=6,
)
Headers = tuple[tuple[bytes, bytes], ...]
DEEP = tuple(
    opening * depth + closing * depth
    for depth in (50, 5_000, 60_000)
    for opening, closing in (("[", "]"), ('{"a":', "}"))
)


class Hostile:
    """The machine, its application and everything that goes wrong in it."""

    def __init__(self, folder: Path, runner: asyncio.Runner) -> None:
        self._folder, self._runner = folder, runner
        self.unhandled: list[dict[str, Any]] = []
        self.replies: list[str] = []
        self.logged: list[Any] = []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.unhandled.append(context))
        configured = load_settings(REPOSITORY / "config" / "demo.toml")
        self.site = Site(Plant(with_journal(configured, self._folder / "journal.sqlite"), 7))
        self.site.plant.start()
        await self.site.until(
            lambda: "locker/v1/machine_123/state/machine" in self.site.plant.broker.retained
        )
        agent = self.site.plant.agent
        assert agent is not None
        self.agent = agent
        self.made = await self.site.reserve(1)
        self.app = create_app(ConsolePort(agent.local, agent.report, agent.buses, diagnosis=agent.diagnosis))

    async def stop(self) -> None:
        await self.site.plant.stop()

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Carries it out on the machine's loop, with its log in `logged`."""

        async def logging() -> Any:
            return await work()

        self.logged.clear()
        with structlog.testing.capture_logs() as logged:
            found = self._runner.run(logging())
        self.logged += logged
        return found

    async def status_of(
        self,
        method: str,
        path: str,
        query: str = "",
        body: bytes = b"",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> int:
        """The status of a local call. What goes on after the first part of the answer is cut off."""
        status: list[int] = []
        answered, sent = asyncio.Event(), False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
            elif message["type"] == "http.response.body":
                answered.set()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode("utf-8", "replace"),
            "root_path": "",
            "query_string": query.encode("utf-8", "replace"),
            "headers": list(headers),
            "state": {},
            "server": None,
            "client": None,
        }
        call = asyncio.ensure_future(self.app(scope, receive, send))
        wait = asyncio.create_task(answered.wait())
        await asyncio.wait([call, wait], timeout=120, return_when=asyncio.FIRST_COMPLETED)
        wait.cancel()
        if not call.done():
            call.cancel()
        await asyncio.gather(call, wait, return_exceptions=True)
        assert call.cancelled() or call.exception() is None, repr(call.exception())
        return status[0]

    def handle(self, **fields: Any) -> None:
        """One message for the request handler, and what becomes of it until all is quiet."""
        acknowledged: list[bool] = []

        async def work() -> None:
            command = fields.pop("command")
            incoming = IncomingCommand(
                command=command, acknowledge=lambda: acknowledged.append(True), **fields
            )
            self.agent.commands.handle(incoming)
            await asyncio.sleep(1)

        self.run(work)
        assert acknowledged == [True]

    def check(self) -> None:
        """Nothing was unhandled, the log is short, and every page still answers."""
        assert not self.unhandled, self.unhandled
        assert len(self.logged) <= LONGEST_LOG, self.logged
        for line in self.logged:
            assert "exc_info" not in line, line
            assert len(repr(line)) <= LONGEST_LINE, line

    def check_pages(self) -> None:
        async def pages() -> None:
            for page in PAGES:
                path, _, query = page.partition("?")
                assert await self.status_of("GET", path, query) == 200, page
            answer = await self.site.plant.broker.call("get-machine", {"request_id": "still-there"})
            assert answer["result"]["machine"]["machine_id"] == "machine_123"

        self._runner.run(pages())


@contextmanager
def hostile(folder: Path) -> Iterator[Hostile]:
    """A machine for the length of a `with`; at the end all of its pages are looked up again."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(0), cache_logger_on_first_use=False
    )
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            machine = Hostile(folder, runner)
            runner.run(machine.start())
            yield machine
            machine.check()
            machine.check_pages()
            runner.run(machine.stop())
    finally:
        structlog.configure(**before)


def json_bytes(value: Any) -> bytes:
    """JSON as an attacker sends it: lone surrogates and all."""
    return json.dumps(value).encode()
