"""The page's sources: the list of sentences, and the markers in the tests' syntax trees."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
TESTS = REPOSITORY / "tests"
SENTENCES = TESTS / "behaviour" / "sentences.toml"
MARKER = "pytest.mark.behaviour"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the behaviour page, or a clause of one; `later`: why it is not built yet."""

    id: str
    section: str
    text: str
    later: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A test and the sentences that it names; `fails`: it is known to fail today."""

    path: str
    name: str
    ids: tuple[str, ...]
    fails: bool

    @property
    def place(self) -> str:
        """`path::name`, as pytest accepts it."""
        return f"{self.path}::{self.name}"


def sentences(path: Path = SENTENCES) -> list[Sentence]:
    """The sentences in the order of the page."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return [Sentence(**entry) for entry in document["sentence"]]


def shown(folder: Path = TESTS) -> list[Shown]:
    """Every test with a marker, by path and place in the file. Raises `ValueError` for a marker that is empty
    or where pytest does not see it."""
    found: list[Shown] = []
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder.parent).as_posix()
        found += shown_in(name, path.read_text(encoding="utf-8"))
    return found


def shown_in(path: str, text: str) -> list[Shown]:
    """The tests of one file that carry a marker, see `shown`."""
    found = []
    seen = 0
    tree = ast.parse(text)
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        ids = [word for decorator in node.decorator_list for word in _ids(decorator, f"{path}:{node.lineno}")]
        if not ids:
            continue
        seen += sum(_is(decorator, MARKER) for decorator in node.decorator_list)
        if not node.name.startswith("test_") or not Path(path).name.startswith("test_"):
            raise ValueError(f"{path}:{node.lineno}: {node.name} is no test")
        fails = any(_is(decorator, "pytest.mark.xfail") for decorator in node.decorator_list)
        found.append(Shown(path, node.name, tuple(ids), fails))
    if seen != sum(_is(node, MARKER) for node in ast.walk(tree) if isinstance(node, ast.Call)):
        raise ValueError(f"{path}: a behaviour marker that is not on a test function")
    return found


def _is(node: ast.expr, name: str) -> bool:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node) == name


def _ids(decorator: ast.expr, where: str) -> Iterator[str]:
    if not _is(decorator, MARKER):
        return
    if not isinstance(decorator, ast.Call) or not decorator.args or decorator.keywords:
        raise ValueError(f"{where}: a behaviour marker names sentences")
    for argument in decorator.args:
        if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
            raise ValueError(f"{where}: a behaviour marker names sentences by their ids")
        yield argument.value
