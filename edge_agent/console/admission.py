"""Decides which connections to a local server are kept when there are more than it can hold.

Every peer (a user of the machine, or an address) and all peers together have a cap, far below the limit of
open files, so that buses, journal and broker always get a descriptor. At a cap the connection that has waited
longest for a complete request is closed in favour of the new one. A client that sends its request at once is
therefore served, however many others hold half a request open. Connections whose request is being answered
are never closed; if only such connections are left, the new one gets status 503.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import structlog

log = structlog.get_logger()

DESCRIPTORS_KEPT = 96
"""File descriptors that connections never use: for buses, journal, broker, scanners and short-lived files."""
MOST_CONNECTIONS, FEWEST_CONNECTIONS = 64, 8
REQUEST_S = 10.0
"""Time for a complete request head, and again for the complete body."""
REPORT_S = 60.0
"""Connections that were closed or refused are logged at most this often, with their numbers."""

Peer = tuple[str, int | str]
Phase = Literal["head", "body", "answer"]
OURSELVES: Peer = ("pid", "own")
"""The daemon's own requests to its API: never refused, else the watchdog would end a daemon that serves."""


@dataclass(frozen=True, slots=True)
class Caps:
    """The most connections at once, in total and from one peer."""

    total: int
    each: int


def caps_for(descriptors: int) -> Caps:
    """The caps for a limit of open files. `each` leaves half of all connections to other peers."""
    total = max(FEWEST_CONNECTIONS, min(MOST_CONNECTIONS, descriptors - DESCRIPTORS_KEPT))
    return Caps(total, total // 2)


def caps_here() -> Caps:
    """The caps of this process; logs a limit of open files that is too low for all connections."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    descriptors = MOST_CONNECTIONS + DESCRIPTORS_KEPT if soft == resource.RLIM_INFINITY else soft
    if descriptors < MOST_CONNECTIONS + DESCRIPTORS_KEPT:
        needed = MOST_CONNECTIONS + DESCRIPTORS_KEPT
        log.warning("the limit of open files is low (LimitNOFILE)", limit=descriptors, needed=needed)
    return caps_for(descriptors)


def peer_key(connection: socket.socket) -> Peer:
    """Identifies the other end: the user as the kernel reports it, or the address."""
    if connection.family == socket.AF_UNIX:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", raw)
        return OURSELVES if pid == os.getpid() else ("uid", int(uid))
    return "address", str(connection.getpeername()[0])


@dataclass(slots=True, eq=False)
class Admitted:
    """One admitted connection, which may be ended before it is set up."""

    peer: Peer
    phase: Phase = "head"
    _abort: Callable[[], None] | None = None
    _gone: bool = False

    def set_up(self, abort: Callable[[], None]) -> bool:
        """Notes how the connection is ended; False, and it is ended, if it must not be set up any more."""
        self._abort = abort
        if self._gone:
            abort()
        return not self._gone

    @property
    def gone(self) -> bool:
        """Whether it was ended."""
        return self._gone

    def end(self) -> None:
        """Ends the connection, now or as soon as it is set up."""
        self._gone = True
        if self._abort is not None:
            self._abort()


@dataclass(slots=True)
class Counts:
    """Counters of connections since the start, for operators."""

    accepted: int = 0
    displaced: int = 0
    """Closed in favour of a newer one."""
    refused: int = 0
    timed_out: int = 0
    accept_errors: int = 0


@dataclass(slots=True)
class Admission:
    """Admits connections and keeps their number below the caps. Oldest first in `_inside`."""

    caps: Caps
    counts: Counts = field(default_factory=Counts)
    name: str = "local API"
    _inside: dict[Admitted, None] = field(default_factory=dict)
    _logged_at_s: float | None = None
    _logged: Counts = field(default_factory=Counts)

    def admit(self, peer: Peer) -> Admitted | None:
        """Admits a connection, in place of a waiting one if there is no room; None if it is refused."""
        if peer != OURSELVES and not self._room_for(peer):
            self.counts.refused += 1
            self.report(peer)
            return None
        self.counts.accepted += 1
        admitted = Admitted(peer)
        self._inside[admitted] = None
        return admitted

    def _room_for(self, peer: Peer) -> bool:
        numbers = Counter(one.peer for one in self._inside if one.peer != OURSELVES)
        if numbers[peer] >= self.caps.each:
            return self.displace(peer)
        if numbers.total() >= self.caps.total:
            most = max(numbers.values())
            return any(self.displace(other) for other, number in numbers.items() if number == most)
        return True

    def displace(self, peer: Peer | None = None) -> bool:
        """Closes the connection that has waited longest for a complete request, of one peer or of any."""
        for one in self._inside:
            if one.phase != "answer" and one.peer != OURSELVES and peer in (None, one.peer):
                self.leave(one)
                self.counts.displaced += 1
                self.report(one.peer)
                one.end()
                return True
        return False

    def enter_phase(self, admitted: Admitted, phase: Phase) -> None:
        """Records what a connection waits for. Its waiting time starts again after each answer."""
        if phase == "head" and admitted.phase != "head" and admitted in self._inside:
            del self._inside[admitted]
            self._inside[admitted] = None
        admitted.phase = phase

    def timed_out(self, admitted: Admitted) -> None:
        """Counts a connection whose request was not complete in time."""
        self.counts.timed_out += 1
        self.report(admitted.peer)

    def accept_failed(self) -> None:
        """Counts a connection that the kernel could not give us; closes a waiting one to make room."""
        self.counts.accept_errors += 1
        self.displace()
        self.report(None)

    def leave(self, admitted: Admitted) -> None:
        """Removes a connection that has ended."""
        self._inside.pop(admitted, None)

    def __len__(self) -> int:
        return len(self._inside)

    def report(self, peer: Peer | None) -> None:
        """Logs the numbers since the last line, at most once in `REPORT_S`."""
        now_s = asyncio.get_running_loop().time()
        if self._logged_at_s is not None and now_s - self._logged_at_s < REPORT_S:
            return
        self._logged_at_s = now_s
        names = ("displaced", "refused", "timed_out", "accept_errors")
        since = {name: getattr(self.counts, name) - getattr(self._logged, name) for name in names}
        self._logged = Counts(**{name: getattr(self.counts, name) for name in names})
        named = None if peer is None else f"{peer[0]} {peer[1]}"
        log.warning(f"{self.name}: connections ended", peer=named, open=len(self), **since)
