"""Which devices answer on a bus: sends a harmless request to every address, between the polls of the daemon.

A scan's requests go at poll priority, so every command overtakes them. They go through the bus owner, which
knows what each address owes: a late reply is never taken for another address's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from edge_agent.drivers.boards import blocks, door_reads
from edge_agent.drivers.bus import Priority
from edge_agent.drivers.decode import EXCEPTIONS, USUAL_CHANNELS
from edge_agent.drivers.profiles import BusNeeds, Profile
from edge_agent.drivers.requests import AddressedRequest, LockStatus, Read, Request
from edge_agent.errors import (
    BadReply,
    BusTimeout,
    Code,
    DeviceFault,
    FieldViolation,
    NotSent,
    PortLost,
    Refusal,
)
from edge_agent.service.bus_service import BusPlace, Placed

PROBE_TRIES = 3
"""How often a silent configured device is asked, and any address whose reply was damaged."""
LONGEST_OWED_S = 4.0
"""An address that owes replies which could be taken for ours is left out after this time."""
FIRST_READ = Read(3, 0, 1)
"""The request to an address of which nothing is known."""
OTHER_READS = (Read(1, 0, 1), Read(2, 0, 1), Read(4, 0, 1))
"""What a board that refuses the first read is asked: a relay board has coils and no registers."""

Outcome = Literal["silent", "answers", "exception", "garbled"]
SILENT: Outcome = "silent"


@dataclass(frozen=True, slots=True)
class Heard:
    """The result of one request. `code`: of an exception; `fault`: what was wrong with the last reply."""

    outcome: Outcome
    code: int | None = None
    fault: str | None = None
    garbled: int = 0
    """How many replies were damaged."""
    values: tuple[int, ...] = ()
    """The values of an answer."""


def reads_of(profile: Profile) -> list[Request]:
    """The regular reads of a device with this profile, each harmless."""
    found: list[Request] = []
    doors, scale, temperature = profile.doors, profile.scale, profile.temperature
    if doors is not None:
        found += door_reads(doors)
    if scale is not None:
        found.append(Read(scale.function, scale.address, scale.count))
    if temperature is not None:
        found += blocks(temperature.function, temperature.address, temperature.registers, temperature.bulk)
    return found


def proofs_of(profile: Profile) -> dict[Request, bool]:
    """Each harmless read that identifies such a board, and whether it answers it (else: refuses it)."""
    found: dict[Request, bool] = dict.fromkeys(reads_of(profile), True)
    found |= {Read(check.function, check.address, check.count): True for check in profile.checks}
    found |= {Read(sign.function, sign.address, sign.count): sign.answers for sign in profile.signs}
    return found


def probe(place: BusPlace, profile: Profile) -> Request:
    """The harmless request that shows whether a configured board is there: one that its profile says it
    answers. A request that is unknown to it could get no answer, and mark a working board silent."""
    answered = (request for request, answers in proofs_of(profile).items() if answers)
    return next(answered, first_read(place))


def patient_needs(place: BusPlace) -> BusNeeds:
    """Timing under which every configured kind of device on a bus answers in time."""
    return slowest([device.profile.bus for device in place.devices] or [BusNeeds()])


def slowest(needs: Sequence[BusNeeds]) -> BusNeeds:
    """The maximum of each timing; `needs` must be of one protocol and not empty."""
    return BusNeeds(
        protocol=needs[0].protocol,
        gap_ms=max(need.gap_ms for need in needs),
        turnaround_ms=max(need.turnaround_ms for need in needs),
        drain_ms=max(need.drain_ms for need in needs),
        late_ms=max(need.late_ms for need in needs),
    )


async def ask(place: BusPlace, address: int, request: Request, needs: BusNeeds, tries: int) -> Heard:
    """Sends one harmless request; repeats it if the reply was damaged or (`tries` > 1) did not come.

    Raises `PortLost`.
    """
    bus, loop = place.bus, asyncio.get_running_loop()
    question = AddressedRequest(address, request)
    end_s = loop.time() + LONGEST_OWED_S
    heard = Heard(SILENT)
    asked, damaged = 0, 0
    while asked < tries or (damaged and asked < PROBE_TRIES):
        when_s = bus.record(address).may_ask_s(question, loop.time())
        if when_s > end_s:
            return replace(heard, fault="it owes the replies to other questions")
        await asyncio.sleep(max(0.0, when_s - loop.time()))
        try:
            values = await bus.transact(address, request, needs, Priority.POLL)
        except NotSent:
            continue  # another request to it got no answer meanwhile
        except DeviceFault as fault:
            return Heard("exception", fault.exception_code, garbled=damaged)
        except BadReply as fault:
            damaged += 1
            heard = Heard("garbled", fault=str(fault), garbled=damaged)
        except BusTimeout:
            if damaged == 0:
                heard = Heard(SILENT)
        else:
            return Heard("answers", garbled=damaged, values=tuple(values))
        asked += 1
    return heard


def addresses_of(place: BusPlace, first: int | None, last: int | None) -> list[int]:
    """The addresses that a scan asks: the whole range or a part; also configured ones beyond the usual range.

    Raises `Refusal` (`INVALID_ARGUMENT`).
    """
    least, most, usual = place.addresses
    for name, value in (("first", first), ("last", last)):
        if value is not None and not least <= value <= most:
            problem = f"must be {least} to {most} with {place.wire}"
            raise Refusal(Code.INVALID_ARGUMENT, f"{name}: {problem}", (FieldViolation(name, problem),))
    begin = least if first is None else first
    end = max(usual, begin) if last is None else last
    if end < begin:
        problem = "must not be less than first"
        raise Refusal(Code.INVALID_ARGUMENT, f"last: {problem}", (FieldViolation("last", problem),))
    chosen = set(range(begin, end + 1))
    if last is None:
        chosen |= {device.address for device in place.devices if device.address >= begin}
    return sorted(chosen)


class Scans:
    """The scans of all buses: one at a time on each."""

    def __init__(self) -> None:
        self._running: set[str] = set()

    def scan(
        self, name: str, place: BusPlace, first: int | None = None, last: int | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """A row for each address, as it is asked.

        `result`: `silent`, `answers`, `exception` (a device is there and refuses), `garbled`. `device`: which
        configured one it is, None if none; `grade`: that of its profile. `reads_like`: configured profiles
        whose reads an unknown device answers. `finding`: what is wrong there, None if nothing. A scan that
        cannot continue ends with a row that has `error`. Raises `Refusal`: `INVALID_ARGUMENT` for a wrong
        range, `NOT_ALLOWED` while another scan of the bus runs, `OFFLINE` without a port.
        """
        addresses = addresses_of(place, first, last)
        if name in self._running:
            raise Refusal(Code.NOT_ALLOWED, f"bus {name} is being scanned already")
        if not place.bus.up:
            raise Refusal(Code.OFFLINE, f"bus {name}: its port is not there")
        return self._scan(name, place, addresses)

    async def _scan(self, name: str, place: BusPlace, addresses: list[int]) -> AsyncIterator[dict[str, Any]]:
        if name in self._running:
            yield {"bus": name, "error": "another scan was started first"}
            return
        self._running.add(name)
        try:
            needs = patient_needs(place)
            for number, address in enumerate(addresses, 1):
                row = await self._row(place, address, needs)
                yield {"bus": name, "number": number, "of": len(addresses), **row}
        except PortLost as fault:
            yield {"bus": name, "error": str(fault)}
        finally:
            self._running.discard(name)
            _forget_strangers(place, addresses)

    async def _row(self, place: BusPlace, address: int, needs: BusNeeds) -> dict[str, Any]:
        device = place.device_at(address)
        known: Iterable[str]
        if device is not None:
            heard, known = await self._configured(place, device), ()
        else:
            heard, known = await self._stranger(place, address, needs)
        return {
            "address": address,
            "result": heard.outcome,
            "device": None if device is None else device.name,
            "profile": None if device is None else device.profile_name,
            "grade": None if device is None else device.profile.identity.grade,
            "exception": None if heard.code is None else EXCEPTIONS.get(heard.code, str(heard.code)),
            "damaged": heard.garbled,
            "fault": heard.fault,
            "reads_like": sorted(known),
            "finding": _finding(heard, device),
        }

    @staticmethod
    async def _configured(place: BusPlace, device: Placed) -> Heard:
        """Sends what the device answers by its profile; one that refuses this is asked the other reads that
        identify it, where the daemon reads nothing else from it."""
        needs = device.profile.bus
        heard = await ask(place, device.address, probe(place, device.profile), needs, PROBE_TRIES)
        if heard.outcome != "exception" or reads_of(device.profile):
            return heard
        others = [request for request, answers in proofs_of(device.profile).items() if answers]
        return await _first_answer(place, device.address, others[1:], needs, heard)

    @staticmethod
    async def _stranger(place: BusPlace, address: int, needs: BusNeeds) -> tuple[Heard, Iterable[str]]:
        """A silent address costs one time-out; a device that answers is asked what identifies the boards of
        the configured profiles, and one that refuses the first read is asked for other kinds of points."""
        heard = await ask(place, address, first_read(place), needs, 1)
        if heard.outcome not in ("answers", "exception") or not place.wire.startswith("modbus"):
            return heard, ()
        likely = set()
        for kind, profile in {d.profile_name: d.profile for d in place.devices}.items():
            if await _fits(place, address, profile, needs):
                likely.add(kind)
        if likely and heard.outcome == "exception":
            return replace(heard, outcome="answers", code=None), likely
        return await _first_answer(place, address, OTHER_READS, needs, heard), likely


async def _first_answer(
    place: BusPlace, address: int, requests: Iterable[Request], needs: BusNeeds, refused: Heard
) -> Heard:
    """The first answer to these requests, if the device refused another one; else that refusal."""
    if refused.outcome == "exception":
        for request in requests:
            heard = await ask(place, address, request, needs, 1)
            if heard.outcome == "answers":
                return heard
    return refused


async def _fits(place: BusPlace, address: int, profile: Profile, needs: BusNeeds) -> bool:
    """Whether a board answers what such a board answers, and refuses what it refuses."""
    proofs = proofs_of(profile)
    for request, answers in proofs.items():
        heard = await ask(place, address, request, needs, 1)
        if heard.outcome == "garbled" or (heard.outcome == "answers") is not answers:
            return False
    return any(proofs.values())


def first_read(place: BusPlace) -> Request:
    """The request to an address on a bus where nothing is known of it."""
    if place.wire == "modbus" or place.wire == "modbus-tcp":
        return FIRST_READ
    doors = next((device.profile.doors for device in place.devices if device.profile.doors), None)
    if doors is None:
        return LockStatus(USUAL_CHANNELS[place.wire])
    return LockStatus(doors.channels, doors.command, doors.feedback == "sensor")


def _finding(heard: Heard, device: Placed | None) -> str | None:
    """What is wrong at an address; None if nothing is."""
    if heard.outcome == "garbled":
        return "garbled replies: two devices on one address, or a bad line?"
    if device is not None and heard.outcome == "silent":
        return f"{device.name} does not answer"
    if device is not None and heard.outcome == "exception" and reads_of(device.profile):
        return f"{device.name} refuses what its profile reads: is it another kind of device?"
    return None


def _forget_strangers(place: BusPlace, addresses: Iterable[int]) -> None:
    """Deletes the records of addresses without a device that owe nothing any more."""
    now_s = asyncio.get_running_loop().time()
    for address in addresses:
        record = place.bus.devices.get(address)
        if record is None or place.device_at(address) is not None:
            continue
        record.drop_too_late(now_s)
        if not record.owed and not record.replies and not record.exceptions:
            del place.bus.devices[address]
