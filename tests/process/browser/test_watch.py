"""A real browser without a screen whose page crashes, freezes, turns black or ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge_agent.console.screen.claim_page import claim_page
from edge_agent.process.browser import page_check
from edge_agent.process.browser.watch import BrowserWatch
from tests.support.screens.browser import ARGUMENTS
from tools.bench.ports import free_port

pytestmark = pytest.mark.long
PAGE = "<!doctype html><title>kiosk</title><body data-view=start><h1>Enter your code</h1><p>0123456789</p>"
BLACK = "<!doctype html><body data-view=start style='background:#000'>"
ELSEWHERE = """<!doctype html><body><h1>Enter your code</h1><script>
if (location.hostname === "localhost") document.body.dataset.view = "start";
else location.hostname = "localhost";
</script>"""
"""Would be the page if the browser went to another host."""
LIMIT_S = 60.0
POLICY = Path(__file__).parents[3] / "systemd" / "examples" / "kiosk-chromium-policy.json"
UNDER_POLICY = """mount -t tmpfs none /etc/chromium && mkdir -p /etc/chromium/policies/managed &&
cp "$1" /etc/chromium/policies/managed && shift && exec "$@\""""
"""For sh in a mount namespace of its own: puts a policy where Chromium looks, and becomes its command."""


class Kiosk:
    """A server of one page, and a browser under watch."""

    def __init__(self, folder: str, *, policy: bool = False) -> None:
        """`policy`: the browser obeys the policy of the examples, for this server's port."""
        self.body = PAGE
        self.port = free_port()
        self.statuses: list[str] = []
        url = f"http://127.0.0.1:{self.port}/"
        options = [*ARGUMENTS, "--headless", "--remote-debugging-pipe", f"--user-data-dir={folder}", url]
        command = ["/usr/bin/chromium", *options]
        if policy:
            copy = Path(folder, "policy.json")
            text = POLICY.read_text(encoding="utf-8")
            copy.write_text(text.replace(":8082", f":{self.port}"), encoding="utf-8")
            command = [
                "unshare",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                UNDER_POLICY,
                "sh",
                str(copy),
                *command,
            ]
        self.watch = BrowserWatch(command, url, feed=self.statuses.append, check_s=0.2)
        self._server: asyncio.Server | None = None
        self.mark = f"--user-data-dir={folder}"

    async def serve(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(self.body)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n{self.body}".encode())
            await writer.drain()
        writer.close()

    async def until(self, status: str, *, more_than: int = 0) -> None:
        """Waits until a status with this beginning was reported more often than `more_than`."""
        async with asyncio.timeout(LIMIT_S):
            while sum(one.startswith(status) for one in self.statuses) <= more_than:
                await asyncio.sleep(0.05)

    async def restarted(self, because: str) -> None:
        """Waits for a restart for this reason, and for the page thereafter."""
        await self.until(f"browser restarted: {because}")
        self.statuses.clear()
        await self.until("the page is shown")

    def processes(self, kind: str) -> list[int]:
        """The browser's processes of a type; the first one has none."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
                types = [word for word in words.split() if word.startswith("--type=")]
                if self.mark in words and (types == [f"--type={kind}"] if kind else not types):
                    found.append(int(folder.name))
        return found

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()


@asynccontextmanager
async def watched(*, served: bool = True, policy: bool = False) -> AsyncIterator[Kiosk]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        kiosk = Kiosk(folder, policy=policy)
        if served:
            await kiosk.serve()
        task = asyncio.create_task(kiosk.watch.run())
        try:
            yield kiosk
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await kiosk.close()
        assert kiosk.processes("") == kiosk.processes("renderer") == []


async def test_a_page_that_is_shown_is_left_alone() -> None:
    async with watched() as kiosk:
        await kiosk.until("the page is shown", more_than=7)  # with three pictures
        assert kiosk.watch.restarts == 0


async def test_the_page_of_a_claim_code_counts_as_the_kiosks_page() -> None:
    """The kiosk's browser waits for the daemon, and shows what `edge-agent init --claim` serves instead."""
    async with watched(served=False) as kiosk:
        await kiosk.until("the daemon does not serve the page")
        with claim_page(kiosk.port, "en") as show:
            show("7KQ2M-XW4RT")
            await kiosk.until("the page is shown", more_than=7)  # with three pictures
        assert kiosk.watch.restarts == 0


async def test_the_policy_of_the_examples_lets_the_page_be_checked_and_no_other_host_be_shown() -> None:
    async with watched(policy=True) as kiosk:
        await kiosk.until("the page is shown", more_than=7)
        assert kiosk.watch.restarts == 0
        kiosk.body = ELSEWHERE
        for pid in kiosk.processes("renderer"):
            os.kill(pid, signal.SIGKILL)
        await kiosk.until("browser restarted: the page has crashed")
        kiosk.statuses.clear()
        await kiosk.until("the browser does not show the kiosk's page", more_than=10)
        assert "the page is shown" not in kiosk.statuses


async def test_a_page_that_crashes_is_restarted() -> None:
    async with watched() as kiosk:
        await kiosk.until("the page is shown")
        for pid in kiosk.processes("renderer"):
            os.kill(pid, signal.SIGKILL)
        await kiosk.restarted("the page has crashed")


async def test_a_page_that_is_frozen_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched() as kiosk:
        await kiosk.until("the page is shown")
        monkeypatch.setattr(page_check, "ANSWER_S", 2.0)
        for pid in kiosk.processes("renderer"):
            os.kill(pid, signal.SIGSTOP)
        await kiosk.until("browser restarted: the page has not drawn for 2 s")
        monkeypatch.setattr(page_check, "ANSWER_S", 10.0)
        kiosk.statuses.clear()
        await kiosk.until("the page is shown")


async def test_a_browser_that_ends_is_restarted() -> None:
    async with watched() as kiosk:
        await kiosk.until("the page is shown")
        for pid in kiosk.processes(""):
            os.kill(pid, signal.SIGKILL)
        await kiosk.restarted("the browser")


async def test_a_browser_that_hangs_as_a_whole_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched() as kiosk:
        await kiosk.until("the page is shown")
        monkeypatch.setattr(page_check, "ANSWER_S", 2.0)
        for pid in kiosk.processes(""):
            os.kill(pid, signal.SIGSTOP)
        await kiosk.until("browser restarted: the page has not drawn for 2 s")


async def test_a_black_page_is_restarted() -> None:
    async with watched() as kiosk:
        kiosk.body = BLACK
        await kiosk.until("the page is black")
        kiosk.body = PAGE


async def test_an_error_page_is_not_the_page() -> None:
    async with watched() as kiosk:
        kiosk.body = "<h1>Not the kiosk</h1>"
        await kiosk.until("the browser does not show the kiosk's page", more_than=1)
        assert "the page is shown" not in kiosk.statuses


async def test_the_browser_waits_for_the_daemon() -> None:
    async with watched(served=False) as kiosk:
        await kiosk.until("the daemon does not serve the page", more_than=1)
        assert kiosk.processes("") == []
        await kiosk.serve()
        await kiosk.until("the page is shown")


async def test_a_browser_that_is_not_installed_is_tried_again() -> None:
    kiosk = Kiosk("none")
    await kiosk.serve()
    kiosk.watch._command = ["/nonexistent/chromium"]
    task = asyncio.create_task(kiosk.watch.run())
    await kiosk.until("browser restarted: the browser", more_than=1)  # it reads, or sends, nothing more
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await kiosk.close()
