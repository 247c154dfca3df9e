"""The bounds of what a command may hold: the last value on each side that is taken, the first that is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_agent.errors import Code, Refusal
from edge_agent.protocol.commands import Command, decode

TIMES = {"request_id": "r", "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T00:00:10Z"}
SIZES = {"width": 300, "height": 200, "depth": 400}
RESERVE = {"reservation_id": "res_1", "machine_id": "m", "platform_order_id": "o", "packaging": SIZES}
GRACES = ("grace_period_pickup_in_seconds", "grace_period_dropoff_in_seconds")


def taken(name: str, **fields: Any) -> Command:
    return decode(name, json.dumps(TIMES | fields).encode())


def refused(name: str, field: str, **fields: Any) -> None:
    with pytest.raises(Refusal) as caught:
        taken(name, **fields)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert [violation.field for violation in caught.value.violations] == [field]
    assert caught.value.message.startswith(f"{field}: ")


def packed(**fields: Any) -> dict[str, Any]:
    return RESERVE | {"packaging": SIZES | fields}


@pytest.mark.behaviour("reservation-28", "reservation-29")
@pytest.mark.parametrize("field", GRACES)
def test_a_grace_is_0_to_a_day(field: str) -> None:
    for good in (0, 86_400):
        assert getattr(taken("reserve", **RESERVE, **{field: good}), field) == good
    for bad in (-1, 86_401):
        refused("reserve", field, **RESERVE, **{field: bad})


@pytest.mark.behaviour("reservation-30")
def test_an_eta_is_0_to_a_week() -> None:
    for good in (0, 10_080):
        taken("reserve", **RESERVE, eta_minutes=good)
    for bad in (-1, 10_081):
        refused("reserve", "eta_minutes", **RESERVE, eta_minutes=bad)


@pytest.mark.behaviour("reservation-31")
@pytest.mark.parametrize("side", ["width", "height", "depth"])
def test_a_size_is_1_mm_to_10_m(side: str) -> None:
    for good in (1, 10_000):
        taken("reserve", **packed(**{side: good}))
    for bad in (0, 10_001):
        refused("reserve", f"packaging.{side}", **packed(**{side: bad}))


@pytest.mark.behaviour("reservation-32")
def test_a_weight_is_0_to_a_tonne() -> None:
    for good in (0, 1_000_000):
        taken("reserve", **packed(weight=good))
    for bad in (-1, 1_000_001):
        refused("reserve", "packaging.weight", **packed(weight=bad))


TEXTS = [
    *(("reserve", RESERVE, field) for field in ("platform_order_id", "notes", "machine_id", "platform")),
    *(("open-door", {"reservation_id": "res_1"}, field) for field in ("reason", "platform_reference_id")),
    *(("maintenance", {"description": "d"}, field) for field in ("description", "cell_id", "machine_id")),
    ("block-cell", {"cell_id": "c", "reason": "r"}, "reason"),
    ("echo", {}, "message"),
]


@pytest.mark.behaviour("reservation-33")
@pytest.mark.parametrize(("name", "body", "field"), TEXTS)
def test_a_text_has_1024_characters_at_most(name: str, body: dict[str, Any], field: str) -> None:
    taken(name, **(body | {field: "ü" * 1024}))
    refused(name, field, **(body | {field: "ü" * 1025}))


@pytest.mark.behaviour("reservation-33")
def test_a_webhook_url_is_such_a_text_too() -> None:
    url = "https://example.com/"
    taken("reserve", **RESERVE, webhook_url=url.ljust(1024, "x"))
    refused("reserve", "webhook_url", **RESERVE, webhook_url=url.ljust(1025, "x"))


@pytest.mark.behaviour("reservation-34")
@pytest.mark.parametrize("value", ["10", 1.5, 10.0, True, [10]])
def test_an_integer_is_a_json_integer(value: Any) -> None:
    for field in ("eta_minutes", *GRACES):
        refused("reserve", field, **RESERVE, **{field: value})
    for field in ("width", "height", "depth", "weight"):
        refused("reserve", f"packaging.{field}", **packed(**{field: value}))


@pytest.mark.behaviour("reservation-35")
def test_missing_fields_of_packaging_have_their_defaults() -> None:
    command: Any = taken("reserve", **RESERVE)
    packaging = command.packaging.to_model()
    assert (packaging.mass_g, packaging.heating_required, packaging.cooling_required) == (0, False, False)
