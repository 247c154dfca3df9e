"""The wire's own limits, computed: how long a transaction takes, and how long the polling order makes
requests wait.

All from the baud rate, the mandatory t3.5, the simulator's turnaround of 1 ms and the gap that a device
requires; no computing time, no journal, no broker.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from math import ceil

from edge_agent.config import Settings
from edge_agent.drivers.modbus import build_frame, reply_length
from edge_agent.drivers.profiles import BusNeeds
from edge_agent.drivers.requests import Read, Request
from edge_agent.drivers.simulated.line import TURNAROUND_NS
from edge_agent.field.closings import SETTLE_S
from edge_agent.field.poller import DOORS_PER_SLOW_READING

POINTS = 4000
"""Instants, evenly spread over one cycle of polling, from which a distribution is made."""
TURNAROUND_S = TURNAROUND_NS / 1e9


@dataclass(frozen=True, slots=True)
class AddressedRequest:
    """One request of the scan."""

    address: int
    request: Request
    needs: BusNeeds


@dataclass(frozen=True, slots=True)
class Scan:
    """What is polled on the demo machine's bus."""

    doors: list[AddressedRequest]
    slow: list[AddressedRequest]
    baud: int
    bits: int

    @property
    def character_s(self) -> float:
        """Bit time of a character."""
        return self.bits / self.baud

    @property
    def silence_s(self) -> float:
        """t3.5."""
        return 3.5 * self.character_s if self.baud <= 19200 else 0.00175

    @property
    def once(self) -> list[AddressedRequest]:
        """Every device once."""
        return [*self.doors, *self.slow]

    def gap_s(self, question: AddressedRequest) -> float:
        """Silence before a request."""
        return max(self.silence_s, question.needs.gap_ms / 1000)

    def to_sample_s(self, question: AddressedRequest) -> float:
        """From a transaction's start (the line has just fallen silent) until the device acts."""
        frame = build_frame(question.address, question.request)
        return self.gap_s(question) + len(frame) * self.character_s + self.silence_s

    def transaction_s(self, question: AddressedRequest) -> float:
        """From the moment the line falls silent until it falls silent after the reply."""
        reply_s = reply_length(question.request) * self.character_s
        return self.to_sample_s(question) + TURNAROUND_S + reply_s


def scan_of(settings: Settings) -> Scan:
    """The scan of the configuration's only bus."""
    (bus,) = settings.buses.values()
    doors: list[AddressedRequest] = []
    slow: list[AddressedRequest] = []
    for name, device in settings.devices.items():
        profile = settings.profile_of(name)
        for part, found in ((profile.doors, doors), (profile.scale, slow), (profile.temperature, slow)):
            if part is not None and part.function is not None:
                count = getattr(part, "count", 0) or getattr(part, "channels", 0)
                request = Read(part.function, part.address, count)
                found.append(AddressedRequest(device.address, request, profile.bus))
    assert bus.baud is not None
    return Scan(doors, slow, bus.baud, bus.bits_per_character)


def _cycle(scan: Scan) -> list[AddressedRequest]:
    """The poller's order while every scale and thermometer is due, until it repeats; when they are not, doors
    get their turns too, and the figures computed from this are pessimistic."""
    cycle, board = [], 0
    for _ in range(len(scan.doors)):
        for slow in scan.slow:
            for _ in range(DOORS_PER_SLOW_READING):
                cycle.append(scan.doors[board % len(scan.doors)])
                board += 1
            cycle.append(slow)
    return cycle


def command_to_coil_s(scan: Scan) -> list[float]:
    """From a command's arrival during polling: the transaction under way (none if it comes in the silence
    before one), one fresh reading of a door board, the write's eight bytes and the t3.5 after which the board
    acts."""
    cycle = _cycle(scan)
    turns = [0.0, *accumulate(scan.transaction_s(question) for question in cycle)]
    rest = scan.transaction_s(scan.doors[0]) + 2 * scan.silence_s + 8 * scan.character_s
    found = []
    for n in range(POINTS):
        at = turns[-1] * (n + 0.5) / POINTS
        turn = bisect_left(turns, at)
        silent = at < turns[turn - 1] + scan.silence_s
        found.append(turns[turn - 1 if silent else turn] - at + rest)
    return found


def opening_to_reading_s(scan: Scan) -> list[float]:
    """From a door's opening while only its board is read to the end of the first reply that shows it."""
    board = scan.doors[0]
    whole = scan.transaction_s(board)
    seen = TURNAROUND_S + reply_length(board.request) * scan.character_s
    return [whole * (n + 0.5) / POINTS + seen for n in range(POINTS)]


def closing_to_belief_s(scan: Scan) -> list[float]:
    """From a door's closing during polling to the end of the reply that shows it settled: closed for
    `SETTLE_S` since the first reply that showed it; mean over the boards."""
    cycle_s = sum(scan.transaction_s(question) for question in _cycle(scan))
    cycle = _cycle(scan) * (3 + ceil(SETTLE_S / cycle_s))
    begins = [0.0, *accumulate(scan.transaction_s(question) for question in cycle)]
    found = []
    for board in scan.doors:
        samples = [
            (begin + scan.to_sample_s(question), begin + scan.transaction_s(question))
            for begin, question in zip(begins, cycle, strict=False)
            if question is board
        ]
        for n in range(POINTS // len(scan.doors)):
            at = cycle_s * n / (POINTS // len(scan.doors))
            first = next(known for sampled, known in samples if sampled >= at)
            found.append(next(known for _, known in samples if known >= first + SETTLE_S) - at)
    return found


def rate(scan: Scan) -> float:
    """Transactions a second at the limit, every device once in turn."""
    return len(scan.once) / sum(scan.transaction_s(question) for question in scan.once)
