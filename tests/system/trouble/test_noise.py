"""Thirty lives on the real pseudo-terminal while one frame in twenty is damaged."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bench import SMALL, Bench, running_bench, wait_for

LIVES, PEOPLE = 30, 3
NOISE = 0.05


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with running_bench(tmp_path) as bench:
        body = {"kind": "noise", "value": NOISE}
        bench.sim.post("/faults", json=body).raise_for_status()
        yield bench


class Person(threading.Thread):
    """Lives its share of the lives; tries again where the wire failed it."""

    def __init__(self, bench: Bench, lives: int) -> None:
        super().__init__()
        self._bench = bench
        self._lives = lives
        self.held: list[tuple[str, str]] = []
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            for _ in range(self._lives):
                self._live()
        except BaseException as fault:
            self.fault = fault

    def _live(self) -> None:
        rid = self._bench.reserve(SMALL, grace_period_pickup_in_seconds=0)["reservation_id"]
        label = self._open("dropoffs", rid)
        self._bench.person(label, "place", "close")
        wait_for(lambda: self._bench.status(rid) == "DROPPED_OFF", 30)
        assert self._open("pickups", rid) == label
        self._bench.person(label, "take", "close")
        wait_for(lambda: rid not in self._bench.ongoing(), 30)
        self.held.append((rid, label))

    def _open(self, act: str, rid: str) -> str:
        opened: list[str] = []

        def done() -> bool:
            answer = self._bench.api.post(f"/reservations/{rid}/{act}")
            if answer.status_code == 200:
                opened.append(answer.json()["cell"]["description"])
            else:
                assert answer.json()["code"] in (4, 9, 13, 14), answer.text
            return bool(opened)

        wait_for(done, 60)
        assert self._bench.cell(opened[0])["door"] == "open", "said to be open"
        return opened[0]


@pytest.mark.long
def test_thirty_lives_without_one_wrong_pulse(bench: Bench) -> None:
    people = [Person(bench, LIVES // PEOPLE) for _ in range(PEOPLE)]
    for person in people:
        person.start()
    for person in people:
        person.join()
        assert person.fault is None, person.fault
    held = [place for person in people for place in person.held]
    assert len(held) == LIVES
    wire = bench.sim.get("/wire").json()["main"]
    assert wire["damaged"] > 0.03 * (wire["requests"] + wire["replies"])
    # Each pulse on the wire has an intent of its own, for a reservation that held the cell.
    intents = [(cell, rid) for cell, rid, _, _, outcome in bench.ledger() if outcome is None]
    pulses = [a["label"] for a in bench.actuations()]
    assert all(pulses.count(label) <= sum(cell == label for cell, _ in intents) for label in set(pulses))
    moved = {(rid, cell) for cell, rid in intents} - set(held)
    events = {(e["reservation_id"], e["event_type"]) for e in bench.events() if "reservation_id" in e}
    assert all((rid, "EVENT_TYPE_CELL_STATUS_CHANGED") in events for rid, _ in moved), moved
    wrong = [e for e in bench.events() if any(alarm in str(e) for alarm in ("WRONG_DOOR", "DOOR_FORCED"))]
    assert not wrong
