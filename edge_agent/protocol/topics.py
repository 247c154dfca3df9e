"""Topic names of one machine, under `locker/v1/{machine_id}`."""

from __future__ import annotations

from dataclasses import dataclass

ROOT = "locker/v1"
CONTENT_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Topics:
    """Every topic that one machine reads or writes."""

    machine_id: str

    @property
    def root(self) -> str:
        """The prefix of all topics of this machine."""
        return f"{ROOT}/{self.machine_id}"

    @property
    def commands(self) -> str:
        """Subscription that receives every command."""
        return f"{self.root}/cmd/+"

    @property
    def events(self) -> str:
        """Events, QoS 1, in `sequence` order."""
        return f"{self.root}/evt"

    @property
    def online(self) -> str:
        """Birth and will, retained."""
        return f"{self.root}/state/online"

    @property
    def machine(self) -> str:
        """The API's Machine, retained."""
        return f"{self.root}/state/machine"

    @property
    def digest(self) -> str:
        """What the machine holds, published after every connection, retained."""
        return f"{self.root}/state/digest"

    @property
    def service(self) -> str:
        """The outcomes of service commands, QoS 1."""
        return f"{self.root}/service"

    @property
    def configuration(self) -> str:
        """The configuration in use, retained."""
        return f"{self.root}/state/config"

    @property
    def telemetry(self) -> str:
        """Figures from the field, QoS 0."""
        return f"{self.root}/telemetry"

    def command(self, name: str) -> str:
        """Topic on which the command `name` is sent to the machine."""
        return f"{self.root}/cmd/{name}"

    def reply(self, suffix: str) -> str:
        """A Response Topic below this machine's root."""
        return f"{self.root}/reply/{suffix}"


def machine_of(topic: str) -> str | None:
    """The machine a topic belongs to; None if it is not one of ours."""
    parts = topic.split("/")
    if len(parts) < 4 or f"{parts[0]}/{parts[1]}" != ROOT:
        return None
    return parts[2]
