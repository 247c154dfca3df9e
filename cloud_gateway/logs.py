"""The gateway's own log: one JSON object a line on stderr.

No log line holds a key, a code or a QR text: requests are named by their route's template, errors by their
type and place, webhooks by their receiver's host. Repeated lines are counted instead of written, so that no
client can fill the disk.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import structlog

REPEATS_MAX = 20
WINDOW_S = 60.0
"""How many lines of one kind are written in a window; the first one after it counts the suppressed ones."""
KINDS_MAX = 1000
ALWAYS = frozenset({"command", "webhook_delivered", "lines_not_written"})
"""Lines that are never suppressed: each is the act of a known client or operator."""
NAMES = ("machine_id", "topic", "platform", "route", "status", "host", "part")
"""Fields that make lines of one event different kinds; never one that a client without a key chooses
freely."""


@dataclass(slots=True)
class _Kind:
    began_s: float
    written: int = 0
    dropped: int = 0


class Repeats:
    """Decides which lines are written. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._kinds: OrderedDict[tuple[object, ...], _Kind] = OrderedDict()

    def __call__(self, _logger: Any, _name: str, line: Any) -> Any:
        """A structlog processor. Raises `DropEvent` for a line too many."""
        event = line.get("event")
        if event in ALWAYS or (event == "request" and line.get("platform") is not None):
            return line
        kind = (event, *(line.get(name) for name in NAMES))
        earlier = self.passes(kind)
        if earlier is None:
            raise structlog.DropEvent
        return {**line, "not_written": earlier} if earlier else line

    def passes(self, kind: tuple[object, ...]) -> int | None:
        """None for a line too many; else how many of its kind were suppressed before it."""
        now_s, earlier = self._clock(), 0
        found = self._kinds.get(kind)
        if found is None or now_s - found.began_s >= WINDOW_S:
            earlier = 0 if found is None else found.dropped
            found = self._kinds[kind] = _Kind(now_s)
        self._kinds.move_to_end(kind)
        if len(self._kinds) > KINDS_MAX:
            self._kinds.popitem(last=False)
        if found.written >= REPEATS_MAX:
            found.dropped += 1
            return None
        found.written += 1
        return earlier

    def overdue(self) -> list[tuple[str, int]]:
        """Kinds whose window is over and that had suppressed lines: the event, and how many."""
        now_s = self._clock()
        over = [(kind, found) for kind, found in self._kinds.items() if now_s - found.began_s >= WINDOW_S]
        for kind, _ in over:
            del self._kinds[kind]
        return [(str(kind[0]), found.dropped) for kind, found in over if found.dropped]


class _Filter(logging.Filter):
    """Suppresses repeated log lines of libraries, as `Repeats` does for ours."""

    def __init__(self, repeats: Repeats) -> None:
        super().__init__()
        self._repeats = repeats

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        return self._repeats.passes((record.name, record.levelno, record.msg)) is not None


REPEATS = Repeats()


def configure() -> None:
    """Sends this process's log to stderr; libraries from WARNING on only."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(_Filter(REPEATS))
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            REPEATS,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def log() -> Any:
    """The logger."""
    return structlog.get_logger()


def log_suppressed_counts() -> None:
    """Logs the number of suppressed lines of each kind whose window is over. Called periodically."""
    for event, count in REPEATS.overdue():
        log().warning("lines_not_written", line=event, count=count)


def error_fields(error: BaseException) -> dict[str, Any]:
    """An error for the log: its type and place; never its message, which may quote received data."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "at": [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames[-6:]],
    }
