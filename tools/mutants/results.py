"""mutmut's results in its folder: every mutant with its verdict and its difference to the original."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

MUTATED = Path("edge_agent/statemachine")
TIMEOUTS = (-24, 24, 36, 152, 255)
VERDICTS: dict[int | None, str] = {
    None: "not checked",
    0: "survived",
    1: "killed",
    3: "killed",
    5: "no tests",
    33: "no tests",
    37: "killed",
    **dict.fromkeys(TIMEOUTS, "timeout"),
}
"""mutmut's exit codes; any other is a run that went wrong."""
NOTICED = ("killed", "timeout")


@dataclass(frozen=True)
class Mutant:
    """One small fault: its place, its verdict, and the changed lines."""

    module: str
    function: str
    verdict: str
    was: str
    becomes: str

    @property
    def noticed(self) -> bool:
        """Whether a test failed, or ran without end, because of it."""
        return self.verdict in NOTICED

    @property
    def place(self) -> str:
        """Module and function, as the page names them."""
        return f"{self.module}.{self.function}"


def read_mutants(folder: Path) -> Iterator[Mutant]:
    """Every mutant in mutmut's folder, by file and line."""
    for meta in sorted((folder / MUTATED).rglob("*.py.meta")):
        verdicts = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
        source = meta.with_suffix("").read_text(encoding="utf-8")
        bodies = _bodies(source)
        for key, exit_code in verdicts.items():
            mangled = key.rpartition(".")[2]
            original = mangled.partition("__mutmut_")[0]
            was, becomes = _difference(bodies[f"{original}__mutmut_orig"], bodies[mangled])
            verdict = VERDICTS.get(exit_code, f"went wrong ({exit_code})")
            yield Mutant(meta.name.removesuffix(".py.meta"), _plain(original), verdict, was, becomes)


def forget_survivors(folder: Path) -> None:
    """Makes mutmut's next run retry every mutant that no test has noticed."""
    for meta in (folder / MUTATED).rglob("*.py.meta"):
        content = json.loads(meta.read_text(encoding="utf-8"))
        codes = content["exit_code_by_key"]
        kept = {key: code if VERDICTS.get(code) in NOTICED else None for key, code in codes.items()}
        content["exit_code_by_key"] = kept
        meta.write_text(json.dumps(content, indent=4), encoding="utf-8")


def _plain(mangled: str) -> str:
    """`x_step` is `step`, and `xǁStepBuilderǁput` is `StepBuilder.put`."""
    return mangled[2:].replace("ǁ", ".")


def _bodies(source: str) -> dict[str, list[str]]:
    """The logical lines of every function in a generated file, each statement's head on one line."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name:
            name, node.name = node.name, "f"
            found[name] = ast.unparse(node).splitlines()
    return found


def _difference(original: list[str], mutated: list[str]) -> tuple[str, str]:
    """The lines that differ, before and after."""
    was: list[str] = []
    becomes: list[str] = []
    for kind, a, b, c, d in SequenceMatcher(None, original, mutated, autojunk=False).get_opcodes():
        if kind != "equal":
            was += [line.strip() for line in original[a:b]]
            becomes += [line.strip() for line in mutated[c:d]]
    return " ".join(was), " ".join(becomes)
