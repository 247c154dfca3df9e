"""docs/behaviour.md, made from the sentences and the tests that name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from tools.pages.behaviour.sources import REPOSITORY, Sentence, Shown

PAGE = REPOSITORY / "docs" / "behaviour.md"
HEAD = """# Behaviour, sentence by sentence

Made from `tests/behaviour/sentences.toml` and the tests' markers by `python -m tools.pages.behaviour`; a test
fails when this page is stale. A test names what it shows with `@pytest.mark.behaviour("opening-07")`."""


def page(sentences: Sequence[Sentence], shown: Iterable[Shown]) -> str:
    """The whole page."""
    tests: dict[str, list[Shown]] = {}
    for test in shown:
        for word in dict.fromkeys(test.ids):
            tests.setdefault(word, []).append(test)
    parts = [HEAD, _figures(sentences, tests)]
    for section, group in groupby(sentences, key=lambda sentence: sentence.section):
        parts += [f"## {section}", _table(list(group), tests)]
    return "\n\n".join(parts) + "\n"


def _figures(sentences: Sequence[Sentence], tests: dict[str, list[Shown]]) -> str:
    tested = sum(sentence.id in tests for sentence in sentences)
    later = sum(sentence.later is not None for sentence in sentences)
    wrong = sum(any(test.fails for test in tests.get(sentence.id, ())) for sentence in sentences)
    return (
        f"{len(sentences)} sentences: {tested} have tests, {later} are not built yet.\n"
        f"Of those with tests, {wrong} have one that fails today: there the product does not hold yet."
    )


def _table(sentences: Iterable[Sentence], tests: dict[str, list[Shown]]) -> str:
    lines = ["| id | sentence | shown by |", "| --- | --- | --- |"]
    for sentence in sentences:
        places = [
            f"`{test.place}`{' (fails today)' if test.fails else ''}" for test in tests.get(sentence.id, ())
        ]
        if sentence.later is not None:
            places.append(f"not built yet: {sentence.later}")
        text = sentence.text.replace("|", "\\|")
        lines.append(f"| {sentence.id} | {text} | {'<br>'.join(places)} |")
    return "\n".join(lines)


def _place(test: Shown) -> str:
    return f"`{test.place}`{' (fails today)' if test.fails else ''}"
