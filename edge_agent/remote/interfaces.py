"""What service commands need of the rest of the daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edge_agent.config.remote_settings import RemoteSettings, RemoteState
from edge_agent.service.bus_service import BusService
from edge_agent.service.diagnosis.diagnose import Diagnosis
from edge_agent.service.forgetting import Forgetting


class ServiceControl(Protocol):
    """The running service: its configuration, and its end."""

    @property
    def file(self) -> Path:
        """The configuration file."""

    def effective(self) -> list[dict[str, Any]]:
        """Every key of the configuration in use, see `edge_agent.config.effective`."""

    def remote_state(self) -> RemoteState:
        """The remote settings: applied, on trial, and the last end."""

    async def apply_remote(self, wanted: RemoteSettings, actor: str) -> bool:
        """Starts to try settings out; True if nothing changes by them, and they are in use at once. Raises
        `Refusal`, and nothing changes."""

    async def restart(self) -> None:
        """Ends the process when no door is being opened; the supervisor starts it again. Raises `Refusal` if
        there is no supervisor, or doors are being opened all the time."""

    def request_update(self, version: str, request_id: str) -> None:
        """Hands a wanted version to the updater. Raises `Refusal` if there is none."""

    def update_outcome(self) -> UpdateOutcome | None:
        """The last outcome that the updater recorded."""


class UpdateOutcome(Protocol):
    """How a wanted version ended: `result` is APPLIED, REVERTED or FAILED."""

    @property
    def request_id(self) -> str:
        """The id of the service command."""

    @property
    def version(self) -> str:
        """The wanted version."""

    @property
    def result(self) -> str:
        """APPLIED, REVERTED or FAILED."""

    @property
    def detail(self) -> str:
        """Why it is not in use."""


RunCommand = Callable[[Sequence[str], float], Awaitable[bytes]]
"""Runs `edge-agent ARGUMENTS` for at most some seconds, see `edge_agent.process.child_command`."""


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What the work is done with. Without `control` this daemon has no configuration file and no
    supervisor."""

    buses: BusService
    diagnosis: Callable[[], Diagnosis]
    control: ServiceControl | None
    socket: Path
    run_command: RunCommand
    forgetting: Forgetting
