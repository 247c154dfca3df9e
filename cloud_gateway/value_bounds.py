"""Bounds of everything that a machine sends: JSON first, then each field by its name. Pure.

The protocol's models define the fields; this module limits their values. An error names the path of the field
and never its value, which may hold a code.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Any

from pydantic import BaseModel

from edge_agent.protocol.api import rfc3339

TIME_MIN_S = 0
TIME_MAX_S = 4_102_444_800
"""1970 to 2100. A machine whose clock was never set dates its events 1970."""
SEQUENCE_MAX = 2**53
UPTIME_MAX_MS = 10**12
"""31 years."""
TEXT_MAX = 4096
COLUMN_MAX = 1024
"""The longest text, and the longest that the database keeps in a column of its own."""
ID_MAX = 200
NAME_MAX = 64
LIST_MAX = 1024
"""Twice as many cells or reservations as a machine can have."""
DEPTH_MAX = 12
VALUES_MAX = 100_000
"""The most values in one document: the largest document is a reply to `sync`."""
DETAILS_MAX = 16

_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_MACHINE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOPIC_SIGNS = re.compile(r"[/+#]")
_DIGITS = re.compile(r"[0-9]{1,16}")


class OutOfBounds(ValueError):
    """A value that no machine may send; the text names its path and the fault, and can be logged."""


def read_json(payload: bytes, size_max: int, values_max: int = VALUES_MAX) -> Any:
    """Parses the document in a payload: UTF-8, finite numbers, no lone surrogates, bounded size, depth and
    number of values. Raises `OutOfBounds`."""
    check_json(payload, size_max, values_max)
    try:
        document = _DECODER.decode(payload.decode("utf-8"))
    except (ValueError, RecursionError):
        raise OutOfBounds("payload: not JSON in UTF-8") from None
    if b"\\ud" in payload or b"\\uD" in payload:
        check_text("payload", json.dumps(document, ensure_ascii=False))
    return document


def check_json(payload: bytes, size_max: int, values_max: int = VALUES_MAX) -> None:
    """Checks the size, depth and number of values of what should be JSON, before it is parsed. Raises
    `OutOfBounds`."""
    if len(payload) > size_max:
        raise OutOfBounds(f"payload: larger than {size_max} bytes")
    # A short payload, as every event's, is within the limits whatever its quoted texts hold.
    opening = payload.count(b"[") + payload.count(b"{")
    if opening <= DEPTH_MAX and len(payload) <= values_max:
        return
    bare = _without_texts(payload, values_max)
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > values_max:
        raise OutOfBounds(f"payload: more than {values_max} values")
    if not _is_shallow(bare):
        raise OutOfBounds(f"payload: deeper than {DEPTH_MAX} levels, or not JSON")


def is_shallow(payload: bytes) -> bool:
    """Whether JSON is no deeper than `DEPTH_MAX`; checked before parsing, which may be recursive."""
    return _is_shallow(_without_texts(payload, VALUES_MAX))


def _without_texts(payload: bytes, values_max: int) -> bytes:
    """JSON without its quoted texts, in linear time for any content. Raises `OutOfBounds` for more texts than
    allowed."""
    plain = payload.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * values_max:
        raise OutOfBounds(f"payload: more than {values_max} values")
    return b"".join(plain.split(b'"')[::2])


def _is_shallow(bare: bytes) -> bool:
    brackets = bare.translate(_BRACKETS, _NOT_BRACKETS)
    for _ in range(DEPTH_MAX):
        brackets = brackets.replace(b"[]", b"")
    return not brackets


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def check_text(path: str, text: str) -> None:
    """Raises `OutOfBounds` for a text that is not valid UTF-8: it has a lone surrogate."""
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise OutOfBounds(f"{path}: not Unicode text") from None


def is_machine_id(text: str) -> bool:
    """Whether a text can be a machine's id: a machine's configuration accepts no other."""
    return _MACHINE_ID.fullmatch(text) is not None


def moment_s(text: str) -> int:
    """An RFC 3339 time as whole Unix seconds. Raises `ValueError` outside 1970 to 2100."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    try:
        at_s = int(moment.timestamp())
    except OverflowError:
        raise ValueError("a time outside 1970 to 2100") from None
    return within_time(at_s)


def within_time(at_s: int) -> int:
    """The same Unix time. Raises `ValueError` outside 1970 to 2100."""
    if not TIME_MIN_S <= at_s <= TIME_MAX_S:
        raise ValueError("a time outside 1970 to 2100")
    return at_s


def shown_date(at_s: float) -> str:
    """A stored date as the API writes it. An impossible date, from a row that an earlier version of ours
    stored, is shown as the nearest possible one: the first second of 1970, or of 2100."""
    return rfc3339(min(max(at_s, TIME_MIN_S), TIME_MAX_S))


def _time(value: Any) -> str:
    try:
        moment_s(value)
    except (TypeError, ValueError):
        return "must be a time with its zone, from 1970 to 2100"
    return ""


def _between(least: float, most: float) -> Callable[[Any], str]:
    def rule(value: Any) -> str:
        inside = isinstance(value, (int, float)) and least <= value <= most
        return "" if inside else f"must be from {least} to {most}"

    return rule


def _id(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= ID_MAX:
        return f"must have 1 to {ID_MAX} characters"
    if not value.isprintable() or _TOPIC_SIGNS.search(value):
        return "must be printable and have no '/', '+' or '#'"
    return ""


def _printable(value: Any) -> str:
    good = isinstance(value, str) and len(value) <= ID_MAX and value.isprintable()
    return "" if good else f"must be printable and have at most {ID_MAX} characters"


def _name(value: Any) -> str:
    good = isinstance(value, str) and len(value) <= NAME_MAX and value.isprintable()
    return "" if good else f"must be printable and have at most {NAME_MAX} characters"


def _machine_id(value: Any) -> str:
    good = isinstance(value, str) and is_machine_id(value)
    return "" if good else "must have 1 to 64 letters, digits, '_' or '-'"


def _code(value: Any) -> str:
    good = isinstance(value, str) and _DIGITS.fullmatch(value)
    return "" if good else "must have 1 to 16 digits"


def _column(value: Any) -> str:
    good = isinstance(value, str) and len(value) <= COLUMN_MAX
    return "" if good else f"longer than {COLUMN_MAX} characters"


_MILLIMETRES = _between(0, 100_000)
_SEQUENCE = _between(0, SEQUENCE_MAX)
_GRACE = _between(0, 86_400)

RULES: dict[str, Callable[[Any], str]] = {
    "machine_id": _machine_id,
    "reservation_id": _id,
    "event_id": _id,
    "idempotency_key": _printable,
    "journal_id": _printable,
    "boot_id": _name,
    "instance": _printable,
    "run": _printable,
    "agent_version": _printable,
    "challenge": _printable,
    "maintenance_ticket_id": _id,
    "cell_id": _id,
    "platform_order_id": _column,
    "request_id": _column,
    "webhook_url": _column,
    "platform": _column,
    "notes": _column,
    "created_at": _time,
    "dropped_off_at": _time,
    "picked_up_at": _time,
    "accepted_at": _time,
    "at": _time,
    "event_time_timestamp": _time,
    "event_time_unix_timestamp": _between(TIME_MIN_S, TIME_MAX_S),
    "sequence": _SEQUENCE,
    "oldest_sequence": _SEQUENCE,
    "last_sequence": _SEQUENCE,
    "uptime_ms": _between(0, UPTIME_MAX_MS),
    "latitude": _between(-90, 90),
    "longitude": _between(-180, 180),
    "width": _MILLIMETRES,
    "height": _MILLIMETRES,
    "depth": _MILLIMETRES,
    "weight": _between(0, 10_000_000),
    "max_weight": _between(0, 10_000_000),
    "eta_minutes": _between(0, 10_080),
    "grace_period_pickup_in_seconds": _GRACE,
    "grace_period_dropoff_in_seconds": _GRACE,
    "drop_off_code": _code,
    "pickup_code": _code,
}
"""The rule for a value, by the name of its field; returns what is wrong, or an empty text."""


_PLAIN_TYPES = frozenset({str, int, float})


def check(model: BaseModel, path: str = "") -> None:
    """Checks every value in a model against its bounds. Raises `OutOfBounds`."""
    for name, value in model.__dict__.items():
        # Nearly every value of a machine with many cells: without the path, which only an error needs.
        if value is None or value is True or value is False or isinstance(value, Enum):
            continue
        plain = type(value) in _PLAIN_TYPES and (type(value) is not str or value.isascii())
        if plain and not RULES.get(name, _plain)(value):
            continue
        _check(name, value, f"{path}.{name}" if path else name)


def _check(name: str, value: Any, path: str) -> None:
    if value is None or isinstance(value, (bool, Enum)):
        return
    if isinstance(value, BaseModel):
        check(value, path)
    elif isinstance(value, list):
        _limit(len(value), LIST_MAX, path)
        for n, item in enumerate(value):
            _check(name, item, f"{path}[{n}]")
    elif isinstance(value, dict):
        _limit(len(value), LIST_MAX, path)
        for key, item in value.items():
            if problem := _id(key):
                raise OutOfBounds(f"{path}: a key {problem}")
            _check(name, item, path)
    elif problem := RULES.get(name, _plain)(value):
        raise OutOfBounds(f"{path}: {problem}")
    elif isinstance(value, str):
        check_text(path, value)


def _limit(count: int, most: int, path: str) -> None:
    if count > most:
        raise OutOfBounds(f"{path}: more than {most}")


def _plain(value: Any) -> str:
    """The rule for a value without a rule of its own: a text of limited length, or a number that a database
    accepts."""
    if isinstance(value, str):
        return "" if len(value) <= TEXT_MAX else f"longer than {TEXT_MAX} characters"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite"
    return "" if -SEQUENCE_MAX <= value <= SEQUENCE_MAX else "too large a number"


def check_unmodelled(value: Any, path: str) -> None:
    """Checks a value without a model against the same bounds; it is passed to a caller unchanged. `read_json`
    bounds its depth. Raises `OutOfBounds`."""
    if isinstance(value, dict):
        _limit(len(value), LIST_MAX, path)
        for key, item in value.items():
            check_unmodelled(key, path)
            check_unmodelled(item, f"{path}.{key}")
    elif isinstance(value, list):
        _limit(len(value), LIST_MAX, path)
        for n, item in enumerate(value):
            check_unmodelled(item, f"{path}[{n}]")
    elif value is not None and not isinstance(value, bool):
        if problem := _plain(value):
            raise OutOfBounds(f"{path}: {problem}")
        if isinstance(value, str):
            check_text(path, value)
