"""X9: no local call gives a traceback, a 500, or more than a bounded log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.technicians import NAME_HEADER, PIN_HEADER
from edge_agent.console.streams import LONGEST_BODY
from tests.attack.hostile import DEEP, EFFORT, Hostile, Text, Value, hostile, json_bytes

PATHS = [
    "/v1/code",
    "/v1/alive",
    "/v1/status",
    "/v1/configuration",
    "/v1/reload",
    "/v1/cells",
    "/v1/alarms",
    "/v1/reservations",
    "/v1/reservations/{}/temperatures",
    "/v1/events",
    "/v1/cells/{}/open",
    "/v1/cells/{}/block",
    "/v1/cells/{}/unblock",
    "/v1/cells/{}/clear",
    "/v1/cells/{}/tare",
    "/v1/cells/{}/resolve",
    "/v1/cells/A01/{}",
    "/v1/bus",
    "/v1/bus/monitor",
    "/v1/bus/doors",
    "/v1/bus/check",
    "/v1/bus/{}/scan",
    "/v1/restore",
    "/v1/diagnose",
    "/metrics",
    "/{}",
]
NAMES = ["text", "reason", "verdict", "none", "place", "first", "last", "doors"]
Bodies = st.one_of(
    st.binary(max_size=200),
    Value.map(json_bytes),
    st.dictionaries(st.sampled_from(NAMES), Value, max_size=3).map(json_bytes),
    st.sampled_from(
        [deep.encode() for deep in DEEP] + [b" " * (LONGEST_BODY + 1), b'{"text": "' + b"9" * 60_000 + b'"}']
    ),
)
Queries = st.one_of(
    st.just(""),
    st.sampled_from(
        [
            "follow=1",
            "all=1",
            "all=1&limit=1000",
            "limit=1000",
            "limit=\u0661",
            "limit=-1",
            "limit=99999999999",
            "seconds=nan",
        ]
    ),
    st.sampled_from(
        ["seconds=1e308", "bus=main", "bus=\x00", "cell=A01&cell=A01", "cell=", "%ff=%00", "&&=;"]
    ),
    st.tuples(st.sampled_from(["limit", "follow", "seconds", "bus", "cell"]), Text).map("=".join),
)
ALLOWED = {200, 400, 401, 403, 404, 405, 429, 501, 503, 504}


@pytest.fixture(scope="module", name="machine")
def _machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    with hostile(tmp_path_factory.mktemp("calls")) as machine:
        yield machine


@EFFORT
@given(
    method=st.sampled_from(["GET", "POST", "POST", "PUT", "HEAD", "OPTIONS", "X"]),
    path=st.tuples(st.sampled_from(PATHS), st.one_of(st.sampled_from(["A01", "main", "open"]), Text)),
    query=Queries,
    body=Bodies,
    headers=st.lists(
        st.tuples(
            st.sampled_from([NAME_HEADER.lower().encode(), PIN_HEADER.lower().encode(), b"content-type"]),
            st.binary(max_size=30),
        ),
        max_size=2,
    ),
)
def test_x9_no_local_call_gives_a_traceback_or_a_500(
    machine: Hostile, method: str, path: tuple[str, str], query: str, body: bytes, headers: list[Any]
) -> None:
    place = path[0].replace("{}", path[1])

    async def call() -> int:
        status = await machine.status_of(method, place, query, body, tuple(headers))
        await asyncio.sleep(0.05)
        return status

    status = machine.run(call)
    machine.check()
    assert status in ALLOWED, (status, method, place)


@pytest.mark.parametrize("deep", DEEP, ids=lambda deep: f"{deep[0]}{len(deep)}")
def test_x9_deep_json_in_a_local_call_is_refused(machine: Hostile, deep: str) -> None:
    async def call() -> int:
        return await machine.status_of("POST", "/v1/code", "", deep.encode())

    assert machine.run(call) == 400
    machine.check()
    assert not machine.logged
