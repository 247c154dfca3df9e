"""`edge-agent events` with filters."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_agent.cli import commands, views
from edge_agent.cli.commands import app
from edge_agent.cli.event_filter import EventFilter, moment_since

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def event(minute: int, what: str = "DROPOFF", **changes: Any) -> dict[str, Any]:
    return {
        "kind": "event",
        "sequence": minute,
        "at": f"2026-11-30T11:{minute:02d}:00Z",
        "what": f"EVENT_TYPE_{what}",
        "cell": "A01",
        "reservation_id": "res_1",
        "platform_order_id": "order 1",
        "source": "SOURCE_TYPE_API",
        "actor": None,
        "request_id": None,
        "detail": {},
        "sent": True,
        **changes,
    }


def unlock(minute: int, reservation_id: str, cell: str) -> dict[str, Any]:
    row = event(minute, cell=cell, reservation_id=reservation_id)
    del row["platform_order_id"], row["detail"], row["sequence"], row["sent"]
    more = {"n": minute, "unlock_id": "u", "attempt": 1, "purpose": "pickup", "reason": "", "pulsed": True}
    return row | more | {"kind": "unlock", "what": "OPENED"}


ROWS = [
    event(1),
    unlock(2, "res_1", "A01"),
    event(3, cell="B02", reservation_id="res_2", platform_order_id="order 2"),
    unlock(4, "res_2", "B02"),
    event(5, "ALARM_RAISED", reservation_id=None, platform_order_id=None, detail={"alarm": "DOOR_AJAR"}),
]


@pytest.mark.parametrize(
    ("wanted", "minutes"),
    [
        (EventFilter(), [1, 2, 3, 4, 5]),
        (EventFilter(cell="b02"), [3, 4]),
        (EventFilter(order="order 1"), [1, 2]),
        (EventFilter(order="order"), [1, 2, 3, 4]),
        (EventFilter(order="ORDER 1"), [1, 2]),
        (EventFilter(order="res_2"), [3, 4]),
        (EventFilter(alarm="door_ajar"), [5]),
        (EventFilter(since=datetime(2026, 11, 30, 11, 4, tzinfo=UTC)), [4, 5]),
        (EventFilter(cell="A01", order="order 2"), []),
    ],
)
def test_only_rows_that_match_every_filter_are_shown(wanted: EventFilter, minutes: list[int]) -> None:
    found = wanted.choose(ROWS)
    assert [int(row["at"][14:16]) for row in found] == minutes


def test_a_ledger_line_before_the_first_event_of_its_order_matches() -> None:
    assert len(EventFilter(order="order 1").choose([ROWS[1], ROWS[0]])) == 2


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (None, None),
        ("90m", NOW - timedelta(minutes=90)),
        ("10s", NOW - timedelta(seconds=10)),
        ("10 min", NOW - timedelta(minutes=10)),
        ("2H", NOW - timedelta(hours=2)),
        ("2w", NOW - timedelta(weeks=2)),
        ("99999w", NOW - timedelta(weeks=99999)),
        ("2h", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        ("2026-11-30T10:00", datetime(2026, 11, 30, 10, tzinfo=UTC)),
        ("2026-11-30T10:00+07:00", datetime(2026, 11, 30, 3, tzinfo=UTC)),
        ("2026-11-30", datetime(2026, 11, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_an_age_or_a_time(text: str | None, at: datetime | None) -> None:
    assert moment_since(text, NOW, utc=True) == at


def test_the_command_asks_for_as_much_as_the_filter_may_search(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def call(_socket: object, _method: str, path: str, *_more: object) -> Any:
        asked.append(path)
        return ROWS

    monkeypatch.setattr(commands, "call", call)
    done = CliRunner().invoke(app, ["events", "--cell", "A01", "--limit", "1", "--json"])
    assert [row["sequence"] for row in json.loads(done.stdout)] == [5]
    none = CliRunner().invoke(app, ["events", "--cell", "Z99"])
    assert none.stdout == "nothing matches among the newest 1000\n"
    CliRunner().invoke(app, ["events"])
    assert asked == ["/v1/events?limit=1000", "/v1/events?limit=1000", "/v1/events?limit=50"]


def test_a_time_that_is_none_is_bad_usage() -> None:
    done = CliRunner().invoke(app, ["events", "--since", "yesterday"])
    assert done.exit_code == 2
    assert "neither an age such as 90m" in " ".join(done.stderr.split())


def test_status_shows_values_as_people_write_them() -> None:
    value = {
        "file": "/etc/locker.toml",
        "number": 2,
        "loaded_at": "2026-11-30T10:00:00Z",
        "failed": None,
    }
    shown = "file /etc/locker.toml, number 2, loaded at 2026-11-30 10:00:00 UTC, failed -"
    assert views._readable(value, utc=True) == shown
    values = [views._readable(one, utc=True) for one in (True, False, None, ["a", "b"])]
    assert values == ["yes", "no", "-", "a, b"]
