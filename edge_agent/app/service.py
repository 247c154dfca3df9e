"""The daemon on the real machine: one agent after the other, each with its own configuration.

To apply a new configuration, the service ends the agent as at a clean stop and builds another one on the same
journal, in the same process: no part mixes old and new (docs/decisions/0021-reload.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from edge_agent.app.agent import Agent
from edge_agent.app.environment import Environment
from edge_agent.app.reload import objections
from edge_agent.app.startup import NOTHING, Confirmed
from edge_agent.config import Settings, load_settings
from edge_agent.config.changes import Change, changes
from edge_agent.config.effective import effective
from edge_agent.config.origin import made_by_init
from edge_agent.errors import Code, ConfigError, EdgeAgentError, FieldViolation, Finding, Refusal
from edge_agent.journal.configurations import ConfigurationChange
from edge_agent.protocol.api import rfc3339

log = structlog.get_logger()

DOORS_WAIT_S = 10.0
"""How long the service waits for doors that are being opened."""
DOORS_CHECK_S = 0.05
PROBATION_S = 15.0
"""A new configuration whose agent ends by itself within this time is replaced by the one before."""


@dataclass(frozen=True, slots=True)
class ConfigurationInUse:
    """A configuration in use. `number` counts those of this process, from 1; `failed`: why its successor was
    not kept, if there was one."""

    settings: Settings
    number: int
    at_s: float
    failed: str | None = None


class Service:
    """Runs agents with the configuration in a file until `stop` is set."""

    def __init__(
        self,
        file: Path,
        settings: Settings,
        environment: Callable[[Settings], Environment],
        *,
        confirmed: Confirmed = NOTHING,
    ) -> None:
        """`settings`: the content of the file. `confirmed`: see `Environment.confirmed`."""
        self._confirmed = confirmed
        self._file = file
        self._first = settings
        self._environment_of = environment
        self._loaded: ConfigurationInUse
        self._environment: Environment
        self._agent: Agent
        self._wanted: Settings | None = None
        self._change = _change_at_start(file)
        self._switch = asyncio.Event()
        self._applied = asyncio.Event()
        """Set while no new configuration is being applied."""
        self._applied.set()
        self._reloading = asyncio.Lock()
        self._asked: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set. Raises the error that an agent ends with, and why the first one cannot be
        built."""
        stopped = asyncio.create_task(stop.wait(), name="stop signal")
        try:
            self._build(self._first)
            self._loaded = ConfigurationInUse(self._first, 1, self._environment.clock.now().wall_s)
            await self._run_agent(stopped)
            while self._wanted is not None and not stop.is_set():
                before = self._loaded
                self._build_next(self._wanted)
                self._wanted = None
                self._applied.set()
                await self._try_agent(stopped, before)
        finally:
            stopped.cancel()

    def _build(self, settings: Settings) -> None:
        environment = self._environment_of(settings)
        self._environment = replace(environment, service=self, confirmed=self._confirmed, change=self._change)
        self._agent = Agent(settings, self._environment)

    async def _try_agent(self, stopped: asyncio.Task[bool], before: ConfigurationInUse) -> None:
        """Runs the agent; if it ends by itself within `PROBATION_S`, runs one with the previous settings."""
        clock = asyncio.get_running_loop()
        begun_s = clock.time()
        try:
            await self._run_agent(stopped)
        except Exception as problem:
            if self._loaded.number == before.number or clock.time() - begun_s > PROBATION_S:
                raise
            log.exception("the new configuration failed: the previous one stays in use")
            self._loaded = replace(before, failed=_in_words(problem))
            self._change = ConfigurationChange("revert", changes=(_in_words(problem),))
            self._build(before.settings)
            await self._run_agent(stopped)

    def _build_next(self, wanted: Settings) -> None:
        """Builds an agent with the new configuration; if that fails, one with the previous configuration.

        Changes that the previous agent was still writing when `reload` checked are known only now.
        """
        try:
            self._build(wanted)
            against = objections(self._loaded.settings, wanted, self._agent.loop.state, relabelled=True)
            if against:
                self._agent.close()
                raise _refusal(Code.NOT_ALLOWED, against)
        except EdgeAgentError as problem:
            log.error("the new configuration failed: the previous one stays in use", reason=str(problem))
            self._loaded = replace(self._loaded, failed=str(problem))
            self._change = ConfigurationChange("revert", changes=(str(problem),))
            self._build(self._loaded.settings)
        else:
            self._loaded = ConfigurationInUse(
                wanted, self._loaded.number + 1, self._environment.clock.now().wall_s
            )
            log.info("the new configuration is in use", number=self._loaded.number)

    async def _run_agent(self, stopped: asyncio.Task[bool]) -> None:
        """Runs until `stop` is set or a new configuration has to be applied."""
        self._switch.clear()
        task = asyncio.create_task(self._agent.run(lambda: log.info("running")), name="agent")
        switch = asyncio.create_task(self._switch.wait(), name="change of configuration")
        await asyncio.wait({task, stopped, switch}, return_when=asyncio.FIRST_COMPLETED)
        switch.cancel()
        supervisor = self._environment.supervisor
        if supervisor is not None:
            if self._switch.is_set() and not stopped.done():
                supervisor.status("applying a new configuration")
            else:
                supervisor.stopping()
        if task.done():
            await task
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        log.info("stopped")

    def in_use(self) -> dict[str, Any]:
        """The configuration in use, for `/v1/status`."""
        loaded = self._loaded
        return {
            "file": str(self._file),
            "number": loaded.number,
            "loaded_at": rfc3339(loaded.at_s),
            "failed": loaded.failed,
        }

    def effective(self) -> list[dict[str, Any]]:
        """Every key of the configuration in use, see `edge_agent.config.effective`."""
        return effective(self._loaded.settings)

    async def reload(self, actor: str) -> list[Change]:
        """Reads the file and starts to apply its changes. Returns the changes; an empty list if there are
        none.

        Raises `Refusal`, and nothing changes: `INVALID_ARGUMENT` with the faults of the file, `NOT_ALLOWED`
        if a live reservation would suffer or a door is being opened.
        """
        async with self._reloading:
            await self._applied.wait()  # else it compares with a configuration that is being replaced
            try:
                new = await asyncio.to_thread(load_settings, self._file)
            except ConfigError as error:
                named = [replace(one, path=one.path or str(self._file)) for one in error.findings]
                raise _refusal(Code.INVALID_ARGUMENT, named) from None
            before = self._loaded.settings
            found = changes(before, new)
            if not found:
                return []
            await self._until_quiet()
            against = objections(before, new, self._agent.loop.state)
            if against:
                raise _refusal(Code.NOT_ALLOWED, against)
            for change in found:
                log.info("configuration", change=str(change), by=actor)
            self._loaded = replace(self._loaded, failed=None)
            self._wanted = new
            self._change = ConfigurationChange(
                "reload", actor, changes=tuple(str(change) for change in found)
            )
            self._applied.clear()
            self._switch.set()
            return found

    async def _until_quiet(self) -> None:
        try:
            async with asyncio.timeout(DOORS_WAIT_S):
                while True:
                    if not self._agent.loop.state.unlock_attempts:
                        return
                    await asyncio.sleep(DOORS_CHECK_S)
        except TimeoutError:
            raise Refusal(Code.NOT_ALLOWED, "doors are being opened all the time; try again") from None

    def hang_up(self) -> None:
        """SIGHUP: the file has changed."""
        task = asyncio.create_task(self._reload_and_log(), name="reload")
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _reload_and_log(self) -> None:
        try:
            found = await self.reload("SIGHUP")
        except Refusal as refusal:
            log.error("the new configuration is not applied", reason=refusal.message)
        else:
            if not found:
                log.info("the configuration has not changed")


def _change_at_start(file: Path) -> ConfigurationChange:
    """How a configuration came into use that a daemon starts with."""
    made = made_by_init(file)
    return ConfigurationChange("start") if made is None else ConfigurationChange("init", made[1], made[0])


def _in_words(problem: BaseException) -> str:
    """The first cause of the error that an agent has ended with."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return str(problem) or type(problem).__name__


def _refusal(code: Code, findings: list[Finding]) -> Refusal:
    violations = tuple(FieldViolation(finding.path, finding.message) for finding in findings)
    return Refusal(code, "; ".join(str(finding) for finding in findings), violations)
