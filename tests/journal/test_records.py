"""The form of values on disk: names in the journal stay when the code renames its fields."""

from __future__ import annotations

import json

import pytest

from edge_agent.errors import StorageFault
from edge_agent.journal.records import ENTITIES, dump, load
from edge_agent.model import Purpose, Source, UnlockAttempt

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
        wrong=("A02",),
        x_request_id="x_1",
        other_cells_tried=1,
        reported=True,
    )
    assert json.loads(dump(ENTITIES["tickets"], unlock)) == JOURNALED
    assert load(ENTITIES["tickets"], json.dumps(JOURNALED), "tickets unl_1") == unlock


@pytest.mark.parametrize("text", ["[]", "3", "{}", "{"])
def test_a_damaged_unlock_attempt_is_a_storage_fault(text: str) -> None:
    with pytest.raises(StorageFault, match="journal: tickets unl_1 is damaged"):
        load(ENTITIES["tickets"], text, "tickets unl_1")
