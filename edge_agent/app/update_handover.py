"""Hands the wanted version over to the updater, and reads what came of it (docs/decisions/0053-updater.md).

The two share two files: the daemon writes the wanted version beside its journal, the updater writes its state
in a folder of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import Code, Refusal
from edge_agent.process.whole_file import write_whole

UPDATER_STATE = Path("/var/lib/edge-agent-updater/state.json")


@dataclass(frozen=True, slots=True)
class UpdateOutcome:
    """How a wanted version ended: `result` is APPLIED, REVERTED or FAILED."""

    request_id: str
    version: str
    result: str
    detail: str


class UpdateHandover:
    """`wanted`: the file that the updater reads; `state`: the one that it writes."""

    def __init__(self, wanted: Path, state: Path = UPDATER_STATE) -> None:
        self._wanted = wanted
        self._state = state

    def request(self, version: str, request_id: str) -> None:
        """Hands a wanted version over. Raises `Refusal` if this machine has no updater, or the file cannot be
        written."""
        if not self._state.parent.is_dir():
            raise Refusal(Code.NOT_BUILT, "this machine has no updater")
        try:
            write_whole(self._wanted, json.dumps({"version": version, "request_id": request_id}).encode())
        except OSError as error:
            raise Refusal(Code.OFFLINE, f"{self._wanted} cannot be written: {error.strerror}") from None

    def outcome(self) -> UpdateOutcome | None:
        """The last outcome that the updater recorded; None if there is none."""
        try:
            found = json.loads(self._state.read_text(encoding="utf-8"))["outcome"]
            wanted = found["wanted"]
            return UpdateOutcome(
                str(wanted["request_id"]), str(wanted["version"]), str(found["result"]), str(found["detail"])
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def wanted_beside(journal: Path) -> Path:
    """The file for the updater: in the journal's folder, where the daemon may write."""
    return journal.with_name("wanted-version.json")
