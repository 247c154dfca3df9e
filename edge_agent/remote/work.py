"""Does the work of a service command, and gives its result."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.config.remote_settings import RemoteSettings
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.service_commands import (
    BundleCommand,
    BusCheckCommand,
    BusStatsCommand,
    ConfigGetCommand,
    ConfigSetCommand,
    DiagnoseCommand,
    ForgetCommand,
    LogsCommand,
    RestartServiceCommand,
    ServiceCommand,
    UpdateCommand,
)
from edge_agent.remote.interfaces import ServiceControl, ServiceParts
from edge_agent.service import blackout
from edge_agent.service.bus_checks import Checks

JSON, ARCHIVE = "application/json", "application/gzip"
LOGS_S, BUNDLE_S = 60.0, 300.0
"""The longest time that reading the log and collecting a bundle may take."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a service command: bytes of a media type."""

    content_type: str
    content: bytes


class ServiceWork:
    """Carries out service commands. None opens a door or runs what its sender wrote."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._checks = Checks(parts.buses)
        self._work: dict[type[ServiceCommand], Callable[[Any, str], Awaitable[Result | None]]] = {
            DiagnoseCommand: self._diagnose,
            BundleCommand: self._bundle,
            BusCheckCommand: self._bus_check,
            BusStatsCommand: self._bus_stats,
            LogsCommand: self._logs,
            ConfigGetCommand: self._config_get,
            ConfigSetCommand: self._config_set,
            RestartServiceCommand: self._restart_service,
            UpdateCommand: self._update,
            ForgetCommand: self._forget,
        }

    async def run(self, command: ServiceCommand, actor: str) -> Result | None:
        """The result; None if the outcome will only be known later, perhaps by another process.

        `actor`: who requested it, for the journal. Raises `Refusal` if it fails.
        """
        return await self._work[type(command)](command, actor)

    async def _diagnose(self, command: DiagnoseCommand, actor: str) -> Result:
        rows = []
        findings = self._parts.diagnosis().run(doors=False, outputs=command.outputs, actor=actor)
        async with aclosing(findings) as found:
            async for row in found:
                if "verdict" in row:
                    rows.append(row)
        return _json(rows)

    async def _bundle(self, command: BundleCommand, actor: str) -> Result:
        with tempfile.TemporaryDirectory(prefix="edge-agent-bundle-") as folder:
            archive = Path(folder) / "bundle.tar.gz"
            arguments = ["bundle", "--output", str(archive), "--socket", str(self._parts.socket)]
            arguments += ["--config", str(self._control().file)]
            arguments += [] if command.self_test else ["--quick"]
            await self._parts.run_command(arguments, BUNDLE_S)
            return Result(ARCHIVE, archive.read_bytes())

    async def _bus_check(self, command: BusCheckCommand, actor: str) -> Result:
        return _json(await self._checks.run())

    async def _bus_stats(self, command: BusStatsCommand, actor: str) -> Result:
        return _json(self._parts.buses.stats())

    async def _logs(self, command: LogsCommand, actor: str) -> Result:
        arguments = ["logs", "--json", "--level", command.level, "--limit", str(command.limit)]
        if command.since is not None:
            arguments += ["--since", rfc3339(command.since.timestamp())]
        output = await self._parts.run_command(arguments, LOGS_S)
        return _json(json.loads(output or b"[]"))

    async def _config_get(self, command: ConfigGetCommand, actor: str) -> Result:
        return _json(self._control().effective())

    async def _config_set(self, command: ConfigSetCommand, actor: str) -> Result | None:
        wanted = RemoteSettings(
            version=command.version,
            settings=dict(command.settings),
            request_id=command.request_id,
            by=command.by,
        )
        unchanged = await self._control().apply_remote(wanted, actor)
        return _json({"version": command.version, "changed": False}) if unchanged else None

    async def _restart_service(self, command: RestartServiceCommand, actor: str) -> None:
        await self._control().restart()

    async def _update(self, command: UpdateCommand, actor: str) -> None:
        self._control().request_update(command.version, command.request_id)

    async def _forget(self, command: ForgetCommand, actor: str) -> Result:
        return _json({"reservations": await self._parts.forgetting.reservations(command.reservation_ids)})

    def _control(self) -> ServiceControl:
        if self._parts.control is None:
            raise Refusal(Code.NOT_BUILT, "this daemon has no configuration file")
        return self._parts.control


def _json(value: Any) -> Result:
    text = json.dumps(blackout.value(value), ensure_ascii=False)
    return Result(JSON, text.encode())
