"""Checks the sender of a command: Ed25519 signatures, replays, challenges; the only file that imports PyNaCl.

`edge_agent.protocol.signing` defines what is signed. PyNaCl is imported only if keys are configured.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any

from edge_agent.errors import Code, Forged, Refusal
from edge_agent.model import Instant
from edge_agent.protocol.broker import key_bytes
from edge_agent.protocol.commands import QUERIES, UNDATED_LIFETIME_S, Command, decode, longest_life_s
from edge_agent.protocol.signing import signed_bytes
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.ids import Ids
from edge_agent.runtime.incoming import IncomingCommand

CHALLENGE_S = 15.0
"""A challenge is renewed this often; the previous one stays valid for as long again."""
CHALLENGE_NS = round(CHALLENGE_S * 1e9)
CHALLENGE_LIFE_NS = 2 * CHALLENGE_NS
CHALLENGE_CHECK_S = 1.0
"""A challenge that is due, and a clock that lost its time, are noticed within this time."""
REMEMBERED = 4096
"""At most this many signatures are remembered. Only a holder of a key can fill the table; those of the
commands that expire first are then dropped."""


class SignatureCheck:
    """Admits what a configured key has signed for this machine, once.

    While the clock is not synchronised, only the broker shows a command's age. A command that does more than
    query must then repeat a challenge that this machine published a moment ago: it cannot have been signed
    earlier. Challenges are made all the time, so that one exists when the clock loses its time.
    """

    def __init__(self, keys: Mapping[str, str], machine_id: str, ids: Ids) -> None:
        """`keys`: Ed25519 public keys in base64, by name."""
        from nacl.exceptions import BadSignatureError
        from nacl.signing import VerifyKey

        self._bad_signature_error: type[Exception] = BadSignatureError
        self._keys: dict[str, Any] = {name: VerifyKey(key_bytes(text)) for name, text in keys.items()}
        self._topics = Topics(machine_id)
        self._ids = ids
        self._seen: dict[bytes, int] = {}
        """Signatures, and the CLOCK_BOOTTIME from which their commands can no longer act."""
        self._challenges: list[tuple[bytes, int]] = []
        """The present one and the one before it, each with its time of creation."""
        self._published: str | None = None

    def challenge(self, now: Instant) -> str | None:
        """The challenge for `state/online`; None while the clock is synchronised."""
        return None if now.synced or not self._challenges else self._challenges[0][0].decode("ascii")

    def renew(self, now: Instant) -> bool:
        """Makes a new challenge if the present one has expired; True if `state/online` has to be
        published."""
        if not self._challenges or now.boottime_ns - self._challenges[0][1] >= CHALLENGE_NS:
            made = (self._ids.unique("challenge").encode("ascii"), now.boottime_ns)
            self._challenges = [made, *self._challenges[:1]]
        before, self._published = self._published, self.challenge(now)
        return self._published != before

    def admit(self, incoming: IncomingCommand, now: Instant) -> bool:
        """True for a command that is new, False for one that the broker delivers again.

        Raises `Forged` for a command that no known key has signed for us, and for a repeated message without
        MQTT's DUP flag.
        """
        signature = self._verified(incoming)
        self._forget(now)
        if signature in self._seen:
            if not incoming.duplicate:
                raise Forged(Code.PERMISSION_DENIED, "the same signed command was sent before")
            return False
        ends_ns = now.boottime_ns + round(_life_s(incoming, now) * 1e9)
        if ends_ns > now.boottime_ns:  # otherwise it has expired, and never acts
            if len(self._seen) >= REMEMBERED:
                del self._seen[min(self._seen, key=self._seen.__getitem__)]
            self._seen[signature] = ends_ns
        return True

    def require_present_challenge(self, name: str, command: Command, now: Instant) -> None:
        """Raises `Refusal` (`EXPIRED`) for a command that would change something and may have been held
        back."""
        if now.synced or name in QUERIES:
            return
        repeated, is_present = command.challenge.encode(), False
        for challenge, made_ns in self._challenges:
            lives = now.boottime_ns - made_ns < CHALLENGE_LIFE_NS
            is_present |= hmac.compare_digest(challenge, repeated) and lives
        if not is_present:
            raise Refusal(Code.EXPIRED, "the command does not repeat the machine's present challenge")

    def _verified(self, incoming: IncomingCommand) -> bytes:
        """The signature. Raises `Forged` unless it is valid."""
        if incoming.signature is None or incoming.signature_key is None:
            raise Forged(Code.PERMISSION_DENIED, "the command is not signed")
        key = self._keys.get(incoming.signature_key)
        if key is None:
            raise Forged(Code.PERMISSION_DENIED, "the command is signed with a key that is not configured")
        if incoming.topic != self._topics.command(incoming.command):
            raise Forged(Code.PERMISSION_DENIED, "the command arrived on another topic than its own")
        try:
            signature = base64.b64decode(incoming.signature, validate=True)
            key.verify(signed_bytes(incoming.topic, incoming.payload), signature)
        except (self._bad_signature_error, binascii.Error, ValueError):
            raise Forged(Code.PERMISSION_DENIED, "the signature is wrong") from None
        return signature

    def _forget(self, now: Instant) -> None:
        over = [signature for signature, ends_ns in self._seen.items() if ends_ns <= now.boottime_ns]
        for signature in over:
            del self._seen[signature]


def _life_s(incoming: IncomingCommand, now: Instant) -> float:
    """For how many seconds its signature is remembered."""
    try:
        command = decode(incoming.command, incoming.payload)
    except Refusal:
        return UNDATED_LIFETIME_S  # it never acts, but a repetition is still a replay
    # With an unsynchronised clock the challenge of a door-opening command expires earlier than this.
    return longest_life_s(incoming.command, command, now)
