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
from typing import Any, Literal

import structlog

from edge_agent.app.agent import Agent
from edge_agent.app.environment import Environment
from edge_agent.app.reload import objections
from edge_agent.app.remote_configuration import RESTARTED, RemoteConfiguration
from edge_agent.app.startup import NOTHING, Confirmed
from edge_agent.app.update_handover import UPDATER_STATE, UpdateHandover, UpdateOutcome, wanted_beside
from edge_agent.config import Settings
from edge_agent.config.changes import Change, changes
from edge_agent.config.effective import effective
from edge_agent.config.origin import made_by_init
from edge_agent.config.remote_settings import RemoteSettings, RemoteState, remote_file
from edge_agent.errors import Code, ConfigError, EdgeAgentError, FieldViolation, Finding, Refusal
from edge_agent.journal.configurations import ConfigurationChange, How
from edge_agent.protocol.api import rfc3339

log = structlog.get_logger()

DOORS_WAIT_S = 10.0
"""How long the service waits for doors that are being opened."""
DOORS_CHECK_S = 0.05
PROBATION_S = 15.0
"""A new configuration whose agent ends by itself within this time is replaced by the one before."""
TRIAL_S = 180.0
"""Remote settings are taken back if the broker is not reached within this time."""
TRIAL_STEADY_S = 5.0
"""For this long the connection must last before remote settings are kept."""
TRIAL_CHECK_S = 0.25


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
        updater_state: Path = UPDATER_STATE,
    ) -> None:
        """`settings`: the content of the file. `confirmed`: see `Environment.confirmed`. `updater_state`: the
        file that the updater writes."""
        self._confirmed = confirmed
        self.file = file
        self._remote = RemoteConfiguration(remote_file(settings.path(settings.paths.journal)), file)
        self._update = UpdateHandover(wanted_beside(settings.path(settings.paths.journal)), updater_state)
        self._first = settings
        self._environment_of = environment
        self._loaded: ConfigurationInUse
        self._environment: Environment
        self._agent: Agent
        self._wanted: Settings | None = None
        self._change = _change_at_start(file)
        self._trial: asyncio.Task[None] | None = None
        self._restart = asyncio.Event()
        self._switch = asyncio.Event()
        self._applied = asyncio.Event()
        """Set while no new configuration is being applied."""
        self._applied.set()
        self._reloading = asyncio.Lock()
        self._asked: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set. Raises the error that an agent ends with, and why the first one cannot be
        built."""
        stopped = asyncio.create_task(self._stopped(stop), name="stop signal")
        try:
            self._remote.read()
            first = self._first if self._remote.state.applied is None else self._remote.load()
            self._build(first)
            now_s = self._environment.clock.now().wall_s
            self._remote.end_trial("REVERTED", RESTARTED, now_s)
            self._loaded = ConfigurationInUse(first, 1, now_s)
            await self._run_agent(stopped)
            while self._wanted is not None and not stopped.done():
                before = self._loaded
                self._build_next(self._wanted)
                self._wanted = None
                self._applied.set()
                if self._remote.state.trial is not None and self._trial is None:
                    trial = self._watch_trial(before, self._loaded.number)
                    self._trial = asyncio.create_task(trial, name="trial of remote settings")
                await self._try_agent(stopped, before)
        finally:
            stopped.cancel()
            if self._trial is not None:
                self._trial.cancel()

    async def _stopped(self, stop: asyncio.Event) -> bool:
        """Returns when the process is to end: for good, or to be started again."""
        waits = [asyncio.create_task(one.wait()) for one in (stop, self._restart)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return True

    async def _watch_trial(self, before: ConfigurationInUse, number: int) -> None:
        """Keeps the settings on trial when the broker is reached under them; otherwise takes them back."""
        outcome, detail = await self._tried(before.number, number)
        self._remote.end_trial(outcome, detail, self._environment.clock.now().wall_s)
        self._trial = None
        if outcome != "APPLIED" and before.number != number == self._loaded.number:
            self._wanted = before.settings
            self._change = ConfigurationChange("revert", changes=(detail,))
            self._applied.clear()
            self._switch.set()
        else:
            await self._agent.configuration_changed()

    async def _tried(self, before: int, number: int) -> tuple[Literal["APPLIED", "REVERTED"], str]:
        """How a trial ends, and why it failed."""
        if number == before:
            return "REVERTED", self._loaded.failed or "the configuration could not be applied"
        clock = asyncio.get_running_loop()
        ends_s, up_since_s = clock.time() + TRIAL_S, None
        while True:
            await asyncio.sleep(TRIAL_CHECK_S)
            now_s = clock.time()
            if self._loaded.number != number:
                return "REVERTED", self._loaded.failed or "another configuration came into use"
            if not self._agent.link.up:
                up_since_s = None
                if now_s >= ends_s:
                    return "REVERTED", f"the broker was not reached within {TRIAL_S:.0f} s"
                continue
            up_since_s = now_s if up_since_s is None else up_since_s
            if now_s - up_since_s >= TRIAL_STEADY_S:
                return "APPLIED", ""

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
            "file": str(self.file),
            "number": loaded.number,
            "loaded_at": rfc3339(loaded.at_s),
            "failed": loaded.failed,
        }

    def effective(self) -> list[dict[str, Any]]:
        """Every key of the configuration in use, see `edge_agent.config.effective`."""
        return effective(self._loaded.settings)

    @property
    def settings(self) -> Settings:
        """The configuration in use."""
        return self._loaded.settings

    def remote_state(self) -> RemoteState:
        """See `ServiceControl.remote_state`."""
        return self._remote.state

    async def apply_remote(self, wanted: RemoteSettings, actor: str) -> bool:
        """See `ServiceControl.apply_remote`. The trial ends with `TrialEnd` in `remote_state`."""
        async with self._reloading:
            await self._applied.wait()
            complete, new = await asyncio.to_thread(self._remote.proposed, wanted)
            found = changes(self._loaded.settings, new)
            if not found:
                self._remote.apply(complete, self._environment.clock.now().wall_s)
                await self._agent.configuration_changed()
                return True
            await self._until_quiet()
            if against := objections(self._loaded.settings, new, self._agent.loop.state):
                raise _refusal(Code.NOT_ALLOWED, against)
            self._remote.begin_trial(complete)
            self._switch_to(new, found, "remote", actor)
            return False

    async def restart(self) -> None:
        """See `ServiceControl.restart`."""
        if self._environment.supervisor is None:
            raise Refusal(Code.NOT_BUILT, "no supervisor starts this daemon again")
        await self._until_quiet()
        self._restart.set()

    def request_update(self, version: str, request_id: str) -> None:
        """See `ServiceControl.request_update`."""
        self._update.request(version, request_id)

    def update_outcome(self) -> UpdateOutcome | None:
        """See `ServiceControl.update_outcome`."""
        return self._update.outcome()

    async def reload(self, actor: str) -> list[Change]:
        """Reads the file and starts to apply its changes. Returns the changes; an empty list if there are
        none.

        Raises `Refusal`, and nothing changes: `INVALID_ARGUMENT` with the faults of the file, `NOT_ALLOWED`
        if a live reservation would suffer or a door is being opened.
        """
        async with self._reloading:
            await self._applied.wait()  # else it compares with a configuration that is being replaced
            if (trial := self._remote.state.trial) is not None:
                why = f"remote settings (version {trial.version}) are on trial; try again in some minutes"
                raise Refusal(Code.NOT_ALLOWED, why)
            try:
                new = await asyncio.to_thread(self._remote.load)
            except ConfigError as error:
                named = [replace(one, path=one.path or str(self.file)) for one in error.findings]
                raise _refusal(Code.INVALID_ARGUMENT, named) from None
            before = self._loaded.settings
            found = changes(before, new)
            if not found:
                return []
            await self._until_quiet()
            against = objections(before, new, self._agent.loop.state)
            if against:
                raise _refusal(Code.NOT_ALLOWED, against)
            self._switch_to(new, found, "reload", actor)
            return found

    def _switch_to(self, new: Settings, found: list[Change], how: How, actor: str) -> None:
        """Has the agent replaced by one with a new configuration."""
        for change in found:
            log.info("configuration", change=str(change), by=actor)
        self._loaded = replace(self._loaded, failed=None)
        self._wanted = new
        self._change = ConfigurationChange(how, actor, changes=tuple(str(change) for change in found))
        self._applied.clear()
        self._switch.set()

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
