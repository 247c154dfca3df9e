"""What happened at the machine, as `/v1/events` returns it.

Events, lines of the unlock ledger, and configurations that came into use.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from edge_agent.protocol.api import rfc3339


class Place(NamedTuple):
    """A place in the timeline: the numbers of the last event, line of the unlock ledger and configuration."""

    sequence: int
    unlock: int
    configuration: int

    def __str__(self) -> str:
        return ".".join(map(str, self))

    @classmethod
    def read(cls, text: str) -> Place:
        """The inverse of `str`. Raises `ValueError`."""
        if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18}){2}", text) is None:
            raise ValueError("must be three numbers with dots between them")
        return cls(*map(int, text.split(".")))

    def after(self, row: dict[str, Any]) -> Place:
        """The place after a row of the journal."""
        if row["kind"] == "event":
            return self._replace(sequence=row["sequence"])
        return self._replace(**{row["kind"]: row["n"]})


def order_of(row: dict[str, Any]) -> tuple[int, int, int]:
    """Events by their sequence; what has none comes after the event that was the last one then."""
    if row["kind"] == "event":
        return row["sequence"], 0, 0
    return row["after_sequence"], 1 if row["kind"] == "unlock" else 2, row["n"]


def row_of(row: dict[str, Any]) -> dict[str, Any]:
    """One row for people and scripts: what happened (`what`), when, where, why."""
    if row["kind"] == "event":
        body = row["body"]
        detail: dict[str, Any] = next((v for k, v in body.items() if k.endswith("_event")), {})
        return {
            "kind": "event",
            "sequence": row["sequence"],
            "at": body["event_time_timestamp"],
            "what": body["event_type"],
            "cell": (detail.get("cell") or {}).get("description"),
            "reservation_id": body.get("reservation_id"),
            "platform_order_id": body.get("platform_order_id"),
            "source": detail.get("source_type"),
            "actor": detail.get("actor"),
            "request_id": body.get("request_id"),
            "detail": {
                k: v
                for k, v in detail.items()
                if k not in ("cell", "machine", "source_type", "request_id", "actor")
            },
            "sent": row["sent"],
        }
    if row["kind"] == "configuration":
        return {
            "kind": "configuration",
            "n": row["n"],
            "at": rfc3339(row["wall_s"]),
            "what": f"CONFIGURATION_{row['how'].upper()}",
            "cell": None,
            "reservation_id": None,
            "source": None,
            "actor": row["actor"] or None,
            "request_id": None,
            "detail": {"changes": row["changes"]},
        }
    return {
        "kind": "unlock",
        "n": row["n"],
        "at": rfc3339(row["wall_s"]),
        "what": "INTENT" if row["outcome"] is None else row["outcome"],
        "cell": row["cell"],
        "reservation_id": row["reservation_id"] or None,
        "source": row["source"],
        "actor": row["actor"] or None,
        "request_id": row["request_id"] if row["source"] == "SOURCE_TYPE_API" else None,
        "unlock_id": row["unlock_id"],
        "attempt": row["attempt"],
        "purpose": row["purpose"],
        "reason": row["reason"],
        "pulsed": None if row["pulsed"] is None else bool(row["pulsed"]),
    }
