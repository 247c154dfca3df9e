"""The field manual stays true: its commands, options, alarms, profiles, keys and files exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from edge_agent.cli.commands import app
from edge_agent.console import metrics
from edge_agent.model import Alarm

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "docs" / "operations.md"
TEXT = MANUAL.read_text(encoding="utf-8")
PAGES = [MANUAL, *(ROOT / "docs" / name for name in ("installation.md", "guide.md")), ROOT / "README.md"]
SYSTEM = ("/dev/serial/by-id/", "/dev/ttyUSB0", "/etc/edge-agent/technicians", "/metrics", "/operations")
"""Places that are the system's, or made by hand; the package's stand in docs/installation.md."""


def command_lines(text: str) -> Iterator[str]:
    """Every `edge-agent …` in running text, and after a prompt."""
    spans = re.findall(r"`((?:\.venv/bin/)?edge-agent [^`]*)`", text.replace("\n   ", " ").replace("\n", " "))
    prompts = re.findall(r"^\s*\$ ((?:\.venv/bin/)?edge-agent .*)$", text, re.MULTILINE)
    for line in [*spans, *prompts]:
        plain = re.sub(r"\$\(.*\)", "TEXT", line.removeprefix(".venv/bin/"))
        yield plain.split(" | ")[0]


def judge(line: str, root: Any) -> str | None:
    """What is wrong with a command line; None if nothing is."""
    words = shlex.split(line)[1:]
    if words[:1] == ["run"]:
        return None if words[1:] in ([], ["--config", "FILE"]) else "unknown option of run"
    if words[:1] == ["kiosk-browser"]:
        known: tuple[list[str], ...] = ([], ["--url", "URL", "--", "COMMAND"])
        return None if words[1:] in known else "unknown option of kiosk-browser"
    command = root
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if word not in command.commands:
            return f"no such command: {word}"
        command = command.commands[word]
    flags = {option: one for one in command.params for option in (*one.opts, *one.secondary_opts)}
    flags |= {"--help": None}
    positional = sum(one.param_type_name == "argument" and one.nargs == 1 for one in command.params)
    many = any(one.param_type_name == "argument" and one.nargs != 1 for one in command.params)
    given = 0
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            if word not in flags:
                return f"no such option: {word}"
            if flags[word] is not None and not flags[word].is_flag:
                if not words:
                    return f"{word} needs a value"
                words.pop(0)
        else:
            given += 1
    return "too many arguments" if given > positional and not many else None


ROOT_COMMAND: Any = typer.main.get_command(app)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_and_option_exists(page: Path) -> None:
    lines = list(command_lines(page.read_text(encoding="utf-8")))
    assert len(lines) >= 2
    wrong = {line: fault for line in lines if (fault := judge(line, ROOT_COMMAND)) is not None}
    assert wrong == {}


def test_an_unknown_command_or_option_is_found() -> None:
    for line in ("edge-agent opne A01", "edge-agent open A01 --why x", "edge-agent status now"):
        assert judge(line, ROOT_COMMAND)
    assert judge("edge-agent reload --socket", ROOT_COMMAND)
    assert judge("edge-agent bus doors A01 A02 --seconds 3", ROOT_COMMAND) is None
    assert list(command_lines("`edge-agent bus\n   scan` and\n$ edge-agent status\n")) == [
        "edge-agent bus scan",
        "edge-agent status",
    ]


def test_every_command_is_in_the_manual() -> None:
    shown = {tuple(shlex.split(line)[1:3]) for line in command_lines(TEXT)}
    for name, command in ROOT_COMMAND.commands.items():
        for child in getattr(command, "commands", {}):
            if name != "schema":
                assert (name, child) in shown, f"{name} {child}"
        assert any(words[0] == name for words in shown), name


@pytest.mark.parametrize("alarm", Alarm)
def test_every_alarm_has_its_section(alarm: Alarm) -> None:
    (section,) = re.findall(rf"^### {alarm}\n(.*?)(?=\n##)", TEXT, re.DOTALL | re.MULTILINE)
    for part in ("**Cause.**", "**The", "**Do:**", "**Ends**"):
        assert part in section.replace("\n", " ")


def test_no_section_is_about_an_unknown_alarm() -> None:
    assert set(re.findall(r"^### ([A-Z_]+)$", TEXT, re.MULTILINE)) == set(Alarm)


def test_every_file_and_place_exists() -> None:
    installation = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:systemd|config|docs)/[\w./-]+)`", TEXT):
        assert (ROOT / name).exists(), name
    for place in re.findall(r"[\s`'\"](/(?:etc|var|run|usr|dev|operations|metrics)\b[\w./-]*)", TEXT):
        known = place.rstrip("/") in installation or any(place.startswith(one) for one in SYSTEM)
        inside = re.match(
            r"/var/lib/edge-agent/(journal|move)\.sqlite$|/usr/lib/edge-agent/bin/python$", place
        )
        assert known or inside, place


def test_the_table_of_contents_leads_everywhere() -> None:
    def anchor(title: str) -> str:
        return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")

    titles = [anchor(title) for title in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)]
    contents = TEXT.split("\n## ")[0]
    assert re.findall(r"\(#([\w-]+)\)", contents) == titles
    assert set(re.findall(r"\(#([\w-]+)\)", TEXT)) <= set(titles)


def test_every_profile_has_its_way_of_setting_an_address() -> None:
    section = TEXT.split("## Addresses")[1].split("\n## ")[0]
    for profile in (ROOT / "config" / "devices").glob("*.toml"):
        assert f"`{profile.stem}`" in section


def test_every_figure_that_is_named_is_served() -> None:
    source = Path(metrics.__file__).read_text(encoding="utf-8")
    for name in re.findall(r"`edge_agent_(\w+)`", TEXT):
        parts = name.removesuffix("_total").split("_", 1)
        assert name in source or parts[1] in source, name


def test_it_is_linked() -> None:
    for page in ("README.md", "docs/installation.md"):
        assert "operations.md" in (ROOT / page).read_text(encoding="utf-8")


def test_integrators_find_every_reason_of_a_refusal() -> None:
    """`details` of an error name a reason; docs/integrate.md says what each means."""
    core = (ROOT / "edge_agent" / "statemachine").rglob("*.py")
    sources = "".join(path.read_text(encoding="utf-8") for path in core)
    reasons = {
        *re.findall(r'ErrorInfo\("([A-Z_]+)"', sources),
        *re.findall(r'"(DOOR_NOT_[A-Z]+)"', sources),
    }
    page = (ROOT / "docs" / "integrate.md").read_text(encoding="utf-8")
    assert len(reasons) >= 10
    assert {reason for reason in reasons if reason not in page} == set()
