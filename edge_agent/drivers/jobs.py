"""Jobs of a bus owner: requests that wait for their turn, and the one that is in progress."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import IntEnum

from edge_agent.drivers.health import DeviceRecord
from edge_agent.drivers.profiles import BusNeeds
from edge_agent.drivers.requests import AddressedRequest
from edge_agent.errors import NotSent

LONGEST_DRAIN_S = 0.5
"""How long the owner waits for a line to fall silent after a damaged reply; also the longest wait before jobs
that may not be sent yet are checked again."""
WATCHES_IN_A_ROW = 3
"""At most this many watching reads overtake a poll that waits."""


class Priority(IntEnum):
    """The order of jobs; within one priority, the order of arrival."""

    COMMAND = 0
    WATCH = 1
    POLL = 2


@dataclass(eq=False, slots=True)
class Job:
    """A request that waits for its turn; `done` gets the values of its reply, or the fault."""

    priority: Priority
    number: int
    question: AddressedRequest
    needs: BusNeeds
    done: asyncio.Future[list[int]]
    deadline_s: float

    def fail(self, fault: Exception) -> None:
        """Gives the caller a fault, unless it has its values."""
        if not self.done.done():
            self.done.set_exception(fault)


@dataclass(eq=False, slots=True)
class RequestInProgress:
    """The request that was sent, while its reply is awaited; a bus has one at a time."""

    job: Job
    patient: bool
    """Other jobs do not end the waiting: the device does not count as dead."""
    echo: bytes
    """What the adapter will still echo of our sending; empty: nothing."""
    asked_s: float
    """When the last bit of the request has passed."""
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    reply: bytes | None = None
    gave_way: bool = False
    """A more urgent job for another device has ended the waiting."""
    quiet_timer: asyncio.TimerHandle | None = None
    """Ends the waiting when the line has been quiet after bytes that are no reply."""


class JobQueue:
    """The jobs that wait, and which of them is next. `devices`: the records of the devices, by address."""

    def __init__(self, bus: str, devices: dict[int, DeviceRecord]) -> None:
        self.jobs: list[Job] = []
        self.held_until_s = 0.0
        """Only commands are sent before this moment."""
        self._bus, self._devices = bus, devices
        self._watches = 0
        """How many watching reads were chosen in a row."""

    def take_all(self) -> list[Job]:
        """Removes every job."""
        jobs, self.jobs = self.jobs, []
        return jobs

    def may_ask(self, question: AddressedRequest, now_s: float) -> bool:
        """Whether a device may be asked now."""
        record = self._devices.get(question.address)
        return record is None or record.may_ask_s(question, now_s) <= now_s

    def choose(self, now_s: float) -> tuple[Job | None, float]:
        """The job that is next; else None and when to choose again. Fails jobs after their deadline and polls
        of devices that timed out just now; removes cancelled ones."""
        again_s = now_s + LONGEST_DRAIN_S
        fair = self._watches >= WATCHES_IN_A_ROW
        best: tuple[tuple[int, int], Job] | None = None
        for job in tuple(self.jobs):
            device = job.question.address
            if job.done.cancelled():
                self.jobs.remove(job)
            elif now_s >= job.deadline_s:
                self.jobs.remove(job)
                job.fail(NotSent(f"bus {self._bus}: too late for device {device}"))
            elif job.priority is Priority.POLL and not self.may_ask(job.question, now_s):
                self.jobs.remove(job)
                job.fail(NotSent(f"bus {self._bus}: device {device} is not asked again yet, after a timeout"))
            else:
                may_s = self._may_go_s(job, now_s)
                rank = Priority.WATCH if fair and job.priority is Priority.POLL else job.priority
                if may_s > now_s:
                    again_s = min(again_s, may_s, job.deadline_s)
                elif best is None or (rank, job.number) < best[0]:
                    best = (rank, job.number), job
        if best is None:
            return None, again_s
        self._watches = self._watches + 1 if best[1].priority is Priority.WATCH else 0
        return best[1], now_s

    def _may_go_s(self, job: Job, now_s: float) -> float:
        """When a job may be sent."""
        held_s = 0.0 if job.priority is Priority.COMMAND else self.held_until_s
        record = self._devices.get(job.question.address)
        if record is None:
            return held_s
        return max(held_s, record.may_ask_s(job.question, now_s))
