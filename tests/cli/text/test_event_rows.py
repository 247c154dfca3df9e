"""Events as rows of a table: what is shown is in the language of the locale, what scripts read is not."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from edge_agent.cli.commands import app
from edge_agent.cli.text.display import DETAILS
from edge_agent.cli.text.event_rows import event_row
from edge_agent.cli.text.language import in_language
from edge_agent.protocol.events import EventDetail

IN_COLUMNS = {"source_type", "machine", "cell", "request_id", "actor"}
"""Fields that have a column of their own, or are not shown."""
EVENT: dict[str, Any] = {
    "kind": "event",
    "sequence": 7,
    "at": "2026-11-30T10:00:00Z",
    "what": "EVENT_TYPE_CELL_STATUS_CHANGED",
    "cell": "A01",
    "reservation_id": None,
    "source": "SOURCE_TYPE_MACHINE",
    "actor": None,
    "sent": True,
    "detail": {
        "status": "AWAITING_INSPECTION",
        "faulty": True,
        "blocked": False,
        "cause": "FAULT",
        "maintenance_ticket_id": "mt_1",
        "description": "the door sticks",
    },
}
CONFIGURATION: dict[str, Any] = EVENT | {
    "kind": "configuration",
    "what": "CONFIGURATION_RELOAD",
    "detail": {"changes": ["unlock.attempts: 3 is now 2", "scanner.port: new, '/dev/x'"]},
}


def test_each_field_of_an_event_has_its_label() -> None:
    assert set(DETAILS) == set(EventDetail.model_fields) - IN_COLUMNS


@pytest.mark.parametrize(
    ("language", "shown", "changes"),
    [
        (
            "en",
            (
                "status AWAITING_INSPECTION, faulty yes, blocked no, cause FAULT, maintenance ticket mt_1,"
                " description the door sticks"
            ),
            "unlock.attempts: 3 is now 2; scanner.port: new, '/dev/x'",
        ),
        (
            "de",
            (
                "Status AWAITING_INSPECTION, gestört ja, gesperrt nein, Ursache FAULT, Wartungsticket mt_1,"
                " Beschreibung the door sticks"
            ),
            "unlock.attempts: 3 ist jetzt 2; scanner.port: neu, '/dev/x'",
        ),
        (
            "id",
            (
                "status AWAITING_INSPECTION, rusak ya, diblokir tidak, sebab FAULT, tiket perawatan mt_1,"
                " keterangan the door sticks"
            ),
            "unlock.attempts: 3 kini 2; scanner.port: baru, '/dev/x'",
        ),
    ],
)
def test_fields_and_changes_are_shown_in_the_language(language: str, shown: str, changes: str) -> None:
    with in_language(language):
        assert event_row(EVENT, utc=True).more == shown
        assert event_row(CONFIGURATION, utc=True).more == changes


def test_json_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = httpx.MockTransport(lambda request: httpx.Response(200, json=[EVENT, CONFIGURATION]))
    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: answer)
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    done = CliRunner().invoke(app, ["events", "--json"])
    assert json.loads(done.stdout) == [EVENT, CONFIGURATION]
