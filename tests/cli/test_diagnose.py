"""`edge-agent diagnose`: what it says to people and to scripts, and its exit codes."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from edge_agent.cli import diagnose as module
from edge_agent.cli.commands import app
from edge_agent.config.technicians import PIN_HEADER

GOOD = {
    "check": "clock",
    "target": "",
    "verdict": "good",
    "finding": "synchronised",
    "next_step": "",
    "kinds": [],
}
FAULT = {
    "check": "device",
    "target": "locks_b",
    "verdict": "fault",
    "finding": "does not answer",
    "next_step": "look at its lamp [1]",
    "kinds": ["device_silent"],
}
WARNING = GOOD | {"verdict": "warning", "finding": "not synchronised", "next_step": "look at the network"}
UNKNOWN = GOOD | {"check": "lock", "target": "locks", "verdict": "unknown", "finding": "not tried"}
PROGRESS = {"progress": 3, "of": 20, "doing": "listening"}
ASK = {"progress": 4, "of": 20, "doing": "door A03 is open: close it", "ask": "close", "cell": "A03"}


def answers(*rows: dict[str, Any]) -> httpx.Response:
    text = ": following\n\n" + "".join(f"data: {json.dumps(row)}\n\n" for row in rows)
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


def run(
    monkeypatch: pytest.MonkeyPatch,
    answer: httpx.Response | Exception,
    *arguments: str,
    asked: list[httpx.Request] | None = None,
) -> Result:
    """The command against a daemon that answers so."""

    def handler(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/v1/diagnose")
        if asked is not None:
            asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(handler))
    monkeypatch.setattr(module, "console", Console(width=160))
    return CliRunner().invoke(app, ["diagnose", *arguments])


def test_a_healthy_machine_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, answers(PROGRESS, GOOD, UNKNOWN))
    assert done.exit_code == 0
    assert "0 faults, 0 warnings, 1 good, 1 that could not be tested" in done.stdout
    assert "synchronised" not in done.stdout
    assert "not tried" in done.stdout
    done = run(monkeypatch, answers(GOOD, UNKNOWN), "--all")
    assert "synchronised" in done.stdout


def test_a_fault_is_shown_first_with_its_next_step_and_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, answers(WARNING, FAULT, GOOD))
    assert done.exit_code == 1
    assert done.stdout.index("does not answer") < done.stdout.index("not synchronised")
    for words in (
        "locks_b",
        "(device_silent)",
        "look at its lamp [1]",
        "look at the network",
        "1 fault, 1 warning,",
    ):
        assert words in done.stdout
    assert "\x1b" not in done.stdout  # no colour where there is no terminal


def test_a_warning_alone_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, answers(WARNING)).exit_code == 0


def test_scripts_get_an_array_of_findings_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, answers(PROGRESS, GOOD, FAULT, ASK), "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == [GOOD, FAULT]


def test_doors_that_must_be_closed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[httpx.Request] = []
    done = run(monkeypatch, answers(PROGRESS, ASK, GOOD), "--doors", asked=asked)
    assert done.exit_code == 0
    assert "door A03 is open: close it" in done.stderr
    assert [json.loads(request.content) for request in asked] == [{"doors": True, "outputs": True}]


def test_doors_take_a_pin_where_technicians_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[httpx.Request] = []
    monkeypatch.setenv("EDGE_AGENT_PIN", "738291")
    assert run(monkeypatch, answers(GOOD), "--doors", asked=asked).exit_code == 0
    assert asked[0].headers[PIN_HEADER] == "738291"
    monkeypatch.delenv("EDGE_AGENT_PIN")
    needed = {"code": 16, "message": "a technician's PIN is needed for this", "details": []}
    done = run(monkeypatch, httpx.Response(401, json=needed), "--doors")
    assert done.exit_code == 1
    assert "--pin-file" in done.stderr


def test_without_a_daemon_while_another_runs_and_with_bad_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, httpx.ConnectError("nobody")).exit_code == 3
    busy = {"code": 9, "message": "a self-test is running already", "details": []}
    done = run(monkeypatch, httpx.Response(400, json=busy))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "running already" in done.stderr
    assert run(monkeypatch, answers(GOOD), "A03").exit_code == 2
    assert run(monkeypatch, answers(GOOD), "--windows").exit_code == 2
