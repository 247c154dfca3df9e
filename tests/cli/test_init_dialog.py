"""`edge-agent init` as a dialog: going back, the summary."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from edge_agent.cli.init import command
from edge_agent.cli.init.answers import KEYS, NEEDED
from edge_agent.config import load_settings
from tests.cli.test_init import small
from tests.support.new_machine import ANSWERS, PROFILES


def test_an_answer_is_taken_back_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "is_interactive", lambda: True)
    new, output = small(tmp_path), tmp_path / "locker.toml"
    opened: list[None] = []
    new.on_line = lambda: opened.append(None)
    typed = ["<", "machine_8", "<", "machine_9", "Riverside", "", "52.4", "4.9", "", "", "", new.ports]
    typed += ["modbus", "19200", "N", "5", "", "", "a=1x1x1:1", "a", "<", "<", "b=2x2x2:2", "", "", ""]
    typed += ["", "<", "/dev/ttyACM9", "maybe", "yes"]
    done = new.init("--output", str(output), "--profiles", str(PROFILES), typed=typed)
    assert done.exit_code == 0, done.output
    assert "this is the first question" in done.stderr
    written = load_settings(output)
    assert (written.machine.machine_id, list(written.sizes)) == ("machine_9", ["b"])
    assert written.card_reader is not None
    assert written.card_reader.port == "/dev/ttyACM9"
    assert len(opened) == 1  # going back does not search again
    summary = done.stderr.split("cells A01-A08")
    assert len(summary) == 3  # before each of the two last questions
    assert "broker 127.0.0.1:1883, without TLS" in " ".join(summary[0].split())
    assert "must be yes or no" in done.stderr


def test_a_changed_answer_is_not_mixed_with_defaults_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "is_interactive", lambda: True)
    new, output = small(tmp_path), tmp_path / "locker.toml"
    typed = ["m", "", "", "52.4", "4.9", "b.example", "no", "", "<", "<", "yes", "", "", "", new.ports]
    typed += ["modbus", "19200", "N", "5", *[""] * 8]
    assert new.init("--output", str(output), "--profiles", str(PROFILES), typed=typed).exit_code == 0
    assert load_settings(output).mqtt.port == 8883


def test_the_answers_of_a_file_have_the_options_names() -> None:
    assert set(NEEDED) <= set(KEYS)
    assert {key.replace("-", "_") for key in ANSWERS} <= set(KEYS)
    assert tomllib.loads("\n".join(f"{key} = 1" for key in KEYS))
