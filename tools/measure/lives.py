"""Reservation lives on a running machine, each step timed on CLOCK_MONOTONIC."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from edge_agent.drivers.simulated.world import CellBuild, World
from edge_agent.model import Door
from edge_agent.protocol.topics import Topics
from tools.measure.cloud import BareClient, Cloud, Heard
from tools.measure.rig import API, MeasureFault, Rig

PARCEL = {"width": 200, "height": 100, "depth": 300, "weight": 900}
LONGEST_PULSE_NS = 10**9


@dataclass(frozen=True, slots=True)
class Opening:
    """One door opened on command. `observed_s`: when a second client received the command (MQTT only)."""

    label: str
    sent_s: float
    observed_s: float | None
    coil_s: float
    opened_s: float
    answered_s: float


@dataclass(frozen=True, slots=True)
class Closing:
    """One door closed on a parcel: the request to the simulator, its response, the event."""

    called_s: float
    closed_s: float
    event_s: float


@dataclass(slots=True)
class Timings:
    """The timings of the lives so far."""

    openings: list[Opening] = field(default_factory=list)
    by_rest: list[Opening] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)


def opening_time_s(label: str) -> float:
    """How long the simulated lock of a cell must be energised until its door springs open: the same physics
    with the same seed (0) as in the simulator, asked by bisection."""

    def open_after(ns: int) -> bool:
        world = World([CellBuild(label)], clock_ns=lambda: 0, wall_s=lambda: 0.0, seed=0)
        world.solenoid(label)(0, LONGEST_PULSE_NS)
        return not world.contact(label, 1)(ns)

    low, high = 0, LONGEST_PULSE_NS
    while high - low > 1000:
        middle = (low + high) // 2
        low, high = (low, middle) if open_after(middle) else (middle, high)
    return high / 1e9


class Person:
    """Runs one reservation after the other; pauses are random, so that polling is met in every phase."""

    def __init__(self, rig: Rig, cloud: Cloud) -> None:
        self.timings = Timings()
        self._rig = rig
        self._cloud = cloud
        self._random = random.Random(1)
        self._numbers = count(1)
        self._opening_s: dict[str, float] = {}
        self._actuations = len(rig.sim.call("GET", "/actuations"))

    def live(self, *, rest_dropoff: bool = False) -> None:
        """One complete life: reserved, dropped off (by REST if requested), picked up, completed."""
        self._cloud.client.forget()
        rid = self._reserve(rest=rest_dropoff)
        opening = self._open("dropoff", rid, rest=rest_dropoff)
        (self.timings.by_rest if rest_dropoff else self.timings.openings).append(opening)
        cell = f"/cells/{opening.label}"
        self._rig.sim.call("POST", f"{cell}/place", {"grams": PARCEL["weight"]})
        self._pause()
        self.timings.closings.append(self._close(rid, cell, "DROPOFF"))
        self._pause()
        self.timings.openings.append(self._open("pickup", rid, rest=False))
        self._rig.sim.call("POST", f"{cell}/take")
        self._pause()
        self._close(rid, cell, "RESERVATION_COMPLETED")
        self._pause()

    def _pause(self) -> None:
        time.sleep(self._random.uniform(0.1, 0.25))

    def _reserve(self, *, rest: bool) -> str:
        body: dict[str, object] = {
            "machine_id": self._rig.machine_id,
            "platform_order_id": "measured",
            "packaging": PARCEL,
            "grace_period_pickup_in_seconds": 0,
        }
        if rest:
            return str(self._rig.api.call("POST", f"{API}/reservations", body)["reservation_id"])
        rid = f"res_measure{next(self._numbers)}"
        self._cloud.command("reserve", reservation_id=rid, platform="bench", **body)
        return rid

    def _open(self, what: str, rid: str, *, rest: bool) -> Opening:
        self._pause()
        if rest:
            sent_s, observed_s = time.monotonic(), None
            self._rig.api.call("POST", f"{API}/reservations/{rid}/{what}s", {})
            answered_s = time.monotonic()
        else:
            sent_s, observed_s, reply = self._cloud.command(what, reservation_id=rid)
            answered_s = reply.at_s
        new = self._rig.sim.call("GET", f"/actuations?since={self._actuations}")
        if len(new) != 1:
            raise MeasureFault(f"{what} gave {len(new)} pulses")
        self._actuations += 1
        label, coil_s = str(new[0]["label"]), float(new[0]["monotonic"])
        if label not in self._opening_s:
            self._opening_s[label] = opening_time_s(label)
        return Opening(label, sent_s, observed_s, coil_s, coil_s + self._opening_s[label], answered_s)

    def _close(self, rid: str, cell: str, event: str) -> Closing:
        called_s = time.monotonic()
        self._rig.sim.call("POST", f"{cell}/close")
        closed_s = time.monotonic()
        return Closing(called_s, closed_s, self._cloud.event(event, rid, called_s).at_s)


@contextmanager
def person_at(rig: Rig, *, gateway: bool) -> Iterator[Person]:
    """Starts everything and yields a person to live there; the first life is a warm-up and not counted."""
    rig.start_broker()
    rig.start_simulator()
    if gateway:
        rig.start_gateway()
    topics = Topics(rig.machine_id)
    with (
        BareClient(rig.mqtt_port, "measure", topics.events, topics.online, topics.reply("measure")) as client,
        BareClient(rig.mqtt_port, "observer", topics.commands) as observer,
    ):
        began_s = rig.start_agent()
        client.first(lambda heard: is_online(heard, topics), began_s, "the daemon's birth")
        wait_closed(rig)
        person = Person(rig, Cloud(client, observer, topics))
        if gateway:
            rig.wait(lambda: _known(rig), "gateway")
        person.live()
        person.timings = Timings()
        yield person


def is_online(heard: Heard, topics: Topics) -> bool:
    """Whether this is the daemon's birth message."""
    return heard.topic == topics.online and b'"online":true' in heard.payload.replace(b" ", b"")


def wait_closed(rig: Rig) -> None:
    """Returns when polling runs and every door is closed."""
    if any(cell["door"] != Door.CLOSED for cell in rig.sim.call("GET", "/cells")):
        raise MeasureFault("a door stands open at the start")
    before = rig.wire()["replies"]
    rig.wait(lambda: rig.wire()["replies"] > before + 20, "agent")


def _known(rig: Rig) -> bool:
    machine = rig.api.call("GET", f"{API}/machines/{rig.machine_id}")["machine"]
    return bool(machine["online"]) and len(machine["all_cells"]) == len(rig.settings.cells)
