"""Checks the sender of a command: Ed25519 signatures and replays; the only file that imports PyNaCl.

`edge_agent.protocol.signing` defines what is signed. PyNaCl is imported only if keys are configured.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from edge_agent.cloud.challenges import Challenges
from edge_agent.errors import Code, Forged
from edge_agent.model import Instant
from edge_agent.protocol.broker import key_bytes
from edge_agent.protocol.commands import QUERIES, UNDATED_LIFETIME_S, Command, longest_life_s
from edge_agent.protocol.signing import signed_bytes
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.incoming import IncomingCommand

REMEMBERED = 4096
"""At most this many signatures are remembered. Only a holder of a key can fill the table; those of the
commands that expire first are then dropped."""


class SignatureCheck:
    """Admits what a configured key has signed for this machine, once."""

    def __init__(self, keys: Mapping[str, str], machine_id: str, challenges: Challenges) -> None:
        """`keys`: Ed25519 public keys in base64, by name."""
        from nacl.exceptions import BadSignatureError
        from nacl.signing import VerifyKey

        self._bad_signature_error: type[Exception] = BadSignatureError
        self._keys: dict[str, Any] = {name: VerifyKey(key_bytes(text)) for name, text in keys.items()}
        self._topics = Topics(machine_id)
        self._challenges = challenges
        self._seen: dict[bytes, int] = {}
        """Signatures, and the CLOCK_BOOTTIME from which their commands can no longer act."""

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
        if name not in QUERIES:
            self._challenges.require_present(command, now)

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
        command = Command.model_validate_json(incoming.payload)
    except ValidationError:
        return UNDATED_LIFETIME_S  # it never acts, but a repetition is still a replay
    # With an unsynchronised clock the challenge of a door-opening command expires earlier than this.
    return longest_life_s(incoming.command, command, now)
