"""`edge-agent explain`, and the sections of the pages that come from the same texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner, Result

from edge_agent.cli.commands import app
from edge_agent.cli.explain.alarms import ALARMS
from edge_agent.cli.explain.command import known, names, plain
from edge_agent.cli.explain.words import CODES, EVENTS, LOCAL_EVENTS, OUTCOMES, RESERVATIONS, STATUSES
from edge_agent.errors import Code
from edge_agent.journal.configurations import How
from edge_agent.model import Alarm, CellStatus, ReservationStatus, UnlockOutcome
from edge_agent.protocol.events import EventType
from tools.pages.explanations.sections import PAGES, SECTIONS, with_sections


def explain(*arguments: str, width: int = 80) -> Result:
    return CliRunner().invoke(app, ["explain", *arguments], env={"COLUMNS": str(width)})


def test_every_name_is_explained_and_none_has_two_meanings() -> None:
    texts = [set[object](text) for text in (ALARMS, CODES, EVENTS, STATUSES, RESERVATIONS, OUTCOMES)]
    assert texts == [
        set(one) for one in (Alarm, Code, EventType, CellStatus, ReservationStatus, UnlockOutcome)
    ]
    assert {f"CONFIGURATION_{how.upper()}" for how in get_args(How)} == set(LOCAL_EVENTS)
    assert len(known()) == sum(len(text) for text in (*texts, LOCAL_EVENTS))
    for one in known().values():
        assert one.means
        assert one.do
        assert (one.kind == "alarm") == bool(one.machine) == bool(one.ends)


@pytest.mark.parametrize("given", ["DOOR_AJAR", "door_ajar", "Door-Ajar", "door ajar"])
def test_a_name_is_found_as_people_type_it(given: str) -> None:
    done = explain(given, width=200)
    assert done.exit_code == 0
    assert "DOOR_AJAR" in done.stdout
    assert "when the door reads closed" in done.stdout


@pytest.mark.parametrize(
    ("given", "kind", "number"),
    [
        ("link_refused", "alarm", None),
        ("expired", "error code", 4),
        ("EVENT_TYPE_PICKUP_FAILED", "event", None),
        ("pickup_failed", "event", None),
        ("awaiting_cleanup", "cell status", None),
    ],
)
def test_scripts_get_kind_number_and_texts_without_markup(given: str, kind: str, number: int | None) -> None:
    found = json.loads(explain(given, "--json").stdout)
    assert list(found) == ["name", "kind", "number", "means", "machine", "do", "ends", "note"]
    assert (found["kind"], found["number"]) == (kind, number)
    assert not [text for text in found.values() if isinstance(text, str) and ("**" in text or "](" in text)]


@pytest.mark.parametrize("name", sorted(known()))
def test_each_fits_a_small_terminal_and_loses_no_name(name: str) -> None:
    lines = explain(name).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert name in lines[0]
    assert len(lines) < 24


@pytest.mark.parametrize(
    ("given", "nearest"), [("DOOR_AJA", "DOOR_AJAR"), ("nocell", "NO_CELL"), ("jammed", "LOCK_JAMMED")]
)
def test_an_unknown_name_is_bad_usage_and_gets_the_nearest(given: str, nearest: str) -> None:
    done = explain(given, width=200)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"'{given}' is not known" in done.stderr
    assert nearest in done.stderr


def test_names_are_completed_in_upper_and_lower_case() -> None:
    assert names("DOOR_") == ["DOOR_AJAR", "DOOR_FORCED"]
    assert names("door_") == ["door_ajar", "door_forced"]
    assert "EXPIRED" in names("")
    assert names("x") == []


def test_links_and_bold_text_become_plain() -> None:
    assert (
        plain("see [The clock](#the-clock);\n   **never** `x`")
        == 'see "The clock" in the field manual; never `x`'
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_sections_of_the_pages_are_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == with_sections(text), "run again: python -m tools.pages.explanations"


def test_every_section_stands_in_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name, make in SECTIONS.items():
        assert f"-->\n{make()}<!-- end {name} -->" in text


def test_an_error_code_is_found_by_its_number() -> None:
    for number, name in (("9", "NOT_ALLOWED"), ("13", "INTERNAL")):
        done = CliRunner().invoke(app, ["explain", number])
        assert done.exit_code == 0
        assert name in done.stdout
    assert CliRunner().invoke(app, ["explain", "99"]).exit_code == 2


@pytest.mark.parametrize("name", ["PENDING", "RESERVATION_STATUS_DROPPED_OFF", "no_movement", "UNKNOWN"])
def test_what_tables_show_of_reservations_and_unlocks_is_explained(name: str) -> None:
    done = explain(name)
    assert done.exit_code == 0, done.output
    assert "means" in done.stdout
