"""Help, usage errors and findings about a configuration are plain, and in the language of the locale."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from edge_agent.cli.commands import app
from edge_agent.cli.text.help_texts import PANELS, USAGE_ERRORS, help_texts, plain
from edge_agent.cli.text.language import _, from_daemon, in_language
from edge_agent.config import Settings
from edge_agent.drivers.profiles import Profile
from tests.test_validation_findings import CONFIG, LIBRARY, WRONG, places, said, with_value

ENGLISH = re.compile(r"\b(must|should|needs?|is|are|the|not|unknown|missing|has|have|only|Missing|such)\b")
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`")
LANGUAGES = ("de", "id")


def run(monkeypatch: pytest.MonkeyPatch, language: str, *words: str) -> str:
    monkeypatch.setenv("LC_ALL", {"de": "de_DE.UTF-8", "id": "id_ID.UTF-8", "en": "C"}[language])
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(app, list(words))
    return " ".join((done.stdout + done.stderr).split())


def commands() -> list[list[str]]:
    found: list[list[str]] = [[]]
    for name, one in get_command(app).commands.items():  # type: ignore[attr-defined]
        found.append([name])
        found += [[name, below] for below in getattr(one, "commands", {})]
    return found


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_is_in_the_language_of_the_locale(
    monkeypatch: pytest.MonkeyPatch, words: list[str], language: str
) -> None:
    shown = run(monkeypatch, language, *words, "--help")
    with in_language(language):
        assert _("Usage: ").strip() in shown
        assert _("Options") in shown
        assert _("Show this message and exit.") in shown
    english = [text for text in set(help_texts(get_command(app))) if len(text) > 12 and text in shown]
    assert [text for text in english if not text.startswith(("/dev/", "tried:"))] == []


def test_help_is_english_again_after_another_language(monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "de", "status", "--help")
    shown = run(monkeypatch, "en", "status", "--help")
    assert "Show the machine at a glance." in shown
    assert "Usage: " in shown
    assert "[default: " in shown


WRONG_CALLS = {
    "events --limit x": "'--limit': must be a whole number",
    "events --limit 0": "'--limit': must be at least 1",
    "events --limit": "Option '--limit' requires an argument.",
    "bus scan --first 300": "'--first': must be at most 255",
    "bus monitor --seconds x": "'--seconds': must be a number",
    "nothing": "No such command 'nothing'.",
    "bus scann": "No such command 'scann'. Did you mean 'scan'?",
    "status --nix": "No such option: --nix",
    "open": "Missing argument 'CELL'.",
    "status extra": "Got unexpected extra argument(s) (extra)",
    "events --follow=x": "Option '--follow' does not take a value.",
    "logs --level foo": "'foo' is not one of 'debug'",
    "events --since then": "'then' is neither an age",
}


@pytest.mark.parametrize("words", WRONG_CALLS)
def test_usage_errors_are_plain_and_translated(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    english = run(monkeypatch, "en", *words.split())
    assert WRONG_CALLS[words] in english
    assert not LIBRARY.search(english)
    for language in LANGUAGES:
        other = run(monkeypatch, language, *words.split())
        assert WRONG_CALLS[words] not in other
        assert not ENGLISH.search(QUOTED.sub("", other)), other


def test_what_typer_calls_its_texts() -> None:
    """Its version is pinned; a new one may have others."""
    from typer import rich_utils

    assert all(isinstance(getattr(rich_utils, name), str) for name in PANELS)
    assert len(USAGE_ERRORS) == len(set(USAGE_ERRORS))
    assert plain("Value error, 'x' is odd") == "'x' is odd"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "path", [CONFIG / "locker.example.toml", CONFIG / "devices" / "r4dcb08.toml"], ids=lambda path: path.stem
)
def test_findings_are_translated(path: Path, language: str) -> None:
    """Each value of a file is replaced by wrong ones, as in the test of the sentences themselves."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    model = Settings if path.parent == CONFIG else Profile
    found: set[str] = set()
    for place in places(document):
        if len(place) > 1 and isinstance(place[1], int) and place[1] > 1:
            continue  # the cells are alike
        for value in WRONG:
            found |= set(said(model, with_value(document, place, value)))
    with in_language(language):
        shown = {line: from_daemon(line) for line in found}
    same = [line for line, other in shown.items() if other == line]
    assert same == []
    sentences = {QUOTED.sub("", other.partition(": ")[2]) for other in shown.values()}
    assert [sentence for sentence in sentences if ENGLISH.search(sentence)] == []


def test_check_prints_in_the_language_of_the_locale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (CONFIG / "tiny.toml").read_text(encoding="utf-8")
    file = tmp_path / "machine.toml"
    file.write_text(text.replace("address = 1", "address = 999", 1), encoding="utf-8")
    assert "devices.board.address: " in run(monkeypatch, "en", "check", "--config", str(file))
    shown = run(monkeypatch, "de", "check", "--config", str(file))
    assert "devices.board.address: muss " in shown


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_shows_no_name_of_a_type_and_no_value_beside_a_flag(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    shown = run(monkeypatch, "en", *words, "--help")
    assert not re.search(r"<\w+|\{\w+\}|list\[|<=|>=", shown)
    assert re.search(r"--help (-h )?Show this message", shown)


def test_help_says_what_may_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--limit N [1 to 1000] how many" in run(monkeypatch, "en", "events", "-h")
    assert "--limit N [1 bis 1000] " in run(monkeypatch, "de", "events", "-h")
    assert "--seconds N [at least 0.1]" in run(monkeypatch, "en", "bus", "doors", "-h")
    assert "Usage: root bus doors [OPTIONS] [CELL]..." in run(monkeypatch, "en", "bus", "doors", "-h")
    assert "[OPTIONEN] CELL" in run(monkeypatch, "de", "open", "-h")
    assert "--reason TEXT" in run(monkeypatch, "en", "open", "-h")
