"""Turns a file into frozen settings: reads, validates, and cross-checks it with the device profiles it
names."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_agent.config.paths import flat
from edge_agent.config.remote_settings import RemoteSettings, merge
from edge_agent.config.sections import Settings
from edge_agent.config.wiring import wiring_findings
from edge_agent.drivers.profiles import load_profile
from edge_agent.errors import ConfigError, Finding
from edge_agent.validation_findings import findings_of

SHIPPED_PROFILES = (
    Path(__file__).resolve().parents[2] / "config" / "devices",
    Path("/usr/share/edge-agent/devices"),
)
"""Where the profiles are that come with the program: those of a checkout, those of the Debian package. One
of the same name in the configuration's own folder takes precedence."""


def load_settings(path: Path, remote: RemoteSettings | None = None) -> Settings:
    """Reads, validates and cross-checks a configuration with its profiles; `remote`: remote settings.

    Raises `ConfigError` with every finding and its key path.
    """
    file = read_document(path)
    merged = merge(file, remote)
    document = merged.document
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        raise ConfigError(findings_of(error, document)) from None
    folder = path.parent.resolve()
    # Raised separately: an environment without credentials is no fault of the file.
    settings = settings.at(folder, os.environ)
    settings._given, settings._remote = frozenset(flat(file)), merged
    findings = _load_profiles(settings)
    if not findings:
        findings = wiring_findings(settings)
    if findings:
        raise ConfigError(findings)
    return settings


def read_document(path: Path) -> dict[str, Any]:
    """The content of a configuration file. Raises `ConfigError` if it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([Finding("", error.strerror or str(error))]) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([Finding("", f"not TOML: {error}")]) from None


def shipped_profiles() -> list[Path]:
    """The folders of `SHIPPED_PROFILES` that there are, in the order in which they are searched."""
    return [folder for folder in SHIPPED_PROFILES if folder.is_dir()]


def _load_profiles(settings: Settings) -> list[Finding]:
    findings = []
    for name, device in settings.devices.items():
        if device.profile in settings._profiles:
            continue
        places = (settings.path(settings.paths.profiles), *shipped_profiles())
        files = [place / f"{device.profile}.toml" for place in places]
        file = next((file for file in files if file.exists()), None)
        if file is None:
            where = ", ".join(map(str, places))
            why = f"no such profile: {device.profile!r}; looked for {files[0].name} in {where}"
            findings.append(Finding(f"devices.{name}.profile", why))
            continue
        try:
            settings._profiles[device.profile] = load_profile(file)
        except ConfigError as error:
            findings += [Finding(f"devices.{name}.profile", str(finding)) for finding in error.findings]
    return findings
