"""The quota of a machine, and hostile values in each kind of its messages: no page breaks (X3, X6)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from sqlalchemy import func, select
from starlette.responses import JSONResponse

from cloud_gateway.api.errors import machine_refusal_response
from cloud_gateway.db.tables import counts, events, machines, rejected
from cloud_gateway.events import sequence
from cloud_gateway.events.projection import owner_of
from cloud_gateway.events.reconcile import Reconciler
from cloud_gateway.machines import message_validation
from cloud_gateway.machines.commands import MachineRefusal, Reply, SentCommand
from cloud_gateway.value_bounds import TEXT_MAX, TIME_MAX_S
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.events import DETAIL_KEY, EventType
from tests.cloud_gateway.hostile import HOSTILE, NOW_S, Hostile, hostile
from tests.cloud_gateway.machines.test_message_validation import count, document_of
from tests.cloud_gateway.peer import MACHINE, cell, machine_document
from tests.cloud_gateway.support import API, QUICK

EFFORT = int(os.environ.get("GATE_EFFORT", "12"))
"""Examples for each type of message; more with GATE_EFFORT set."""
POISON = "0001-01-01T00:00:00+14:00"
FAR_S = 100_000_000_000_000

# Hostile values of every message type.

VALUES: list[Any] = [
    None, True, 0, -1, 2**31, 2**53 + 1, 2**63, 10**400, -1e308, 1e308, float("nan"), float("inf"),
    "", "x" * 1025, "x" * 100_000, "\ud800", "\x00", "\u202e", "a/b", "+", "#", "%", "'; DROP TABLE",
    POISON, "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00", "1969-12-31T23:59:59Z", "not a time",
    [], {}, [[[]]], {"a": {"b": []}}, [None] * 2000, MACHINE, "res_planted", "RESERVATION_STATUS_NEW",
]  # fmt: skip
TIME_EDGE = [0, -1, TIME_MAX_S, TIME_MAX_S + 1, FAR_S, -FAR_S]
HOSTILE_VALUE = st.one_of(
    st.sampled_from(VALUES),
    st.sampled_from(TIME_EDGE),
    st.text(max_size=40),
    st.integers(),
    st.floats(),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=2), max_leaves=4),
)
RAW = st.sampled_from([b"", b"[", b"\xff", b"null", b"[" * 3000 + b"]" * 3000, b'"x"', b"NaN", b"{}" * 9])


def paths_in(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    inner: Any = ()
    if isinstance(document, dict):
        inner = document.items()
    elif isinstance(document, list):
        inner = enumerate(document)
    for key, value in inner:
        yield (*path, key)
        yield from paths_in(value, (*path, key))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value in one place."""
    copy = json.loads(json.dumps(document))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def templates(site: Hostile, number: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """One message of every type: its topic and a good document."""
    online = {"online": True, "boot_id": "b", "agent_version": "1", "at": "2026-01-01T00:00:00Z"}
    health = {
        "verdict": "good", "alarms": {"DOOR_AJAR": 1}, "cells": 2, "cells_out": 0,
        "buses_down": ["a"], "journal_writable": True, "clock_synced": True,
    }  # fmt: skip
    digest = {
        "machine_id": HOSTILE, "journal_id": "j", "boot_id": "b", "at": "2026-01-01T00:00:00Z",
        "oldest_sequence": 1, "last_sequence": 1, "cells": {"A01": "IDLE"},
        "reservations": {"res_1": "RESERVATION_STATUS_PENDING"},
    }  # fmt: skip
    view = site.view(site.request())
    documents: dict[str, tuple[str, dict[str, Any]]] = {
        "online": ("state/online", online | {"health": health, "instance": "i/j", "run": "r"}),
        "machine": ("state/machine", machine_document(HOSTILE)),
        "digest": ("state/digest", digest),
        "refusal": ("reply/test", {"error": {"code": 9, "message": "no", "details": [{"a": 1}]}}),
        "reserve": ("reply/test", {"result": {"reservation": view}}),
        "pickup": ("reply/test", {"result": {"reservation": view, "cell": view["cell"]}}),
    }
    more = {
        "maintenance_ticket_id": "t1", "description": "d", "severity": "LOW", "alarm": "DOOR_AJAR",
        "device": "lock", "status": "IDLE", "cause": "MOVED", "request_id": "r", "reason": "why",
        "outcome": "OPENED", "actor": "a", "blocked": True,
    }  # fmt: skip
    for kind in EventType:
        body = document_of(kind, number, uptime_ms=5)
        body[DETAIL_KEY[kind]] |= more
        documents[kind.value] = ("evt", body)
    return documents


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all examples."""
    with asyncio.Runner() as running:
        yield running


@pytest.fixture(scope="module")
def site(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    """One gateway for all examples: what one leaves behind meets the next."""
    made = hostile(tmp_path_factory.mktemp("hostile"))
    yield runner.run(made.__aenter__())
    runner.run(made.__aexit__(None, None, None))


NUMBERS = iter(range(1, 1_000_000))
KINDS = ("online", "machine", "digest", "refusal", "reserve", "pickup", *(kind.value for kind in EventType))


@pytest.mark.parametrize("kind", KINDS)
@effort(
    max_examples=EFFORT,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(data=st.data())
def test_x3_no_message_of_a_machine_breaks_a_page(
    runner: asyncio.Runner, site: Hostile, kind: str, data: st.DataObject
) -> None:
    topic, document = templates(site, next(NUMBERS))[kind]
    own = document.get("result", {}).get("reservation", {}).get("reservation_id", "res_1")
    places = list(paths_in(document))
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.sampled_from(places))
        try:
            document = changed(document, place, data.draw(HOSTILE_VALUE))
        except (TypeError, KeyError, IndexError):
            break  # an earlier change took that place away
    payload = json.dumps(document).encode()
    if data.draw(st.integers(0, 9)) == 0:
        payload = data.draw(RAW)
    if not topic.startswith("reply/"):
        runner.run(site.send(topic, payload))
    else:
        runner.run(_reply(site, "reserve" if kind == "refusal" else kind, own, payload))
    runner.run(site.look())


@effort(
    max_examples=2 * EFFORT,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(data=st.data())
def test_x3_no_answer_of_sync_breaks_a_page(
    runner: asyncio.Runner, site: Hostile, data: st.DataObject
) -> None:
    number = next(NUMBERS)
    documents = [document_of(kind, number + n, journal_id="j") for n, kind in enumerate(EventType)]
    page: Any = {
        "journal_id": "j",
        "oldest_sequence": 1,
        "last_sequence": number + len(documents),
        "events": documents,
        "reservations": [site.view(site.request()), site.view(site.request(), reservation_id="res_x")],
    }
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.sampled_from(list(paths_in(page))))
        try:
            page = changed(page, place, data.draw(HOSTILE_VALUE))
        except (TypeError, KeyError, IndexError):
            break
    runner.run(_sync(site, json.dumps({"result": page}).encode()))
    runner.run(site.look())


class _Syncs:
    """A machine that answers `sync` once."""

    def __init__(self, payload: bytes) -> None:
        self._payloads = [payload]

    async def call(self, machine_id: str, name: str, fields: dict[str, Any], **_ids: str) -> Reply:
        """See `MachineCommands.call`."""
        if not self._payloads or name != "sync":
            raise Refusal(Code.EXPIRED, "no more")
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            outcome = message_validation.read_reply(
                SentCommand(name, machine_id, future, fields), self._payloads.pop()
            )
        except ValueError:
            raise Refusal(Code.INTERNAL, "the machine's reply could not be read") from None
        assert isinstance(outcome, Reply)
        return outcome


async def _sync(site: Hostile, payload: bytes) -> None:
    """Asks the hostile machine for what is missing; it answers with this."""
    machines: Any = _Syncs(payload)
    reconciler = Reconciler(
        site.store,
        machines,
        QUICK,
        lambda: NOW_S,
        lambda: None,
        "one",
        accounts=site.accounts,
        seals=site.seals,
    )
    await reconciler._pages(HOSTILE)
    assert "res_x" not in await site.rows()


async def _reply(site: Hostile, name: str, reservation_id: str, payload: bytes) -> None:
    """A reply to a command; a refusal reaches the caller word for word, and has to be JSON for that."""
    correlation, pending = site.asks(name, reservation_id=reservation_id, platform="acme")
    await site.send("reply/test", payload, correlation)
    error = pending.reply.exception()
    if isinstance(error, MachineRefusal):
        status, body = machine_refusal_response(error)
        assert JSONResponse(body, status).body


async def test_x6_journals_and_kept_refusals_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "JOURNALS_MAX", 10)
    monkeypatch.setattr(sequence, "REJECTED_MAX", 20)
    async with hostile(tmp_path) as site:
        for number in range(40):
            body = document_of(EventType.ALARM_RAISED, 1, reservation_id=None)
            body |= {"journal_id": f"j{number}", "idempotency_key": f"k{number}"}
            await site.send("evt", body)
            await site.send("state/digest", b"x" * 10_000)
        assert await count(site, counts) == 10
        assert await count(site, rejected) == 2 * 20
        longest = select(func.max(func.length(rejected.c.payload)))
        assert await site.store.read(lambda db: db.execute(longest).scalar_one()) == 4096


async def test_x6_events_beyond_the_quota_are_not_stored_and_other_machines_are_served(
    tmp_path: Path,
) -> None:
    async with hostile(tmp_path) as site:
        site.accounts._quota_bytes = 10_000
        for number in range(1, 60):
            await site.send("evt", document_of(EventType.ALARM_RAISED, number, reservation_id=None))
        kept = await count(site, events)
        assert 5 < kept < 20
        assert site.accounts.rejected(HOSTILE) == 59 - kept
        assert site.accounts.take_quota(MACHINE, [5000])


async def test_x6_a_page_beyond_the_quota_is_not_stored(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        documents = [document_of(EventType.ALARM_RAISED, n, journal_id="j") for n in range(1, 11)]
        page = {"journal_id": "j", "oldest_sequence": 1, "last_sequence": 10, "events": documents}
        payload = json.dumps({"result": page}).encode()
        site.accounts._quota_bytes = len(payload)  # without the rows' own share
        await _sync(site, payload)
        assert await count(site, events) == 0
        assert site.accounts.rejected(HOSTILE) == 1


async def test_x6_events_that_wait_for_a_missing_one_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "HELD_MAX", 20)
    async with hostile(tmp_path) as site:
        for number in range(5, 60):
            await site.send("evt", document_of(EventType.ALARM_RAISED, number, reservation_id=None))
        assert await count(site, events) == 20
        # When the gap is filled they are asked for; none was taken for applied.
        for number in range(1, 5):
            await site.send("evt", document_of(EventType.ALARM_RAISED, number, reservation_id=None))
        applied = select(counts.c.applied_sequence)
        assert await site.store.read(lambda db: db.execute(applied).scalar_one()) == 24


async def test_x6_a_large_event_is_counted_and_not_kept(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        body = document_of(EventType.ALARM_RAISED, 1, reservation_id=None)
        await site.send("evt", body | {"more": "x" * 1_000_000})
        await site.send("evt", document_of(EventType.ALARM_RAISED, 2, reservation_id=None))
        await site.send("evt", b'"' + b"x" * (message_validation.PACKET_MAX + 1) + b'"')
        size = select(func.sum(func.length(events.c.payload)))
        assert await site.store.read(lambda db: db.execute(size).scalar_one()) < 2 * TEXT_MAX
        states = select(events.c.state).order_by(events.c.sequence)
        found = await site.store.read(lambda db: db.execute(states).scalars().all())
        assert found == ["rejected", "applied"]


async def test_x6_a_cell_id_belongs_to_the_machine_that_had_it_first(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        owner = partial(owner_of, cell_id="cell_a03")
        await site.send("state/machine", machine_document(HOSTILE, name="mine now"))
        assert await site.store.read(owner) == MACHINE
        # Only where its machine has that cell no more may another one have it.
        await site.say(MACHINE, "state/machine", machine_document(all_cells=[cell("C01")]))
        assert await site.store.read(owner) is None
        await site.send("state/machine", machine_document(HOSTILE))
        assert await site.store.read(owner) == HOSTILE


async def test_x6_a_large_state_is_refused(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        await site.send("state/machine", machine_document(HOSTILE, name="x" * 4_000_000))
        twice = machine_document(HOSTILE)
        twice["all_cells"] *= 2
        await site.send("state/machine", twice)
        for number in range(50):
            await site.send(f"state/{number}", machine_document(HOSTILE))
        assert await count(site, machines) == 1
        assert site.accounts.rejected(HOSTILE) == 52
        assert (await site.http.get(f"{API}/machines/{HOSTILE}")).status_code == 404
