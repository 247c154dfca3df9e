"""Where the daemon's log goes: key-value lines on stderr, or entries with fields if stderr is the journal.

The journal's native protocol is a datagram of `FIELD=value` lines; a value with line breaks is `FIELD`, a
line break, its length in 8 bytes (little endian) and the value (systemd, "Native Journal Protocol"). Each key
of an entry becomes a field, `cell` for instance `EDGE_CELL`, so that `journalctl EDGE_CELL=A01` finds it.
"""

from __future__ import annotations

import logging
import os
import re
import select
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import structlog

from edge_agent.runtime.clock import monotonic_s

JOURNAL = "/run/systemd/journal/socket"
IDENTIFIER = "edge-agent"
PRIORITIES = {"critical": 2, "error": 3, "exception": 3, "warning": 4, "info": 6, "debug": 7}
"""The levels of syslog(3)."""
PATIENCE_S = 0.1
LONGEST_VALUE = 16_384
"""Characters; longer values are cut, so that no entry is too big for a datagram."""
APART = ("event", "level", "timestamp", "exception")
"""Keys that the journal stores in another way."""
BURST, PER_S = 200, 1.0
"""How many entries of one kind (level and event) are written in a row, and how many more each second
allows."""
LEFT_OUT = "left_out"
"""The key under which an entry gives the number and kind of entries that were not written."""
_LINES = structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"])


def configure(stream: TextIO, environment: Mapping[str, str], journal: str = JOURNAL) -> JournalLogger | None:
    """Sends the log of this process to `stream`, or to the journal if the stream is the journal's; returns
    the object that holds the connection to the journal, if any."""
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        RepeatLimit(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if goes_to_journal(stream, environment):
        logger = JournalLogger(journal, stream)
        structlog.configure(processors=[*processors, _whole], logger_factory=lambda *_: logger)
        return logger
    structlog.configure(processors=[*processors, _LINES], logger_factory=structlog.PrintLoggerFactory(stream))
    return None


@dataclass(slots=True)
class _Bucket:
    """How many entries of a kind may still be written, as of when, and how many were left out."""

    left: float
    at_s: float
    dropped: int = 0


class RepeatLimit:
    """Writes at most `BURST` entries of one kind in a row, then `PER_S`; counts the rest.

    The next entry that is written, of any kind, gives the number: a flood of equal entries cannot fill the
    disk. The kind is the event's fixed text, never external input.
    """

    def __init__(self, now_s: Callable[[], float] = monotonic_s) -> None:
        self._now_s = now_s
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def __call__(self, _logger: Any, method: str, event: Any) -> Any:
        """See `structlog.typing.Processor`."""
        now_s = self._now_s()
        kind = (method, str(event.get("event", "")))
        bucket = self._buckets.setdefault(kind, _Bucket(BURST, now_s))
        bucket.left = min(BURST, bucket.left + (now_s - bucket.at_s) * PER_S)
        bucket.at_s = now_s
        if bucket.left < 1:
            bucket.dropped += 1
            raise structlog.DropEvent
        bucket.left -= 1
        left_out = [f"{name}: {one.dropped}" for (_, name), one in self._buckets.items() if one.dropped]
        if left_out:
            event[LEFT_OUT] = ", ".join(left_out)
        # A full bucket can be dropped, which bounds the memory.
        full = [key for key, one in self._buckets.items() if _is_full(one, now_s)]
        for key in full:
            del self._buckets[key]
        for one in self._buckets.values():
            one.dropped = 0
        return event


def _is_full(bucket: _Bucket, now_s: float) -> bool:
    return bucket.left + (now_s - bucket.at_s) * PER_S >= BURST


class _Libraries(logging.Handler):
    """Turns the log entries of libraries into ours, one kind per library, with the same limit."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        given: dict[str, Any] = {"message": record.getMessage()}
        if record.exc_info:
            given["exc_info"] = record.exc_info
        level = record.levelname.lower()
        getattr(structlog.get_logger(), level if level in PRIORITIES else "error")(record.name, **given)


def goes_to_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether systemd has connected a stream with the journal (`JOURNAL_STREAM`)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def entry_of(event: Mapping[str, Any]) -> bytes:
    """A log entry in the journal's format. The message holds everything, for people; the fields are for
    programs."""
    shown = {key: value for key, value in event.items() if key not in APART}
    pairs = [f"{key}={_text(value)}" for key, value in shown.items()]
    message = " ".join([str(event.get("event", "")), *pairs])
    if "exception" in event:
        message += f"\n{event['exception']}"
    fields = {
        "MESSAGE": message,
        "PRIORITY": str(PRIORITIES.get(str(event.get("level")), 6)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "EDGE_EVENT": str(event.get("event", "")),
        **{_name(key): _text(value) for key, value in shown.items()},
    }
    return b"".join(_field(name, value[:LONGEST_VALUE]) for name, value in fields.items())


class JournalLogger:
    """The logger that structlog gives whole entries to. An entry that the journal does not take goes to the
    stream; if that does not take it either, it is lost and counted: doors matter more than logs."""

    def __init__(self, journal: str, stream: TextIO) -> None:
        self._journal = journal
        self._stream = stream
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._behind = False
        self._lost = 0

    def msg(self, event: dict[str, Any]) -> None:
        """Writes one entry, of any level."""
        if self._sent(event):
            lost, self._lost = self._lost, 0
            if lost and not self._sent({"event": "log entries were lost", "level": "warning", "count": lost}):
                self._lost = lost
        elif _takes(self._stream):
            print(_LINES(None, "", event), file=self._stream, flush=True)
        else:
            self._lost += 1

    def _sent(self, event: dict[str, Any]) -> bool:
        # Waits once, briefly, for a journal that is behind; not again before it has taken an entry.
        self._socket.settimeout(0.0 if self._behind else PATIENCE_S)
        try:
            self._socket.sendto(entry_of(event), self._journal)
        except OSError as error:
            self._behind = self._behind or isinstance(error, TimeoutError)
            return False
        self._behind = False
        return True

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    debug = info = warning = error = critical = exception = msg


def _takes(stream: TextIO) -> bool:
    """Whether a stream takes data at once; assumed for a stream that is no file."""
    try:
        return bool(select.select((), (stream,), (), 0)[1])
    except (OSError, ValueError):
        return True


def _whole(_logger: Any, _method: str, event: Any) -> tuple[tuple[Any], dict[str, Any]]:
    """The last processor: passes the entry unchanged to the logger."""
    return (dict(event),), {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _name(key: str) -> str:
    """A field's name: capital letters, digits and underscores, at most 64."""
    return ("EDGE_" + re.sub(r"[^A-Z0-9_]", "_", key.upper()))[:64]


def _field(name: str, value: str) -> bytes:
    data = value.encode(errors="replace")
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
