"""Orders, notes and reasons are written by anybody: none of them steers a technician's terminal."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from edge_agent.cli import commands
from edge_agent.cli.commands import app
from edge_agent.cli.daemon import visible
from edge_agent.cli.watch.daemon import Daemon

FOREIGN = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202etxt.exe\nnext [bold]line"
SHOWN = "\ufffd[2J"
STEERS = "\x1b\x07\x9b\u202e"

RESERVATION = {
    "reservation_id": "res_1",
    "platform_order_id": FOREIGN,
    "cell": {"description": "A01"},
    "status": "RESERVATION_STATUS_PENDING",
    "overdue_s": None,
    "grace_over": False,
    "live": True,
    "created_at": "2026-01-01T00:00:00Z",
    "dropped_off_at": None,
    "picked_up_at": None,
    "notes": FOREIGN,
}
UNLOCK = {
    "kind": "unlock",
    "n": 1,
    "at": "2026-01-01T00:00:00Z",
    "what": "INTENT",
    "cell": "A01",
    "reservation_id": None,
    "source": "SOURCE_TYPE_MACHINE",
    "actor": "maria",
    "pulsed": None,
    "purpose": "technician",
    "attempt": 1,
    "reason": FOREIGN,
}
ALARM = {
    "alarm": "X",
    "label": "A01",
    "device": FOREIGN,
    "since": "2026-01-01T00:00:00Z",
    "count": 1,
    "detail": FOREIGN,
}
ANSWERS: dict[str, Any] = {
    "/v1/reservations": [RESERVATION],
    "/v1/events": [UNLOCK],
    "/v1/alarms": [ALARM],
}


FOLLOWED: list[bool] = []


@pytest.fixture(autouse=True)
def _not_followed_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    FOLLOWED.clear()
    monkeypatch.setattr(commands, "RECONNECT_S", 0.0)


def answer(request: httpx.Request) -> httpx.Response:
    """What the daemon says; the second call for new events is the user's Ctrl-C."""
    if request.method == "POST":
        return httpx.Response(400, json={"code": 9, "message": FOREIGN, "details": []})
    if request.url.query == b"follow=1":
        if FOLLOWED:
            raise KeyboardInterrupt
        FOLLOWED.append(True)
        return httpx.Response(200, text=f"id: 0.1.0\ndata: {json.dumps(UNLOCK)}\n\n")
    return httpx.Response(200, json=ANSWERS[request.url.path])


@pytest.mark.parametrize("words", ["reservations", "events", "events --follow", "alarms", "unblock A01"])
def test_no_shown_text_controls_the_terminal(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(answer))
    monkeypatch.setenv("COLUMNS", "400")
    done = CliRunner().invoke(app, words.split())
    said = done.stdout + done.stderr
    assert SHOWN in said
    assert not set(STEERS) & set(said)
    assert "next [bold]line" in said


@pytest.mark.parametrize("words", ["reservations", "events", "events --follow", "alarms"])
def test_x9_json_holds_no_terminal_control(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(answer))
    done = CliRunner().invoke(app, [*words.split(), "--json"])
    parsed = json.loads(done.stdout)
    row = parsed[0] if isinstance(parsed, list) else parsed
    foreign = next(value for value in row.values() if isinstance(value, str) and "owned" in value)
    assert foreign == FOREIGN.translate(dict.fromkeys(map(ord, STEERS), "\ufffd"))
    assert not set(STEERS) & set(done.stdout)


def test_x9_every_control_character_is_replaced_and_every_other_is_kept() -> None:
    steering = [
        *"\x00\x08\r\x1b\x7f\x85\x9b\xad\u061c\u200b\u200e\u200f\u2028\u2029",
        *"\u202a\u202b\u202c\u202d",
    ]
    steering += [*"\u202e\u2060\u2066\u2067\u2068\u2069\ufeff\U000e0041", "\ud800"]
    assert {visible(character) for character in steering} == {"\ufffd"}
    kept = "a\tb\nc ü 漢字 😀 \u200c\u200d می\u200cخواهم [/]"
    assert visible(kept) == kept
    assert visible({"a\u202e": ["b\x1b", 1, None, 2.5, True]}) == {"a\ufffd": ["b\ufffd", 1, None, 2.5, True]}


def test_the_watch_screen_gets_no_control_characters() -> None:
    async def looked() -> str:
        daemon = Daemon(Path("agent.sock"), httpx.MockTransport(answer))
        rows = [*await daemon.last_events(), *[row async for row in daemon.follow()]]
        await daemon.close()
        return "".join(row["reason"] for row in rows)

    said = asyncio.run(looked())
    assert SHOWN in said
    assert not set(STEERS) & set(said)


@pytest.mark.parametrize("words", ["status", "events --follow", "unblock A01", "reload"])
def test_a_failing_daemon_is_reported_in_one_line(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: httpx.Request) -> httpx.Response:
        return httpx.Response(500, text="Internal Server Error")

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(fails))
    done = CliRunner().invoke(app, words.split())
    assert (done.exit_code, done.stdout) == (1, "")
    assert "HTTP 500" in done.stderr
