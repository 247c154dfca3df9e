"""The rules of the house that no other tool checks."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for folder in ("edge_agent", "cloud_gateway", "tools", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
LONGEST_FUNCTION, LONGEST_FILE = 60, 500
MOST_MODULES = 20
"""Modules in one folder, `__init__.py` apart."""


def trees(folder: str) -> list[tuple[Path, ast.Module]]:
    return [
        (path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8")))
        for path in SOURCES
        if path.is_relative_to(ROOT / folder)
    ]


def test_functions_and_files_are_short() -> None:
    long = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > LONGEST_FILE:
            long.append(f"{path}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{path}:{node.lineno} {node.name}: {lines} lines")
    assert not long


def test_no_folder_holds_more_than_twenty_modules() -> None:
    modules = Counter(str(path.parent.relative_to(ROOT)) for path in SOURCES if path.name != "__init__.py")
    assert not {folder: number for folder, number in modules.items() if number > MOST_MODULES}


def test_no_package_is_over_a_third_of_the_code() -> None:
    lines: Counter[str] = Counter()
    for path in SOURCES:
        place = path.relative_to(ROOT).parts
        if place[0] in ("edge_agent", "cloud_gateway"):
            lines["/".join(place[:2])] += path.read_text(encoding="utf-8").count("\n")
    assert not [package for package, number in lines.items() if number > lines.total() / 3]


def test_a_clock_is_read_in_one_place_only() -> None:
    """Nothing but `runtime/clock.py` may ask the system for the time."""
    found = [
        f"{path}: {ast.unparse(node)}"
        for path, tree in trees("edge_agent")
        if path != Path("edge_agent/runtime/clock.py")
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(a.name in ("time", "datetime") for a in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "time")
        or (isinstance(node, ast.Attribute) and node.attr in ("utcnow", "today"))
        or (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("datetime.now"))
    ]
    assert not found


@pytest.mark.parametrize(
    ("library", "files"),
    [
        ("pymodbus", {"edge_agent/drivers/modbus.py"}),
        ("paho", {"edge_agent/mqtt/library.py", "edge_agent/mqtt/packets.py"}),
        ("sqlite3", {"edge_agent/journal/database.py"}),
        ("secrets", {"edge_agent/runtime/ids.py"}),
        ("nacl", {"edge_agent/cloud/signature_check.py", "edge_agent/enrolment/machine_key.py"}),
    ],
)
def test_one_file_for_each_protocol_library(library: str, files: set[str]) -> None:
    found = {
        str(path)
        for path, tree in trees("edge_agent")
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(a.name.split(".")[0] == library for a in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == library)
    }
    assert found == files


def _slots(tree: ast.Module) -> Iterator[str]:
    """Attributes that wait to be filled from outside: a public callable that is nothing or a no-op at first,
    and those that are filled: `other.on_event = ...`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute) and node.value:
            empty = isinstance(node.value, ast.Lambda) or ast.unparse(node.value) == "None"
            public = not node.target.attr.startswith("_")
            if empty and public and ast.unparse(node.annotation).startswith("Callable"):
                yield f"{node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if not isinstance(target, ast.Attribute) or ast.unparse(target.value) == "self":
                    continue
                event = target.attr.startswith("on_") and not target.attr.endswith("_s")
                if event or isinstance(node.value, ast.Lambda):
                    yield f"{node.lineno}: {ast.unparse(node)}"


def test_nothing_is_wired_after_it_is_made() -> None:
    """What a part calls comes with its constructor, or with its `run` (docs/decisions/0038-wiring.md)."""
    found = [
        f"{path}:{slot}"
        for path, tree in [*trees("edge_agent"), *trees("cloud_gateway")]
        for slot in _slots(tree)
        if "app.openapi = " not in slot  # as FastAPI's documentation asks for
    ]
    assert not found


def test_every_public_name_has_a_docstring() -> None:
    mute = []
    for path, tree in [*trees("edge_agent"), *trees("cloud_gateway")]:
        if ast.get_docstring(tree) is None:
            mute.append(f"{path}")
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                members = node.body if isinstance(node, ast.ClassDef) else []
                for one in (node, *members):
                    if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                        public = not node.name.startswith("_") and not one.name.startswith("_")
                        if public and ast.get_docstring(one) is None:
                            mute.append(f"{path}:{one.lineno} {one.name}")
    assert not mute


def resolve(name: str) -> object:
    """What a dotted name of the documentation stands for. Raises if there is no such thing."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[count:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_names_and_files_in_the_documentation_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"`(edge_agent(?:\.\w+)+)`", text):
        resolve(name)
    for path in re.findall(
        r"`((?:edge_agent|cloud_gateway|tools|tests|config|docs|systemd)/[\w./-]*\w)`", text
    ):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`([\w/-]+\.py)`", text):  # also without their folder
        files = [*SOURCES, *(ROOT / "docs").rglob("*.py")]
        assert any(f"/{path}".endswith(f"/{name}") for path in files), name
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (document.parent / link).exists(), link


def test_the_walk_names_enough_to_be_followed() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walk = text.split("## Follow one pick-up")[1].split("\n## ")[0]
    assert len(re.findall(r"`edge_agent(?:\.\w+)+`", walk)) >= 20


@pytest.mark.parametrize(
    ("heading", "first", "last"),
    [
        ("### An MQTT command until the coil", "edge_agent/mqtt/library.py", "edge_agent/drivers/tty.py"),
        (
            "### A REST request until the webhook",
            "cloud_gateway/api/http_server.py",
            "cloud_gateway/webhook_signature.py",
        ),
    ],
)
def test_the_walks_by_file_names_go_from_end_to_end(heading: str, first: str, last: str) -> None:
    """Every file exists, and stands in a walk once."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walk = text.split(heading)[1].split("\n#")[0]
    files = re.findall(r"`([\w/]+\.py)`", walk)
    assert (files[0], files[-1]) == (first, last)
    assert [path for path in files if not (ROOT / path).is_file()] == []
    assert len(files) == len(set(files)) >= 20


def test_pins_are_exact_hashed_and_name_no_index() -> None:
    pins = {}
    for name in ("daemon", "device", "demo", "all"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        assert "://" not in text
        assert "--index" not in text
        lines = re.split(r"\n(?=\S)", text.strip())
        assert all("--hash=sha256:" in line for line in lines)
        pins[name] = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    assert pins["daemon"].items() <= pins["device"].items() <= pins["all"].items()
    assert pins["device"].items() <= pins["demo"].items() <= pins["all"].items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    for requirement in [*project["dependencies"], *extras]:
        name, version = requirement.split("==")
        assert pins["all"][name] == version


def test_the_daemon_imports_no_library_of_the_tools() -> None:
    extras = {
        "typer",
        "rich",
        "textual",
        "httpx",
        "yaml",
        "fastapi",
        "sqlalchemy",
        "segno",
        "tomli_w",
        "pytest",
    }
    extras |= {"hypothesis", "tools", "tests"}
    extras |= {"nacl", "cryptography"}  # PyNaCl only where commands are signed
    extras |= {"prometheus_client"}  # only when somebody asks for the numbers
    script = (
        "from edge_agent.__main__ import keep_rich_out; keep_rich_out(); import edge_agent.app, sys; "
        "print(*{m.split('.')[0] for m, there in sys.modules.items() if there is not None}); "
        "assert not [m for m in sys.modules if m.startswith('edge_agent.cli')]"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not extras & set(done.stdout.split())
