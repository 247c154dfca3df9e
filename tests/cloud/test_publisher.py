"""The publisher when something goes wrong: holes in the outbox, a journal that cannot be read, a broker that
refuses events, replies that were on their way when the connection died."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cloud import publisher as publisher_module
from edge_agent.errors import StorageFault
from edge_agent.journal.store import JournalStore
from edge_agent.model import Alarm
from edge_agent.mqtt.messages import Message, OnAcknowledged
from tests.support.site import Site, at_site
from tools.simulate.plant import SimulatedLink


def journal_of(path: Path, version: int, rows: list[tuple[int, int]], last: int) -> None:
    """A journal as an earlier version left it: sequence and whether it was acknowledged, of what it kept."""
    with closing(sqlite3.connect(path)) as db:
        folder = resources.files("edge_agent.journal").joinpath("schema")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if entry.name.endswith(".sql") and int(entry.name[:4]) <= version:
                db.executescript(entry.read_text(encoding="utf-8"))
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("INSERT INTO outbox (sequence, body) VALUES (?, '{}')", (last,))
        db.execute("DELETE FROM outbox")
        for sequence, acknowledged in rows:
            values = (sequence, json.dumps({"sequence": sequence, "event_type": "x"}))
            if version > 1:
                db.execute("INSERT INTO outbox VALUES (?, ?, ?)", (*values, acknowledged))
            elif not acknowledged:
                db.execute("INSERT INTO outbox VALUES (?, ?)", values)
        db.commit()


ROWS = [(1, 1), (2, 1), (3, 0), (4, 1), (5, 0), (6, 0)]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_journal_of_an_earlier_version_loses_no_event_that_waits(tmp_path: Path, version: int) -> None:
    journal_of(tmp_path / "j", version, ROWS, 6)
    store = JournalStore(tmp_path / "j")
    try:
        assert store.sent_through() == 2
        assert {sequence for sequence, _ in store.events_kept(3, 99)} >= {3, 5, 6}
        assert store.load(0).last_sequence == 6
    finally:
        store.close()


@pytest.mark.parametrize(("version", "rows"), [(1, ROWS), (2, [(3, 0), (1005, 1), (1006, 0)])])
def test_a_gap_in_the_outbox_stops_nothing(tmp_path: Path, version: int, rows: list[tuple[int, int]]) -> None:
    journal_of(tmp_path / "journal.sqlite", version, rows, rows[-1][0])

    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        await site.until(lambda: agent.store.sent_through() == agent.loop.last_sequence)
        waiting = {sequence for sequence, acknowledged in rows if not acknowledged}
        sequences = [json.loads(event)["sequence"] for event in site.plant.broker.events]
        assert waiting <= set(sequences)
        assert sequences == sorted(sequences)

    at_site(tmp_path, test)


def failing_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but for its first call."""
    calls: list[int] = []

    def once(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise StorageFault("journal: disk I/O error")
        return function(*arguments)

    return once


@pytest.mark.parametrize("method", ["events_kept", "oldest_sequence"])
def test_one_failed_reading_of_the_journal_delays_events_and_no_more(tmp_path: Path, method: str) -> None:
    async def test(site: Site) -> None:
        await site.reserve(1)
        agent, link = site.plant.agent, site.plant.broker.link
        assert agent is not None
        assert link is not None
        setattr(agent.store, method, failing_once(getattr(agent.store, method)))
        link.report_up()
        await site.reserve(2)
        await site.until(lambda: len(site.published("RESERVATION_CREATED")) >= 2)

    at_site(tmp_path, test)


def answering(site: Site, answers: Callable[[Message], bool | None]) -> None:
    """What the broker says to each event and reply: taken, refused, or (None) nothing at all."""
    link = site.plant.broker.link
    assert isinstance(link, SimulatedLink)
    publish = link.publish

    def instead(message: Message, on_acknowledged: OnAcknowledged | None = None) -> None:
        answer = answers(message)
        if answer is None:
            return
        if not answer and on_acknowledged is not None:
            asyncio.get_running_loop().call_later(0.02, on_acknowledged, False)
            return
        publish(message, on_acknowledged)

    link.publish = instead  # type: ignore[method-assign]


def test_refused_events_are_kept_reported_and_sent_again(tmp_path: Path) -> None:
    refusing = [True]

    async def test(site: Site) -> None:
        answering(site, lambda message: not (message.topic.endswith("/evt") and refusing))
        agent = site.plant.agent
        assert agent is not None
        await site.reserve(1)
        alarms = agent.loop.state.alarms
        await site.until(lambda: any(a.alarm is Alarm.LINK_REFUSED for a in agent.loop.state.alarms.values()))
        assert not site.events
        before = agent.loop.last_sequence
        await asyncio.sleep(5 * publisher_module.REFUSED_S)
        assert agent.loop.last_sequence == before  # nothing is written for each attempt
        assert (await site.call("get-reservation", "res_1"))["result"]  # commands go on
        refusing.clear()
        await site.until(lambda: agent.store.outbox_size() == 0, 2 * publisher_module.REFUSED_S)
        assert [event["sequence"] for event in site.events] == list(range(1, len(site.events) + 1))
        await site.until(lambda: site.types()[-1] == "ALARM_CLEARED")
        assert alarms is not agent.loop.state.alarms or not alarms

    at_site(tmp_path, test)


def test_a_reply_that_never_reached_the_broker_is_published_again(tmp_path: Path) -> None:
    lost: list[Message] = []

    async def test(site: Site) -> None:
        def answers(message: Message) -> bool | None:
            if message.correlation is not None and not lost:
                lost.append(message)
                return None
            return True

        answering(site, answers)
        asking = asyncio.create_task(site.reserve())
        await site.until(lambda: bool(lost))
        link = site.plant.broker.link
        assert link is not None
        link.report_up()  # the connection that had it died; here is another
        assert (await asking)["reservation_id"] == "res_1"

    at_site(tmp_path, test)
