"""Runs the browser's command, checks its page, and restarts it when the page is not shown."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from urllib.parse import urlsplit

import structlog

from edge_agent.process.browser.devtools import BrowserGone, DevTools
from edge_agent.process.browser.page_check import PageFailed, attach, check_page

log = structlog.get_logger()

CHECK_S = 10.0
"""Seconds between two checks of the page."""
PICTURE_EVERY = 3
"""The picture of the page is examined at one in this number of checks."""
FAILURES = 2
"""Checks in a row that fail before a page that merely is not loaded counts as lost."""
LOAD_S = 60.0
"""A browser whose page is not shown by then is restarted."""
END_S = 5.0
"""How long a browser may take to end before it is killed."""
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""The pause before a restart doubles while the browser never showed its page."""
PORT_S = 1.0


class BrowserWatch:
    """One browser that is started again and again."""

    def __init__(
        self,
        command: list[str],
        url: str,
        *,
        feed: Callable[[str], None] = lambda status: None,
        check_s: float = CHECK_S,
    ) -> None:
        """`command` shows `url` and has `--remote-debugging-pipe`. `feed` is called with the status at every
        turn: it feeds systemd's watchdog."""
        self._command = command
        self._host, self._port = urlsplit(url).hostname or "127.0.0.1", urlsplit(url).port or 80
        self._feed = feed
        self._check_s = check_s
        self.restarts = 0

    async def run(self) -> None:
        """Runs the browser until cancelled; then ends it."""
        pause_s = SHORTEST_PAUSE_S
        while True:
            await self._page_is_served()
            shown, why = await self._one_browser()
            self.restarts += 1
            pause_s = SHORTEST_PAUSE_S if shown else min(2 * pause_s, LONGEST_PAUSE_S)
            log.error("the kiosk's browser is restarted", reason=why, pause_s=pause_s)
            await self._wait(pause_s, f"browser restarted: {why}")

    async def _page_is_served(self) -> None:
        """Waits until the daemon accepts connections: the browser would show an error of its own."""
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(self._host, self._port)
                writer.close()
                return
            await self._wait(PORT_S, "the daemon does not serve the page")

    async def _wait(self, seconds: float, status: str) -> None:
        self._feed(status)
        await asyncio.sleep(seconds)
        self._feed(status)

    async def _one_browser(self) -> tuple[bool, str]:
        """Runs one browser to its end: whether its page was ever shown, and why it ended."""
        devtools = DevTools()
        process = None
        try:
            process = await asyncio.create_subprocess_exec(
                *devtools.command(self._command), pass_fds=devtools.descriptors, start_new_session=True
            )
            await devtools.started()
            return await self._watch(devtools)
        except OSError as error:
            return False, f"the browser does not start: {error}"
        finally:
            await devtools.close()
            if process is not None:
                await _end(process)

    async def _watch(self, devtools: DevTools) -> tuple[bool, str]:
        """Checks the page until it fails."""
        clock = asyncio.get_running_loop()
        started_s, shown, checks, failed = clock.time(), False, 0, 0
        session = None
        while True:
            try:
                session = session or await attach(devtools)
                await check_page(devtools, session, picture=checks % PICTURE_EVERY == 0)
                if not shown:
                    log.info("the kiosk's page is shown")
                shown, failed, checks = True, 0, checks + 1
                self._feed("the page is shown")
            except BrowserGone as gone:
                return shown, str(gone)
            except PageFailed as problem:
                failed += 1
                why = str(problem)
                late = clock.time() - started_s > LOAD_S
                if (shown and failed >= FAILURES) or (not shown and late):
                    return shown, why
                self._feed(why)
            await asyncio.sleep(self._check_s if shown and not failed else min(1.0, self._check_s))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ends the browser with everything that it started."""
    for number, limit_s in ((signal.SIGTERM, END_S), (signal.SIGKILL, END_S)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await process.wait()
            if not _group_lives(process.pid):
                return


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
