"""`run` and `kiosk-browser`: their help and their usage errors are in the language of the locale."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edge_agent.__main__ import NO_PIPE, Parser, kiosk_parser, run_parser
from edge_agent.cli.text.language import in_language
from edge_agent.cli.text.plain_parser import error_of, help_of, texts_of

PARSERS = {"run": run_parser, "kiosk-browser": kiosk_parser}
WRONG = {
    "run": "the following arguments are required",
    "run --config": "expected one argument",
    "run --config f --confg x": "unrecognized arguments",
    "run --config f --rewired=x": "ignored explicit argument",
    "kiosk-browser": "the following arguments are required",
    "kiosk-browser --url u -- chromium": "by which its page is checked",
}


@pytest.mark.parametrize("language", ["de", "id"])
@pytest.mark.parametrize("name", PARSERS)
def test_the_help_is_translated(name: str, language: str) -> None:
    english = [text for text in texts_of(PARSERS[name]()) if text]
    assert len(english) >= 4
    with in_language(language):
        shown = " ".join(help_of(PARSERS[name]()).split())
    assert f"edge-agent {name} [-h]" in shown
    for text in english:
        assert text not in shown


@pytest.mark.parametrize("name", PARSERS)
def test_the_english_help_shows_every_text(name: str) -> None:
    with in_language("en"):
        shown = " ".join(help_of(PARSERS[name]()).split())
    assert shown.startswith(f"Usage: edge-agent {name} [-h]")
    for text in texts_of(PARSERS[name]()):
        assert text in shown


def edge_agent(words: str, locale: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_agent", *words.split()]
    environment = {"LC_ALL": locale, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )


@pytest.mark.parametrize("words", WRONG)
def test_a_usage_error_ends_with_2_and_is_translated(words: str) -> None:
    english, german = edge_agent(words, "C"), edge_agent(words, "de_DE.UTF-8")
    assert (english.returncode, german.returncode) == (2, 2)
    assert WRONG[words] in " ".join(english.stderr.split())
    assert english.stderr.startswith("Usage: ")
    assert WRONG[words] not in " ".join(german.stderr.split())
    assert german.stderr.startswith("Aufruf: ")
    assert "Fehler: " in german.stderr


def test_an_error_that_nobody_translated_is_shown_as_it_is() -> None:
    parser: Parser = run_parser()
    with in_language("de"):
        assert error_of(parser, "a new error").endswith("Fehler: a new error\n")
        assert NO_PIPE not in error_of(parser, NO_PIPE)


def test_a_service_imports_no_language() -> None:
    code = (
        "import sys; from edge_agent.__main__ import run_parser; "
        "run_parser().parse_args(['--config', 'f']); "
        "sys.exit(any(name.startswith('edge_agent.cli') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
