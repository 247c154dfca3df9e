"""`edge-agent restore`, `clear --all` and `resolve`: each flag, refusals, exit codes, and the hidden PIN."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from edge_agent.cli import pin, restore
from tests.cli.test_acts import NEEDED, PIN, Daemon, run

DONE = httpx.Response(200, json={"restored": True})
LOST = httpx.Response(200, json=[{"alarm": "JOURNAL_LOST", "label": None, "device": None}])
QUIET = httpx.Response(200, json=[])
CELL = {"cell": {"description": "A01"}}
REFUSED = {"code": 9, "message": "no history was lost: there is nothing to restore", "details": []}


def offered(*pairs: tuple[str, str]) -> httpx.Response:
    """What the machine offers: reservation and cell."""
    rows = [
        {
            "reservation_id": reservation_id,
            "cell": cell,
            "status": "RESERVATION_STATUS_DROPPED_OFF",
            "platform_order_id": f"order of {reservation_id}",
        }
        for reservation_id, cell in pairs
    ]
    return httpx.Response(200, json={"reservations": rows})


def asked(daemon: Daemon) -> list[tuple[str, str]]:
    """Method and path of each request."""
    return [(request.method, request.url.path) for request in daemon.asked]


def body(daemon: Daemon) -> Any:
    """The body of the last request."""
    return json.loads(daemon.asked[-1].content)


def test_restore_shows_what_it_restores_and_needs_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(monkeypatch, LOST, offered(("res_1", "A03"), ("res_2", "A01")))
    done = run("restore")
    assert done.exit_code == 2
    assert "confirm with --yes" in done.stderr
    assert asked(daemon) == [("GET", "/v1/alarms"), ("GET", "/v1/restore")]
    lines = [line.split()[:3] for line in done.stdout.splitlines()[1:]]
    assert lines == [["A01", "DROPPED_OFF", "res_2"], ["A03", "DROPPED_OFF", "res_1"]]


def test_restore_with_a_yes_restores(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(monkeypatch, LOST, offered(("res_1", "A03")), DONE)
    done = run("restore", "--yes")
    assert done.exit_code == 0
    assert "edge-agent clear" in done.stdout
    assert asked(daemon)[-1] == ("POST", "/v1/restore")
    assert body(daemon) == {"none": False, "place": {}}


@pytest.mark.parametrize(("answer", "code", "requests"), [("y\n", 0, 3), ("n\n", 1, 2), ("\n", 1, 2)])
def test_at_a_terminal_restore_asks(
    monkeypatch: pytest.MonkeyPatch, answer: str, code: int, requests: int
) -> None:
    monkeypatch.setattr(restore, "_is_interactive", lambda: True)
    daemon = Daemon(monkeypatch, LOST, offered(("res_1", "A03")), DONE)
    assert run("restore", stdin=answer).exit_code == code
    assert len(daemon.asked) == requests


def test_place_names_the_cell_of_a_parcel_and_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(monkeypatch, LOST, offered(("res_1", "A01"), ("res_2", "A02")), DONE)
    done = run("restore", "--place", "res_1=A03", "--yes")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["A02", "A03"]
    assert body(daemon) == {"none": False, "place": {"res_1": "A03"}}


@pytest.mark.parametrize("text", ["res_1", "=A03", "res_1=", "="])
def test_an_invalid_place_argument_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    daemon = Daemon(monkeypatch)
    done = run("restore", "--place", text, "--yes")
    assert done.exit_code == 2
    assert f"--place: {text!r} is not RES=CELL" in done.stderr
    assert daemon.asked == []


def test_after_restore_place_corrects_without_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(monkeypatch, QUIET, DONE)
    assert run("restore", "--place", "res_1=A03").exit_code == 0
    assert asked(daemon) == [("GET", "/v1/alarms"), ("POST", "/v1/restore")]
    assert body(daemon) == {"none": False, "place": {"res_1": "A03"}}


def test_restore_none_starts_empty_and_needs_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(monkeypatch)
    done = run("restore", "--none")
    assert (done.exit_code, daemon.asked) == (2, [])
    assert "stay invalid" in done.stderr
    daemon = Daemon(monkeypatch, DONE)
    assert run("restore", "--none", "--yes").exit_code == 0
    assert asked(daemon) == [("POST", "/v1/restore")]
    assert body(daemon) == {"none": True, "place": {}}


def test_a_refused_restore_shows_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    Daemon(monkeypatch, QUIET, httpx.Response(400, json=REFUSED))
    done = run("restore")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "nothing to restore" in done.stderr


def test_without_a_daemon_restore_and_clear_all_end_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (("restore",), ("restore", "--none", "--yes"), ("clear", "--all")):
        Daemon(monkeypatch, httpx.ConnectError("nobody"))
        assert run(*arguments).exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "before"),
    [
        (("restore", "--yes"), (LOST, offered(("res_1", "A03")))),
        (
            ("clear", "--all"),
            (httpx.Response(200, json=[{"label": "A01", "status": "AWAITING_INSPECTION"}]),),
        ),
        (("resolve", "A01", "--empty"), ()),
    ],
)
def test_the_pin_is_typed_hidden_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], before: tuple[httpx.Response, ...]
) -> None:
    needed = httpx.Response(401, json=NEEDED)
    Daemon(monkeypatch, *before, needed)
    without = run(*arguments)
    assert without.exit_code == 1
    assert "--pin-file FILE or in EDGE_AGENT_PIN" in " ".join(without.stderr.split())
    monkeypatch.setattr(pin, "_is_interactive", lambda: True)
    monkeypatch.setattr(pin, "getpass", lambda prompt: PIN)
    daemon = Daemon(monkeypatch, *before, needed, httpx.Response(200, json=CELL))
    done = run(*arguments, "--as", "bob")
    assert done.exit_code == 0
    assert daemon.shown()[-1] == ("bob", PIN)
    assert PIN not in done.output


def test_clear_all_clears_what_awaits_inspection_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = {"A01": "AWAITING_INSPECTION", "A02": "OCCUPIED", "A03": "AWAITING_INSPECTION", "A04": "IDLE"}
    rows = [{"label": label, "status": status} for label, status in statuses.items()]
    cleared = [httpx.Response(200, json=CELL) for _ in range(2)]
    daemon = Daemon(monkeypatch, httpx.Response(200, json=rows), *cleared)
    done = run("clear", "--all")
    assert (done.exit_code, done.stdout) == (0, "cell A01 is clear\ncell A03 is clear\n")
    assert asked(daemon)[1:] == [("POST", "/v1/cells/A01/clear"), ("POST", "/v1/cells/A03/clear")]


def test_clear_all_stops_at_the_first_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"label": label, "status": "AWAITING_INSPECTION"} for label in ("A01", "A02", "A03")]
    refusal = {"code": 9, "message": "cell A02 is held by res_1", "details": []}
    answers = (httpx.Response(200, json=CELL), httpx.Response(400, json=refusal))
    daemon = Daemon(monkeypatch, httpx.Response(200, json=rows), *answers)
    done = run("clear", "--all")
    assert (done.exit_code, done.stdout) == (1, "cell A01 is clear\n")
    assert "held by res_1" in done.stderr
    assert len(daemon.asked) == 3


def test_clear_takes_a_cell_or_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(monkeypatch)
    for arguments in (("clear",), ("clear", "A01", "--all")):
        done = run(*arguments)
        assert done.exit_code == 2
        assert "CELL" in done.stderr
    assert daemon.asked == []


@pytest.mark.parametrize("verdict", ["dropped-off", "picked-up", "still-inside", "empty"])
def test_each_verdict_is_passed_on(monkeypatch: pytest.MonkeyPatch, verdict: str) -> None:
    daemon = Daemon(monkeypatch, httpx.Response(200, json=CELL), httpx.Response(200, json=CELL))
    done = run("resolve", "A01", f"--{verdict}")
    assert (done.exit_code, done.stdout) == (0, f"cell A01 is resolved: {verdict}\n")
    assert asked(daemon) == [("POST", "/v1/cells/A01/resolve")]
    assert body(daemon) == {"verdict": verdict}
    done = run("resolve", "A01", f"--{verdict}", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, CELL)


@pytest.mark.parametrize(
    "flags", [(), ("--empty", "--picked-up"), ("--dropped-off", "--still-inside", "--empty")]
)
def test_exactly_one_verdict_is_needed(monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]) -> None:
    daemon = Daemon(monkeypatch)
    done = run("resolve", "A01", *flags)
    assert (done.exit_code, done.stdout, daemon.asked) == (2, "", [])
    assert "exactly one" in done.stderr


def test_a_refused_verdict_shows_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = {"code": 9, "message": "cell A01 is not in doubt", "details": []}
    Daemon(monkeypatch, httpx.Response(400, json=refusal))
    done = run("resolve", "A01", "--empty", "--json")
    assert done.exit_code == 1
    assert "not in doubt" in done.stderr + done.stdout
