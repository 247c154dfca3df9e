"""Service commands: technicians' work that an operator requests over MQTT; never a door, never a shell.

The list is fixed (docs/decisions/0049-service-commands.md). Topic `cmd/{command}`, as every command; always
signed, by a key of `[service.keys]` that has the right of the command's name. The reply only says that the
command is accepted; its outcome follows on the topic `service`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from edge_agent.errors import Code, Refusal, Unreadable
from edge_agent.protocol.api import Body, Flag, Text, refusal_from
from edge_agent.protocol.commands import Command, Rfc3339
from edge_agent.protocol.replies import RpcStatus

Right = Literal[
    "diagnose",
    "bundle",
    "bus-check",
    "bus-stats",
    "logs",
    "config-get",
    "config-set",
    "restart-service",
    "update",
    "forget",
]
"""A right is the name of the command that it allows."""
ServiceState = Literal["RUNNING", "DONE", "FAILED"]
Level = Literal["debug", "info", "warning", "error", "critical"]
PART_BYTES = 24 * 1024
"""Bytes of a result in one message at most; base64 makes 32 KiB of them."""
LONGEST_RESULT_BYTES = 8 * 1024 * 1024
MOST_REMOTE_SETTINGS = 500

Version = Annotated[int, Field(strict=True, ge=1, le=2**53 - 1)]
By = Annotated[str, Field(strict=True, min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
SettingValue = bool | int | float | str | list[str]


class ServiceCommand(Command):
    """The fields of every service command; `by`: the person or program that requested it."""

    by: By


class DiagnoseCommand(ServiceCommand):
    """Run the self-test. It opens no door; `outputs`: also switch on the heaters of free cells for some
    seconds. Result: its findings."""

    outputs: Flag = False


class BundleCommand(ServiceCommand):
    """Collect a support archive (.tar.gz), every secret and code blacked out; `self_test`: run a self-test
    for it."""

    self_test: Flag = True


class BusCheckCommand(ServiceCommand):
    """Check the settings of every device on the buses."""


class BusStatsCommand(ServiceCommand):
    """Read the counters and latencies of the buses."""


class LogsCommand(ServiceCommand):
    """Read the newest `limit` entries of the service's log, since a time, of a level and worse; secrets are
    blacked out."""

    since: Rfc3339 | None = None
    level: Level = "info"
    limit: Annotated[int, Field(strict=True, ge=1, le=5000)] = 500


class ConfigGetCommand(ServiceCommand):
    """Read every key of the configuration in use, with its value and where it comes from."""


class ConfigSetCommand(ServiceCommand):
    """Replace the remote settings by `settings`: key paths with values. They are applied as a whole or not
    at all. `version` must be higher than that of the settings in use."""

    version: Version
    settings: Annotated[dict[Text, SettingValue], Field(max_length=MOST_REMOTE_SETTINGS)]


class RestartServiceCommand(ServiceCommand):
    """Restart the daemon, when no door is being opened."""


class UpdateCommand(ServiceCommand):
    """Install a version of the package, when the machine is quiet; the updater goes back by itself if it does
    not prove good."""

    version: Annotated[str, Field(strict=True, pattern=r"^[0-9][A-Za-z0-9.+~:-]{0,63}$")]


class ForgetCommand(ServiceCommand):
    """Forget whose these reservations were: order ids, notes and codes. Refused for one that is not over."""

    reservation_ids: Annotated[list[Text], Field(min_length=1, max_length=1000)]


SERVICE_COMMANDS: dict[Right, type[ServiceCommand]] = {
    "diagnose": DiagnoseCommand,
    "bundle": BundleCommand,
    "bus-check": BusCheckCommand,
    "bus-stats": BusStatsCommand,
    "logs": LogsCommand,
    "config-get": ConfigGetCommand,
    "config-set": ConfigSetCommand,
    "restart-service": RestartServiceCommand,
    "update": UpdateCommand,
    "forget": ForgetCommand,
}
"""Every service command, by the last word of its topic."""


class ServiceAccepted(Body):
    """The service command is in the journal; its outcome follows on the topic `service`."""

    request_id: str
    state: ServiceState


class ServiceReport(Body):
    """The state of a service command, on the topic `service`, QoS 1; each comes at least once.

    A result of a command that is DONE comes in `parts` messages, numbered from 1 by `part`: `data` holds up
    to 24 KiB of it in base64; `bytes` and `sha256` are of the whole result.
    """

    machine_id: str
    request_id: str
    command: str
    by: str
    key: str
    received_at: str
    state: ServiceState
    ended_at: str | None = None
    error: RpcStatus | None = None
    content_type: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    part: int | None = None
    parts: int | None = None
    data: str | None = None


class DriftedKey(Body):
    """A key that was changed in the machine's file after it was set remotely: the file's value is in use."""

    key: str
    local: Any = None
    desired: Any = None


class LastChange(Body):
    """The end of the last attempt to apply remote settings."""

    version: int
    request_id: str
    outcome: Literal["APPLIED", "REFUSED", "REVERTED"]
    detail: str = ""
    at: str


class ReportedConfiguration(Body):
    """The configuration in use, on the topic `state/config`, retained.

    `hash`: of the whole configuration in use; `version` and `settings`: what was last applied remotely;
    `trial`: the version that is being tried out; `drift`: keys of it that were changed at the machine since.
    """

    machine_id: str
    hash: str
    version: int | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    trial: int | None = None
    drift: list[DriftedKey] = Field(default_factory=list)
    last: LastChange | None = None


def decode_service(name: str, payload: bytes) -> ServiceCommand:
    """The service command in `payload`.

    Raises `Refusal`: `NOT_BUILT` for an unknown name, otherwise `INVALID_ARGUMENT` naming the field;
    `Unreadable` if there is no field to name.
    """
    model = SERVICE_COMMANDS.get(name)  # type: ignore[call-overload]
    if model is None:
        raise Refusal(Code.NOT_BUILT, f"service command {name!r} is not built in this version")
    try:
        command: ServiceCommand = model.model_validate_json(payload)
        return command
    except ValidationError as error:
        refusal = refusal_from(error)
        if error.errors(include_url=False, include_input=False)[0]["type"] in ("json_invalid", "model_type"):
            raise Unreadable(refusal.code, refusal.message, refusal.violations) from None
        raise refusal from None
