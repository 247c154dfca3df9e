"""What the updater keeps on the disk: the wanted version, the trial under way, and the last outcome."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar

Result = Literal["APPLIED", "REVERTED", "FAILED"]
"""APPLIED: the version proved good. REVERTED: it did not, and the one before runs again. FAILED: it was never
started."""
T = TypeVar("T")
VERSION = re.compile(r"[0-9][A-Za-z0-9.+~:-]{0,63}")
"""A version becomes the name of a folder: it begins with a digit, and has no slash."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The version that an operator wants, and the id of the service command that asked for it."""

    version: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A version that runs and has to prove good. `previous`: the version to go back to. `buses`: those that
    were up before, and have to be up again. `boot_id` and `boots`: the present boot, and how many the trial
    has seen. `failure`: why the version is being taken back; empty while it is not."""

    wanted: Wanted
    previous: str
    buses: tuple[str, ...]
    boot_id: str
    boots: int = 1
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a wanted version ended."""

    wanted: Wanted
    result: Result
    detail: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What survives a power cut."""

    trial: Trial | None = None
    outcome: Outcome | None = None


def to_json(state: State) -> str:
    """The state as JSON."""
    return json.dumps(asdict(state), indent=1)


def from_json(text: str) -> State:
    """The inverse of `to_json`; unknown fields of a later version are ignored. Raises `ValueError`."""
    try:
        raw = json.loads(text)
        trial, outcome = raw["trial"], raw["outcome"]
        return State(
            None if trial is None else _trial(trial),
            None if outcome is None else _made(Outcome, outcome | {"wanted": wanted_of(outcome["wanted"])}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a state of the updater: {error}") from None


def wanted_of(raw: dict[str, Any]) -> Wanted:
    """A wanted version from JSON. Raises `ValueError`."""
    wanted = _made(Wanted, raw)
    if not (isinstance(wanted.version, str) and isinstance(wanted.request_id, str)):
        raise ValueError("version and request_id must be texts")
    if VERSION.fullmatch(wanted.version) is None:
        raise ValueError("version must be one of a Debian package")
    return wanted


def _trial(raw: dict[str, Any]) -> Trial:
    return _made(Trial, raw | {"wanted": wanted_of(raw["wanted"]), "buses": tuple(raw["buses"])})


def _made(kind: type[T], raw: dict[str, Any]) -> T:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    try:
        return kind(**{name: value for name, value in raw.items() if name in known})
    except TypeError as error:
        raise ValueError(f"not a {kind.__name__.lower()}: {error}") from None
