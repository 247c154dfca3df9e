"""A closing concludes nothing before every reading for 600 ms was closed (BEHAVIOUR.md, Doubt: Closing)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.drivers.bus import Priority
from edge_agent.errors import BusTimeout
from edge_agent.field.closings import SETTLE_S
from edge_agent.field.doors import DoorPlace, Doors
from edge_agent.field.poller import Poller
from edge_agent.model import Door
from edge_agent.statemachine.inputs import ClosingSettled, DoorsChanged, Input
from tools.simulate.virtual_loop import VirtualLoop

READ_S = 0.012


class Contacts:
    """A board with contacts that follow a function of time; each reading takes `READ_S`."""

    least_readings = 1
    oldest_reply_s = 3.0

    def __init__(self, name: str = "board", channels: int = 1) -> None:
        self.name = name
        self.closed: list[Callable[[float], bool]] = [lambda at_s: True] * channels
        self.silent = False
        self.read_at_s: list[float] = []

    async def read_levels(self, priority: Priority) -> list[int]:
        await asyncio.sleep(READ_S)
        if self.silent:
            raise BusTimeout("nothing")
        now_s = asyncio.get_running_loop().time()
        self.read_at_s.append(now_s)
        return [int(closed(now_s)) for closed in self.closed]

    def readings_needed(self) -> int:
        return 1


class Watched:
    """Boards that are polled, and what comes of it."""

    def __init__(self, boards: Iterable[Contacts], seed: int = 0) -> None:
        self.submitted: list[tuple[float, Input]] = []
        self.boards = {board.name: board for board in boards}
        places = {
            f"{name}{n}": DoorPlace(name, n, 1)
            for name, board in self.boards.items()
            for n in range(1, len(board.closed) + 1)
        }
        self.doors = Doors(self.boards, places, self._submit)
        self.poller = Poller(self.doors, list(self.boards), [], self._submit, random=Random(seed))

    def _submit(self, given: Input) -> None:
        self.submitted.append((asyncio.get_running_loop().time(), given))

    def settled(self) -> list[tuple[float, ClosingSettled]]:
        return [(at_s, g) for at_s, g in self.submitted if isinstance(g, ClosingSettled)]

    async def __aenter__(self) -> Watched:
        self._task = asyncio.create_task(self.poller.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def test_w5_a_closing_settles_once_and_is_dated_at_its_first_reading() -> None:
    async def run() -> None:
        board = Contacts()
        board.closed = [lambda at_s: not 2.0 <= at_s < 4.0]
        async with Watched([board]) as watched:
            await asyncio.sleep(1.9)
            assert len(watched.settled()) == 1, "after a start a door that is closed settles once"
            await asyncio.sleep(10)
        (_, _), (at_s, settled) = watched.settled()
        assert settled.cell == "board1"
        assert 4.0 <= settled.since_ns / 1e9 < 4.05
        assert SETTLE_S <= at_s - settled.since_ns / 1e9 < SETTLE_S + 0.05
        doors = [(at_s, g.doors["board1"]) for at_s, g in watched.submitted if isinstance(g, DoorsChanged)]
        assert [door for _, door in doors] == [Door.CLOSED, Door.OPEN, Door.CLOSED]
        assert doors[-1][0] < 4.1, "the door is shown as before"

    in_virtual_time(run)


def test_w5_one_open_reading_restarts_the_wait() -> None:
    async def run() -> None:
        board = Contacts()
        board.closed = [lambda at_s: not (2.0 <= at_s < 4.0 or 4.5 <= at_s < 4.53)]
        async with Watched([board]) as watched:
            await asyncio.sleep(8)
        (_, _), (at_s, settled) = watched.settled()
        assert 4.53 <= settled.since_ns / 1e9 < 4.58
        assert at_s > 5.1

    in_virtual_time(run)


def test_w5_a_silent_period_restarts_the_wait() -> None:
    async def run() -> None:
        board = Contacts()
        async with Watched([board]) as watched:
            await asyncio.sleep(2)
            board.silent = True
            await asyncio.sleep(6)
            board.silent = False
            await asyncio.sleep(4)
        (_, _), (_, settled) = watched.settled()
        assert settled.since_ns / 1e9 >= 8.0

    in_virtual_time(run)


@settings(max_examples=60, deadline=None)
@given(
    share=st.floats(0.0, 1.0),
    phase=st.floats(0.0, 1.0),
    boards=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_w5_chatter_never_settles(share: float, phase: float, boards: int, seed: int) -> None:
    """Of any period from three reading intervals of the board to 500 ms, in any phase."""

    async def run() -> None:
        board, others = Contacts(), [Contacts(f"other{n}") for n in range(1, boards)]
        board.closed = [lambda at_s: False]
        async with Watched([board, *others], seed) as watched:
            await asyncio.sleep(2)
            times_s = board.read_at_s
            interval_s = (times_s[-1] - times_s[0]) / (len(times_s) - 1)
            gaps_s = [round(b - a, 6) for a, b in itertools.pairwise(times_s)]
            assert len(set(gaps_s)) > 1, "uneven"
            least_s = 3 * interval_s
            period_s = least_s + share * (0.5 - least_s)
            board.closed = [lambda at_s: (at_s / period_s + phase) % 1.0 >= 0.5]
            await asyncio.sleep(8)
            assert not [given for _, given in watched.settled() if given.cell == "board1"]
            board.closed = [lambda at_s: True]
            await asyncio.sleep(1.5)
            assert len([given for _, given in watched.settled() if given.cell == "board1"]) == 1

    in_virtual_time(run)


def in_virtual_time(run: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_awaited(run))


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()
