"""Works that wait for SQLite's only writer share a transaction, and nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from cloud_gateway.db.store import Store
from cloud_gateway.db.tables import replicas
from edge_agent.errors import Code, Refusal


@asynccontextmanager
async def busy_store(folder: Path) -> AsyncIterator[tuple[Store, threading.Event, list[str]]]:
    """A store whose writer is busy until the event is set, and its commits from then on."""
    store = Store(f"sqlite:///{folder}/gateway.db")
    await store.open()
    begun, go_on = threading.Event(), threading.Event()

    def block(_db: Connection) -> None:
        begun.set()
        assert go_on.wait(20)

    blocking = asyncio.create_task(store.write(block))
    await asyncio.to_thread(begun.wait, 20)
    commits: list[str] = []
    event.listen(store._engine, "commit", lambda _db: commits.append("commit"))
    try:
        yield store, go_on, commits
    finally:
        go_on.set()
        await blocking
        await store.close()


def add(name: str) -> Any:
    """A work that adds a row and returns its name."""

    def work(db: Connection) -> str:
        db.execute(insert(replicas).values(name=name, seen_s=0.0))
        return name

    return work


async def names(store: Store) -> set[str]:
    """What is stored."""
    return set(await store.read(lambda db: db.execute(select(replicas.c.name)).scalars().all()))


async def start(store: Store, *works: Any) -> list[asyncio.Task[Any]]:
    """Begins writes; returns when all of them wait."""
    tasks = [asyncio.create_task(store.write(work)) for work in works]
    while store.writes_waiting < len(works):
        await asyncio.sleep(0)
    return tasks


async def test_works_that_wait_are_committed_together_and_answered_after_it(tmp_path: Path) -> None:
    async with busy_store(tmp_path) as (store, go_on, commits):
        tasks = await start(store, *(add(f"g{n}") for n in range(10)))
        assert await names(store) == set()
        go_on.set()
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert done
        assert await names(store) == {f"g{n}" for n in range(10)}  # one caller is answered: all are committed
        assert await asyncio.gather(*tasks) == [f"g{n}" for n in range(10)]
        assert len(commits) == 2  # of the work that was running, and of the group


async def test_a_refusing_work_is_undone_alone(tmp_path: Path) -> None:
    def refuse(db: Connection) -> None:
        add("refused")(db)
        raise Refusal(Code.NOT_ALLOWED, "no")

    async with busy_store(tmp_path) as (store, go_on, _):
        tasks = await start(store, add("a"), refuse, add("b"))
        go_on.set()
        first, refused, last = await asyncio.gather(*tasks, return_exceptions=True)
        assert (first, last) == ("a", "b")
        assert isinstance(refused, Refusal)
        assert await names(store) == {"a", "b"}


async def test_a_work_with_a_database_error_is_undone_alone(tmp_path: Path) -> None:
    async with busy_store(tmp_path) as (store, go_on, _):
        tasks = await start(store, add("a"), add("a"), add("b"))
        go_on.set()
        first, twice, last = await asyncio.gather(*tasks, return_exceptions=True)
        assert (first, last) == ("a", "b")
        assert isinstance(twice, IntegrityError)
        assert await names(store) == {"a", "b"}


async def test_a_failed_commit_is_everybodys_error(tmp_path: Path) -> None:
    async with busy_store(tmp_path) as (store, go_on, commits):

        def fail(_db: Connection) -> None:
            if len(commits) > 1:  # the first one is of the work that was running
                raise OperationalError("COMMIT", None, Exception("disk I/O error"))

        tasks = await start(store, add("a"), add("b"))
        event.listen(store._engine, "commit", fail)
        go_on.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        event.remove(store._engine, "commit", fail)
        assert [type(one) for one in found] == [OperationalError, OperationalError]
        assert await names(store) == set()
        assert await store.write(add("c")) == "c"


async def test_a_cancelled_caller_that_still_waits_writes_nothing(tmp_path: Path) -> None:
    async with busy_store(tmp_path) as (store, go_on, _):
        first, second = await start(store, add("a"), add("b"))
        first.cancel()
        await asyncio.wait([first])
        go_on.set()
        assert await second == "b"
        assert await names(store) == {"b"}


async def test_close_waits_for_every_work(tmp_path: Path) -> None:
    async with busy_store(tmp_path) as (store, go_on, _):
        tasks = await start(store, *(add(f"g{n}") for n in range(100)))
        go_on.set()
        await store.close()
        assert len(await asyncio.wait_for(asyncio.gather(*tasks), 20)) == 100


async def test_a_write_that_is_not_urgent_is_committed_with_an_urgent_one(tmp_path: Path) -> None:
    async with busy_store(tmp_path) as (store, go_on, commits):
        later = asyncio.create_task(store.write(add("later"), urgent=False))
        urgent = asyncio.create_task(store.write(add("urgent")))
        while store.writes_waiting < 2:
            await asyncio.sleep(0)
        go_on.set()
        assert (await later, await urgent) == ("later", "urgent")
        assert len(commits) == 2


async def test_a_write_that_is_not_urgent_is_committed_without_another(tmp_path: Path) -> None:
    async with busy_store(tmp_path) as (store, go_on, _):
        go_on.set()
        assert await asyncio.wait_for(store.write(add("later"), urgent=False), 20) == "later"
        assert await names(store) == {"later"}


async def test_close_commits_what_is_not_urgent(tmp_path: Path) -> None:
    async with busy_store(tmp_path) as (store, go_on, _):
        later = asyncio.create_task(store.write(add("later"), urgent=False))
        await asyncio.sleep(0)
        go_on.set()
        await store.close()
        assert await asyncio.wait_for(later, 20) == "later"
