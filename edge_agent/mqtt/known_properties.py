"""Reads PUBLISH packets; properties that come again are not decoded again.

Machines publish events and states with the same few properties. What is unusual or malformed is left to the
library (MQTT 5, 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.mqtt import packets

KEPT_MAX = 32
"""How many different properties are kept."""
LONGEST = 127
"""The longest properties that are kept, in bytes: their length takes one byte (MQTT 5, 1.5.5)."""


@dataclass(slots=True)
class PublishedMessage:
    """A message as the library would give it (`LibraryMessage`)."""

    topic: str
    payload: bytes
    properties: object
    mid: int
    qos: int
    retain: bool
    dup: bool


class KnownProperties:
    """The properties that one connection has received. Used on the library's thread."""

    def __init__(self) -> None:
        self._by_bytes: dict[bytes, object] = {}

    def read(self, command: int, packet: bytes | bytearray) -> PublishedMessage | None:
        """Reads a PUBLISH; None if the library has to.

        `command`: the first byte of the fixed header; `packet`: what follows the remaining length.
        """
        qos = command >> 1 & 3
        topic_end = 2 + int.from_bytes(packet[:2], "big")
        start = topic_end + (2 if qos else 0)
        if qos > 1 or topic_end <= 2 or start >= len(packet) or packet[start] > LONGEST:
            return None
        end = start + 1 + packet[start]
        properties = self._properties(bytes(packet[start:end])) if end <= len(packet) else None
        if properties is None:
            return None
        try:
            topic = bytes(packet[2:topic_end]).decode()
        except UnicodeDecodeError:
            return None
        mid = int.from_bytes(packet[topic_end:start], "big")
        return PublishedMessage(
            topic, bytes(packet[end:]), properties, mid, qos, bool(command & 1), bool(command & 8)
        )

    def _properties(self, packed: bytes) -> object | None:
        """`packed`: the properties with their length."""
        known = self._by_bytes.get(packed)
        if known is None:
            known = packets.unpacked(packed)
            if known is not None and len(self._by_bytes) < KEPT_MAX and packets.are_common(known):
                self._by_bytes[packed] = known
        return known
