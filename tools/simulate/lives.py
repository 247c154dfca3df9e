"""Riders and consumers who use one locker while its daemon is killed again and again, in virtual time.

The people know nothing of the kills: they try again, as people do. What they find at the end is held
against what the world, the journal and the cloud recorded.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.config import Settings
from edge_agent.model import CellStatus, Door
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

TRY_AGAIN_S = 1.0
GIVE_UP_S = 600.0
LIFE_EVENTS = [
    "EVENT_TYPE_RESERVATION_CREATED",
    "EVENT_TYPE_DROPOFF",
    "EVENT_TYPE_PICKUP",
    "EVENT_TYPE_RESERVATION_COMPLETED",
]


class Violation(AssertionError):
    """The machine did what it must not."""


@dataclass(slots=True)
class Outcome:
    """What a storm brought: the trace is the same for the same seed."""

    trace: list[str] = field(default_factory=list)
    kills: int = 0
    lives: int = 0
    pulses: int = 0
    events: int = 0
    virtual_s: float = 0.0
    recovered: int = 0


class Storm:
    """So many lives, several at a time, with kills at random instants."""

    def __init__(self, plant: Plant, seed: int, lives: int, at_once: int, kill_every_s: float) -> None:
        self._plant = plant
        self._rng = random.Random(f"{seed}/people")
        self._kill_rng = random.Random(f"{seed}/kills")
        self._numbers = iter(range(1, lives + 1))
        self._at_once = at_once
        self._kill_every_s = kill_every_s
        self._finished = 0
        self._heard: dict[str, list[str]] = defaultdict(list)
        self._sequences: dict[int, str] = {}
        self._over = asyncio.Event()
        self.outcome = Outcome()
        plant.broker.on_event = self._event

    async def run(self) -> None:
        """Everything, to the last event. Raises `Violation`."""
        self._plant.start()
        async with asyncio.TaskGroup() as group:
            killer = group.create_task(self._kill_now_and_then())
            technician = group.create_task(self._technician())
            async with asyncio.TaskGroup() as people:
                for _ in range(self._at_once):
                    people.create_task(self._person())
            killer.cancel()
            technician.cancel()
        await self._until(lambda: self._outbox_size() == 0)
        self.outcome.virtual_s = asyncio.get_running_loop().time()
        await self._plant.stop()

    def _note(self, what: str) -> None:
        self.outcome.trace.append(f"{asyncio.get_running_loop().time():.6f} {what}")

    def _event(self, event: dict[str, Any]) -> None:
        sequence, body = event["sequence"], json.dumps(event, sort_keys=True)
        known = self._sequences.setdefault(sequence, body)
        if known != body:
            raise Violation(f"sequence {sequence} told twice, differently")
        self._note(f"event {sequence} {event['event_type']} {event.get('reservation_id')}")
        reservation_id = event.get("reservation_id")
        if known is body and reservation_id is not None:
            self._heard[reservation_id].append(event["event_type"])
            self.outcome.recovered += any(
                k.endswith("_event") and v.get("recovered") for k, v in event.items()
            )

    def _outbox_size(self) -> int:
        agent = self._plant.agent
        return 1 if agent is None else agent.store.outbox_size()

    async def _until(self, condition: Any, limit_s: float = GIVE_UP_S) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + limit_s
        while not condition():
            if loop.time() > end_s:
                raise Violation(f"nothing came of it in {limit_s} s")
            await asyncio.sleep(0.05)

    async def _kill_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._kill_rng.expovariate(1 / self._kill_every_s))
            self._note("kill")
            self.outcome.kills += 1
            await self._plant.kill()
            await asyncio.sleep(self._kill_rng.uniform(0.2, 3.0))
            self._plant.start()

    async def _technician(self) -> None:
        """Looks after cells that the machine does not trust any more; they are empty then."""
        while True:
            await asyncio.sleep(5)
            agent = self._plant.agent
            if agent is None:
                continue
            for label, cell in agent.loop.state.cells.items():
                if cell.status is CellStatus.AWAITING_INSPECTION or cell.faulty:
                    asyncio.get_running_loop().create_task(agent.desk.clear(label))

    async def _person(self) -> None:
        for number in self._numbers:
            await self._life(number)
            self._finished += 1
            self.outcome.lives += 1

    async def _life(self, number: int) -> None:
        reservation = await self._reserve(number)
        rid, cell = reservation["reservation_id"], reservation["cell"]["description"]
        by_code = self._rng.random() < 0.4
        await self._open("dropoff", rid, cell, reservation["drop_off_code"] if by_code else None)
        grams = self._rng.randrange(100, 1400)
        self._plant.world.place(cell, grams)
        await asyncio.sleep(self._rng.uniform(0.6, 4.0))
        self._plant.world.close(cell)
        self._note(f"closed {cell}")
        await self._until(lambda: "EVENT_TYPE_DROPOFF" in self._heard[rid])
        await asyncio.sleep(self._rng.uniform(0.5, 5.0))
        await self._open("pickup", rid, cell, reservation["pickup_code"] if by_code else None)
        if self._plant.world.cell(cell).grams != grams:
            raise Violation(f"{rid}: another parcel in {cell}")
        self._plant.world.take(cell)
        await asyncio.sleep(self._rng.uniform(0.6, 3.0))
        self._plant.world.close(cell)
        await self._until(lambda: self._heard[rid][-1:] == LIFE_EVENTS[-1:])
        told = [kind for kind in self._heard[rid] if kind != "EVENT_TYPE_PICKUP_FAILED"]
        if told != LIFE_EVENTS:
            raise Violation(f"{rid}: told {told}")

    async def _reserve(self, number: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "request_id": f"reserve-{number}",
            "machine_id": self._plant.settings.machine.machine_id,
            "reservation_id": f"res_{number}",
            "platform_order_id": f"order {number}",
            "packaging": {"width": 200, "height": 100, "depth": 300, "weight": 1500},
            "grace_period_pickup_in_seconds": 5,
        }
        while True:
            reply = await self._plant.broker.call("reserve", body)
            if "result" in reply:
                reservation: dict[str, Any] = reply["result"]["reservation"]
                self._note(f"reserved {reservation['cell']['description']} {reservation['drop_off_code']}")
                return reservation
            if reply["error"]["code"] not in (4, 8, 14):
                raise Violation(f"reserve {number}: {reply['error']}")
            if reply["error"]["code"] == 8:
                body["request_id"] += "'"  # a decision is kept: ask anew
            await asyncio.sleep(TRY_AGAIN_S)

    async def _open(self, name: str, rid: str, cell: str, code: str | None) -> None:
        """Asks until the door stands open before us."""
        tries = 0
        while self._plant.world.cell(cell).door is not Door.OPEN:
            tries += 1
            if tries > 40:
                raise Violation(f"{name} {rid}: the door of {cell} never opened")
            if code is None:
                body = {"request_id": f"{name}-{rid}-{tries}", "reservation_id": rid}
                reply = await self._plant.broker.call(name, body)
                said = "opened" if "result" in reply else f"code {reply['error']['code']}"
                await self._ask_again(name, body, reply)
            else:
                said = await self._enter(code)
            self._note(f"{name} {rid} {cell}: {said}")
            if self._plant.world.cell(cell).door is not Door.OPEN:
                await asyncio.sleep(TRY_AGAIN_S)
        # Nobody puts a hand in before the machine knows that the door is open, but for a killed one.
        await asyncio.sleep(0.3)

    async def _ask_again(self, name: str, body: dict[str, Any], first: dict[str, Any]) -> None:
        """Now and then the same request id comes twice: it gets the same answer, and no second pulse."""
        if self._rng.random() > 0.2 or first.get("error", {}).get("code") in (4, 14):
            return
        again = await self._plant.broker.call(name, body)
        if again != first and again.get("error", {}).get("code") != 4:
            raise Violation(f"{body['request_id']} was answered {first} and then {again}")

    async def _enter(self, code: str) -> str:
        agent = self._plant.agent
        if agent is None:
            return "the keypad is dark"
        try:
            async with asyncio.timeout(10):
                answer = await agent.desk.enter_code(code)
        except TimeoutError:
            return "nothing happened"
        return "opened" if answer.refusal is None else answer.refusal.message


def check_pulses(plant: Plant, journal: Path) -> int:
    """Every pulse must have a journaled intent of its own, just before it, for a reservation that then held
    the cell. Returns how many pulses there were. Raises `Violation`."""
    with sqlite3.connect(journal) as connection:
        rows = connection.execute(
            "SELECT cell, boottime_ns, reservation_id, unlock_id, attempt FROM unlock WHERE outcome IS NULL"
        ).fetchall()
        cells = dict(
            connection.execute("SELECT reservation_id, json_extract(body, '$.cell') FROM reservation")
        )
        open_requests = connection.execute("SELECT count(*) FROM inbox WHERE reply IS NULL").fetchone()[0]
    connection.close()
    if open_requests:
        raise Violation(f"{open_requests} requests were never answered")
    if len({(unlock_id, attempt) for *_, unlock_id, attempt in rows}) != len(rows):
        raise Violation("an intent was journaled twice")
    intents: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for cell, boottime_ns, reservation_id, _, _ in rows:
        if cells[reservation_id] != cell:
            raise Violation(f"intent on {cell} for {reservation_id}, which has {cells[reservation_id]}")
        intents[cell].append((boottime_ns / 1e9, reservation_id))
    actuations = plant.world.actuations()
    for actuation in actuations:
        reasons = [i for i in intents[actuation.label] if 0 <= actuation.monotonic - i[0] < 1.0]
        if not reasons:
            raise Violation(f"pulse {actuation.n} on {actuation.label} has no intent")
        intents[actuation.label].remove(reasons[0])
    return len(actuations)


def check_events(storm: Storm) -> int:
    """Every sequence from 1 on, each once. Returns how many. Raises `Violation`."""
    sequences = sorted(storm._sequences)
    if sequences != list(range(1, len(sequences) + 1)):
        raise Violation(f"sequences with gaps: {sequences}")
    return len(sequences)


def run_storm(
    settings: Settings,
    journal: Path,
    seed: int,
    *,
    lives: int = 50,
    at_once: int = 4,
    kill_every_s: float = 4.0,
) -> Outcome:
    """One storm on a fresh journal, checked. Raises `Violation`, alone or in an exception group."""

    async def run() -> Outcome:
        plant = Plant(with_journal(settings, journal), seed)
        storm = Storm(plant, seed, lives, at_once, kill_every_s)
        await storm.run()
        outcome = storm.outcome
        outcome.pulses = check_pulses(plant, journal)
        outcome.events = check_events(storm)
        outcome.trace += [
            f"{a.n} {a.label} {a.monotonic:.6f} {a.duration_ms}" for a in plant.world.actuations()
        ]
        return outcome

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())
