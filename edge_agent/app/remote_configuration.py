"""Remote settings: read at a start, tried out, and kept or taken back
(docs/decisions/0050-remote-settings.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import structlog

from edge_agent.config import Settings, load_settings
from edge_agent.config.load import read_document
from edge_agent.config.remote_settings import (
    RemoteSettings,
    RemoteState,
    TrialEnd,
    base_of,
    forbidden,
    read_remote,
    write_remote,
)
from edge_agent.errors import Code, ConfigError, FieldViolation, Finding, Refusal, StorageFault

log = structlog.get_logger()

RESTARTED = "the machine restarted while the settings were on trial"


class RemoteConfiguration:
    """The remote settings of one machine. `file` keeps them; `config` is the machine's own file."""

    def __init__(self, file: Path, config: Path) -> None:
        self._file = file
        self._config = config
        self.state = RemoteState()

    def read(self) -> None:
        """Reads what is kept, at the start of the process; the caller ends a trial that it finds."""
        try:
            self.state = read_remote(self._file)
        except StorageFault as fault:
            log.error("the remote settings are not used", reason=str(fault))

    def load(self) -> Settings:
        """The machine's file with the applied remote settings. If the two do not go together, the file
        alone: the technician at the machine wrote it later. Raises `ConfigError` if the file is wrong."""
        applied = self.state.applied
        if applied is None:
            return load_settings(self._config)
        try:
            return load_settings(self._config, applied)
        except ConfigError as error:
            settings = load_settings(self._config)
            log.error("the remote settings do not fit the file and are not used", reason=str(error))
            return settings

    def proposed(self, wanted: RemoteSettings) -> tuple[RemoteSettings, Settings]:
        """Wanted settings, completed by what the file holds now, and the configuration that they give.

        Raises `Refusal` that names the wrong keys: `NOT_ALLOWED` for a version that is not newer, and while
        others are on trial; `INVALID_ARGUMENT` for keys and values.
        """
        applied, trial = self.state.applied, self.state.trial
        if trial is not None:
            raise Refusal(Code.NOT_ALLOWED, f"version {trial.version} is on trial; try again later")
        if applied is not None and wanted.version <= applied.version:
            why = f"must be higher than {applied.version}, the version in use"
            raise _refusal(Code.NOT_ALLOWED, [Finding("version", why)])
        if not_settable := forbidden(wanted.settings):
            raise _refusal(Code.INVALID_ARGUMENT, not_settable)
        try:
            document = read_document(self._config)
            complete = wanted.model_copy(update={"base": base_of(document, wanted.settings)})
            return complete, load_settings(self._config, complete)
        except ConfigError as error:
            raise _refusal(Code.INVALID_ARGUMENT, error.findings) from None

    def begin_trial(self, wanted: RemoteSettings) -> None:
        """Records that settings are on trial. Raises `Refusal` if that cannot be written."""
        self._write(self.state.model_copy(update={"trial": wanted}))

    def apply(self, wanted: RemoteSettings, now_s: float) -> None:
        """Records settings that change nothing, and so need no trial. Raises `Refusal` if that cannot be
        written."""
        end = TrialEnd(version=wanted.version, request_id=wanted.request_id, outcome="APPLIED", at_s=now_s)
        self._write(RemoteState(applied=wanted, last=end))

    def end_trial(self, outcome: Literal["APPLIED", "REVERTED"], detail: str, now_s: float) -> None:
        """Keeps the settings on trial (`APPLIED`) or drops them (`REVERTED`); does nothing without a
        trial."""
        trial = self.state.trial
        if trial is None:
            return
        end = TrialEnd(
            version=trial.version, request_id=trial.request_id, outcome=outcome, detail=detail, at_s=now_s
        )
        applied = trial if outcome == "APPLIED" else self.state.applied
        ended = RemoteState(applied=applied, trial=None, last=end)
        log.info("remote settings", version=trial.version, outcome=outcome, reason=detail or None)
        try:
            self._write(ended)
        except Refusal as refusal:
            # The file still names a trial, which the next start drops.
            log.error("the end of a trial is not recorded", reason=refusal.message)
            self.state = ended

    def _write(self, state: RemoteState) -> None:
        try:
            write_remote(self._file, state)
        except StorageFault as fault:
            raise Refusal(Code.OFFLINE, str(fault)) from None
        self.state = state


def _refusal(code: Code, findings: list[Finding]) -> Refusal:
    violations = tuple(FieldViolation(finding.path, finding.message) for finding in findings)
    return Refusal(code, "; ".join(str(finding) for finding in findings), violations)
