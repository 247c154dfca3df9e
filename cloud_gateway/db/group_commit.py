"""Group commit: works that wait for a database's only writer run in one transaction.

With SQLite each commit waits for the disk. The works of a group run one after the other, each within a
savepoint, and their callers are answered after the commit. A work that fails is undone alone and runs again
in a transaction of its own, whose outcome its caller gets.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError

GROUP_MAX = 64
"""The most works that one transaction commits."""
GATHER_S = 0.02
"""How long a work that is not urgent waits for others."""
Work = Callable[[Connection], Any]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A work and its caller."""

    work: Work
    answer: asyncio.Future[Any]


@dataclass(slots=True)
class _Outcome:
    """What a work returned or raised."""

    answer: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class GroupCommit:
    """The works that wait. `write` is called on the event loop; the works run on the executor's only
    thread."""

    def __init__(self, engine: Engine, executor: Executor, run_alone: Callable[[Work], Any]) -> None:
        """`run_alone` runs a work in a transaction of its own, with its retries."""
        self._engine = engine
        self._executor = executor
        self._run_alone = run_alone
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()
        self._running = False
        """Whether the executor has a job that takes what waits."""
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def write(self, work: Work, *, urgent: bool) -> Any:
        """Runs a work; returns or raises after its commit. One that is not urgent waits up to `GATHER_S` for
        others, and is committed with the next urgent one."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Waiting(work, answer))
        if urgent:
            self.start()
        elif self._timer is None:
            self._timer = loop.call_later(GATHER_S, self.start)
        return await answer

    def start(self) -> None:
        """Begins to run what waits, on the event loop's call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            if self._waiting and not self._running:
                self._executor.submit(self._run, asyncio.get_running_loop())
                self._running = True

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs groups until no work waits: the executor does not end before that."""
        while True:
            with self._lock:
                self._running = bool(self._waiting)
                if not self._running:
                    return
            self._run_group(loop)

    def _run_group(self, loop: asyncio.AbstractEventLoop) -> None:
        group: list[_Waiting] = []
        while self._waiting and len(group) < GROUP_MAX:
            one = self._waiting.popleft()
            if not one.answer.cancelled():
                group.append(one)
        if len(group) > 1:
            group = self._together(group, loop)
        for one in group:
            _hand_over(loop, [self._alone(one)])

    def _together(self, group: list[_Waiting], loop: asyncio.AbstractEventLoop) -> list[_Waiting]:
        """Runs works in one transaction; returns those that have to run alone, of which nothing is
        written."""
        outcomes, again = [], []
        try:
            with self._engine.connect().execution_options(writes=True) as db, db.begin():
                for one in group:
                    db.exec_driver_sql("SAVEPOINT work")
                    try:
                        outcomes.append(_Outcome(one.answer, one.work(db)))
                    except SQLAlchemyError:
                        db.exec_driver_sql("ROLLBACK TO SAVEPOINT work")
                        again.append(one)
                    except Exception as error:  # the work's own refusal
                        db.exec_driver_sql("ROLLBACK TO SAVEPOINT work")
                        outcomes.append(_Outcome(one.answer, error=error))
                    db.exec_driver_sql("RELEASE SAVEPOINT work")
        except (OperationalError, InterfaceError, InternalError) as error:
            # The database cannot be written now: nobody waits for the same failure once more.
            _hand_over(loop, [_Outcome(one.answer, error=error) for one in group])
            return []
        except SQLAlchemyError:
            return group
        _hand_over(loop, outcomes)
        return again

    def _alone(self, one: _Waiting) -> _Outcome:
        try:
            return _Outcome(one.answer, self._run_alone(one.work))
        except BaseException as error:
            return _Outcome(one.answer, error=error)


def _hand_over(loop: asyncio.AbstractEventLoop, outcomes: list[_Outcome]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has been closed: there is no caller any more
        loop.call_soon_threadsafe(_answer, outcomes)


def _answer(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        if outcome.answer.done():
            continue  # its caller was cancelled
        if outcome.error is not None:
            outcome.answer.set_exception(outcome.error)
        else:
            outcome.answer.set_result(outcome.result)
