"""`edge-agent reservations`: which are shown."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from edge_agent.cli.commands import app


def reservation(number: int, order: str, status: str = "PENDING", **changes: Any) -> dict[str, Any]:
    return {
        "reservation_id": f"res_{number}",
        "platform_order_id": order,
        "cell": {"description": "A01", "cell_id": "a01"},
        "status": f"RESERVATION_STATUS_{status}",
        "overdue_s": None,
        "grace_over": False,
        "live": True,
        "created_at": "2026-01-01T00:00:00Z",
        "dropped_off_at": None,
        "picked_up_at": None,
        "notes": "",
        **changes,
    }


LIVE = [reservation(12, "Order-A1"), reservation(13, "order-B1")]
OVER = [reservation(1, "order-a0", "PICKED_UP", live=False), reservation(2, "x", "CANCELLED", live=False)]


@pytest.fixture(name="asked", autouse=True)
def _daemon(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        return httpx.Response(200, json=[*OVER, *LIVE] if "all=1" in asked[-1] else LIVE)

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(answer))
    return asked


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["reservations", *arguments], env={"COLUMNS": "200"})


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("", [12, 13]),
        ("res_12", [12]),
        ("RES_1", [12, 13]),
        ("--order order-a", [12]),
        ("--order ORDER", [12, 13]),
        ("res_13 --order order-a", []),
        ("res_2", []),
        ("--all", [1, 2, 12, 13]),
        ("--all --order order-A", [1, 12]),
        ("--all res_1", [1, 12, 13]),
    ],
)
def test_ids_and_orders_are_found_by_their_beginning_in_any_case(arguments: str, found: list[int]) -> None:
    done = run(*arguments.split(), "--json")
    assert done.exit_code == 0
    assert [row["reservation_id"] for row in json.loads(done.stdout)] == [f"res_{number}" for number in found]


def test_those_that_are_over_are_asked_for_only_on_request(asked: list[str]) -> None:
    run()
    run("--all")
    assert asked == ["/v1/reservations", "/v1/reservations?all=1&limit=1000"]


def test_a_table_shows_which_are_over() -> None:
    lines = run("--all").stdout.splitlines()
    status = {line.split("│")[1].strip(): line.split("│")[4].strip() for line in lines if "res_" in line}
    assert status == {
        "res_1": "PICKED_UP, over",
        "res_2": "CANCELLED, over",
        "res_12": "PENDING",
        "res_13": "PENDING",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("res_99", "no reservation that holds a cell matches; `--all` also searches those that are over"),
        ("--order Z --all", "no reservation matches; of those that are over, the newest 1000 were searched"),
    ],
)
def test_nothing_found_is_no_fault(arguments: str, said: str) -> None:
    done = run(*arguments.split())
    assert (done.exit_code, done.stdout) == (0, f"{said}\n")
    assert run(*arguments.split(), "--json").stdout == "[]\n"


def test_an_empty_machine_is_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=[])

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(nothing))
    assert run("res_1").stdout == "no reservation holds a cell\n"
    assert run("--all").stdout == "no reservation\n"
