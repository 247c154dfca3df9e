"""The gateway's own log: one JSON object a line on stderr.

Nothing logged here holds a key, a code or a QR text: requests are told by their route's template, errors
by their type and place, webhooks by their receiver's host.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import structlog


def configure() -> None:
    """Sends this process's log to stderr; libraries only from WARNING on."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def log() -> Any:
    """The logger."""
    return structlog.get_logger()


def where(error: BaseException) -> dict[str, Any]:
    """An error for the log: its type and place; never its message, which may quote what was sent."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "at": [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames[-6:]],
    }
