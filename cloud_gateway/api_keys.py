"""API keys of platforms in a file of their own: several for each, as hashes, changed without a restart.

`python -m cloud_gateway.api_keys add|revoke|list --file KEYS.toml …` maintains the file. A key has 256 random
bits, so that its SHA-256 needs neither salt nor stretching. The gateway reads the file again when it has
changed (`watched_file`).

Exit codes of the command: 0 done, 1 no such key, 2 bad usage, or the file cannot be used.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import secrets
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from cloud_gateway.watched_file import WatchedFile, read_toml, replace_file
from edge_agent.errors import ConfigError, Finding
from edge_agent.validation_findings import findings_of

Scope = Literal["reservations", "machines", "maintenances"]
SCOPES: tuple[Scope, ...] = ("reservations", "machines", "maintenances")
"""The parts of the API, by the first word of their paths."""
Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class StoredKey(BaseModel):
    """One key in the file. `expires` absent: never."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    platform: Annotated[str, Field(strict=True, min_length=1, max_length=128)]
    name: Name
    sha256: Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = SCOPES
    expires: AwareDatetime | None = None


class KeysFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[StoredKey, ...]
    """Has to be there, even if it is empty: a file that an editor is about to write revokes no key."""


def key_hash(key: str) -> bytes:
    """The hash of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def read_keys(path: Path, platforms: Sequence[str] | None = None) -> tuple[StoredKey, ...]:
    """The keys in a file; each has to belong to one of `platforms`, if given.

    Raises `ConfigError` naming every wrong key path.
    """
    data = read_toml(path)
    try:
        keys = KeysFile.model_validate(data).keys
    except ValidationError as error:
        raise ConfigError(findings_of(error, data)) from None
    findings = [
        Finding(f"keys[{at}].platform", f"no platform of the configuration is named {key.platform}")
        for at, key in enumerate(keys)
        if platforms is not None and key.platform not in platforms
    ]
    for at, key in enumerate(keys):
        if any((key.platform, key.name) == (other.platform, other.name) for other in keys[:at]):
            findings.append(Finding(f"keys[{at}].name", f"{key.platform} has two keys named {key.name}"))
        if any(key.sha256 == other.sha256 for other in keys[:at]):
            findings.append(Finding(f"keys[{at}].sha256", "another key has the same hash"))
    if findings:
        raise ConfigError(findings)
    return keys


class KeyRing:
    """The keys of the file that are in use now."""

    def __init__(self, path: Path | None, platforms: Sequence[str], clock: Callable[[], float]) -> None:
        """`clock` gives Unix seconds. Raises `ConfigError` if the file cannot be used."""
        known = tuple(platforms)
        empty: tuple[StoredKey, ...] = ()
        self.file = WatchedFile(path, lambda file: read_keys(file, known), empty)
        self._clock = clock

    def find(self, key_digest: bytes) -> StoredKey | None:
        """The key with this hash (`key_hash`), unless it has expired. Every key is compared, in constant
        time."""
        found = None
        for key in self.file.content:
            if hmac.compare_digest(key_digest, bytes.fromhex(key.sha256)):
                found = key
        if found is None or found.expires is None or self._clock() < found.expires.timestamp():
            return found
        return None


def main(arguments: list[str] | None = None) -> int:
    """Maintains the file; returns the exit code."""
    options = _parser().parse_args(arguments)
    path: Path = options.file
    try:
        keys = read_keys(path) if path.exists() or options.act != "add" else ()
        if options.act == "list":
            for key in keys:
                until = "never" if key.expires is None else key.expires.isoformat().replace("+00:00", "Z")
                print(f"{key.platform} {key.name}: {', '.join(key.scopes)}; expires: {until}")
            return 0
        if options.act == "revoke":
            kept = tuple(key for key in keys if (key.platform, key.name) != (options.platform, options.name))
            if len(kept) == len(keys):
                print(f"api_keys: {options.platform} has no key named {options.name}", file=sys.stderr)
                return 1
            _write(path, kept)
            return 0
        secret, added = _new_key(options)
        _write(path, (*keys, added))
        read_keys(path)
    except ConfigError as error:
        for finding in error.findings:
            print(f"api_keys: {path}: {finding}", file=sys.stderr)
        return 2
    print(secret)
    return 0


def _new_key(options: argparse.Namespace) -> tuple[str, StoredKey]:
    secret = f"lk_{secrets.token_urlsafe(32)}"
    expires = None
    if options.days is not None:
        expires = (datetime.now(UTC) + timedelta(days=options.days)).replace(microsecond=0)
    given = {
        "platform": options.platform,
        "name": options.name,
        "sha256": key_hash(secret).hex(),
        "scopes": tuple(options.scope or SCOPES),
        "expires": expires,
    }
    try:
        return secret, StoredKey.model_validate(given)
    except ValidationError as error:
        raise ConfigError(findings_of(error, given)) from None


def _write(path: Path, keys: Sequence[StoredKey]) -> None:
    """Replaces the file as a whole. Raises `ConfigError` if that fails, or if a key exists already."""
    names = [(key.platform, key.name) for key in keys]
    if len(set(names)) < len(names):
        platform, name = names[-1]
        raise ConfigError([Finding("name", f"{platform} has a key named {name} already")])
    replace_file(path, tomli_w.dumps({"keys": [key.model_dump(exclude_none=True) for key in keys]}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-gateway api-keys", description="API keys of platforms")
    acts = parser.add_subparsers(dest="act", required=True)
    for act, text in (
        ("add", "add a key, and print it once"),
        ("revoke", "remove a key"),
        ("list", "show the keys"),
    ):
        one = acts.add_parser(act, help=text)
        one.add_argument("--file", type=Path, required=True, help="keys_file of the gateway's configuration")
        if act != "list":
            one.add_argument("--platform", required=True, help="whose key it is")
            one.add_argument("--name", required=True, help="what you call the key, for instance web-2027")
        if act == "add":
            one.add_argument("--scope", action="append", choices=SCOPES, help="repeat it; default: all")
            one.add_argument("--days", type=int, choices=range(1, 3651), metavar="N", help="until it expires")
    return parser


if __name__ == "__main__":
    sys.exit(main())
