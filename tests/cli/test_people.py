"""What people type, and how the commands take it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from typer.testing import CliRunner

from edge_agent.cli import commands
from edge_agent.cli.commands import app
from edge_agent.cli.init import words
from edge_agent.runtime.local_requests import LocalRequests


@pytest.mark.parametrize("path", ["", "open", "bus", "bus scan", "schema profile", "events", "init"])
def test_t4_dash_h_is_help(path: str) -> None:
    short, full = (CliRunner().invoke(app, [*path.split(), option]) for option in ("-h", "--help"))
    assert short.exit_code == full.exit_code == 0
    assert short.output == full.output
    assert "Usage" in short.output


@pytest.mark.parametrize(
    ("labels", "given", "found"),
    [
        (["A01", "B01"], "a01", "A01"),
        (["A01", "B01"], "A01", "A01"),
        (["A01", "a01"], "a01", "a01"),
        (["A01", "a01"], "A01", "A01"),
        (["Ab1", "aB1"], "ab1", "ab1"),
        (["A01"], "Z99", "Z99"),
        (["A01"], " a01 ", "A01"),
    ],
)
def test_t4_labels_are_found_in_upper_and_lower_case(labels: list[str], given: str, found: str) -> None:
    local = SimpleNamespace(loop=SimpleNamespace(state=SimpleNamespace(cells=dict.fromkeys(labels))))
    assert LocalRequests.label_of(cast("LocalRequests", local), given) == found


def test_t4_following_goes_on_when_the_daemon_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = iter(["one", None, None, "two"])
    row: dict[str, Any] = {
        "kind": "event",
        "at": "2026-11-30T10:00:00Z",
        "source": "",
        "actor": "",
        "cell": None,
        "reservation_id": None,
        "detail": {},
        "sent": True,
    }

    def answer(request: httpx.Request) -> httpx.Response:
        try:
            what = next(rows)
        except StopIteration:
            raise KeyboardInterrupt from None
        if what is None:
            raise httpx.ConnectError("connection refused")
        return httpx.Response(200, text=f"id: 1.0.0\ndata: {json.dumps({**row, 'what': what})}\n\n")

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(answer))
    monkeypatch.setattr(commands, "RECONNECT_S", 0.0)
    done = CliRunner().invoke(app, ["events", "--follow"])
    assert done.exit_code == 0
    assert [line.split("  ")[1] for line in done.stdout.splitlines()] == ["one", "two"]
    assert done.stderr.count("waiting until it does") == 2


def test_t4_following_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that happened while the daemon restarted is missed."""
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("last-event-id"))
        if len(asked) == 4:
            raise KeyboardInterrupt
        if len(asked) == 2:
            raise httpx.ConnectError("connection refused")
        return httpx.Response(200, text=f": following\nid: {len(asked)}.0.0\n\n")

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(answer))
    monkeypatch.setattr(commands, "RECONNECT_S", 0.0)
    assert CliRunner().invoke(app, ["events", "--follow"]).exit_code == 0
    assert asked == [None, "1.0.0", "1.0.0", "3.0.0"]


def test_t4_following_ends_where_no_daemon_is_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(nobody))
    assert CliRunner().invoke(app, ["events", "--follow"]).exit_code == 3


@pytest.mark.parametrize("answer", ["small*8,medium*8,large*8", "ttyUSB1", "/etc/passwd", "/dev/", "yes"])
def test_t3_what_is_no_device_is_refused_as_a_port(answer: str) -> None:
    with pytest.raises(ValueError, match="is not a device"):
        words.port_or_none(answer)


@pytest.mark.parametrize("answer", ["/dev/ttyUSB1", "/dev/serial/by-id/usb-FTDI_FT232R-if00-port0"])
def test_t3_devices_and_none_are_ports(answer: str) -> None:
    assert words.port_or_none(answer) == answer
    assert words.port_or_none("-") is None


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ("small", [24, 0]),
        ("small*8, large*16", [8, 16]),
        ("small*8, large", [8, 16]),
        (", ".join(["small"] * 23 + ["large"]), [23, 1]),
        (", ".join(["small"] * 23), None),
        ("small*23", None),
        ("small*8, large*15", None),
        ("small, large", None),
        ("small*25", None),
        ("", None),
    ],
)
def test_t3_there_is_a_size_for_each_cell(answer: str, counts: list[int] | None) -> None:
    parse = words.repeated(24, ["small", "large"])
    if counts is None:
        with pytest.raises(ValueError, match="sizes for 24 cells"):
            parse(answer)
    else:
        assert [parse(answer).count(name) for name in ("small", "large")] == counts
