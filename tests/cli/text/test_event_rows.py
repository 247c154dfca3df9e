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


JAM = "no movement after 3 pulses"
NOT_OPEN = "the door of cell A06 did not open (NO_MOVEMENT)"
WRITTEN: dict[str, tuple[str, str | None, dict[str, Any], str]] = {
    "a refusal of what a person asked": (
        "OPEN_DOOR_FULFILLED",
        "root",
        {"reason": NOT_OPEN, "description": JAM},
        f"Grund die Tür von Fach A06 ging nicht auf (NO_MOVEMENT), Beschreibung {JAM}",
    ),
    "a tare by a person": (
        "CELL_STATUS_CHANGED",
        "root",
        {"reason": "180 g more count as zero now: 180 g in all", "cause": "TARED"},
        "Grund 180 g mehr gelten jetzt als nichts: 180 g insgesamt, Ursache TARED",
    ),
    "a block by a person": (
        "CELL_STATUS_CHANGED",
        "root",
        {"reason": JAM, "cause": "BLOCKED"},
        f"Grund {JAM}, Ursache BLOCKED",
    ),
    "a ticket of the machine": (
        "MAINTENANCE_REQUESTED",
        None,
        {"description": JAM},
        "Beschreibung keine Bewegung nach 3 Impulsen",
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_texts_of_the_daemon_are_translated_and_those_of_people_are_not(name: str) -> None:
    what, actor, detail, shown = WRITTEN[name]
    with in_language("de"):
        found = event_row(EVENT | {"what": f"EVENT_TYPE_{what}", "actor": actor, "detail": detail}, utc=True)
    assert found.more == shown


def test_json_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = httpx.MockTransport(lambda request: httpx.Response(200, json=[EVENT, CONFIGURATION]))
    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: answer)
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    done = CliRunner().invoke(app, ["events", "--json"])
    assert json.loads(done.stdout) == [EVENT, CONFIGURATION]
