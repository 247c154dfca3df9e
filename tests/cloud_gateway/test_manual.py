"""The gateway's page stays true: its keys, defaults, commands, figures, files and log lines exist."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import types
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from cloud_gateway import __main__ as command
from cloud_gateway.figures import Figures
from cloud_gateway.metrics import page
from cloud_gateway.settings import Settings
from cloud_gateway.users import Role

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
RULES = ROOT / "config" / "prometheus" / "edge-gateway.rules.yml"


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections of the file that a field's type has."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, list):
        for part in get_args(annotation):
            yield from sections_in(part)
    elif get_origin(annotation) is not None and get_args(annotation):
        yield from sections_in(get_args(annotation)[0])


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key path with its default, as the page writes it."""
    for name, field in model.model_fields.items():
        inner = list(sections_in(field.annotation))
        given = field.get_default(call_default_factory=False)
        if not isinstance(given, BaseModel) and not (prefix == "" and name == "mqtt"):
            yield f"{prefix}{name}", shown(given)
        for one in inner:
            yield from keys(one, f"{prefix}{name}.")


def shown(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        value = [str(one) if isinstance(one, IPv4Network | IPv6Network) else one for one in value]
    return f"`{json.dumps(value)}`"


def test_every_key_is_there_with_its_default() -> None:
    found = {row[0].strip("`"): row[1] for row in table(section("Configuration"))}
    assert found == dict(keys(Settings))


def command_lines() -> list[str]:
    """Every command line of ours on the page."""
    spans = re.findall(r"`(edge-gateway [^`]*)`", TEXT)
    return [*spans, *re.findall(r"^\$ (edge-gateway .*)$", TEXT, re.MULTILINE)]


@pytest.mark.parametrize("line", command_lines())
def test_every_command_is_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parsers of the commands take the arguments; the files that they name are elsewhere."""
    words = shlex.split(line.replace("/etc/edge-gateway", str(tmp_path)).replace("FILE", str(tmp_path / "f")))
    monkeypatch.setattr("sys.stdin", io.StringIO("a long enough password\n"))
    assert complaint(words[1:]) == ""


def complaint(words: list[str]) -> str:
    """What a command has against its arguments; empty if it takes them."""
    problems = io.StringIO()
    with contextlib.redirect_stderr(problems), contextlib.redirect_stdout(io.StringIO()):
        try:
            command.main(words)
        except SystemExit as ended:
            return "" if ended.code == 0 else problems.getvalue()
    return ""


def test_an_unknown_option_is_found(tmp_path: Path) -> None:
    assert "--file" in complaint(["api-keys", "list", "--fiel", str(tmp_path)])
    assert len(command_lines()) > 8


def test_every_role_is_explained() -> None:
    assert [row[0] for row in table(section("Operators")) if len(row) == 2][-3:] == [
        f"`{role}`" for role in Role
    ]


def figures() -> set[str]:
    """The name of every figure of ours, without the endings that Prometheus' text adds."""
    counted = {metric.name for metric in Figures().registry.collect()}
    asked = set(re.findall(r'_gauge\("(\w+)"', Path(page.__file__).read_text(encoding="utf-8")))
    return counted | {f"edge_gateway_{name}" for name in asked}


def test_every_figure_is_named_and_none_is_invented() -> None:
    named = {name.removesuffix("_total") for name in re.findall(r"`(edge_gateway_\w+)`", TEXT)}
    assert named == figures()


def test_every_alert_has_its_figure_and_what_to_do() -> None:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rows = {row[0]: row for row in alerts()}
    assert [rule["alert"] for rule in group["rules"]] == list(rows)
    for rule in group["rules"]:
        used = {name.removesuffix("_total") for name in re.findall(r"edge_gateway_\w+", rule["expr"])}
        assert used <= figures()
        named = {
            name.removesuffix("_total") for name in re.findall(r"edge_gateway_\w+", rows[rule["alert"]][1])
        }
        assert named == used


def alerts() -> Iterator[list[str]]:
    for line in section("Metrics and alerts").splitlines():
        if line.startswith("| Gateway"):
            yield [cell.strip() for cell in line.strip("| ").split(" | ")]


def test_every_file_and_log_line_exists() -> None:
    for name in re.findall(r"`((?:systemd|config|docs)/[\w./-]+)`", TEXT):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\]\(([\w./-]+\.md)\)", TEXT):
        assert (ROOT / "docs" / name).exists(), name
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "cloud_gateway").rglob("*.py"))
    lines = re.findall(r"`((?:broker|database|webhook|file)_\w+)`", TEXT)
    known = {key.rpartition(".")[2] for key, _ in keys(Settings)}
    assert len(set(lines) - known) >= 5
    for line in set(lines) - known:
        assert f'"{line}"' in code, line


def test_the_contents_lead_everywhere_and_the_page_is_linked() -> None:
    def anchor(title: str) -> str:
        return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")

    titles = [anchor(title) for title in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)]
    assert re.findall(r"\(#([\w-]+)\)", TEXT.split("\n## ")[0]) == titles
    assert set(re.findall(r"\(#([\w-]+)\)", TEXT)) <= set(titles)
    for page_name in ("docs/README.md", "docs/guide.md", "docs/installation.md"):
        assert "gateway.md" in (ROOT / page_name).read_text(encoding="utf-8"), page_name
