"""Recorded journals come to the same state again: no decision of the core has changed unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.simulate.record import record, replay

RECORDINGS = sorted((Path(__file__).parent / "fixtures").glob("*.jsonl"))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_a_recording_comes_to_the_same_state_and_facts(recording: Path) -> None:
    then, now = replay(iter(recording.read_text(encoding="utf-8").splitlines()))
    assert now == then


def test_the_recordings_hold_something_of_everything() -> None:
    kinds = {json.loads(line).get("kind") for path in RECORDINGS for line in path.read_text().splitlines()}
    assert {
        "Reserve",
        "OpenForReservation",
        "EnterCode",
        "Cancel",
        "Abandon",
        "BlockCell",
        "UnblockCell",
        "Clear",
        "DoorRead",
        "PulseDone",
        "DoorsChanged",
        "Boot",
        "Tick",
        "restart",
    } <= kinds


def test_a_recording_that_was_changed_is_noticed() -> None:
    lines = RECORDINGS[0].read_text(encoding="utf-8").splitlines()
    first = next(n for n, line in enumerate(lines) if '"kind":"Reserve"' in line)
    changed = [*lines[:first], lines[first].replace('"order 1"', '"order 2"'), *lines[first + 1 :]]
    then, now = replay(iter(changed))
    assert now != then


def test_recording_again_gives_a_recording_that_replays() -> None:
    lines = record(9, lives=4, kill_every_s=6.0)
    then, now = replay(iter(lines))
    assert now == then
    assert then["facts"] >= 8
