"""Supervised processes: started, restarted a second after they die, ended together."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

RESTART_S = 1.0
STOP_TIMEOUT_S = 6.0


class Supervised:
    """One process with its log and pid file. `ready` returns once it answers, or raises."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        ready: Callable[[], Awaitable[None]],
        cwd: Path,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._log = folder / "logs" / f"{name}.log"
        self._pid_file = folder / "pids" / f"{name}.pid"
        self._ready = ready
        self._cwd = cwd
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> Path:
        """The file of its output."""
        return self._log

    async def supervise(self) -> None:
        """Keeps the process running while it should run; ends it when cancelled."""
        try:
            while True:
                await self._wanted.wait()
                await self._spawn()
                assert self._process is not None
                await self._process.wait()
                self._forget()
                if self._wanted.is_set():
                    await asyncio.sleep(RESTART_S)
        finally:
            await self._terminate()

    async def start(self) -> None:
        """Starts it and returns when it answers."""
        self._wanted.set()
        await self._ready()

    async def stop(self) -> None:
        """Ends it cleanly and keeps it down."""
        self._wanted.clear()
        await self._terminate()
        await self._ended.wait()

    async def kill(self) -> None:
        """SIGKILL; it restarts after a second."""
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        await self._ended.wait()

    async def _spawn(self) -> None:
        self._ended.clear()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._pid_file.parent.mkdir(parents=True, exist_ok=True)
        # A session of its own, so that Ctrl-C reaches the bench alone; with setpriv it does not outlive the
        # bench.
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *guard,
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._cwd,
                env=os.environ,
            )
        whole = self._pid_file.with_suffix(".new")  # a reader finds all of the file or none
        whole.write_text(f"{self._process.pid}\n", encoding="ascii")
        whole.replace(self._pid_file)

    def _forget(self) -> None:
        self._process = None
        self._pid_file.unlink(missing_ok=True)
        self._ended.set()

    async def _terminate(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        self._pid_file.unlink(missing_ok=True)
