"""Plain technical English: phrases that newcomers stumbled over do not come back (docs/glossary.md)."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BETTER = {
    r"\bso (long|many|much)\b": "the number, or 'for this time', 'at most'",
    r"\b([Ww]hoever|[Ww]hosoever)\b": "the role: technician, caller, client",
    r"\blooks whether\b": "checks whether",
    r"\bthought of again\b": "judged again",
    r"\bwhat was told\b": "what was published, answered, reported or logged",
    r"\b(is|was|are|were|be) told\b": "is answered, informed, logged, reported or published",
    r"\bcomes again\b": "returns, restarts, repeats",
    r"\bin the place of\b": "instead of",
    r"\bsays? so\b": "reports it, logs it, answers it",
    r"(?<!, )(?<!for )\bfor ever\b": "permanently",
    r"\b[Cc]ode ([3-9]|1[0-6])\b": "the name of the code, edge_agent/errors.py",
    r"\b[45] or 14\b": "EXPIRED or OFFLINE",
}
"""What must not stand there, and the better word."""
ALLOWED = {
    ("docs/glossary.md", "for ever"),  # explains what a cell_id is
    ("docs/operations.md", "exit code"),
    ("docs/decisions/0021-reload.md", "exit code"),
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


def stumbles(path: Path) -> list[str]:
    """What is wrong in a file, with the better word."""
    place = str(path.relative_to(ROOT))
    return [
        f"{place}:{number}: {found.group()!r}: better {better}"
        for number, line in read_by_people(path)
        if not any(place == file and words in line for file, words in ALLOWED)
        for phrase, better in BETTER.items()
        if (found := re.search(phrase, line))
    ]


@pytest.mark.parametrize("files", [PAGES, CODE], ids=["pages", "code"])
def test_no_phrase_that_newcomers_stumbled_over(files: list[Path]) -> None:
    assert [stumble for path in files for stumble in stumbles(path)] == []


def test_the_check_finds_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.architecture.test_words.ROOT", tmp_path)
    page, code = tmp_path / "page.md", tmp_path / "code.py"
    page.write_text("It waits so long.\nThe caller is told 4 or 14 (code 9).\n")
    code.write_text('"""Whoever asks first."""\nso_long = 1  # so many\nx = f"so {so_long} much"\n')
    assert len(stumbles(page)) == 4
    assert len(stumbles(code)) == 2
