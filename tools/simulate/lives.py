"""Couriers and customers who use one locker while its daemon is killed again and again, in virtual time.

Locks jam for a while, support opens doors out of band, some parcels are cancelled or abandoned, a technician
blocks and clears cells. The people do not know of the kills: they retry, as people do. At the end their
observations are compared with what the world, the journal and the cloud recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.app import Agent
from edge_agent.config import Settings
from edge_agent.model import Alarm, CellStatus, Door
from tools.simulate.plant import Plant, with_journal
from tools.simulate.truth import Witness
from tools.simulate.virtual_loop import VirtualLoop
from tools.simulate.weather import Weather

TRY_AGAIN_S = 1.0
LONGEST_WAIT_S = 600.0
SEEN_S = 60.0
"""Longer than a kill, a lost port and a grace together."""
MOST_TRIES = 90
LEFT_OPEN_S = 20.0
ASIDE = {"EVENT_TYPE_PICKUP_FAILED", "EVENT_TYPE_OPEN_DOOR_FULFILLED", "EVENT_TYPE_CELL_STATUS_CHANGED"}
"""Events that may come at any time in a life."""
LIFE_EVENTS = [
    "EVENT_TYPE_RESERVATION_CREATED",
    "EVENT_TYPE_DROPOFF",
    "EVENT_TYPE_PICKUP",
    "EVENT_TYPE_RESERVATION_COMPLETED",
]
CANCELLED = [LIFE_EVENTS[0], "EVENT_TYPE_RESERVATION_CANCELLED"]
ABANDONED = [*LIFE_EVENTS[:2], "EVENT_TYPE_PICKUP_ABANDONED"]


class Violation(AssertionError):
    """The machine did something forbidden."""


class Unseen(Violation):
    """An awaited event or state did not come."""


@dataclass(slots=True)
class Outcome:
    """The result of a storm: the trace is the same for the same seed."""

    trace: list[str] = field(default_factory=list)
    kills: int = 0
    lives: int = 0
    pulses: int = 0
    events: int = 0
    virtual_s: float = 0.0
    recovered: int = 0
    moves: int = 0
    open_doors: int = 0
    doors_judged: int = 0
    ends: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How many lives ended as COMPLETED, CANCELLED, ABANDONED."""


class Storm:
    """A number of lives, several at a time, with kills at random instants."""

    def __init__(self, plant: Plant, seed: int, lives: int, at_once: int, kill_every_s: float | None) -> None:
        self._plant = plant
        self._rng = random.Random(f"{seed}/people")
        self._kill_rng = random.Random(f"{seed}/kills")
        self._numbers = iter(range(1, lives + 1))
        self._at_once = at_once
        self._kill_every_s = kill_every_s
        self._finished = 0
        self._heard: dict[str, list[str]] = defaultdict(list)
        self._sequences: dict[int, str] = {}
        self._cells: dict[str, set[str]] = defaultdict(set)
        self._moved: dict[str, str] = {}
        """The present cell of a moved reservation: people go to the cell that they are shown."""
        self._accepted: set[str] = set()
        self._fulfilled: list[str] = []
        self._request_numbers = itertools.count(1)
        self._inspected: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.outcome = Outcome()
        plant.broker.on_event = self._event

    async def run(self) -> None:
        """Runs everything, to the last event. Raises `Violation`."""
        self._plant.start()
        async with asyncio.TaskGroup() as group:
            killer = group.create_task(self._kill_now_and_then())
            others = [group.create_task(work) for work in (self._technician(), self._saboteur())]
            async with asyncio.TaskGroup() as people:
                for _ in range(self._at_once):
                    people.create_task(self._person())
            killer.cancel()
            for other in others:
                other.cancel()
        if self._plant.agent is None:
            self._plant.start()  # the people finished while it was killed
        await self._until(lambda: self._outbox_size() == 0)
        if sorted(self._fulfilled) != sorted(set(self._fulfilled)):
            raise Violation(f"an open-door was fulfilled twice: {self._fulfilled}")
        if not self._accepted <= set(self._fulfilled):
            raise Violation(f"never fulfilled: {sorted(self._accepted - set(self._fulfilled))}")
        self.outcome.open_doors = len(self._fulfilled)
        self.outcome.virtual_s = asyncio.get_running_loop().time()
        await self._plant.stop()

    def _note(self, what: str) -> None:
        self.outcome.trace.append(f"{asyncio.get_running_loop().time():.6f} {what}")

    def _event(self, event: dict[str, Any]) -> None:
        sequence, body = event["sequence"], json.dumps(event, sort_keys=True)
        known = self._sequences.setdefault(sequence, body)
        if known != body:
            raise Violation(f"sequence {sequence} published twice, differently")
        self._note(f"event {sequence} {event['event_type']} {event.get('reservation_id')}")
        reservation_id = event.get("reservation_id")
        if known is body and reservation_id is not None:
            self._heard[reservation_id].append(event["event_type"])
            detail = next(v for k, v in event.items() if k.endswith("_event"))
            self._cells[reservation_id].add(detail["cell"]["description"])
            if detail.get("cause") == "MOVED":
                self.outcome.moves += 1
                self._moved[reservation_id] = detail["cell"]["description"]
            if event["event_type"] == "EVENT_TYPE_OPEN_DOOR_FULFILLED":
                self._fulfilled.append(event["request_id"])
            self.outcome.recovered += any(
                k.endswith("_event") and v.get("recovered") for k, v in event.items()
            )

    def _outbox_size(self) -> int:
        agent = self._plant.agent
        return 1 if agent is None else agent.store.outbox_size()

    async def _until(self, condition: Any, limit_s: float = LONGEST_WAIT_S) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + limit_s
        while not condition():
            if loop.time() > end_s:
                raise Unseen(f"nothing came of it in {limit_s} s")
            await asyncio.sleep(0.05)

    async def _kill_now_and_then(self) -> None:
        while self._kill_every_s is not None:
            await asyncio.sleep(self._kill_rng.expovariate(1 / self._kill_every_s))
            self._note("kill")
            self.outcome.kills += 1
            await self._plant.kill()
            await asyncio.sleep(self._kill_rng.uniform(0.2, 3.0))
            self._plant.start()

    async def _technician(self) -> None:
        """Handles cells that the machine no longer trusts, closes doors that were left open, and blocks one
        now and then."""
        while True:
            await asyncio.sleep(5)
            agent = self._plant.agent
            if agent is None:
                continue
            for label, cell in agent.loop.state.cells.items():
                stands, for_s = self._plant.world.door_stands(label)
                nobodys = cell.status in (CellStatus.IDLE, CellStatus.AWAITING_INSPECTION)
                if nobodys and stands is Door.OPEN and for_s > LEFT_OPEN_S:
                    self._plant.world.close(label)
                if cell.status is CellStatus.AWAITING_CLEANUP:
                    self._spawn(self._clean(label))
                elif cell.status is CellStatus.AWAITING_INSPECTION or cell.faulty or cell.contact_doubt:
                    self._spawn(self._inspect(label))
                elif cell.blocked is not None:
                    self._spawn(agent.local.unblock(label))
                elif self._rng.random() < 0.02:
                    self._spawn(agent.local.block(label, "a look"))

    async def _inspect(self, label: str) -> None:
        """Clears a cell; after a wrong door only when its own lock has opened it."""
        agent = self._plant.agent
        somebody = self._plant.world.cell(label).door is Door.OPEN
        if agent is None or somebody or label in self._inspected:
            return
        self._inspected.add(label)
        try:
            if f"{Alarm.WRONG_DOOR}/{label}" in agent.loop.state.alarms:
                answer = await agent.local.open_cell(label, "a wrong door opened")
                if answer.refusal is None:
                    await asyncio.sleep(0.5)
                    self._plant.world.close(label)
                    await asyncio.sleep(1.0)
            await agent.local.clear(label)
        finally:
            self._inspected.discard(label)

    async def _clean(self, label: str) -> None:
        """Takes out an abandoned parcel and clears the cell."""
        if self._plant.agent is not None:
            await self._plant.agent.local.open_cell(label, "to clean up")
        self._plant.world.open(label)  # with the key, if the lock does not open
        self._plant.world.take(label)
        await asyncio.sleep(0.5)
        self._plant.world.close(label)
        await asyncio.sleep(1.0)
        if self._plant.agent is not None:
            await self._plant.agent.local.clear(label)

    async def _saboteur(self) -> None:
        """A lock jams, for a while."""
        labels = [cell.label for cell in self._plant.world.cells()]
        while True:
            await asyncio.sleep(self._rng.uniform(2.0, 8.0))
            label = self._rng.choice(labels[:8])
            self._plant.world.jam(label, True)
            await asyncio.sleep(self._rng.uniform(3.0, 12.0))
            self._plant.world.jam(label, False)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Runs in the background; what a kill leaves unanswered is forgotten."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _person(self) -> None:
        for number in self._numbers:
            end = await self._life(number)
            self._finished += 1
            self.outcome.lives += 1
            self.outcome.ends[end] += 1

    async def _life(self, number: int) -> str:
        reservation = await self._reserve(number)
        rid, cell = reservation["reservation_id"], reservation["cell"]["description"]
        by_code = self._rng.random() < 0.4
        if self._rng.random() < 0.2:
            cell = await self._support(rid, cell)
        if self._rng.random() < 0.1:
            return await self._cancel_or_abandon("cancel", rid, CANCELLED)
        cell = await self._open("dropoff", rid, cell, reservation["drop_off_code"] if by_code else None)
        grams = self._rng.randrange(100, 1400)
        self._plant.world.place(cell, grams)
        await asyncio.sleep(self._rng.uniform(0.6, 4.0))
        self._plant.world.close(cell)
        self._note(f"closed {cell}")
        dropping_off = ("dropoff", rid, cell, reservation["drop_off_code"] if by_code else None)
        await self._until_seen(dropping_off, lambda: "EVENT_TYPE_DROPOFF" in self._heard[rid])
        await asyncio.sleep(self._rng.uniform(0.5, 5.0))
        if self._rng.random() < 0.1:
            return await self._cancel_or_abandon("abandon", rid, ABANDONED)
        picking_up = ("pickup", rid, cell, reservation["pickup_code"] if by_code else None)
        await self._open(*picking_up)
        if self._plant.world.cell(cell).grams != grams:
            raise Violation(f"{rid}: another parcel in {cell}")
        self._plant.world.take(cell)
        await asyncio.sleep(self._rng.uniform(0.6, 3.0))
        self._plant.world.close(cell)
        await self._until_seen(picking_up, lambda: self._events_of(rid)[-1:] == LIFE_EVENTS[-1:])
        self._demand(rid, LIFE_EVENTS)
        if self._rng.random() < 0.15:
            await self._ask_support(rid)
        return "COMPLETED"

    async def _until_seen(self, opening: tuple[str, str, str, str | None], seen: Callable[[], bool]) -> None:
        """Waits until an event reports it; if the machine was blind while the door was open, the door is
        opened and closed once more."""
        for _ in range(MOST_TRIES):
            with contextlib.suppress(Unseen):
                await self._until(seen, SEEN_S)
                return
            await self._open(*opening)
            await asyncio.sleep(0.6)
            self._plant.world.close(opening[2])
        raise Violation(f"{opening[:3]}: never published")

    def _events_of(self, rid: str) -> list[str]:
        return [kind for kind in self._heard[rid] if kind not in ASIDE]

    def _demand(self, rid: str, life: list[str]) -> None:
        if self._events_of(rid) != life:
            raise Violation(f"{rid}: published {self._events_of(rid)}")

    async def _cancel_or_abandon(self, command: str, rid: str, life: list[str]) -> str:
        """Asks until it is granted; the request may find the cell busy, or a door open."""
        for _ in range(MOST_TRIES):
            request = f"{command}-{rid}-{next(self._request_numbers)}"
            reply = await self._plant.broker.call(command, {"request_id": request, "reservation_id": rid})
            if "result" in reply or life[-1] in self._heard[rid]:
                await self._until(lambda: life[-1] in self._heard[rid])
                self._demand(rid, life)
                return life[-1].rpartition("_")[2]
            await asyncio.sleep(TRY_AGAIN_S)
        raise Violation(f"{command} {rid}: never granted")

    async def _ask_support(self, rid: str) -> str | None:
        """One out-of-band opening; returns the request's id if it was accepted. Its door is closed again."""
        request = f"support-{rid}-{next(self._request_numbers)}"
        reply = await self._plant.broker.call("open-door", {"request_id": request, "reservation_id": rid})
        if "result" not in reply:
            return None
        self._accepted.add(request)
        await self._until(lambda: request in self._fulfilled)
        await asyncio.sleep(1.0)
        return request

    async def _support(self, rid: str, cell: str) -> str:
        """Support opens a door before the courier is there, and the courier closes it."""
        await self._ask_support(rid)
        await asyncio.sleep(self._rng.uniform(0.5, 2.0))
        self._plant.world.close(cell)
        await asyncio.sleep(0.5)
        return cell

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
                body["request_id"] += "'"  # a decision is kept: use a new request id
            await asyncio.sleep(TRY_AGAIN_S)

    async def _open(self, name: str, rid: str, cell: str, code: str | None) -> str:
        """Asks until a door stands open here; returns its cell, which may be another than was expected."""
        tries, cell = 0, self._moved.get(rid, cell)
        while self._plant.world.cell(cell).door is not Door.OPEN or cell in self._inspected:
            if cell in self._inspected:
                await asyncio.sleep(TRY_AGAIN_S)  # a technician stands there
                continue
            tries += 1
            if tries > MOST_TRIES:
                raise Violation(f"{name} {rid}: the door of {cell} never opened")
            if code is None:
                body = {"request_id": f"{name}-{rid}-{tries}", "reservation_id": rid}
                reply = await self._plant.broker.call(name, body)
                said = "opened" if "result" in reply else f"code {reply['error']['code']}"
                opened = reply["result"]["cell"]["description"] if "result" in reply else None
                await self._ask_again(name, body, reply)
            else:
                said, opened = await self._enter(code)
            self._note(f"{name} {rid} {cell}: {said}")
            if opened is not None and opened != cell:
                if name != "dropoff":
                    raise Violation(f"{name} {rid}: {opened} opened, the parcel lies in {cell}")
                cell = opened
            if opened is None:
                await asyncio.sleep(TRY_AGAIN_S)
                cell = self._moved.get(rid, cell)
        # People reach in only when the machine knows that the door is open, unless it was killed.
        await asyncio.sleep(0.3)
        return cell

    async def _ask_again(self, name: str, body: dict[str, Any], first: dict[str, Any]) -> None:
        """Sometimes sends the same request id twice: it gets the same answer, and no second pulse."""
        if self._rng.random() > 0.2 or first.get("error", {}).get("code") in (4, 14):
            return
        again = await self._plant.broker.call(name, body)
        if again != first and again.get("error", {}).get("code") != 4:
            raise Violation(f"{body['request_id']} was answered {first} and then {again}")

    async def _enter(self, code: str) -> tuple[str, str | None]:
        """The keypad's answer, and the cell that opened."""
        agent = self._plant.agent
        if agent is None:
            return "the keypad is dark", None
        try:
            async with asyncio.timeout(10):
                answer = await agent.local.enter_code(code)
        except TimeoutError:
            return "nothing happened", None
        return ("opened", answer.cell) if answer.refusal is None else (answer.refusal.message, None)


def check_pulses(plant: Plant, journal: Path, held: Mapping[str, set[str]]) -> int:
    """Every pulse must have a journaled intent of its own, just before it, for a reservation that held the
    cell (`held`: the cells that each one ever had) or for a technician. Returns how many pulses there were.
    Raises `Violation`."""
    with sqlite3.connect(journal) as connection:
        rows = connection.execute(
            "SELECT cell, boottime_ns, reservation_id, unlock_id, attempt FROM unlock WHERE outcome IS NULL"
        ).fetchall()
        open_requests = connection.execute("SELECT count(*) FROM inbox WHERE reply IS NULL").fetchone()[0]
    connection.close()
    if open_requests:
        raise Violation(f"{open_requests} requests were never answered")
    if len({(unlock_id, attempt) for *_, unlock_id, attempt in rows}) != len(rows):
        raise Violation("an intent was journaled twice")
    intents: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for cell, boottime_ns, reservation_id, _, _ in rows:
        if reservation_id and cell not in held[reservation_id]:
            raise Violation(f"intent on {cell} for {reservation_id}, which had {held[reservation_id]}")
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
    kill_every_s: float | None = 4.0,
    on_agent: Callable[[Agent], None] = lambda agent: None,
    weather: Weather | None = None,
) -> Outcome:
    """Runs one storm on a fresh journal, with all checks. Raises `Violation`, alone or in an exception group.

    `kill_every_s` None: the daemon is not killed. `weather`: the faults of the wires meanwhile.
    """

    async def run() -> Outcome:
        plant = Plant(with_journal(settings, journal), seed)
        witness = Witness(plant.world)

        def meet(agent: Agent) -> None:
            witness.watch(agent)
            on_agent(agent)

        plant.on_agent = meet
        storm = Storm(plant, seed, lives, at_once, kill_every_s)
        async with asyncio.TaskGroup() as group:
            troubles = [] if weather is None else weather.troubles(plant, seed)
            spoiling = [group.create_task(trouble) for trouble in troubles]
            await storm.run()
            for task in spoiling:
                task.cancel()
        if witness.untrue:
            raise Violation(f"doors reported otherwise than they stood: {witness.untrue}")
        outcome = storm.outcome
        outcome.doors_judged = witness.judged
        outcome.pulses = check_pulses(plant, journal, storm._cells)
        outcome.events = check_events(storm)
        outcome.trace += [
            f"{a.n} {a.label} {a.monotonic:.6f} {a.duration_ms}" for a in plant.world.actuations()
        ]
        return outcome

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())
