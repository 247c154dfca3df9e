"""What a technician sees of the buses: counters and latencies, the frames as they pass, the door contacts.

Scanning and checking are in `bus_scan` and `bus_checks`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.drivers.bus import BusOwner
from edge_agent.drivers.decode import Decoder, Wire
from edge_agent.drivers.health import DeviceRecord, ObservedFrame
from edge_agent.drivers.profiles import Profile
from edge_agent.errors import Code, Refusal
from edge_agent.field.doors import DoorPlace, Doors
from edge_agent.model import Door
from edge_agent.protocol.api import rfc3339
from edge_agent.runtime.clock import Clock
from edge_agent.statemachine.inputs import HandCheck, Input

QUEUE_FRAMES = 2000
"""At most this many frames wait for a slow follower of a bus; later ones are counted and dropped."""
DOORS_COMPARED_S = 0.05
"""How often the door contacts are compared while a client follows them."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A configured device: its name, its address, and its profile.

    `cells`: use (`lock`, `door`, ...), label and channel for each cell that is wired to it.
    """

    name: str
    address: int
    profile_name: str
    profile: Profile
    cells: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class BusPlace:
    """A bus and its configuration.

    `addresses`: the first and last possible address, and where a scan ends by default. `baud`: 0 for a
    network.
    """

    bus: BusOwner
    port: str
    wire: Wire
    baud: int
    addresses: tuple[int, int, int]
    devices: tuple[Placed, ...]
    bits_per_character: int = 10

    def device_at(self, address: int) -> Placed | None:
        """The configured device at an address."""
        return next((device for device in self.devices if device.address == address), None)


class Tap:
    """Follows one bus: keeps the frames that were not fetched yet, and counts those that had no room."""

    def __init__(self, bus: BusOwner, arrived: asyncio.Event) -> None:
        self._bus = bus
        self._arrived = arrived
        self._frames: deque[ObservedFrame] = deque()
        self._dropped = 0

    def __enter__(self) -> Tap:
        """Starts listening."""
        self._bus.frame_observers.append(self._take)
        return self

    def __exit__(self, *_: object) -> None:
        """Stops listening."""
        self._bus.frame_observers.remove(self._take)

    def _take(self, passed: ObservedFrame) -> None:
        if len(self._frames) >= QUEUE_FRAMES:
            self._dropped += 1
        else:
            self._frames.append(passed)
        self._arrived.set()

    def fetch(self) -> tuple[list[ObservedFrame], int]:
        """The frames since the last call, and how many frames after them were lost."""
        frames, dropped = list(self._frames), self._dropped
        self._frames.clear()
        self._dropped = 0
        return frames, dropped


class BusService:
    """Reads the buses for technicians; nothing that it shows holds a code."""

    def __init__(
        self,
        places: Mapping[str, BusPlace],
        doors: Doors,
        door_places: Mapping[str, DoorPlace],
        clock: Clock,
        submit: Callable[[Input], None] = lambda given: None,
    ) -> None:
        """`submit` gets a `HandCheck` while a client follows the doors."""
        self._submit = submit
        self._places = places
        self._doors = doors
        self._door_places = door_places
        self._clock = clock
        self.failing: dict[str, list[str]] = {}
        """The names of the checks that each device failed in the last run, see `bus_checks.Checks`."""

    @property
    def places(self) -> Mapping[str, BusPlace]:
        """All buses."""
        return self._places

    def place(self, name: str) -> BusPlace:
        """A bus by its name. Raises `Refusal` (`NOT_FOUND`)."""
        if name not in self._places:
            known = ", ".join(self._places)
            raise Refusal(Code.NOT_FOUND, f"no such bus: {name}; there are: {known}")
        return self._places[name]

    def device(self, name: str) -> dict[str, Any]:
        """A configured device: its bus, address, profile (`described`: its content) and cells.

        Raises `Refusal` (`NOT_FOUND`).
        """
        known = [(bus, place, device) for bus, place in self._places.items() for device in place.devices]
        for bus, place, device in known:
            if device.name == name:
                cells = [{"use": use, "cell": cell, "channel": n} for use, cell, n in device.cells]
                return {
                    "device": name,
                    "bus": bus,
                    "address": device.address,
                    "protocol": place.wire,
                    "profile": device.profile_name,
                    "described": device.profile.model_dump(mode="json"),
                    "cells": cells,
                }
        names = ", ".join(device.name for _, _, device in known)
        raise Refusal(Code.NOT_FOUND, f"no such device: {name}; there are: {names}")

    def stats(self) -> list[dict[str, Any]]:
        """Traffic on each bus since the daemon's start, and how each configured device answers.

        `utilisation`: the share of the time in which bits passed; None over a network, where it cannot be
        measured. Latencies, in ms from a request's last bit to its whole reply, are upper bounds.
        """
        return [self._bus_row(name, place) for name, place in self._places.items()]

    def _bus_row(self, name: str, place: BusPlace) -> dict[str, Any]:
        bus, counters = place.bus, place.bus.counters
        share = bus.utilisation()
        return {
            "bus": name,
            "port": place.port,
            "protocol": place.wire,
            "baud": place.baud or None,
            "up": bus.up,
            "requests": counters.requests,
            "replies": counters.replies,
            "timeouts": counters.timeouts,
            "damaged": counters.bad_replies,
            "exceptions": counters.exceptions,
            "late": counters.late_replies,
            "unasked": sum(record.unasked for record in bus.devices.values()),
            "glitches": counters.glitches,
            "stray_bytes": counters.stray_bytes,
            "port_losses": counters.port_losses,
            "utilisation": None if share is None else round(share, 4),
            "devices": [self._device_row(place, device) for device in place.devices],
        }

    def _device_row(self, place: BusPlace, device: Placed) -> dict[str, Any]:
        record = place.bus.record(device.address)
        record.drop_too_late(asyncio.get_running_loop().time())
        latency = record.latency
        return {
            "device": device.name,
            "address": device.address,
            "profile": device.profile_name,
            "state": _state(record),
            "requests": record.requests,
            "replies": record.replies,
            "timeouts": record.timeouts,
            "damaged": record.bad_replies,
            "exceptions": record.exceptions,
            "late": record.late_replies,
            "unasked": record.unasked,
            "padded": record.padded,
            "early": record.early,
            "foreign": record.foreign,
            "owed": len(record.owed),
            "latency_ms": {
                "p50": _rounded(latency.quantile_ms(0.5)),
                "p99": _rounded(latency.quantile_ms(0.99)),
                "max": _rounded(latency.longest_ms if record.replies else None),
            },
            "failing_checks": self.failing.get(device.name, []),
        }

    def monitor(self, name: str | None, seconds: float | None = None) -> AsyncIterator[dict[str, Any]]:
        """The frames of one bus, or of all, as they pass, for `seconds` or until the caller stops.

        A frame has `at` (UTC), `at_s` (a clock of the daemon, for differences), `bus`, `baud`, `protocol`,
        `direction` (`sent`, `heard`), `hex`, `note` and `words`. If the caller was too slow, a row of
        direction `lost` gives the number of missing frames in `note`. Raises `Refusal` (`NOT_FOUND`).
        """
        chosen = dict(self._places) if name is None else {name: self.place(name)}
        return self._follow(chosen, seconds)

    async def _follow(
        self, chosen: Mapping[str, BusPlace], seconds: float | None
    ) -> AsyncIterator[dict[str, Any]]:
        arrived = asyncio.Event()
        loop = asyncio.get_running_loop()
        end_s = None if seconds is None else loop.time() + seconds
        taps = {name: Tap(place.bus, arrived) for name, place in chosen.items()}
        decoders = {
            name: Decoder(place.wire, {d.address: (d.name, d.profile) for d in place.devices})
            for name, place in chosen.items()
        }
        for tap in taps.values():
            tap.__enter__()
        try:
            while True:
                rows: list[dict[str, Any]] = []
                for name, tap in taps.items():
                    frames, dropped = tap.fetch()
                    rows += [self._frame_row(chosen[name], name, frame, decoders[name]) for frame in frames]
                    if dropped:
                        at_s = asyncio.get_running_loop().time()
                        lost = self._row(chosen[name], name, at_s)
                        rows.append(lost | {"direction": "lost", "hex": "", "note": str(dropped)})
                        rows[-1]["words"] = f"{dropped} frames passed too quickly to be shown"
                for row in sorted(rows, key=lambda row: float(row["at_s"])):
                    yield row
                if not await _happens_before(end_s, arrived):
                    return
                arrived.clear()
        finally:
            for tap in taps.values():
                tap.__exit__()

    def _row(self, place: BusPlace, name: str, at_s: float) -> dict[str, Any]:
        ago_s = asyncio.get_running_loop().time() - at_s
        return {
            "at": _precisely(self._clock.now().wall_s - ago_s),
            "at_s": round(at_s, 6),
            "bus": name,
            "baud": place.baud,
            "protocol": place.wire,
        }

    def _frame_row(
        self, place: BusPlace, name: str, frame: ObservedFrame, decoder: Decoder
    ) -> dict[str, Any]:
        words = decoder.words(frame.direction, frame.data, frame.note)
        said = {
            "direction": frame.direction,
            "hex": frame.data.hex(" ").upper(),
            "note": frame.note,
            "words": words,
        }
        return self._row(place, name, frame.at_s) | said

    async def doors(
        self, seconds: float | None = None, labels: Sequence[str] = ()
    ) -> AsyncIterator[dict[str, Any]]:
        """Every door as it was last reported, and then each change, for `seconds` or until the caller
        stops. Meanwhile opening a door of `labels` (all, if none) raises no alarm (`HandCheck`).

        `level` is what its contact reads; None while that is unknown.
        """
        checked = tuple(label for label in self._door_places if label in labels or not labels)
        self._submit(HandCheck(checked, True))
        try:
            async for row in self._door_rows(seconds):
                yield row
        finally:
            self._submit(HandCheck(checked, False))

    async def _door_rows(self, seconds: float | None) -> AsyncIterator[dict[str, Any]]:
        shown: dict[str, Door | None] = dict.fromkeys(self._door_places)
        loop = asyncio.get_running_loop()
        end_s = float("inf") if seconds is None else loop.time() + seconds
        while loop.time() < end_s:
            for label, place in self._door_places.items():
                door = self._doors.reported(label)
                if door is not shown[label]:
                    shown[label] = door
                    yield _door_row(label, place, door)
            await asyncio.sleep(DOORS_COMPARED_S)


async def _happens_before(end_s: float | None, event: asyncio.Event) -> bool:
    """Whether the event happens before an instant of the loop (None: no limit)."""
    try:
        async with asyncio.timeout_at(end_s):
            await event.wait()
    except TimeoutError:
        return False
    return end_s is None or asyncio.get_running_loop().time() < end_s


def _door_row(label: str, place: DoorPlace, door: Door) -> dict[str, Any]:
    level = {Door.CLOSED: place.closed_level, Door.OPEN: 1 - place.closed_level}.get(door)
    return {
        "label": label,
        "device": place.board,
        "channel": place.channel,
        "door": door,
        "level": level,
        "closed_level": place.closed_level,
    }


def _precisely(wall_s: float) -> str:
    """RFC 3339 with milliseconds."""
    whole, ms = divmod(int(wall_s * 1000), 1000)
    return f"{rfc3339(whole).removesuffix('Z')}.{ms:03d}Z"


def _state(record: DeviceRecord) -> str:
    if record.dead:
        return "dead"
    if record.failures:
        return "failing"
    return "answering" if record.replies or record.exceptions else "not asked"


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)
