"""Jobs of a bus owner: requests that wait for their turn, and the one that is in progress."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import IntEnum

from edge_agent.drivers.profiles import BusNeeds
from edge_agent.drivers.requests import Question


class Priority(IntEnum):
    """The order of jobs; within one priority, the order of arrival."""

    COMMAND = 0
    WATCH = 1
    POLL = 2


@dataclass(eq=False, slots=True)
class Job:
    """A request that waits for its turn; `done` gets the values of its answer, or the fault."""

    priority: Priority
    number: int
    question: Question
    needs: BusNeeds
    done: asyncio.Future[list[int]]
    deadline_s: float


@dataclass(eq=False, slots=True)
class Waiting:
    """The request in progress."""

    job: Job
    patient: bool
    echo: bytes
    asked_s: float
    """When the last bit of the request has passed."""
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    reply: bytes | None = None
    gave_way: bool = False
