"""Times for people: local with the zone, or UTC; JSON stays in UTC."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from edge_agent.cli.commands import app
from edge_agent.cli.event_filter import moment_since
from edge_agent.cli.text.times import moment, time_of_day
from edge_agent.cli.watch.tiles import event_line

AT = "2026-11-30T20:30:05Z"
TIMED = ("status", "alarms", "reservations", "events", "logs", "watch", "bus monitor")
"""Every command that shows times."""


@pytest.fixture(name="zone")
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The zone of a POSIX TZ: it needs no database."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


jakarta = pytest.mark.parametrize("zone", ["WIB-7"], indirect=True)
berlin = pytest.mark.parametrize("zone", ["CET-1CEST,M3.5.0,M10.5.0/3"], indirect=True)
london = pytest.mark.parametrize("zone", ["GMT0BST,M3.5.0/1,M10.5.0"], indirect=True)


@jakarta
@pytest.mark.usefixtures("zone")
def test_local_time_has_its_zone_and_its_own_date() -> None:
    assert moment(AT, utc=False) == "2026-12-01 03:30:05 +07:00"
    assert moment(AT, utc=True) == "2026-11-30 20:30:05 UTC"
    assert moment(None, utc=False) == ""
    assert time_of_day("2026-11-30T20:30:05.250Z", utc=False) == "03:30:05.250 +07:00"
    assert time_of_day("2026-11-30T20:30:05Z", utc=True) == "20:30:05.000 UTC"


@berlin
@pytest.mark.usefixtures("zone")
def test_summer_and_winter_time_are_distinguished() -> None:
    assert moment("2026-10-25T00:30:00Z", utc=False) == "2026-10-25 02:30:00 +02:00"
    assert moment("2026-10-25T01:30:00Z", utc=False) == "2026-10-25 02:30:00 +01:00"


@london
@pytest.mark.usefixtures("zone")
def test_a_zone_without_a_difference_is_shown_as_utc() -> None:
    assert moment(AT, utc=False) == "2026-11-30 20:30:05 UTC"
    assert moment("2026-07-01T00:00:00Z", utc=False) == "2026-07-01 01:00:00 +01:00"


@jakarta
@pytest.mark.usefixtures("zone")
def test_a_time_that_was_read_in_a_table_can_be_typed_after_since() -> None:
    now = datetime(2026, 12, 1, tzinfo=UTC)
    at = datetime(2026, 11, 30, 20, 30, 5, tzinfo=UTC)
    for utc in (False, True):
        assert moment_since(moment(AT, utc=utc), now, utc=not utc) == at
    assert moment_since("2026-12-01 03:30:05", now, utc=False) == at
    assert moment_since(AT, now, utc=False) == at


ALARM = {"alarm": "DOOR_AJAR", "label": "A01", "device": None, "since": AT, "count": 1, "detail": ""}
EVENT = {
    "kind": "event",
    "sequence": 1,
    "at": AT,
    "what": "EVENT_TYPE_DROPOFF",
    "cell": "A01",
    "reservation_id": "res_1",
    "platform_order_id": "o",
    "source": "SOURCE_TYPE_API",
    "actor": None,
    "detail": {},
    "sent": True,
}
RESERVATION = {
    "reservation_id": "res_1",
    "platform_order_id": "o",
    "cell": {"description": "A01"},
    "status": "RESERVATION_STATUS_DROPPED_OFF",
    "overdue_s": None,
    "grace_over": False,
    "live": True,
    "created_at": AT,
    "dropped_off_at": AT,
    "picked_up_at": None,
    "notes": "",
}
STATUS = {
    "machine_id": "machine_123",
    "configuration": {"loaded_at": AT},
    "buses": {},
    "alarms": [ALARM],
}
ANSWERS: dict[str, Any] = {
    "/v1/status": STATUS,
    "/v1/alarms": [ALARM],
    "/v1/events": [EVENT],
    "/v1/reservations": [RESERVATION],
}


@jakarta
@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("name", ["status", "alarms", "events", "reservations"])
def test_each_command_shows_local_time_or_utc_and_json_is_utc(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=ANSWERS[request.url.path])

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(answer))

    def shown(*options: str) -> str:
        return CliRunner().invoke(app, [name, *options], env={"COLUMNS": "300"}).stdout

    assert "2026-12-01 03:30:05 +07:00" in shown()
    assert "20:30" not in shown()
    assert "2026-11-30 20:30:05 UTC" in shown("--utc")
    assert json.loads(shown("--json")) == ANSWERS[f"/v1/{name}"]


@jakarta
@pytest.mark.usefixtures("zone")
def test_the_wall_shows_the_time_of_day_with_its_zone() -> None:
    assert event_line(EVENT, utc=False).plain.startswith("03:30:05 +07:00 A01")
    assert event_line(EVENT, utc=True).plain.startswith("20:30:05 UTC A01")


@pytest.mark.parametrize("name", TIMED)
def test_every_command_that_shows_times_can_show_utc(name: str) -> None:
    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    assert any("--utc" in parameter.opts for parameter in command.params)


def test_nothing_else_makes_times_for_people() -> None:
    folder = Path(__file__).resolve().parents[3] / "edge_agent" / "cli"
    there = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if "strftime" in path.read_text(encoding="utf-8") or "astimezone" in path.read_text(encoding="utf-8")
    }
    plot_archive_and_option = {"temperature_log.py", "bundle/command.py", "event_filter.py"}
    assert there == {"text/times.py"} | plot_archive_and_option
