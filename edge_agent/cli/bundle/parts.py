"""What goes into a bundle: what the daemon answers, its configuration and log, and the machine it runs on."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from edge_agent import __version__
from edge_agent.cli.daemon import refusal_in
from edge_agent.config import load_settings
from edge_agent.errors import ConfigError
from edge_agent.service import blackout

UNIT = "edge-agent.service"
LOG_LINES = 5000
LOG_BYTES = 4_000_000
COMMANDS = (
    ("uptime",),
    ("free", "-m"),
    ("df", "-h"),
    ("timedatectl",),
    ("lsusb",),
    ("ls", "-l", "/dev"),
)
"""What is asked of the system; those that are not installed are named."""
TIMEOUT_S = 30.0
"""A check of every device of a long bus takes a while."""


class Missing(Exception):
    """A part that could not be collected; the text says why."""


class NoDaemon(Missing):
    """The daemon could not be reached."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the bundle. `collect` gives its text, blacked out, or raises `Missing`."""

    name: str
    collect: Callable[[], str]


def parts(socket: Path, config: Path, log: Path | None, self_test: bool) -> list[Part]:
    """All parts, in the order of collection; with `self_test` also its findings (half a minute)."""
    return [
        *_from_daemon(socket),
        *([Part("diagnose.json", lambda: _diagnosed(socket))] if self_test else []),
        Part("config.json", lambda: _config(config)),
        Part("config-check.txt", lambda: _check(config)),
        Part("files.txt", lambda: _files(config)),
        Part("log.txt", lambda: _log(log)),
        Part("service.txt", lambda: _ran("systemctl", "status", "--no-pager", "--lines=0", UNIT)),
        Part("system.txt", _system),
    ]


def _from_daemon(socket: Path) -> Iterator[Part]:
    asked = {
        "status": ("GET", "/v1/status"),
        "alarms": ("GET", "/v1/alarms"),
        "cells": ("GET", "/v1/cells"),
        "reservations": ("GET", "/v1/reservations"),
        "events": ("GET", "/v1/events?limit=1000"),
        "bus": ("GET", "/v1/bus"),
        "bus-check": ("POST", "/v1/bus/check"),
    }
    for name, (method, path) in asked.items():
        yield Part(f"{name}.json", lambda m=method, p=path: _asked(socket, m, p))  # type: ignore[misc]


def _asked(socket: Path, method: str, path: str) -> str:
    try:
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(transport=transport, base_url="http://agent", timeout=TIMEOUT_S) as client:
            response = client.request(method, path)
    except httpx.TransportError as error:
        raise NoDaemon(f"cannot reach the daemon at {socket}: {error}") from None
    if response.is_error:
        raise Missing(refusal_in(response)["message"])
    return _json(response.json())


def _diagnosed(socket: Path) -> str:
    """The findings of a self-test that moves no door."""
    rows = []
    try:
        transport = httpx.HTTPTransport(uds=str(socket))
        with (
            httpx.Client(transport=transport, base_url="http://agent", timeout=TIMEOUT_S) as client,
            client.stream("POST", "/v1/diagnose", json={"doors": False}) as response,
        ):
            if response.is_error:
                response.read()
                raise Missing(str(response.json()["message"]))
            for line in response.iter_lines():
                row = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if "verdict" in row:
                    rows.append(row)
    except httpx.TransportError as error:
        raise NoDaemon(f"cannot reach the daemon at {socket}: {error}") from None
    return _json(rows)


def _json(value: Any) -> str:
    return json.dumps(blackout.value(value), indent=1, ensure_ascii=False) + "\n"


def _config(file: Path) -> str:
    """The configuration without its comments, which may hold anything."""
    try:
        return _json(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise Missing(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Missing(f"{file}: {error}") from None


def _check(file: Path) -> str:
    try:
        load_settings(file)
    except ConfigError as error:
        return blackout.text("".join(f"{finding}\n" for finding in error.findings))
    return "good\n"


def _files(config: Path) -> str:
    """Size and owner of the journal's and the configuration's files, not their content."""
    folders = [config.parent]
    try:
        settings = load_settings(config)
    except ConfigError:
        pass  # `config-check.txt` lists the faults
    else:
        folders.append(settings.path(settings.paths.journal).parent)
    return "".join(_ran("ls", "-la", str(folder)) + "\n" for folder in dict.fromkeys(folders))


def _log(file: Path | None) -> str:
    if file is None:
        return _ran("journalctl", "-u", UNIT, "-n", str(LOG_LINES), "--no-pager", "-o", "short-iso-precise")
    try:
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - LOG_BYTES))
            return blackout.text(log.read().decode(errors="replace"))
    except OSError as error:
        raise Missing(f"{file}: {error.strerror}") from None


def _system() -> str:
    parts = [f"edge-agent {__version__}, Python {platform.python_version()}, {platform.platform()}\n"]
    for command in COMMANDS:
        try:
            parts.append(f"$ {' '.join(command)}\n{_ran(*command)}\n")
        except Missing as missing:
            parts.append(f"$ {' '.join(command)}: {missing}\n")
    return "\n".join(parts)


def _ran(*command: str) -> str:
    """The output of a system command, with its errors. Raises `Missing` if it is not installed."""
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not installed")
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{command[0]}: {error}") from None
    return blackout.text((done.stdout + done.stderr).decode(errors="replace"))
