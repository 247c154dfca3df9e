"""Turns a message from the broker into a command for the `CommandHandler`.

A machine without a synchronised clock knows a command's age only from its Message Expiry Interval, which the
broker no longer counts down once it has sent the message. A message that waited in our own socket because
this process stood still (starved, stopped, swapped out) is older than that interval shows: `StallWatch`
notices that.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from edge_agent.mqtt.messages import Received
from edge_agent.protocol.signing import SIGNATURE, SIGNATURE_KEY
from edge_agent.runtime.incoming import IncomingCommand

LONGEST_ID = 1024
"""Longest X-Request-ID, in characters; the API takes the same length."""
BEAT_S = 0.25
"""Interval of the timer of `StallWatch`."""
STALLED_S = 0.5
"""A timer that runs this late shows a stall, not jitter."""
AFTERMATH_S = 1.0
"""Messages read within this time after a stall are assumed to have waited through it."""


class StallWatch:
    """Detects that the event loop stood still: a timer that runs between `start` and `stop` was late."""

    def __init__(self) -> None:
        self._due_s = 0.0
        self._stall_s = 0.0
        self._stall_end_s = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starts the timer."""
        loop = asyncio.get_running_loop()
        self._due_s = loop.time() + BEAT_S
        self._timer = loop.call_at(self._due_s, self._beat)

    def stop(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stalled_s(self) -> float:
        """How long, at most, a message that is read now may have waited for us; 0.0 without a stall."""
        now_s = asyncio.get_running_loop().time()
        late_s = now_s - self._due_s
        if late_s > STALLED_S:
            return late_s + BEAT_S
        return self._stall_s if now_s - self._stall_end_s < AFTERMATH_S else 0.0

    def _beat(self) -> None:
        now_s = asyncio.get_running_loop().time()
        late_s = now_s - self._due_s
        if late_s > STALLED_S:
            self._stall_s, self._stall_end_s = late_s + BEAT_S, now_s
        self.start()


def incoming_of(message: Received, acknowledge: Callable[[], None], stalled_s: float) -> IncomingCommand:
    """The command in a message, which may have waited in our socket for up to `stalled_s`."""
    expiry_s = message.expiry_s
    if expiry_s is not None:
        expiry_s = max(0, expiry_s - math.ceil(stalled_s))
    user = dict(message.user)
    return IncomingCommand(
        topic=message.topic,
        command=message.topic.rsplit("/", 1)[-1],
        payload=message.payload,
        acknowledge=acknowledge,
        response_topic=message.response_topic,
        correlation=message.correlation,
        message_expiry_s=expiry_s,
        x_request_id=_printable(user.get("x-request-id")),
        retained=message.retained,
        without_properties=message.without_properties,
        signature=user.get(SIGNATURE),
        signature_key=user.get(SIGNATURE_KEY),
        duplicate=message.duplicate,
    )


def _printable(text: str | None) -> str | None:
    """For a field that any client of the broker may fill: no longer than an id, and printable text only."""
    return None if text is None else "".join(filter(str.isprintable, text[:LONGEST_ID]))
