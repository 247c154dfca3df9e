"""Watches the traffic on the buses for a while, by device: requests, answers, how late they are, and frames
that were not asked for. It only listens; the daemon's own polls and probes make the traffic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edge_agent.drivers.decode import Wire
from edge_agent.drivers.health import ObservedFrame
from edge_agent.drivers.modbus import intact
from edge_agent.service.bus_service import BusPlace, Placed

COUNTED = (
    "requests",
    "replies",
    "timeouts",
    "bad_replies",
    "exceptions",
    "late_replies",
    "unasked",
    "padded",
    "early",
    "foreign",
    "other_address",
)
SILENCE_CHARACTERS = 3.5
REQUEST_LENGTH = 8
"""Bytes of a Modbus RTU read request."""


def address_in(wire: Wire, frame: bytes) -> int | None:
    """The address of the device that a frame is for or from; None if the frame is too short to have one."""
    at = {"modbus": 0, "modbus-tcp": 6, "wkly": 5}.get(wire, 1)
    if len(frame) <= at:
        return None
    return frame[at] >> 4 if wire == "kerong-cu16" else frame[at]


def requests_in(data: bytes) -> int:
    """How many reads a Modbus RTU stream holds that are requests: none of them is the reply to a read."""
    found, at = 0, 0
    while at + REQUEST_LENGTH <= len(data):
        frame = data[at : at + REQUEST_LENGTH]
        if frame[1] in (1, 2, 3, 4) and frame[2] != REQUEST_LENGTH - 5 and intact(frame):
            found, at = found + 1, at + REQUEST_LENGTH
        else:
            at += 1
    return found


@dataclass(slots=True)
class Answers:
    """How one device answered during the watch. Counts are those of `DeviceRecord`.

    `heard`: sound frames from its address, asked for or not. `late_s`: how much later than its bits take
    each reply was.
    """

    name: str
    address: int
    requests: int = 0
    replies: int = 0
    timeouts: int = 0
    bad_replies: int = 0
    exceptions: int = 0
    late_replies: int = 0
    unasked: int = 0
    padded: int = 0
    early: int = 0
    foreign: int = 0
    other_address: int = 0
    heard: int = 0
    out_of_turn: int = 0
    """Frames from it while another device was asked."""
    late_s: list[float] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Requests that got an answer in time, refusals included."""
        return self.replies + self.exceptions

    @property
    def least_late_s(self) -> float | None:
        """How late its quickest replies are (the first decile); None if there are none."""
        if not self.late_s:
            return None
        return sorted(self.late_s)[len(self.late_s) // 10]


@dataclass(slots=True)
class Passage:
    """The traffic on one bus."""

    up: bool
    devices: list[Answers]
    echoes: int = 0
    """How often the first frame heard after a request was that request."""
    stray_bytes: int = 0
    """Bytes that belonged to no frame."""
    other_requests: int = 0
    """Requests that were heard and not sent by this daemon."""

    def total(self, name: str) -> int:
        """The sum of one count over all devices."""
        return sum(int(getattr(device, name)) for device in self.devices)


class WireWatch:
    """Listens to one bus from `begin` to `end`."""

    def __init__(self, place: BusPlace) -> None:
        self._place = place
        character_s = place.bits_per_character / place.baud if place.baud else 0.0
        self._character_s = character_s
        self._silence_s = SILENCE_CHARACTERS * character_s if place.baud <= 19200 else 0.00175
        self._devices = {d.address: Answers(d.name, d.address) for d in place.devices}
        self._before: Mapping[int, dict[str, int]] = {}
        self._stray_before = 0
        self._asked: ObservedFrame | None = None
        self._echoes = 0
        self._other_requests = 0

    def begin(self) -> None:
        """Starts listening."""
        self._before = {device.address: self._counts(device) for device in self._place.devices}
        self._stray_before = self._place.bus.counters.stray_bytes
        self._place.bus.frame_observers.append(self._take)

    def end(self) -> Passage:
        """What has passed since `begin`."""
        self.stop()
        devices = [self._since_begin(device) for device in self._place.devices]
        stray_bytes = self._place.bus.counters.stray_bytes - self._stray_before
        return Passage(self._place.bus.up, devices, self._echoes, stray_bytes, self._other_requests)

    def _since_begin(self, device: Placed) -> Answers:
        before = self._before[device.address]
        counts = {name: count - before[name] for name, count in self._counts(device).items()}
        return replace(
            self._devices[device.address],
            requests=counts["requests"],
            replies=counts["replies"],
            timeouts=counts["timeouts"],
            bad_replies=counts["bad_replies"],
            exceptions=counts["exceptions"],
            late_replies=counts["late_replies"],
            unasked=counts["unasked"],
            padded=counts["padded"],
            early=counts["early"],
            foreign=counts["foreign"],
            other_address=counts["other_address"],
        )

    def stop(self) -> None:
        """Stops listening; harmless when repeated."""
        if self._take in self._place.bus.frame_observers:
            self._place.bus.frame_observers.remove(self._take)

    def _counts(self, device: Placed) -> dict[str, int]:
        record = self._place.bus.record(device.address)
        return {name: getattr(record, name) for name in COUNTED}

    def _take(self, passed: ObservedFrame) -> None:
        if passed.direction == "sent":
            self._asked = passed
            return
        asked = self._asked
        if passed.note != "rubbish":  # which may precede the reply
            self._asked = None
        echoed = asked is not None and len(asked.data) > 2 and passed.data.startswith(asked.data)
        if passed.note and not echoed and self._place.wire == "modbus":
            self._other_requests += requests_in(passed.data)
        self._echoes += echoed and passed.note != ""
        answers = self._devices.get(address_in(self._place.wire, passed.data) or -1)
        damaged = self._place.wire == "modbus" and not (len(passed.data) > 3 and intact(passed.data))
        if answers is None or echoed or damaged:
            return
        answers.heard += passed.note not in ("damaged", "rubbish")
        if asked is None or passed.note in ("late", "unasked"):
            return
        if address_in(self._place.wire, asked.data) != answers.address:
            answers.out_of_turn += 1
        elif passed.note == "":
            bits_s = (len(asked.data) + len(passed.data)) * self._character_s + self._silence_s
            answers.late_s.append(max(0.0, passed.at_s - asked.at_s - bits_s))
