"""`edge-agent open` and `technician`: what they say, where they take the PIN from, and their exit codes."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from typer.testing import CliRunner, Result

from edge_agent.cli import acts, pin
from edge_agent.cli.commands import app
from edge_agent.config.technicians import NAME_HEADER, PIN_HEADER, Hashed, line, parse, read

DONE = {"cell": {"description": "B01"}}
NEEDED = {"code": 16, "message": "a technician's PIN is needed for this", "details": []}
PIN = "738291 ü"


class Daemon:
    """Answers one after the other, and keeps what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: httpx.Response | Exception) -> None:
        self.answers: Iterator[httpx.Response | Exception] = iter(answers)
        self.asked: list[httpx.Request] = []
        monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(self.answer))
        for name in (pin.PIN_VARIABLE, pin.NAME_VARIABLE):
            monkeypatch.delenv(name, raising=False)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def shown(self) -> list[tuple[str | None, str | None]]:
        """Name and PIN of each request."""
        pairs = [(r.headers.get(NAME_HEADER), r.headers.get(PIN_HEADER)) for r in self.asked]
        return [(n and unquote(n), p and unquote(p)) for n, p in pairs]


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


def test_an_opened_door_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(monkeypatch, httpx.Response(200, json=DONE), httpx.Response(200, json=DONE))
    done = run("open", "B01", "--reason", "a look")
    assert (done.exit_code, done.stdout) == (0, "cell B01 is open\n")
    done = run("open", "B01", "--reason", "a look", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, DONE)
    assert [(r.method, r.url.path) for r in daemon.asked] == [("POST", "/v1/cells/B01/open")] * 2
    assert json.loads(daemon.asked[0].content) == {"reason": "a look"}
    assert daemon.shown() == [(None, None)] * 2


def test_a_signal_blinks(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = DONE | {"signals": ["of B01"], "seconds": 10}
    refusal = {"code": 5, "message": "cell B02 has no signal in the configuration", "details": []}
    answers = [httpx.Response(200, json=shown), httpx.Response(200, json=shown)]
    daemon = Daemon(monkeypatch, *answers, httpx.Response(404, json=refusal))
    done = run("signal", "B01")
    assert (done.exit_code, done.stdout) == (0, "the signal of cell B01 blinks for 10 s\n")
    done = run("signal", "B01", "--seconds", "3", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, shown)
    refused = run("signal", "B02")
    assert (refused.exit_code, refused.stderr) == (1, "cell B02 has no signal in the configuration\n")
    assert [r.url.path for r in daemon.asked[:2]] == ["/v1/cells/B01/signal"] * 2
    assert [json.loads(r.content) for r in daemon.asked[:2]] == [{"seconds": 10}, {"seconds": 3}]
    assert run("signal", "B01", "--seconds", "61").exit_code == 2


def test_a_refused_opening_shows_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = {"code": 9, "message": "the door of cell B01 is being opened just now", "details": []}
    Daemon(monkeypatch, httpx.Response(400, json=refusal))
    done = run("open", "B01", "--reason", "a look")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "being opened just now" in done.stderr


def test_without_a_daemon_a_cell_or_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    Daemon(monkeypatch, httpx.ConnectError("nobody"))
    assert run("open", "B01", "--reason", "a look").exit_code == 3
    assert run("open", "--reason", "a look").exit_code == 2
    assert run("open", "B01").exit_code == 2
    assert run("open", "B01", "--reason", "a look", "--pin", PIN).exit_code == 2  # others could read it


def test_the_pin_comes_from_a_file_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "pin"
    file.write_text(PIN + "\n", encoding="utf-8")
    file.chmod(0o600)
    daemon = Daemon(monkeypatch, *(httpx.Response(200, json=DONE) for _ in range(4)))
    monkeypatch.setenv(pin.PIN_VARIABLE, "from the environment")
    assert run("open", "B01", "--reason", "r", "--pin-file", str(file), "--as", "bob").exit_code == 0
    assert run("open", "B01", "--reason", "r").exit_code == 0
    monkeypatch.setenv(pin.NAME_VARIABLE, "eve")
    assert run("clear", "B01").exit_code == 0
    assert run("unblock", "B01").exit_code == 0
    assert daemon.shown() == [
        ("bob", PIN),
        (None, "from the environment"),
        ("eve", "from the environment"),
        ("eve", "from the environment"),
    ]


@pytest.mark.parametrize(
    ("mode", "text", "why"),
    [
        (0o644, PIN, "can be read by others (mode 0644)"),
        (0o600, "\n", "is empty"),
        (None, "", "No such file"),
    ],
)
def test_an_invalid_pin_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int | None, text: str, why: str
) -> None:
    daemon = Daemon(monkeypatch)
    file = tmp_path / "pin"
    if mode is not None:
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
    done = run("open", "B01", "--reason", "r", "--pin-file", str(file))
    assert done.exit_code == 2
    assert why in done.stderr
    assert PIN not in done.output
    assert daemon.asked == []


def test_without_a_terminal_the_error_explains_how_to_give_the_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(monkeypatch, httpx.Response(401, json=NEEDED))
    done = run("open", "B01", "--reason", "r")
    assert done.exit_code == 1
    assert "--pin-file FILE or in EDGE_AGENT_PIN" in " ".join(done.stderr.split())
    assert len(daemon.asked) == 1


def test_at_a_terminal_it_is_asked_for_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin, "_is_interactive", lambda: True)
    prompts: list[str] = []

    def typed(prompt: str) -> str:
        prompts.append(prompt)
        return PIN

    monkeypatch.setattr(pin, "getpass", typed)
    daemon = Daemon(monkeypatch, httpx.Response(401, json=NEEDED), httpx.Response(200, json=DONE))
    assert run("open", "B01", "--reason", "r", "--as", "bob").exit_code == 0
    assert prompts == ["PIN of bob: "]
    assert daemon.shown() == [("bob", None), ("bob", PIN)]
    wrong = {"code": 7, "message": "wrong name or PIN of a technician", "details": []}
    Daemon(monkeypatch, httpx.Response(401, json=NEEDED), httpx.Response(403, json=wrong))
    done = run("clear", "B01", "--as", "bob")
    assert done.exit_code == 1
    assert "wrong name or PIN of a technician" in done.stderr


# --- becoming one ----------------------------------------------------------------------------------------


def matching(made: Hashed) -> bool:
    return made.matches(PIN) and not made.matches("738291")


def test_a_technicians_line_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("technician", "bob", stdin=PIN + "\n")
    assert done.exit_code == 0
    found = parse(done.stdout)
    assert list(found) == ["bob"]
    assert matching(found["bob"])
    assert run("technician", "bob", stdin=PIN + "\n").stdout != done.stdout  # salted


def test_a_technicians_line_is_added_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "technicians"
    done = run("technician", "bob", "--append", str(file), stdin=PIN + "\n")
    assert (done.exit_code, done.stdout) == (0, "bob is a technician\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("# who\n" + file.read_text(encoding="utf-8").rstrip("\n"), encoding="utf-8")
    if os.geteuid() == 0:
        os.chown(file, 4242, -1)  # the service's: root adds to it all the same
    assert run("technician", "eve", "--append", str(file), stdin="123456\n").exit_code == 0
    assert list(read(file, ours=False)) == ["bob", "eve"]
    again = run("technician", "eve", "--append", str(file), stdin="123456\n")
    assert again.exit_code == 1
    assert "is in it already" in again.stderr
    assert PIN not in file.read_text(encoding="utf-8")
    file.chmod(0o644)
    assert run("technician", "ann", "--append", str(file), stdin="123456\n").exit_code == 1
    gone = run("technician", "ann", "--append", str(tmp_path / "no" / "file"), stdin="123456\n")
    assert gone.exit_code == 2


@pytest.mark.parametrize(
    ("name", "given"), [("bob", "12345"), ("bob:x", PIN), ("", PIN), ("bob", "12345\x07")]
)
def test_invalid_names_and_pins_are_refused(name: str, given: str) -> None:
    done = run("technician", name, stdin=given + "\n")
    assert done.exit_code == 2
    assert given not in done.output
    with pytest.raises(ValueError):
        line(name, given)


def test_a_pin_is_typed_twice_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter([PIN, PIN, PIN, "another one"])
    monkeypatch.setattr(acts, "getpass", lambda prompt: next(typed))
    monkeypatch.setattr(acts, "_is_interactive", lambda: True)
    assert matching(parse(run("technician", "bob").stdout)["bob"])
    done = run("technician", "bob")
    assert done.exit_code == 1
    assert "the two PINs differ" in done.stderr
