"""The limits of a broker (MQTT 5, 3.2.2.3), and how messages that are too big for it are handled."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import structlog

from edge_agent.errors import Code, Refusal
from edge_agent.mqtt.messages import Message
from edge_agent.protocol.api import rpc_status
from edge_agent.protocol.topics import CONTENT_TYPE

log = structlog.get_logger()

OVERHEAD_BYTES = 5 + 2 + 2 + 4 + 3 + len(CONTENT_TYPE) + 3
"""Longest PUBLISH without topic, payload and Correlation Data (MQTT 5, 3.3)."""
UTF8_BYTES = 4
"""Longest encoding of a character."""


class BrokerLimits:
    """The limits of one connection, from the properties of its CONNACK."""

    def __init__(self, connack: Any) -> None:
        self.receive_maximum: int = getattr(connack, "ReceiveMaximum", 65_535)
        self._packet_bytes: int | None = getattr(connack, "MaximumPacketSize", None)
        self._logged: set[str] = set()

    def fitting(self, message: Message, replies: str) -> Message | None:
        """The message, if the broker accepts its size. A reply (its topic begins with `replies`) that is too
        big is replaced by an error; for anything else the result is None, and the message counts as refused.

        The broker would end the connection over it, again at each attempt.
        """
        if self._takes(message):
            return message
        is_reply = message.topic.startswith(replies)
        kind = replies if is_reply else message.topic
        if kind not in self._logged:
            self._logged.add(kind)
            size = len(message.payload.encode())
            log.error("a message is too big for the broker", topic=kind, bytes=size, limit=self._packet_bytes)
        refusal = Refusal(Code.INTERNAL, "the reply is bigger than the broker accepts")
        error = replace(message, payload=json.dumps({"error": rpc_status(refusal)}))
        return error if is_reply and self._takes(error) else None

    def fits(self, topic: str, payload: str) -> bool:
        """Whether the broker accepts the size of a message without Correlation Data."""
        # No topic begins with "\0": the message is no reply, and nothing takes its place.
        return self._packet_bytes is None or self.fitting(Message(topic, payload), "\0") is not None

    def _takes(self, message: Message) -> bool:
        if self._packet_bytes is None:
            return True
        around = OVERHEAD_BYTES + len(message.topic.encode()) + len(message.correlation or b"")
        left = self._packet_bytes - around
        return len(message.payload) * UTF8_BYTES <= left or len(message.payload.encode()) <= left
