"""`edge-agent bus`: what the commands print, record and end with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from edge_agent.cli.commands import app

LATENCY = {"p50": 5.0, "p99": 7.0, "max": 6.25}
DEVICE = {
    "device": "locks_a",
    "address": 1,
    "profile": "waveshare-io-8ch",
    "state": "answering",
    "requests": 10,
    "replies": 8,
    "timeouts": 1,
    "damaged": 1,
    "exceptions": 0,
    "late": 1,
    "unasked": 0,
    "owed": 2,
    "latency_ms": LATENCY,
    "failing_checks": ["mode of channel 1"],
}
SILENT = DEVICE | {
    "device": "scale",
    "address": 11,
    "state": "dead",
    "latency_ms": dict.fromkeys(LATENCY),
    "failing_checks": [],
}
BUS = {
    "bus": "main",
    "port": "/dev/ttyUSB0",
    "protocol": "modbus",
    "baud": 19200,
    "up": True,
    **dict.fromkeys(("requests", "replies", "timeouts", "damaged", "exceptions", "late"), 3),
    "unasked": 1,
    "glitches": 0,
    "stray_bytes": 17,
    "port_losses": 0,
    "utilisation": 0.625,
    "devices": [DEVICE, SILENT],
}


def bus(monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception, *arguments: str) -> Result:
    """A command against a daemon that answers so."""

    def handler(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        answer.request = request
        return answer

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(handler))
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner().invoke(app, ["bus", *arguments])


def streamed(*rows: dict[str, Any]) -> httpx.Response:
    """Rows as the daemon sends them."""
    text = ": following\n\n" + "".join(f"data: {json.dumps(row)}\n\n" for row in rows)
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


def test_stats_are_a_table_for_people_and_rows_for_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    done = bus(monkeypatch, httpx.Response(200, json=[BUS]), "stats")
    assert done.exit_code == 0
    assert "main /dev/ttyUSB0, modbus at 19200 baud, up" in done.stdout
    assert "17 stray bytes" in done.stdout
    assert "62% busy" in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if "locks_a" in line)
    assert "check failed: mode of channel 1" in line
    assert [cell.strip() for cell in line.split("│")[-5:-1]] == ["2", "5", "7", "6.25"]
    done = bus(monkeypatch, httpx.Response(200, json=[BUS]), "stats", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, [BUS])


FRAME = {
    "at": "2025-06-13T10:00:00.250Z",
    "at_s": 12.25,
    "bus": "main",
    "baud": 19200,
    "protocol": "modbus",
    "direction": "sent",
    "hex": "01 02 00 00 00 08 79 CC",
    "note": "",
    "words": "-> locks_a(1) read 8 inputs from 0",
}


def test_the_monitor_prints_frames_and_records_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    done = bus(monkeypatch, streamed(FRAME), "monitor", "--record", str(trace), "--bus", "main", "--utc")
    assert done.exit_code == 0
    words = ["10:00:00.250 UTC", "main", "01 02 00 00 00 08 79 CC", FRAME["words"]]
    assert done.stdout == "  ".join(str(word) for word in words) + "\n"
    (line,) = trace.read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {key: FRAME[key] for key in FRAME if key not in ("at", "words")}
    done = bus(monkeypatch, streamed(FRAME, FRAME), "monitor", "--json", "--seconds", "2")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [FRAME, FRAME]


def test_a_recording_that_cannot_be_written_is_bad_usage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = bus(monkeypatch, streamed(FRAME), "monitor", "--record", str(tmp_path / "no" / "trace.jsonl"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "No such file" in done.stderr


def test_an_unknown_bus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = {"code": 5, "message": "no such bus: up; there are: main", "details": []}
    done = bus(monkeypatch, httpx.Response(404, json=refusal), "monitor", "--bus", "up")
    assert done.exit_code == 1
    assert "there are: main" in done.stderr


def found(address: int, result: str, device: str | None = None, **more: Any) -> dict[str, Any]:
    row = {"bus": "main", "number": address, "of": 3, "address": address, "result": result, "device": device}
    nothing: dict[str, Any] = {
        "profile": None,
        "exception": None,
        "damaged": 0,
        "fault": None,
        "reads_like": [],
    }
    return row | nothing | {"finding": None} | more


def test_a_scan_lists_the_devices_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        found(1, "answers", "locks_a"),
        found(2, "exception", exception="illegal data address", reads_like=["r4dcb08"]),
        found(3, "silent"),
    ]
    done = bus(monkeypatch, streamed(*rows), "scan", "--bus", "main", "--last", "3")
    assert done.exit_code == 0
    assert "not configured" in done.stdout
    assert "refuses what it was asked: illegal data address" in done.stdout
    assert "may be r4dcb08" in done.stdout
    assert "exception" not in done.stdout
    assert "3 addresses asked, 1 silent as expected" in done.stdout
    done = bus(monkeypatch, streamed(*rows), "scan", "--bus", "main", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, rows)


def test_a_missing_device_or_a_lost_port_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = found(1, "silent", "locks_a", finding="locks_a does not answer")
    done = bus(monkeypatch, streamed(missing), "scan", "--bus", "main")
    assert done.exit_code == 1
    assert "locks_a does not answer" in done.stdout
    lost = {"bus": "main", "error": "the port went away"}
    done = bus(monkeypatch, streamed(found(1, "answers", "locks_a"), lost), "scan", "--bus", "main")
    assert done.exit_code == 1
    assert "the port went away" in done.stderr
    assert bus(monkeypatch, streamed(), "scan", "--first", "256").exit_code == 2


def checked(ok: bool, **more: Any) -> dict[str, Any]:
    row = {"bus": "main", "device": "locks_a", "address": 1, "check": "mode", "ok": ok, "wanted": [0]}
    return row | {"found": [0], "why": "an input would drive the relay", "detail": None} | more


def test_a_failed_check_explains_why_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    done = bus(monkeypatch, httpx.Response(200, json=[checked(True)]), "check")
    assert done.exit_code == 0
    assert "good" in done.stdout
    assert "would drive" not in done.stdout
    rows = [checked(True), checked(False, detail="holds 1, not 0")]
    done = bus(monkeypatch, httpx.Response(200, json=rows), "check")
    assert done.exit_code == 1
    assert "holds 1, not 0" in done.stdout
    assert "an input would drive the relay" in done.stdout
    done = bus(monkeypatch, httpx.Response(200, json=rows), "check", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, rows)


def at_doors(monkeypatch: pytest.MonkeyPatch, doors: list[tuple[str, str]], *arguments: str) -> Result:
    """A command against a daemon with the cells A01 and A02 whose doors read so in turn."""
    levels = {"closed": 1, "open": 0, "unknown": None}
    rows = [
        {"label": label, "device": "locks_a", "channel": int(label[-1]), "door": door, "level": levels[door]}
        for label, door in doors
    ]

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/cells":
            return httpx.Response(200, json=[{"label": "A01"}, {"label": "A02"}])
        if request.url.path == "/v1/bus/check":
            return httpx.Response(200, json=[checked(True)])
        assert request.url.path == "/v1/bus/doors"
        return streamed(*rows)

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(handler))
    return CliRunner().invoke(app, ["bus", *arguments])


ONE = [("A01", "closed"), ("A02", "closed"), ("A01", "open"), ("A01", "unknown"), ("A01", "closed")]
BOTH = [*ONE, ("A02", "open"), ("A02", "closed")]


def test_doors_must_be_seen_open_and_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    done = at_doors(monkeypatch, BOTH, "doors")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "A01  open  locks_a 1 reads 0" in done.stdout
    assert "A01  unknown  locks_a 1 cannot be read" in done.stdout
    assert "A02  closed  locks_a 2 reads 1 (seen open and closed)" in done.stdout
    done = at_doors(monkeypatch, ONE, "doors")
    assert done.exit_code == 1
    assert "not seen open and closed again: A02" in done.stderr
    done = at_doors(monkeypatch, ONE, "doors", "A01")
    assert done.exit_code == 0
    assert "A02" not in done.stdout  # it was not asked for, and it did not move
    other = [*ONE[:2], ("A02", "open"), *ONE[2:]]
    assert (
        "A02  open  locks_a 2 reads 0 (another cell than you chose)"
        in at_doors(monkeypatch, other, "doors", "A01").stdout
    )
    assert at_doors(monkeypatch, ONE[:3], "doors", "A01").exit_code == 1
    assert at_doors(monkeypatch, ONE, "doors", "Z9").exit_code == 2
    done = at_doors(monkeypatch, BOTH, "doors", "--json")
    assert [json.loads(line)["door"] for line in done.stdout.splitlines()] == [door for _, door in BOTH]


def test_the_technician_is_led_from_door_to_door(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = at_doors(monkeypatch, BOTH, "doors").stdout.splitlines()
    assert lines[0].startswith("No alarm is raised for these doors while this runs.")
    assert [line for line in lines if line.startswith("now")] == [
        "now A01: open it, then close it (0 of 2 done)",
        "now A02: open it, then close it (1 of 2 done)",
    ]
    crossed = [*ONE[:2], ("A02", "open"), ("A02", "closed"), ("A01", "open"), ("A01", "closed")]
    said = at_doors(monkeypatch, crossed, "doors").stdout
    assert said.count("if you moved A01, the contacts of A01 and A02 are crossed") == 1
    assert "now A02: close it (0 of 2 done)" in said
    assert "A01: close it; " not in said
    ajar = [("A01", "open"), ("A02", "closed"), ("A01", "closed"), ("A02", "open"), ("A02", "closed")]
    said = at_doors(monkeypatch, ajar, "doors").stdout
    assert "A01 reads open: close it; if it is closed, its closed_level is wrong" in said
    assert "now A01: close it (0 of 2 done)" in said
    assert at_doors(monkeypatch, ONE, "doors", "a01").exit_code == 0


def test_a_door_that_reads_open_at_the_beginning_is_suspect(monkeypatch: pytest.MonkeyPatch) -> None:
    backwards = [("A01", "open"), ("A02", "closed"), ("A01", "closed"), ("A02", "open"), ("A02", "closed")]
    done = at_doors(monkeypatch, backwards, "doors")
    assert done.exit_code == 1
    said = " ".join(done.stderr.split())
    assert "read open at the beginning: A01; if they were closed then, closed_level is wrong" in said
    assert "A01  open  locks_a 1 reads 0" in done.stdout


def test_check_with_doors_watches_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert at_doors(monkeypatch, BOTH, "check", "--doors").exit_code == 0
    assert at_doors(monkeypatch, ONE, "check", "--doors").exit_code == 1


def test_without_a_daemon_every_bus_command_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("stats", "monitor", "scan", "check", "doors"):
        assert bus(monkeypatch, httpx.ConnectError("nobody"), command).exit_code == 3
