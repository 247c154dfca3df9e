"""Planted codes, QR texts, PINs, passwords and keys: where they must never be seen again."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from edge_agent.config.technicians import line
from tests.support.bench import SMALL, Bench, running_bench, wait_for
from tools.bench.settings import REPOSITORY

PIN, WRONG_PIN, PASSWORD = "739154826", "111222333", "Planted-Passw0rd"
WRONG_CODE, WRONG_TEXT = "918273645", "DLV-PICK-res_planted-192837465"
HOOK = "https://hooks.example.invalid/planted-path?key=planted-query"
CORE_DUMPED = 0x80
"""Of a wait status (wait(2))."""


@dataclass
class Planted:
    """A machine that went through everything secret: all that it, the gateway and the commands have said."""

    said: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    status: int = 0


def machine_file(bench: Bench) -> Path:
    """The bench's machine with a password at the broker and with technicians."""
    machine = tomllib.loads((bench.folder / "machine.toml").read_text(encoding="utf-8"))
    for name, text in (("password", PASSWORD), ("technicians", line("maria", PIN) + "\n")):
        file = bench.folder / name
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
    machine["mqtt"] |= {"username": "m1", "password_file": str(bench.folder / "password")}
    machine["access"] = {"technicians_file": str(bench.folder / "technicians")}
    file = bench.folder / "secret-machine.toml"
    file.write_text(tomli_w.dumps(machine), encoding="utf-8")
    return file


def live(bench: Bench, planted: Planted) -> None:
    """Two lives, by a code and by a QR text, and wrong entries of both kinds."""
    for number, entered in enumerate(("drop_off_code", "drop_off_qrcode")):
        made = bench.reserve(SMALL, notes=f"planted-note-{number}", webhook_url=HOOK)
        planted.secrets += [made[key] for key in made if key.endswith(("_code", "_qrcode"))]
        drop_off(bench, planted, made, made[entered])
    for wrong in (WRONG_CODE, WRONG_TEXT):
        assert command(bench, planted, "code", wrong).returncode == 1
        bench.scan(wrong)


def drop_off(bench: Bench, planted: Planted, made: dict[str, Any], entry: str) -> None:
    done = command(bench, planted, "code", entry)
    assert done.returncode == 0, done.stderr
    label = bench.reservation(made["reservation_id"])["cell"]["description"]
    wait_for(lambda: bench.cell(label)["door"] == "open")
    bench.person(label, "place", "close")
    wait_for(lambda: bench.status(made["reservation_id"]) == "DROPPED_OFF")


def command(bench: Bench, planted: Planted, *arguments: str, **environment: str) -> Any:
    """A command; what it says is kept, but not what it was given."""
    bench.environment |= environment
    done = bench.command(*arguments)
    for name in environment:
        del bench.environment[name]
    planted.said[f"{len(planted.said)} {arguments[0]}"] = done.stdout + done.stderr
    return done


pytestmark = pytest.mark.long
"""A whole life of every interface with every secret: about a minute."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Everything that was said, and the secrets."""
    folder = tmp_path_factory.mktemp("secrets")
    config = tomllib.loads((REPOSITORY / "config" / "demo.toml").read_text(encoding="utf-8"))
    config["codes"] = {"code_digits": 9}
    config["paths"] = {"profiles": str(REPOSITORY / "config" / "devices")}
    (folder / "demo.toml").write_text(tomli_w.dumps(config), encoding="utf-8")
    secrets = [PIN, WRONG_PIN, PASSWORD, WRONG_CODE, WRONG_TEXT]
    planted = Planted(secrets=[*secrets, "DLV-DROP-", "DLV-PICK-"])
    with running_bench(folder / "bench", BENCH_CONFIG=str(folder / "demo.toml")) as bench:
        bench.act("agent", "stop")
        log = bench.folder / "logs" / "secret-agent.log"
        agent = start_agent(bench, log)
        try:
            use(bench, planted, log)
        finally:
            agent.send_signal(signal.SIGABRT)
            _, planted.status = os.waitpid(agent.pid, 0)
            agent.returncode = -signal.SIGABRT
        planted.said["events at the gateway"] = json.dumps(bench.events())
        planted.said["logs"] = bench.logs()
        planted.said["core dumps"] = "".join(str(path) for path in folder.rglob("core*") if path.is_file())
    return planted


def start_agent(bench: Bench, log: Path) -> subprocess.Popen[bytes]:
    core = resource.getrlimit(resource.RLIMIT_CORE)[1]
    with log.open("wb") as output:
        return subprocess.Popen(
            [Path(sys.executable).with_name("edge-agent"), "run", "--config", machine_file(bench)],
            stderr=output,
            stdout=output,
            cwd=bench.folder,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (core, core)),
        )


def use(bench: Bench, planted: Planted, log: Path) -> None:
    """Whatever a machine is used for."""
    wait_for(lambda: bench.command("status").returncode == 0)
    wait_for(lambda: json.loads(bench.command("status", "--json").stdout)["broker"] == "connected")
    live(bench, planted)
    reason = ("--reason", "look", "--as", "maria")
    assert command(bench, planted, "open", "C08", *reason, EDGE_AGENT_PIN=WRONG_PIN).returncode == 1
    assert command(bench, planted, "open", "C08", *reason, EDGE_AGENT_PIN=PIN).returncode == 0
    for what in (("reservations",), ("events",), ("reservations", "--json"), ("events", "--json")):
        command(bench, planted, *what)
    archive, file = bench.folder / "bundle.tar.gz", bench.folder / "secret-machine.toml"
    done = command(
        bench, planted, "bundle", "--quick", "-o", str(archive), "--config", str(file), "--log", str(log)
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(archive) as opened:
        for member in opened.getmembers():
            held = opened.extractfile(member)
            assert held is not None
            planted.said[member.name] = held.read().decode()


def test_no_secret_is_in_logs_events_bundles_or_command_output(planted: Planted) -> None:
    assert len(planted.secrets) >= 15
    assert len(planted.said) > 20
    found = [
        (where, secret)
        for where, text in planted.said.items()
        for secret in planted.secrets
        if secret in text
    ]
    assert not found


def test_the_same_search_finds_what_is_not_secret(planted: Planted) -> None:
    """Else the test above could not fail."""
    said = planted.said
    assert "event='answered'" in said["logs"]
    assert "res_" in said["events at the gateway"]
    assert any("maria" in text for where, text in said.items() if where.endswith("events.json"))
    assert any("password_file" in text for where, text in said.items() if where.endswith("config.json"))


def test_a_daemon_that_dies_leaves_no_core_dump(planted: Planted) -> None:
    assert os.WTERMSIG(planted.status) == signal.SIGABRT
    assert not planted.status & CORE_DUMPED
    assert planted.said["core dumps"] == ""
    assert "Fatal Python error: Aborted" in planted.said["logs"]  # the stacks of its threads
