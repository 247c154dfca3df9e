"""Whatever is sent, the answer is one of the API's: never a 500, never the framework's own error."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.cloud_gateway.support import API, KEY, MACHINE, PARCEL, bench
from tests.support.broker import Broker

FUZZ = hypothesis_settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)

NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, -1, 10_000, 10_001, 2**63, 10**400]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=8,
)


def near(**fields: Any) -> st.SearchStrategy[Any]:
    """Bodies that have each field right, wrong or not at all."""
    return st.fixed_dictionaries(
        {}, optional={name: st.one_of(st.just(good), JSON) for name, good in fields.items()}
    )


PARCELS = near(**PARCEL)
RESERVE = near(
    machine_id=MACHINE,
    platform_order_id="o",
    notes="n",
    webhook_url="http://127.0.0.1:9/",
    eta_minutes=30,
    grace_period_pickup_in_seconds=120,
    grace_period_dropoff_in_seconds=0,
).flatmap(lambda body: PARCELS.map(lambda parcel: {**body, "packaging": parcel}))
SEARCH = near(
    latitude=-6.1, longitude=106.6, radius=1000, limit=10, only_available_lockers=True, packaging=PARCEL
)
MAINTENANCE = near(
    machine_id=MACHINE, cell_id="cell_a03", description="d", severity="LOW", block_cell_immediately=True
)
PATHS = st.sampled_from(["/echo", "/reservations", "/machines/search", "/maintenances"])
BODIES = st.one_of(
    st.tuples(st.just("/reservations"), RESERVE),
    st.tuples(st.just("/machines/search"), SEARCH),
    st.tuples(st.just("/echo"), near(message="hello")),
    st.tuples(st.just("/maintenances"), MAINTENANCE),
    st.tuples(PATHS, JSON),
)


async def test_no_body_is_a_server_error(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        base = str(gateway.http.base_url)

        def check() -> None:
            with httpx.Client(base_url=base, headers={"X-API-Key": KEY}, trust_env=False) as http:

                @FUZZ
                @given(BODIES)
                def body(case: tuple[str, Any]) -> None:
                    path, document = case
                    response = http.post(API + path, content=json.dumps(document).encode())
                    assert response.status_code in (200, 400, 404), response.text
                    if response.status_code != 200:
                        answer = response.json()
                        assert set(answer) == {"code", "message", "details"}
                        assert answer["code"] in (3, 5)

                @FUZZ
                @given(PATHS, st.binary(max_size=40))
                def raw(path: str, content: bytes) -> None:
                    response = http.post(API + path, content=content)
                    assert response.status_code in (200, 400), response.text

                @FUZZ
                @given(
                    st.sampled_from(["page_size", "page_token", "created_after"]),
                    st.one_of(st.text(max_size=30), st.integers().map(str)),
                )
                def query(name: str, value: str) -> None:
                    text = value.encode("utf-8", "replace").decode()
                    response = http.get(f"{API}/reservations", params={name: text})
                    assert response.status_code in (200, 400), response.text
                    if response.status_code == 400:
                        assert response.json()["code"] == 3

                body()
                raw()
                query()

        await asyncio.to_thread(check)
