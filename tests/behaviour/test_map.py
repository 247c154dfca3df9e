"""The map from sentences to tests is whole and not stale."""

from __future__ import annotations

from itertools import groupby

import pytest

from tools.pages.behaviour.page import PAGE, page
from tools.pages.behaviour.sources import Sentence, Shown, sentences, shown, shown_in

TEST = """
import pytest

@pytest.mark.behaviour({marks})
def {name}() -> None: ...
"""


def test_the_page_is_not_stale() -> None:
    again = "run again: python -m tools.pages.behaviour"
    assert PAGE.read_text(encoding="utf-8") == page(sentences(), shown()), again


def test_every_marker_names_a_sentence() -> None:
    known = {sentence.id for sentence in sentences()}
    assert not [(test.place, word) for test in shown() for word in test.ids if word not in known]


def test_every_sentence_is_shown_or_declared_as_not_built() -> None:
    named = {word for test in shown() if not test.fails for word in test.ids}
    assert not [s.id for s in sentences() if s.later is None and s.id not in named], "no test"
    assert not [s.id for s in sentences() if s.later is not None and s.id in named], "built after all"
    assert all(s.later is None or s.later.strip() for s in sentences())


def test_ids_are_unique_and_each_section_has_its_own() -> None:
    found = sentences()
    assert len({s.id for s in found}) == len(found)
    sections = [section for section, _ in groupby(found, key=lambda s: s.section)]
    prefixes = [prefix for prefix, _ in groupby(found, key=lambda s: s.id.rpartition("-")[0])]
    assert len(set(sections)) == len(sections) == len(set(prefixes)) == len(prefixes)


def test_a_marker_is_read_from_the_syntax_tree() -> None:
    text = TEST.format(marks='"a-01", "a-02"', name="test_it")
    assert shown_in("tests/test_x.py", text) == [Shown("tests/test_x.py", "test_it", ("a-01", "a-02"), False)]
    failing = text.replace("def ", '@pytest.mark.xfail(strict=True, reason="x")\ndef ')
    assert [test.fails for test in shown_in("tests/test_x.py", failing)] == [True]
    assert shown_in("tests/test_x.py", "def test_it() -> None: ...") == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("tests/test_x.py", TEST.format(marks="", name="test_it")),
        ("tests/test_x.py", TEST.format(marks="WORD", name="test_it")),
        ("tests/test_x.py", TEST.format(marks='"a-01"', name="helper")),
        ("tests/support/x.py", TEST.format(marks='"a-01"', name="test_it")),
        ("tests/test_x.py", 'pytestmark = pytest.mark.behaviour("a-01")'),
    ],
)
def test_a_marker_that_shows_nothing_is_an_error(path: str, text: str) -> None:
    with pytest.raises(ValueError, match=path):
        shown_in(path, text)


def test_the_page_lists_what_is_shown_what_fails_and_what_is_not_built() -> None:
    made = page(
        [Sentence("a-01", "A", "x | y"), Sentence("a-02", "A", "z"), Sentence("b-01", "B", "w", "no time")],
        [
            Shown("tests/test_x.py", "test_it", ("a-01",), False),
            Shown("tests/test_x.py", "test_other", ("a-01", "a-02"), True),
        ],
    )
    assert "3 sentences: 2 have tests, 1 are not built yet.\nOf those with tests, 2 have one" in made
    both = "`tests/test_x.py::test_it`<br>`tests/test_x.py::test_other` (fails today)"
    assert f"## A\n\n| id | sentence | shown by |\n| --- | --- | --- |\n| a-01 | x \\| y | {both} |" in made
    assert "| b-01 | w | not built yet: no time |" in made
