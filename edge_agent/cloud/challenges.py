"""Challenges: texts that a command must repeat while this machine does not know the time.

While the clock is not synchronised, only the broker shows a command's age. A command that does more than
query must then repeat a challenge that this machine published a moment ago: it cannot have been signed
earlier.
"""

from __future__ import annotations

import hmac

from edge_agent.errors import Code, Refusal
from edge_agent.model import Instant
from edge_agent.protocol.commands import Command
from edge_agent.runtime.ids import Ids

CHALLENGE_S = 15.0
"""A challenge is renewed this often; the previous one stays valid for as long again."""
CHALLENGE_NS = round(CHALLENGE_S * 1e9)
CHALLENGE_LIFE_NS = 2 * CHALLENGE_NS
CHALLENGE_CHECK_S = 1.0
"""A challenge that is due, and a clock that lost its time, are noticed within this time."""


class Challenges:
    """Makes challenges all the time, so that one exists when the clock loses its time."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._made: list[tuple[bytes, int]] = []
        """The present one and the one before it, each with its time of creation."""
        self._published: str | None = None

    def present(self, now: Instant) -> str | None:
        """The challenge for `state/online`; None while the clock is synchronised."""
        return None if now.synced or not self._made else self._made[0][0].decode("ascii")

    def renew(self, now: Instant) -> bool:
        """Makes a new challenge if the present one has expired; True if `state/online` has to be
        published."""
        if not self._made or now.boottime_ns - self._made[0][1] >= CHALLENGE_NS:
            made = (self._ids.unique("challenge").encode("ascii"), now.boottime_ns)
            self._made = [made, *self._made[:1]]
        before, self._published = self._published, self.present(now)
        return self._published != before

    def require_present(self, command: Command, now: Instant) -> None:
        """Raises `Refusal` (`EXPIRED`) for a command that may have been held back."""
        if now.synced:
            return
        repeated, is_present = command.challenge.encode(), False
        for challenge, made_ns in self._made:
            lives = now.boottime_ns - made_ns < CHALLENGE_LIFE_NS
            is_present |= hmac.compare_digest(challenge, repeated) and lives
        if not is_present:
            raise Refusal(Code.EXPIRED, "the command does not repeat the machine's present challenge")
