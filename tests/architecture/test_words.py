"""Plain technical English: phrases that newcomers stumbled over do not come back (docs/glossary.md)."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BETTER = {
    r"\bso (long|many|much)\b": "the number, or 'for this time', 'at most'",
    r"\b([Ww]hoever|[Ww]hosoever)\b": "the role: technician, caller, client",
    r"\blooks whether\b": "checks whether",
    r"\bthought of again\b": "judged again",
    r"\bcomes again\b": "returns, restarts, repeats",
    r"\bin the place of\b": "instead of",
    r"(?<!, )(?<!for )\bfor ever\b": "permanently",
    r"\b[Cc]ode ([3-9]|1[0-6])\b": "the name of the code, edge_agent/errors.py",
    r"\b[45] or 14\b": "EXPIRED or OFFLINE",
    r"\b[Tt]old\b": "published, answered, reported, logged or shown",
    r"\b[Tt]ells?\b": "publishes, answers, reports, logs, shows or distinguishes",
    r"\b[Ww]ish(es|ed)?\b": "command, request or unlock attempt",
    r"\b(hears|speaks)\b": "receives, sends, uses a protocol",
    r"\b(say|says|said) so\b": "reports it, logs it, answers it",
    r"\bthe desk\b": "the operations page",
    r"\ba word of\b": "a message of",
    r"\bin the hand\b": "that the test controls",
    r"\b(is|are|was) no good\b": "is invalid",
}
"""What must not stand there, and the better word."""
ALLOWED = {
    ("docs/glossary.md", "for ever"),  # explains what a cell_id is
    ("docs/glossary.md", "|"),  # names the words to avoid
    ("docs/operations.md", "exit code"),
    ("docs/decisions/0021-reload.md", "exit code"),
    ("tools/fault_matrix/phases.py", "wished"),  # a phase's name, in the results of earlier runs
    ("tools/fault_matrix/planted.py", "wished"),
    ("edge_agent/statemachine/transitions.py", "no clock can tell"),
    ("edge_agent/cloud/signature_check.py", "no clock can tell"),
    ("edge_agent/journal/records.py", '"told"'),  # a field's name in the journal
}
"""A file, and words of the line that may stand there."""
GENERATED = {"behaviour.md", "mutants.md", "faults.md", "devices.md", "state-machine.md"}
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.name not in GENERATED),
    *sorted((ROOT / "config").rglob("*.toml")),
]
CODE = sorted(
    path for folder in ("edge_agent", "cloud_gateway", "tools") for path in (ROOT / folder).rglob("*.py")
)
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if path.parent.name != "architecture")


Reader = Callable[[Path], Iterator[tuple[int, str]]]


def read_by_people(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a page; of code the comments and every string: docstrings, messages, logs, help."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, line


def names_and_prose(path: Path) -> Iterator[tuple[int, str]]:
    """Of a test file: comments, docstrings, and the names of functions and classes, as words."""
    text = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name.replace("_", " ")
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            for offset, line in enumerate(str(node.value.value).splitlines()):
                yield node.lineno + offset, line


def stumbles(path: Path, read: Reader = read_by_people) -> list[str]:
    """What is wrong in a file, with the better word."""
    place = str(path.relative_to(ROOT))
    return [
        f"{place}:{number}: {found.group()!r}: better {better}"
        for number, line in read(path)
        if not any(place == file and words in line for file, words in ALLOWED)
        for phrase, better in BETTER.items()
        if (found := re.search(phrase, line))
    ]


@pytest.mark.parametrize("files", [PAGES, CODE], ids=["pages", "code"])
def test_no_phrase_that_newcomers_stumbled_over(files: list[Path]) -> None:
    assert [stumble for path in files for stumble in stumbles(path)] == []


def test_no_such_phrase_in_names_docstrings_and_comments_of_tests() -> None:
    assert [stumble for path in TESTS for stumble in stumbles(path, names_and_prose)] == []


def test_the_check_finds_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.architecture.test_words.ROOT", tmp_path)
    page, code = tmp_path / "page.md", tmp_path / "code.py"
    page.write_text("It waits so long.\nThe caller is told 4 or 14 (code 9).\n")
    code.write_text('"""Whoever asks first."""\nso_long = 1  # so many\nx = f"so {so_long} much"\n')
    assert len(stumbles(page)) == 4
    assert len(stumbles(code)) == 2
    test = tmp_path / "test_it.py"
    test.write_text(
        'def test_a_wish_is_told() -> None:\n    """It hears it."""\n    said = "told"  # so many\n'
    )
    assert len(stumbles(test, names_and_prose)) == 4
