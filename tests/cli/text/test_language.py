"""Three languages: every marked text is translated, the locale chooses, and nothing for scripts changes."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_agent.cli.commands import app
from edge_agent.cli.explain.command import known
from edge_agent.cli.text.display import FLAGS, STATUSES, flag_word, status_word
from edge_agent.cli.text.language import (
    LANGUAGES,
    _,
    chosen,
    from_daemon,
    in_english,
    in_language,
    plural,
    source_of,
)
from edge_agent.cli.text.po import as_mo, read_po
from tools.bench.settings import REPOSITORY
from tools.messages.extract import COMMANDS, Message, messages
from tools.messages.files import entries_of, faults, forms_of, path_of, updated

TRANSLATED = [language for language in LANGUAGES if language != "en"]
NOT_TRANSLATED = {
    "temperature_log.py": "its CSV and its plot are documents for the platform",
    "init/text.py": "comments of the configuration file, which is English",
}
"""Modules with words for people that stay English in part, and why."""


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated_with_its_placeholders_and_none_is_stale(language: str) -> None:
    source = source_of(language)
    assert faults(language, messages(), entries_of(source), forms_of(source)) == []
    assert "fuzzy" not in source
    assert path_of(language).read_text(encoding="utf-8") == updated(source), "run: python -m tools.messages"


def test_the_check_of_the_messages_finds_what_is_wrong() -> None:
    source = (
        'msgid ""\nmsgstr ""\n"Plural-Forms: nplurals=2;\\n"\n\n'
        'msgid "gone"\nmsgstr "weg"\n\n'
        'msgid "cell {cell} is open"\nmsgstr "Fach {fach} ist offen"\n\n'
        'msgid "see `check`"\nmsgstr "siehe `pruefe`"\n\n'
        'msgid "{number} cell"\nmsgid_plural "{number} cells"\nmsgstr[0] "{number} Fach"\n\n'
        'msgid " or "\nmsgstr "oder"\n'
    )
    texts = ("cell {cell} is open", "see `check`", " or ", "new")
    wanted = [Message(text) for text in texts] + [Message("{number} cell", "{number} cells")]
    assert faults("de", wanted, entries_of(source), forms_of(source)) == [
        "de: stale: 'gone'",
        "de: other placeholders: 'cell {cell} is open'",
        "de: other commands or keys: 'see `check`'",
        "de: other blanks at the ends: ' or '",
        "de: not translated: 'new'",
        "de: number of plural forms: '{number} cell'",
    ]


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "de_AT.iso885915@euro"}, "de"),
        ({"LANG": "id_ID"}, "id"),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "id_ID.UTF-8"}, "id"),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "id_ID.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_ALL": "C.UTF-8", "LANGUAGE": "de"}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "fr_FR.UTF-8", "LANGUAGE": "nl:id:de"}, "id"),
        ({"LANG": "de_DE.UTF-8", "LANGUAGE": "en"}, "en"),
        ({"LC_ALL": "", "LANG": "id_ID.UTF-8"}, "id"),
    ],
)
def test_the_locale_chooses_the_language(environment: dict[str, str], language: str) -> None:
    assert chosen(environment) == language


def test_numbers_follow_the_rules_of_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    for locale, shown in (("de_DE", ["1 Fach", "2 Fächer"]), ("id_ID", ["1 bilik", "2 bilik"])):
        monkeypatch.setenv("LC_ALL", locale)
        assert [plural("{number} cell", "{number} cells", number) for number in (1, 2)] == shown
    with in_english():
        assert plural("{number} cell", "{number} cells", 2) == "2 cells"
        assert _("cell {cell} is open", cell="{A}") == "cell {A} is open"


@pytest.mark.parametrize(
    ("text", "german"),
    [
        ("no such cell: Z9", "kein solches Fach: Z9"),
        ("cell A01: it is blocked already", "Fach A01: es ist schon gesperrt"),
        ("12 answers, 3 lost", "12 Antworten, 3 verloren"),
        (
            "does not answer; the doors of A01, A02 cannot be read",
            "antwortet nicht; die Türen von A01, A02 sind nicht lesbar",
        ),
        (
            "every reply comes 30 ms late, whichever device is asked",
            "jede Antwort kommt 30 ms zu spät, welches Gerät auch gefragt wird",
        ),
        (
            "the broker refuses us: Not authorized; look at the log of the broker",
            "der Broker lehnt uns ab: Not authorized; sehen Sie in das Protokoll des Brokers",
        ),
        ("DOOR_FORCED: opened without a pulse", "DOOR_FORCED: ging ohne Impuls auf"),
        (
            (
                "7 invalid entries of digits within 5 min opened nothing; resting for 60 s;"
                " a full right QR text still opens"
            ),
            (
                "7 ungültige Eingaben (digits) in 5 min öffneten nichts; Pause von 60 s;"
                " ein vollständiger richtiger QR-Text öffnet weiterhin"
            ),
        ),
        ("cell A01 has no scale", "Fach A01 hat keine Waage"),
        ("cell A01 does what nobody knows", "cell A01 does what nobody knows"),
        ("what nobody has translated: {0}", "what nobody has translated: {0}"),
        ("", ""),
    ],
)
def test_a_text_of_the_daemon_is_recognised_with_what_stands_in_it(
    text: str, german: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert from_daemon(text) == text
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert from_daemon(text) == german


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_template_of_the_daemon_finds_its_own_text(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", f"{language}_XX.UTF-8")
    monkeypatch.delenv("LC_ALL")
    entries = entries_of(source_of(language))
    for message in (one for one in messages() if one.context == "daemon"):
        numbers = sorted({int(number) for number in re.findall(r"\{(\d+)\}", message.text)})
        values = [f"X{number}9" for number in numbers]
        wanted = entries[message.context, message.text].translations[0].format(*values)
        assert from_daemon(message.text.format(*values)) == wanted, message.text


@pytest.mark.parametrize("name", sorted(known()))
def test_explanations_for_scripts_are_english_in_any_locale(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    english = CliRunner().invoke(app, ["explain", name, "--json"]).stdout
    shown = CliRunner().invoke(app, ["explain", name]).stdout
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert CliRunner().invoke(app, ["explain", name, "--json"]).stdout == english
    assert json.loads(english)["name"] == name
    german = CliRunner().invoke(app, ["explain", name]).stdout
    assert german != shown
    assert name in german
    assert "](#" not in german


SHOWS = {"print", "Table", "Column", "Label", "BadParameter", "echo", "_say", "_stop", "add_column", "Exit"}
WORD = re.compile(r"[A-Za-z]{3,}")
MARKUP = re.compile(r"\[/?[a-z ]*\]")
STYLES = {"style", "highlight", "markup", "metavar", "param_hint", "overflow", "justify", "classes", "id"}


def shown_in_english(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Literal texts that are given to a function that shows them, without being marked."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name not in SHOWS:
            continue
        for argument in node.args[:1] if name.startswith("_") else node.args:
            for part in [argument, *getattr(argument, "values", [])]:
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    text = MARKUP.sub("", part.value)
                    if WORD.search(text) and not re.fullmatch(r"p\d\d ms|max ms| g\)?|edge-agent ", text):
                        yield node.lineno, text


def test_no_command_shows_a_text_that_is_not_marked() -> None:
    found = [
        f"{path.relative_to(COMMANDS)}:{line}: {text}"
        for path in sorted(COMMANDS.rglob("*.py"))
        if str(path.relative_to(COMMANDS)) not in NOT_TRANSLATED
        for line, text in shown_in_english(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []
    assert all((COMMANDS / name).exists() for name in NOT_TRANSLATED)


def test_a_text_that_is_not_marked_is_found() -> None:
    source = 'console.print("not marked")\nTable(_("marked"))\nconsole.print(f"cell {x}")\nprint("[red]")'
    assert [text for _line, text in shown_in_english(ast.parse(source))] == ["not marked", "cell "]


def test_a_message_file_is_read_as_gettext_does() -> None:
    source = (
        '# head\nmsgid ""\nmsgstr ""\n"Language: xx\\n"\n\nmsgctxt "c"\nmsgid "a\\n"\n"b"\nmsgstr "c\\"d"\n'
    )
    head, entry = read_po(source)
    assert (head.text, entry.context, entry.text, entry.translations) == ("", "c", "a\nb", ['c"d'])
    assert as_mo([entry]).startswith(b"\xde\x12\x04\x95")
    with pytest.raises(ValueError, match="line 2"):
        read_po('msgid "a"\nnonsense\n')


def test_a_wheel_holds_the_message_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    without = shutil.ignore_patterns("__pycache__", "simulated")
    shutil.copytree(REPOSITORY / "edge_agent", project / "edge_agent", ignore=without)
    for file in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(REPOSITORY / file, project)
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["setup.py"])
    build_meta: Any = import_module("setuptools.build_meta")
    name = build_meta.build_wheel(str(tmp_path), {"--build-option": ["--quiet"]})
    with zipfile.ZipFile(tmp_path / name) as wheel:
        held: Any = wheel.namelist()
    assert {f"edge_agent/cli/messages/{language}.po" for language in TRANSLATED} <= set(held)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_stands_in_a_line_of_the_wall_fits_in_it(language: str) -> None:
    """A cell has 21 columns at 80 by 24, of which label and sign take six."""
    with in_language(language):
        words = [*map(status_word, STATUSES), *map(flag_word, FLAGS)]
    assert [word for word in words if len(word) > 15] == []


@pytest.mark.parametrize(
    ("language", "why"), [("en", "No such file or directory"), ("de", "keine solche Datei")]
)
def test_what_is_wrong_with_a_file_is_in_the_language_of_the_locale(
    language: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", f"{language}_DE.UTF-8")
    monkeypatch.setenv("COLUMNS", "300")
    nowhere = tmp_path / "none" / "file"
    for words in (
        ["check", "--config", str(nowhere)],
        ["technician", "maria", "--append", str(nowhere)],
    ):
        done = CliRunner().invoke(app, words, input="739154\n")
        assert f"{nowhere}: {why}" in done.stderr, words
