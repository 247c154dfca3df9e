"""A message of the library's as the request handler takes it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edge_agent.cloud.command_message import LONGEST_ID, incoming_of
from edge_agent.mqtt.messages import Received
from edge_agent.mqtt.packets import received_of


def message(**properties: object) -> Received:
    given = SimpleNamespace(
        topic="locker/v1/m1/cmd/echo",
        payload=bytearray(b"{}"),
        properties=SimpleNamespace(**properties),
        mid=1,
        qos=1,
        retain=False,
        dup=False,
    )
    return received_of(given, 1)


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ("req-1", "req-1"),
        ("พัสดุ 1", "พัสดุ 1"),
        ("one\nlevel=error\x1b[2J\x00two", "onelevel=error[2Jtwo"),
        ("x" * LONGEST_ID, "x" * LONGEST_ID),
        ("x" * 60_000, "x" * LONGEST_ID),
    ],
)
def test_an_id_from_the_wire_is_cut_and_printable(sent: str, taken: str) -> None:
    came = incoming_of(message(UserProperty=[("x-request-id", sent)]), lambda: None, 0.0)
    assert came.x_request_id == taken


def test_without_properties_there_are_no_details() -> None:
    came = incoming_of(message(), lambda: None, 5.0)
    assert (came.command, came.x_request_id, came.message_expiry_s) == ("echo", None, None)


def test_the_time_waited_at_the_broker_counts_against_the_expiry() -> None:
    assert incoming_of(message(MessageExpiryInterval=8), lambda: None, 2.5).message_expiry_s == 5
    assert incoming_of(message(MessageExpiryInterval=8), lambda: None, 60.0).message_expiry_s == 0
