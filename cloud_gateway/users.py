"""People who may use the operators' pages: name, role and argon2id hash of the password, in a file.

`python -m cloud_gateway.users set|remove|list --file USERS.toml …` maintains the file; `set` reads the
password from standard input. The gateway reads the file again when it has changed (`watched_file`).

Exit codes of the command: 0 done, 1 no such user, 2 bad usage, or the file cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import hashlib
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import tomli_w
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloud_gateway.watched_file import WatchedFile, read_toml, replace_file
from edge_agent.errors import ConfigError, Finding
from edge_agent.validation_findings import findings_of

SHORTEST_PASSWORD = 12
REMEMBERED_MAX = 64
"""Passwords that were right, as keyed hashes: the next request of the same person costs no argon2id."""
NOBODY = argon2id.str(b"nobody", argon2id.OPSLIMIT_INTERACTIVE, argon2id.MEMLIMIT_INTERACTIVE)
"""Compared for an unknown name, so that the duration does not show which names exist."""


class Role(StrEnum):
    """What a person may do. Each role may do what those before it may."""

    READER = "reader"
    """See the pages."""
    SUPPORT = "support"
    """Close tickets, send webhooks again, block and unblock cells."""
    OPERATOR = "operator"
    """Decide which of two machines with one id is the right one; clear cells."""

    def may(self, needed: Role) -> bool:
        """Whether this role includes another one."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class StoredUser(BaseModel):
    """One person in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_.@-]{1,64}$")]
    role: Role
    argon2id: Annotated[str, Field(strict=True, pattern=r"^\$argon2id\$[!-~]{20,200}$")]


class UsersFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: tuple[StoredUser, ...]
    """Has to be there, even if it is empty: a file that an editor is about to write shuts nobody out."""


def read_users(path: Path) -> tuple[StoredUser, ...]:
    """The people in a file. Raises `ConfigError` naming every wrong key path."""
    data = read_toml(path)
    try:
        users = UsersFile.model_validate(data).users
    except ValidationError as error:
        raise ConfigError(findings_of(error, data)) from None
    names = [user.name for user in users]
    twice = [at for at, name in enumerate(names) if name in names[:at]]
    if twice:
        raise ConfigError([Finding(f"users[{at}].name", f"{names[at]} is there twice") for at in twice])
    return users


class Users:
    """The people of the file, and who has shown the right password."""

    def __init__(self, path: Path | None) -> None:
        """Raises `ConfigError` if the file cannot be used."""
        empty: tuple[StoredUser, ...] = ()
        self.file = WatchedFile(path, read_users, empty)
        self._salt = os.urandom(16)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gateway-passwords")
        self._one_at_a_time = asyncio.Lock()

    async def find(
        self, name: str, password: str, before_hashing: Callable[[], None] = lambda: None
    ) -> StoredUser | None:
        """The person with this name and password. One password at a time is hashed, in a thread.

        `before_hashing` is called first, unless this password was right before; it may raise a `Refusal`. It
        is called when the one before has been compared and counted: guesses sent together are no exception.
        """
        found = next((user for user in self.file.content if user.name == name), None)
        stored = NOBODY if found is None else found.argon2id.encode()
        given = password.encode("utf-8", "surrogateescape")
        mark = hashlib.blake2b(stored + b"\0" + given, key=self._salt).digest()
        if mark in self._right:
            return found
        async with self._one_at_a_time:
            before_hashing()
            loop = asyncio.get_running_loop()
            if not await loop.run_in_executor(self._thread, _is_right, stored, given) or found is None:
                return None
        self._right[mark] = None
        if len(self._right) > REMEMBERED_MAX:
            self._right.popitem(last=False)
        return found

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _is_right(stored: bytes, password: bytes) -> bool:
    try:
        return bool(argon2id.verify(stored, password))
    except (CryptoError, ValueError):
        return False


def main(arguments: list[str] | None = None) -> int:
    """Maintains the file; returns the exit code."""
    options = _parser().parse_args(arguments)
    path: Path = options.file
    try:
        users = read_users(path) if path.exists() or options.act != "set" else ()
        if options.act == "list":
            for user in users:
                print(f"{user.name}: {user.role}")
            return 0
        others = tuple(user for user in users if user.name != options.name)
        if options.act == "remove":
            if len(others) == len(users):
                print(f"users: no user is named {options.name}", file=sys.stderr)
                return 1
            _write(path, others)
            return 0
        _write(path, (*others, _new_user(options.name, options.role)))
    except ConfigError as error:
        for finding in error.findings:
            print(f"users: {path}: {finding}", file=sys.stderr)
        return 2
    return 0


def _new_user(name: str, role: str) -> StoredUser:
    password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if len(password) < SHORTEST_PASSWORD:
        raise ConfigError([Finding("password", f"has fewer than {SHORTEST_PASSWORD} characters")])
    hashed = argon2id.str(
        password.encode(), argon2id.OPSLIMIT_INTERACTIVE, argon2id.MEMLIMIT_INTERACTIVE
    ).decode("ascii")
    given = {"name": name, "role": Role(role), "argon2id": hashed}
    try:
        return StoredUser.model_validate(given)
    except ValidationError as error:
        raise ConfigError(findings_of(error, given)) from None


def _write(path: Path, users: Sequence[StoredUser]) -> None:
    rows = [{**user.model_dump(), "role": str(user.role)} for user in users]
    replace_file(path, tomli_w.dumps({"users": rows}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-gateway users", description="people who may use the operators' pages"
    )
    acts = parser.add_subparsers(dest="act", required=True)
    for act, text in (
        ("set", "add a person, or give one another role or password (from standard input)"),
        ("remove", "remove a person"),
        ("list", "show names and roles"),
    ):
        one = acts.add_parser(act, help=text)
        one.add_argument("--file", type=Path, required=True, help="users_file of the gateway's configuration")
        if act != "list":
            one.add_argument("--name", required=True)
        if act == "set":
            one.add_argument("--role", required=True, choices=[str(role) for role in Role])
    return parser


if __name__ == "__main__":
    sys.exit(main())
