"""Permissions on the local API: the kernel shows whose process calls, a PIN shows which technician.

A kiosk's user may only send codes. Every action has an actor: the technician, if a PIN proved who it is, else
the user of the calling process. If the configuration names technicians, actions that open a door or give a
cell to the next customer need one of them (docs/decisions/0019).
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_agent.config import Settings
from edge_agent.config.technicians import (
    NAME_HEADER,
    PIN_HEADER,
    Hashed,
    TechniciansFault,
    hashed,
    read,
)
from edge_agent.console.admission import Counts
from edge_agent.errors import Code, ConfigError, Finding, Refusal
from edge_agent.protocol.api import rpc_status

log = structlog.get_logger()

PEER = "peer"
"""Key of a connection's `Peer` in the state of its requests."""
ALIVE = "/v1/alive"
NOBODY_KNOWN = 65_534
"""The kernel's overflow uid: the caller's user is unknown in this process's user namespace."""
FREE_TRIES = 3
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0
"""After `FREE_TRIES` wrong PINs of one user the next try must wait; the pause doubles up to the longest."""
FORGIVEN_S = 3600.0
PROVEN_ACTS = frozenset({"open", "clear", "unblock", "resolve"})
"""Actions on a cell that need a technician, if technicians are named."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The user and process at the other end of a connection, from the kernel."""

    uid: int
    name: str
    known: bool = True
    """Whether this machine has a name for the user; otherwise `name` is made up."""


def peer_of(connection: socket.socket) -> Peer | None:
    """The other end of a Unix socket; None if it is no Unix socket."""
    if connection.family != socket.AF_UNIX:
        return None
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid = struct.unpack("3i", raw)[1]
    return named(uid)


def named(uid: int) -> Peer:
    """A user from the machine's list of users; `uid 1234` if he is not in it."""
    try:
        return Peer(uid, pwd.getpwuid(uid).pw_name)
    except KeyError:
        return Peer(uid, f"uid {uid}", known=False)


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@dataclass(slots=True)
class _Tries:
    """Wrong PINs in a row from one user's processes, and until when (loop's clock) further ones are
    refused."""

    wrong: int = 0
    until_s: float = 0.0


class Access:
    """The permissions of the configuration's `[access]`."""

    def __init__(self, kiosk_users: frozenset[str] = frozenset(), technicians: Path | None = None) -> None:
        self._kiosk_users = kiosk_users
        self._technicians = technicians
        self.connections = Counts()
        """Counters of the connections to the local API."""
        self._tries: dict[int | None, _Tries] = {}
        self._one_at_a_time = asyncio.Lock()

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """As configured. Raises `ConfigError` if the socket cannot be given to the group."""
        access = settings.access
        if access.group is not None:
            group_of(access.group)
        for name in access.kiosk_users:
            if not _is_user(name):
                log.error("unknown kiosk user: no process is restricted to codes by it", user=name)
        file = None if access.technicians_file is None else settings.path(access.technicians_file)
        if file is not None:
            try:
                log.info("technicians", names=sorted(read(file)))
            except TechniciansFault as fault:
                log.error("no technician can open a door", reason=str(fault))
        return cls(frozenset(access.kiosk_users), file)

    def may(self, peer: Peer | None, method: str, path: str) -> bool:
        """Whether a caller may make this request at all; an unknown caller counts as a kiosk.

        The daemon itself may always ask whether it is alive.
        """
        if not self._kiosk_users:
            return True
        own = peer is not None and peer.uid == os.geteuid()
        unknown = peer is None or peer.uid == NOBODY_KNOWN or not (peer.known or own)
        kiosk = unknown or (peer is not None and peer.name in self._kiosk_users)
        return not kiosk or (method, path) == ("POST", "/v1/code") or (own and path == ALIVE)

    async def actor(self, request: Request, *, proven: bool) -> str:
        """The actor of a request.

        Raises `Refusal`: `UNAUTHENTICATED` if a technician is needed (`proven`) and no PIN came,
        `PERMISSION_DENIED` if it was wrong, or if too many were.
        """
        peer = peer_in(request.scope)
        own = "" if peer is None else peer.name
        if self._technicians is None:
            return own
        pin = request.headers.get(PIN_HEADER)
        if pin is None:
            if proven:
                raise Refusal(Code.UNAUTHENTICATED, "a technician's PIN is needed for this")
            return own
        name = unquote(request.headers.get(NAME_HEADER, "")) or own
        await self._prove(name, unquote(pin), peer)
        return name

    async def _prove(self, name: str, pin: str, peer: Peer | None) -> None:
        """Returns if it is the technician's PIN. One check at a time, so that no caller can try many at
        once."""
        assert self._technicians is not None
        async with self._one_at_a_time:
            now_s = asyncio.get_running_loop().time()
            uid = None if peer is None else peer.uid
            tries = self._tries.get(uid, _Tries())
            if now_s > tries.until_s + FORGIVEN_S:
                tries = _Tries()
            if now_s < tries.until_s:
                left = f"{tries.until_s - now_s:.0f} s"
                raise Refusal(Code.PERMISSION_DENIED, f"too many wrong PINs: try again in {left}")
            try:
                known = read(self._technicians)
            except TechniciansFault as fault:
                raise Refusal(Code.PERMISSION_DENIED, f"no technician is admitted: {fault}") from None
            if await asyncio.to_thread(_is_right, known.get(name), pin):
                self._tries.pop(uid, None)
                return
            wrong = tries.wrong + 1
            pause_s = FIRST_PAUSE_S * 2 ** max(0, min(wrong - FREE_TRIES, 16)) if wrong >= FREE_TRIES else 0.0
            ended_s = asyncio.get_running_loop().time() + min(pause_s, LONGEST_PAUSE_S)
            self._tries[uid] = _Tries(wrong, ended_s)
            # An unknown name might be a PIN that was typed in the wrong field.
            log.warning("wrong PIN", name=name if name in known else "unknown", uid=uid, in_a_row=wrong)
            raise Refusal(Code.PERMISSION_DENIED, "wrong name or PIN of a technician")


def _is_right(known: Hashed | None, pin: str) -> bool:
    """Whether this is the technician's PIN. An unknown name takes as long as a known one, and is never
    right."""
    if known is None:
        hashed(pin)
        return False
    return known.matches(pin)


def peer_in(scope: Scope) -> Peer | None:
    """The peer of a request; None if it did not come over our socket."""
    found = scope.get("state", {}).get(PEER)
    return found if isinstance(found, Peer) else None


class PermissionMiddleware:
    """Passes on permitted requests and answers the others with `PERMISSION_DENIED`."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request (ASGI)."""
        peer = peer_in(scope)
        if scope["type"] != "http" or self._access.may(peer, scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        refusal = Refusal(Code.PERMISSION_DENIED, "a kiosk may only send codes")
        log.warning("request refused", peer=None if peer is None else peer.name, path=_known(scope["path"]))
        await JSONResponse(rpc_status(refusal), 403)(scope, receive, send)


def _known(path: str) -> str:
    """The beginning of a path, which is ours; the rest may be any text."""
    return "/".join(path.split("/")[:3])[:32]


def group_of(name: str) -> int:
    """The id of the group that may use the socket. Raises `ConfigError` if the socket cannot be given to
    it."""
    try:
        gid = grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError([Finding("access.group", f"there is no group {name!r}")]) from None
    if os.geteuid() != 0 and gid not in (os.getegid(), *os.getgroups()):
        problem = f"the socket cannot be given to {name!r}: the daemon's user is not in that group"
        raise ConfigError([Finding("access.group", problem)])
    return gid


def state_of(connection: Any) -> dict[str, Any]:
    """The initial state of a connection's requests."""
    peer = peer_of(connection)
    return {} if peer is None else {PEER: peer}
