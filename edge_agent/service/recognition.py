"""Recognises the kind of board at an address: which profiles describe it, by harmless reads alone.

A profile fits if the board answers its regular reads, its checks and its `[[signs]]` (and refuses those that
it has to refuse). More successful reads make a profile likelier; between two equal ones a person decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_agent.drivers.profiles import Profile
from edge_agent.drivers.requests import LockStatus, Read, Request
from edge_agent.service.bus_scan import FIRST_READ, PROBE_TRIES, Heard, ask, proofs_of, reads_of, slowest
from edge_agent.service.bus_service import BusPlace


@dataclass(frozen=True, slots=True)
class Candidate:
    """A profile that fits. `proofs`: how many reads went as expected; `points`: how much those read."""

    profile: str
    proofs: int
    points: int

    @property
    def weight(self) -> tuple[int, int]:
        """The key by which candidates are ordered."""
        return self.proofs, self.points


def likeliest(candidates: Iterable[Candidate]) -> list[str]:
    """The profiles with the most proof: one if the board is known, several if it is not."""
    found = list(candidates)
    most = max((one.weight for one in found), default=(0, 0))
    return [one.profile for one in found if one.weight == most]


def speakers(profiles: Mapping[str, Profile], protocol: str) -> dict[str, Profile]:
    """The profiles of boards that use a protocol."""
    return {name: profile for name, profile in profiles.items() if profile.bus.protocol == protocol}


def openings(profiles: Mapping[str, Profile]) -> list[Request]:
    """The harmless requests that find out whether any board of these profiles is at an address."""
    statuses: dict[int | None, LockStatus] = {}
    for profile in profiles.values():
        for read in reads_of(profile):
            if isinstance(read, LockStatus):
                known = statuses.setdefault(read.command, read)
                statuses[read.command] = min(known, read, key=lambda status: status.channels)
    return [*statuses.values()] or [FIRST_READ]


async def recognise(place: BusPlace, address: int, profiles: Mapping[str, Profile]) -> list[Candidate]:
    """The profiles that fit the board at an address; all must be of the bus's protocol. Raises `PortLost`."""
    needs = slowest([profile.bus for profile in profiles.values()])
    heard: dict[Request, Heard] = {}
    found = []
    for name, profile in profiles.items():
        proofs, points = proofs_of(profile), 0
        for request, answered in proofs.items():
            if request not in heard:
                heard[request] = await ask(place, address, request, needs, PROBE_TRIES)
            # A board that does not answer an unknown request counts as refusing it.
            if (heard[request].outcome == "answers") is not answered or heard[request].outcome == "garbled":
                break
            points += _points(request) if answered else 0
        else:
            if proofs:
                found.append(Candidate(name, len(proofs), points))
    return found


def _points(request: Request) -> int:
    if isinstance(request, Read):
        return request.count
    return request.channels if isinstance(request, LockStatus) else 0


async def contacts(place: BusPlace, address: int, profile: Profile) -> list[int]:
    """What the door contacts of a board read now, channel 1 first; empty if that is unknown.

    Raises `PortLost`.
    """
    doors = profile.doors
    if doors is None:
        return []
    values: list[int] = []
    for request in reads_of(profile)[: _door_reads(profile)]:
        heard = await ask(place, address, request, profile.bus, PROBE_TRIES)
        if heard.outcome != "answers":
            return []
        values += heard.values
    return doors.levels(values[: doors.points])


def _door_reads(profile: Profile) -> int:
    """How many of its regular reads are about doors; they come first."""
    return len(reads_of(profile.model_copy(update={"scale": None, "temperature": None})))
