"""What may be in a command, and how long it may act."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import Code, Refusal
from edge_agent.model import Instant, Purpose, Severity, parse_qr, qr_text
from edge_agent.protocol.commands import COMMANDS, decode, remaining_ns

NOW = Instant("b", 10**12, 1_750_000_000.0, True)


def at(offset_s: float) -> str:
    return datetime.fromtimestamp(NOW.wall_s + offset_s, UTC).isoformat()


def body(**fields: Any) -> bytes:
    times = {"request_id": "r", "issued_at": at(0), "expires_at": at(10)}
    return json.dumps(times | fields).encode()


RESERVE = {
    "reservation_id": "res_1",
    "machine_id": "m",
    "platform_order_id": "o",
    "packaging": {"width": 1, "height": 1, "depth": 1},
}


@pytest.mark.behaviour("reservation-28", "reservation-34")
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"packaging": {"width": "1", "height": 1, "depth": 1}}, "packaging.width"),
        ({"packaging": {"width": 1.5, "height": 1, "depth": 1}}, "packaging.width"),
        ({"packaging": {"width": True, "height": 1, "depth": 1}}, "packaging.width"),
        ({"packaging": {"width": 10_001, "height": 1, "depth": 1}}, "packaging.width"),
        ({"packaging": {"width": 1, "depth": 1}}, "packaging.height"),
        ({"packaging": {**RESERVE["packaging"], "weight": -1}}, "packaging.weight"),  # type: ignore[dict-item]
        ({"packaging": {**RESERVE["packaging"], "cooling_required": 1}}, "packaging.cooling_required"),  # type: ignore[dict-item]
        ({"grace_period_pickup_in_seconds": 86_401}, "grace_period_pickup_in_seconds"),
        ({"eta_minutes": 10_081}, "eta_minutes"),
        ({"notes": "x" * 1025}, "notes"),
        ({"platform_order_id": ""}, "platform_order_id"),
        ({"webhook_url": "ftp://x/"}, "webhook_url"),
        ({"webhook_url": "http://10.0.0.1/"}, "webhook_url"),
        ({"webhook_url": "https://[2606:4700:4700::1111]99999/hook"}, "webhook_url"),
        ({"webhook_url": "https://[::1]:99999/"}, "webhook_url"),
        ({"webhook_url": "https://x:-1/"}, "webhook_url"),
        ({"webhook_url": "https://x:0/"}, "webhook_url"),
        ({"webhook_url": "https://a:1@[::1]x:443/"}, "webhook_url"),
        ({"reservation_id": "res-1"}, "reservation_id"),
        ({"request_id": "\0 1"}, "request_id"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "2026-01-01T00:00:00"}, "expires_at"),
        ({"issued_at": 5}, "issued_at"),
    ],
)
def test_a_wrong_field_is_invalid_argument_by_its_path(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as caught:
        decode("reserve", body(**(RESERVE | wrong)))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert [v.field for v in caught.value.violations] == [field]
    assert caught.value.message.startswith(f"{field}: ")


def test_null_is_the_default_and_zero_grace_is_legal() -> None:
    command: Any = decode(
        "reserve", body(**RESERVE, notes=None, webhook_url=None, grace_period_pickup_in_seconds=0)
    )
    assert (command.notes, command.webhook_url, command.grace_period_pickup_in_seconds) == ("", "", 0)
    assert command.packaging.weight == 0


@pytest.mark.parametrize(
    "url",
    ["https://x:1/", "https://x:65535", "https://a:b@x/", "https://[2606:4700::1]:8443/a", "https://x:/"],
)
def test_a_url_of_a_receiver_may_name_a_port(url: str) -> None:
    command: Any = decode("reserve", body(**RESERVE, webhook_url=url))
    assert command.webhook_url == url


def test_an_unknown_command_is_answered_not_built() -> None:
    with pytest.raises(Refusal) as caught:
        decode("fly", body(reservation_id="res_1"))
    assert caught.value.code is Code.NOT_BUILT


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"block_cell_immediately": True}, "cell_id"),
        ({"severity": "BAD"}, "severity"),
        ({"severity": 1}, "severity"),
        ({"description": ""}, "description"),
        ({"description": "x" * 1025}, "description"),
        ({"cell_id": 3}, "cell_id"),
        ({"block_cell_immediately": "true", "cell_id": "c"}, "block_cell_immediately"),
    ],
)
def test_an_invalid_maintenance_request_is_refused_by_field(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as caught:
        decode("maintenance", body(**({"description": "d"} | wrong)))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.violations[0].field == field


def test_missing_fields_of_a_maintenance_request_have_their_defaults() -> None:
    command: Any = decode("maintenance", body(description="d", severity=None, block_cell_immediately=None))
    assert (command.severity, command.block_cell_immediately) == (Severity.MEDIUM, False)
    assert (command.cell_id, command.machine_id) == (None, None)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode), st.sampled_from(sorted(COMMANDS)))
def test_only_unreadable_bytes_are_rejected(payload: bytes, name: str) -> None:
    with pytest.raises(Refusal):
        decode(name, payload)


@pytest.mark.behaviour("time-24", "time-25")
@pytest.mark.parametrize(
    ("name", "synced", "expires_s", "interval_s", "left_s"),
    [
        ("pickup", True, 10, None, 10),
        ("pickup", True, 10, 4, 4),
        ("pickup", True, 600, None, 30),
        ("pickup", True, 600, 600, 30),
        ("pickup", False, -5000, 8, 8),
        ("pickup", False, 10, 600, 30),
        ("reserve", True, 600, None, 600),
        ("reserve", False, -5000, None, 3600),
        ("pickup", True, 0, None, "EXPIRED"),
        ("reserve", True, -1, 60, "EXPIRED"),
        ("pickup", False, 10, None, "INVALID_ARGUMENT"),
    ],
)
def test_the_expiry_of_a_command(
    name: str, synced: bool, expires_s: float, interval_s: int | None, left_s: float | str
) -> None:
    fields = RESERVE if name == "reserve" else {"reservation_id": "res_1"}
    command = decode(name, body(**fields, expires_at=at(expires_s)))
    now = replace(NOW, synced=synced)
    if isinstance(left_s, str):
        with pytest.raises(Refusal) as caught:
            remaining_ns(name, command, now, interval_s)
        assert caught.value.code is Code[left_s]
    else:
        assert remaining_ns(name, command, now, interval_s) == left_s * 10**9


@pytest.mark.behaviour("time-23")
def test_an_old_command_with_a_long_expiry_is_expired() -> None:
    command = decode("dropoff", body(reservation_id="r", issued_at=at(-31), expires_at=at(3600)))
    with pytest.raises(Refusal, match="expired"):
        remaining_ns("dropoff", command, NOW, None)


@pytest.mark.behaviour("codes-10")
@pytest.mark.parametrize("purpose", [Purpose.DROPOFF, Purpose.PICKUP])
def test_qr_texts_are_those_of_the_reference(purpose: Purpose) -> None:
    text = qr_text(purpose, "res_789", "1234")
    assert text == {"dropoff": "DLV-DROP-res_789-1234", "pickup": "DLV-PICK-res_789-1234"}[purpose]
    assert parse_qr(text) == (purpose, "res_789", "1234")
    for wrong in (text + "\n", text.lower(), text[4:], f"{text}-1", "DLV-DROP--1", ""):
        assert parse_qr(wrong) is None
