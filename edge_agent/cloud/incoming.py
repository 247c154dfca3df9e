"""Turns a message from the library into a command for the request handler; imports no MQTT library."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from edge_agent.protocol.signing import SIGNATURE, SIGNATURE_KEY
from edge_agent.runtime.incoming import Incoming

PROPERTIES = (
    "PayloadFormatIndicator",
    "MessageExpiryInterval",
    "ContentType",
    "ResponseTopic",
    "CorrelationData",
    "UserProperty",
)
"""MQTT 5 properties that a sender may give a publication, as paho names them."""
LONGEST_ID = 1024
"""Longest X-Request-ID, in characters; the API takes the same length."""


def incoming(message: Any, acknowledge: Callable[[], None], stalled_s: float) -> Incoming:
    """The content of a paho message. It may have waited for us unnoticed for `stalled_s`."""
    properties = message.properties
    expiry_s: int | None = getattr(properties, "MessageExpiryInterval", None)
    if expiry_s is not None:
        expiry_s = max(0, expiry_s - math.ceil(stalled_s))
    user = dict(getattr(properties, "UserProperty", []))
    return Incoming(
        topic=message.topic,
        command=message.topic.rsplit("/", 1)[-1],
        payload=bytes(message.payload),
        acknowledge=acknowledge,
        response_topic=getattr(properties, "ResponseTopic", None),
        correlation=getattr(properties, "CorrelationData", None),
        message_expiry_s=expiry_s,
        x_request_id=_printable(user.get("x-request-id")),
        retained=message.retain,
        stripped=not any(hasattr(properties, name) for name in PROPERTIES),
        signature=user.get(SIGNATURE),
        signature_key=user.get(SIGNATURE_KEY),
        duplicate=message.dup,
    )


def _printable(text: str | None) -> str | None:
    """For a field that any client of the broker may fill: no longer than an id, and printable text only."""
    return None if text is None else "".join(filter(str.isprintable, text[:LONGEST_ID]))
