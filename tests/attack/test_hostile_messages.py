"""X9: no message from the broker gives a traceback, an internal error, or more than a bounded log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import Code
from edge_agent.mqtt.messages import Message
from edge_agent.protocol.commands import COMMANDS
from tests.attack.hostile import DEEP, EFFORT, Hostile, Text, Time, Value, hostile, json_bytes
from tests.support.site import PARCEL
from tools.simulate.plant import rfc3339

REPLY = "locker/v1/machine_123/reply/x"
FIELDS: dict[str, Any] = {
    "message": "m",
    "reservation_id": "res_1",
    "machine_id": "machine_123",
    "platform_order_id": "o",
    "packaging": PARCEL,
    "notes": "n",
    "webhook_url": "https://example.invalid/",
    "eta_minutes": 5,
    "grace_period_pickup_in_seconds": 5,
    "grace_period_dropoff_in_seconds": 5,
    "platform": "p",
    "reason": "r",
    "platform_reference_id": "ref",
    "cell_id": "cell_demo_a01",
    "description": "d",
    "severity": "SEVERITY_HIGH",
    "block_cell_immediately": False,
    "from_sequence": 1,
    "challenge": "",
    "journal_id": "j",
    "applied": {"j": 1},
    "reservations": [],
}
LOST = {
    "reservation_id": "res_lost",
    "platform_order_id": "o",
    "status": "RESERVATION_STATUS_DROPPED_OFF",
    "created_at": "2026-01-01T00:00:00Z",
    "dropped_off_at": "2026-01-01T00:00:00Z",
    "cell": "A02",
    "drop_off_code": "1234",
    "pickup_code": "4321",
}
Changes = st.dictionaries(
    st.sampled_from([*FIELDS, "request_id", "issued_at", "expires_at"]), Value, max_size=3
)
Losts = st.lists(
    st.dictionaries(
        st.sampled_from([*LOST, "packaging", "eta_minutes", "picked_up_at"]),
        st.one_of(Value, Time),
        max_size=2,
    ),
    max_size=2,
)


Payloads = st.one_of(st.binary(max_size=300), Value.map(json_bytes))
YEARS = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z"]


@pytest.fixture(scope="module", name="machine")
def _machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    with hostile(tmp_path_factory.mktemp("messages")) as machine:
        machine.site.plant.broker.on_message = lambda message: note(machine, message)
        yield machine


def note(machine: Hostile, message: Message) -> None:
    if "/reply/" in message.topic:
        machine.replies.append(message.payload)


def times(machine: Hostile) -> dict[str, str]:
    loop_s = machine._runner.get_loop().time()
    return {"issued_at": rfc3339(loop_s), "expires_at": rfc3339(loop_s + 5)}


def send(machine: Hostile, command: str, payload: bytes, **fields: Any) -> None:
    machine.replies.clear()
    given = {"response_topic": REPLY, "correlation": b"c", "message_expiry_s": 5} | fields
    machine.handle(command=command, payload=payload, **given)
    machine.check()
    for reply in machine.replies:
        assert json.loads(reply).get("error", {}).get("code") != Code.INTERNAL, reply


@EFFORT
@given(
    command=st.one_of(st.sampled_from(sorted(COMMANDS)), st.sampled_from(sorted(COMMANDS)), Text),
    changes=Changes,
    losts=Losts,
    number=st.integers(0, 10**6),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "response_topic": st.one_of(st.none(), Text, Text.map(lambda text: REPLY + text)),
            "correlation": st.one_of(st.none(), st.binary(max_size=50)),
            "message_expiry_s": st.one_of(st.none(), st.integers(0, 2**32 - 1)),
            "x_request_id": st.one_of(st.none(), Text),
            "retained": st.booleans(),
            "without_properties": st.booleans(),
            "duplicate": st.booleans(),
            "signature": st.one_of(st.none(), Text),
            "signature_key": st.one_of(st.none(), Text),
        },
    ),
)
def test_x9_no_message_gives_a_traceback_or_an_internal_error(
    machine: Hostile,
    command: str,
    changes: dict[str, Any],
    losts: list[dict[str, Any]],
    number: int,
    fields: dict[str, Any],
) -> None:
    body = (
        FIELDS
        | {"request_id": f"r{number}"}
        | times(machine)
        | {"reservations": [LOST | lost for lost in losts]}
    )
    send(machine, command, json_bytes(body | changes), **fields)


@EFFORT
@given(
    command=st.sampled_from(sorted(COMMANDS)),
    payload=st.one_of(st.binary(max_size=300), Value.map(json_bytes)),
)
def test_x9_no_bytes_in_place_of_a_command_give_a_traceback(
    machine: Hostile, command: str, payload: bytes
) -> None:
    send(machine, command, payload)


@pytest.mark.parametrize("deep", DEEP, ids=lambda deep: f"{deep[0]}{len(deep)}")
@pytest.mark.parametrize("command", ["echo", "restore", "reserve"])
def test_x9_deep_json_in_a_command_is_refused(machine: Hostile, command: str, deep: str) -> None:
    body = json.dumps(FIELDS | {"request_id": "deep"} | times(machine))
    for payload in (deep, body[:-1] + ', "packaging": ' + deep + "}"):
        send(machine, command, payload.encode())
        if len(deep) > 1000:
            assert json.loads(machine.replies[0])["error"]["code"] == Code.INVALID_ARGUMENT


@EFFORT
@given(
    payload=st.one_of(
        st.binary(max_size=300), Value.map(json_bytes), st.sampled_from([d.encode() for d in DEEP])
    )
)
def test_x9_no_retained_digest_gives_a_traceback(machine: Hostile, payload: bytes) -> None:
    async def kept() -> None:
        machine.agent.history_check.retained_digest_read(payload)

    machine.run(kept)
    machine.check()


@pytest.mark.parametrize("year", YEARS)
def test_x9_impossible_times_are_refused_by_field(machine: Hostile, year: str) -> None:
    for name in ("issued_at", "expires_at"):
        send(machine, "reserve", json_bytes(FIELDS | {"request_id": "t"} | times(machine) | {name: year}))
        error = json.loads(machine.replies[0])["error"]
        assert (error["code"], error["message"].partition(":")[0]) == (Code.INVALID_ARGUMENT, name)
    lost = {"reservations": [LOST | {"created_at": year}]}
    send(machine, "restore", json_bytes(FIELDS | {"request_id": "t"} | times(machine) | lost))
    assert json.loads(machine.replies[0])["error"]["message"].startswith("reservations[0].created_at: ")
