"""What is checked of every command that arrives from the broker, before its content."""

from __future__ import annotations

from edge_agent.errors import Code, Forged, Unreadable
from edge_agent.runtime.incoming import IncomingCommand

WITHOUT_PROPERTIES = (
    "the command carries no MQTT 5 property: something on its way, such as a bridge, uses MQTT 3.1.1"
)
"""Why a command without properties is rejected."""


def require_properties(incoming: IncomingCommand) -> None:
    """Raises `Unreadable` for a command without any MQTT 5 property."""
    if incoming.without_properties:
        raise Unreadable(Code.INVALID_ARGUMENT, WITHOUT_PROPERTIES)


def require_our_reply_topic(incoming: IncomingCommand, replies: str) -> None:
    """Raises `Forged` for a Response Topic that is not below `replies`: a reply on it could pass for another
    machine's."""
    if incoming.response_topic is None:
        return
    suffix = incoming.response_topic.removeprefix(replies)
    if suffix in ("", incoming.response_topic) or set(suffix) & set("+#\0"):
        why = "the Response Topic of the command is not one of this machine"
        raise Forged(Code.PERMISSION_DENIED, why)
