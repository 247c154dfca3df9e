"""`edge-agent tare`: what it says, and its exit codes."""

from __future__ import annotations

import json

import httpx
import pytest
from typer.testing import CliRunner, Result

from edge_agent.cli.commands import app

DONE = {"cell": {"description": "B01"}, "tare_g": 130}


def tare(monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception, *arguments: str) -> Result:
    """The command against a daemon that answers so."""

    def handler(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/v1/cells/B01/tare")
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(handler))
    return CliRunner().invoke(app, ["tare", *arguments])


def test_a_tare_shows_the_new_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    done = tare(monkeypatch, httpx.Response(200, json=DONE), "B01")
    assert (done.exit_code, done.stdout) == (0, "cell B01: a reading of 130 g counts as zero now\n")
    done = tare(monkeypatch, httpx.Response(200, json=DONE), "B01", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, DONE)


def test_a_refused_tare_shows_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = {"code": 9, "message": "cell B01 is OCCUPIED: only a free one is tared", "details": []}
    done = tare(monkeypatch, httpx.Response(400, json=refusal), "B01")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "only a free one is tared" in done.stderr


def test_without_a_daemon_or_a_cell_there_is_no_tare(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tare(monkeypatch, httpx.ConnectError("nobody"), "B01").exit_code == 3
    assert tare(monkeypatch, httpx.ConnectError("nobody")).exit_code == 2
