"""Whether the journal is on a filesystem that survives a power cut."""

from __future__ import annotations

from pathlib import Path

from edge_agent.config.sections import Settings
from edge_agent.errors import Finding
from edge_agent.journal.volatile import MOUNTS, verdict

VOLATILE = "a power cut would take every reservation; move it, or set paths.volatile = true"


def storage_findings(settings: Settings, mounts: Path = MOUNTS) -> tuple[list[Finding], list[Finding]]:
    """Findings that refuse a start, and warnings, about the filesystem of the journal."""
    if settings.paths.volatile:
        return [], []
    found = verdict(settings.path(settings.paths.journal).parent, mounts)
    if found.volatile is None:
        return [], [Finding("paths.journal", f"it is not known whether it outlives a power cut: {found.why}")]
    return ([Finding("paths.journal", f"{found.why}: {VOLATILE}")] if found.volatile else []), []
