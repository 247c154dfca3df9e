"""Kiosk sessions: the right of the person at the screen to exchange the cell for a larger one.

A session holds no code. It names a reservation to the daemon, never to the page, lives in memory only, and
ends with the time in which a larger cell is given.
"""

from __future__ import annotations

from edge_agent.runtime.ids import Ids

SESSIONS_MAX = 8
"""Sessions at the same time; one more ends the oldest."""


class KioskSessions:
    """The sessions that the screen has been given."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._sessions: dict[str, tuple[str, int]] = {}

    def begin(self, reservation_id: str, ends_ns: int) -> str:
        """The token of a new session for a reservation, until `ends_ns` (CLOCK_BOOTTIME). It replaces an
        earlier session of the reservation."""
        others = [item for item in self._sessions.items() if item[1][0] != reservation_id]
        self._sessions = dict(others[1 - SESSIONS_MAX :])
        token = self._ids.unique("session")
        self._sessions[token] = (reservation_id, ends_ns)
        return token

    def reservation_of(self, token: str, now_ns: int) -> str | None:
        """The reservation of a session at `now_ns` (CLOCK_BOOTTIME); None if there is no such session."""
        reservation_id, ends_ns = self._sessions.get(token, ("", 0))
        return reservation_id if now_ns < ends_ns else None
