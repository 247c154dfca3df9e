"""The API reference as a table: which fields each answer has, and of which type.

`check("reserve", answer)` fails on a field that is missing, of a wrong type, null, or not documented.
A name with `?` at its end may be absent. What the contract adds to the reference is marked so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

Test = Callable[[Any], bool]
Type = Test | dict[str, Any] | list[Any]
"""A test of a value, the fields of an object, or (in a list of one) the type of each element."""


def text(value: Any) -> bool:
    """Any string."""
    return isinstance(value, str)


def word(value: Any) -> bool:
    """A string that is not empty."""
    return isinstance(value, str) and value != ""


def integer(value: Any) -> bool:
    """A whole number; a boolean is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def number(value: Any) -> bool:
    """Any number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def flag(value: Any) -> bool:
    """A boolean."""
    return isinstance(value, bool)


def moment(value: Any) -> bool:
    """`2025-07-10T10:00:00Z`."""
    return matches(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")(value)


def url(value: Any) -> bool:
    """An address of the web."""
    return isinstance(value, str) and urlsplit(value).scheme in ("http", "https")


def matches(pattern: str) -> Test:
    """A string of this form."""
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def one_of(*values: Any) -> Test:
    """One of these."""
    return lambda value: value in values


def anything(_: Any) -> bool:
    """Whatever it is."""
    return True


CODE = matches(r"\d{4,}")

CELL_INFORMATION: dict[str, Any] = {
    "width": integer,
    "height": integer,
    "depth": integer,
    "heating": flag,
    "cooling": flag,
    "weight_sensor": flag,
}

CELL_OF_ALL: dict[str, Any] = {
    **CELL_INFORMATION,
    # by the contract
    "cell_id": word,
    "description": word,
    "status": one_of("IDLE", "RESERVED", "OCCUPIED", "IN_GRACE", "AWAITING_CLEANUP", "AWAITING_INSPECTION"),
    "blocked": flag,
    "faulty": flag,
    "available?": flag,
    "max_weight?": integer,
    "low?": flag,
}

MACHINE: dict[str, Any] = {
    "machine_id": word,
    "name": text,
    "location": text,
    "latitude": number,
    "longitude": number,
    "online": flag,
    "preferred_cells": [CELL_INFORMATION],
    "all_cells": [CELL_OF_ALL],
    "occupancy_information": one_of(
        *(f"OCCUPANCY_STATUS_{n}" for n in ("LOW", "MEDIUM", "HIGH", "OVERLOADED"))
    ),
}

CODES: dict[str, Any] = {
    "drop_off_code": CODE,
    "drop_off_qrcode": matches(r"DLV-DROP-[A-Za-z0-9_]+-\d+"),
    "drop_off_qrcode_url": url,
    "pickup_code": CODE,
    "pickup_code_qrcode": matches(r"DLV-PICK-[A-Za-z0-9_]+-\d+"),
    "pickup_code_qrcode_url": url,
}

CELL: dict[str, Any] = {"description": word}

LISTED: dict[str, Any] = {
    "reservation_id": word,
    "machine_id": word,
    "platform_order_id": word,
    "status": one_of(
        *(
            f"RESERVATION_STATUS_{name}"
            for name in ("PENDING", "DROPPED_OFF", "PICKED_UP", "CANCELLED", "ABANDONED")
        )
    ),
    "created_at": moment,
    "cell": CELL,
    "dropped_off_at?": moment,
    "picked_up_at?": moment,
}

EVENT_CELL: dict[str, Any] = {"description": word, "cell_id": word}
EVENT_DETAIL: dict[str, Any] = {
    "source_type": one_of("SOURCE_TYPE_MACHINE", "SOURCE_TYPE_API"),
    "cell": EVENT_CELL,
    "machine": {"machine_id": word, "name": text, "location": text},
}
OUTCOME = one_of("OPENED", "ALREADY_OPEN", "NO_MOVEMENT", "UNKNOWN")

DETAILS: dict[str, tuple[str, dict[str, Any]]] = {
    "EVENT_TYPE_DROPOFF": ("drop_off_event", EVENT_DETAIL),
    "EVENT_TYPE_PICKUP": ("pickup_event", EVENT_DETAIL),
    "EVENT_TYPE_RESERVATION_CANCELLED": ("reservation_cancelled_event", EVENT_DETAIL),
    "EVENT_TYPE_PICKUP_ABANDONED": ("pickup_abandoned_event", EVENT_DETAIL),
    "EVENT_TYPE_PICKUP_FAILED": (
        "pickup_failed_event",
        {**EVENT_DETAIL, "outcome?": OUTCOME, "reason?": text},
    ),
    "EVENT_TYPE_OPEN_DOOR_FULFILLED": (
        "open_door_fulfilled_event",
        {
            **EVENT_DETAIL,
            "request_id": word,
            "platform_reference_id?": text,
            "outcome": OUTCOME,
            "reason?": text,
        },
    ),
}
"""The detail's key and fields by the type of a webhook."""

WEBHOOK: dict[str, Any] = {
    "event_id": matches(r"evt_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "idempotency_key": matches(r"idem_.+"),
    "event_time_unix_timestamp": integer,
    "event_time_timestamp": moment,
    "platform_order_id": word,
    "reservation_id": word,
    "event_type": one_of(*DETAILS),
}

ANSWERS: dict[str, Any] = {
    "echo": {"message": text},
    "search": {"machines": [{"machine": MACHINE, "distance_in_metres": integer}]},
    "machine": {"machine": MACHINE},
    "reserve": {"reservation_id": word, "machine_id": word, "machine": MACHINE, **CODES},
    "reservation": {**LISTED, **CODES, "machine": MACHINE, "notes": text},
    "list": {"reservations": [LISTED], "next_page_token": text, "total_count": integer},
    "dropoff": {"cell": CELL},
    "pickup": {"cell": CELL},
    "cancel": {},
    "abandon": {},
    "maintenance": {"maintenance_ticket_id": word, "created_at": moment, "status": one_of("OPEN")},
    "open-door": {"request_id": word, "accepted_at": moment},
    "error": {
        "code": one_of(3, 4, 5, 7, 8, 9, 12, 13, 14, 16),
        "message": word,
        "details": [anything],
    },
}
"""The fields of each answer, by the endpoint's name; `error` is the rpcStatus of all of them."""


def check(endpoint_name: str, json: Any) -> None:
    """Fails if `json` is not what the endpoint answers; `webhook` checks a webhook's body."""
    if endpoint_name == "webhook":
        key, detail = DETAILS.get(json.get("event_type"), ("", {}))
        _check(endpoint_name, WEBHOOK | ({key: detail} if key else {}), json)
    else:
        _check(endpoint_name, ANSWERS[endpoint_name], json)


def _check(path: str, wanted: Type, value: Any) -> None:
    if isinstance(wanted, dict):
        assert isinstance(value, dict), f"{path}: {value!r} is not an object"
        names = {name.removesuffix("?"): kind for name, kind in wanted.items()}
        missing = {name for name in wanted if not name.endswith("?")} - set(value)
        assert not missing, f"{path}: without {sorted(missing)}"
        unknown = set(value) - set(names)
        assert not unknown, f"{path}: not documented: {sorted(unknown)}"
        for name, inner in value.items():
            _check(f"{path}.{name}", names[name], inner)
    elif isinstance(wanted, list):
        assert isinstance(value, list), f"{path}: {value!r} is not an array"
        for number_of, inner in enumerate(value):
            _check(f"{path}[{number_of}]", wanted[0], inner)
    else:
        assert wanted(value), f"{path}: {value!r}"
