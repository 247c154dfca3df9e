"""The form of values on disk: names in the journal stay when the code renames its fields."""

from __future__ import annotations

import json

import pytest

from edge_agent.errors import StorageFault
from edge_agent.journal.records import ENTITIES, dump, load
from edge_agent.model import Cell, Instant, Purpose, Source, UnlockAttempt
from edge_agent.statemachine.state import Pulses

START = Instant("boot-1", 5, 1_750_000_000.0, True)

JOURNALED = {
    "unlock_id": "unl_1",
    "reservation_id": "",
    "cell": "A01",
    "purpose": "technician",
    "source": "SOURCE_TYPE_MACHINE",
    "stage": "unresolved",
    "expires_ns": None,
    "attempt": 2,
    "wrong": ["A02"],
    "echo_id": "x_1",
    "moves": 1,
    "told": True,
    "doubtful": True,
    "counted": 1,
    "stopped": True,
}


def test_an_unlock_attempt_keeps_its_names_in_the_journal() -> None:
    unlock = UnlockAttempt(
        "unl_1",
        "",
        "A01",
        Purpose.TECHNICIAN,
        Source.MACHINE,
        "unresolved",
        None,
        pulse_number=2,
        wrong_doors=("A02",),
        x_request_id="x_1",
        other_cells_tried=1,
        reported=True,
        read_open_before=True,
        pulses_counted=1,
        other_door_opened=True,
    )
    assert json.loads(dump(ENTITIES["tickets"], unlock)) == JOURNALED
    assert load(ENTITIES["tickets"], json.dumps(JOURNALED), "tickets unl_1") == unlock


def test_a_cell_and_its_pulses_keep_their_names_in_the_journal() -> None:
    cell = Cell("A01", contact_doubt="why", outcome_unknown=True, pulse_count=3, unexplained_since=START)
    written = json.loads(dump(ENTITIES["cells"], cell))
    assert {name: written[name] for name in ("doubt", "suspect", "unlocks")} == {
        "doubt": "why",
        "suspect": True,
        "unlocks": 3,
    }
    assert written["unexplained"]["boot_id"] == "boot-1"
    assert load(ENTITIES["cells"], json.dumps(written), "cells A01") == cell
    pulses = Pulses(
        "boot-1", (1,), Purpose.PICKUP, Source.API, "res_1", pulses_without_opening=2, read_open_before=True
    )
    written = json.loads(dump(ENTITIES["pulses"], pulses))
    assert (written["unspent"], written["doubtful"]) == (2, True)
    assert load(ENTITIES["pulses"], json.dumps(written), "pulses A01") == pulses


@pytest.mark.parametrize("text", ["[]", "3", "{}", "{"])
def test_a_damaged_unlock_attempt_is_a_storage_fault(text: str) -> None:
    with pytest.raises(StorageFault, match="journal: tickets unl_1 is damaged"):
        load(ENTITIES["tickets"], text, "tickets unl_1")
