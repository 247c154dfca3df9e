"""The page about the mutants: what mutmut left behind, read and shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tools.mutants import __main__ as program
from tools.mutants.page import UNWRITTEN, Reason, idle, rate, read_reasons, render, why
from tools.mutants.results import MUTATED, Mutant, forget_survivors, read_mutants

GENERATED = '''
def x_fits__mutmut_orig(width_mm: int) -> bool:
    """Whether it fits."""
    return width_mm <= 3
def x_fits__mutmut_1(width_mm: int) -> bool:
    """Whether it fits."""
    return width_mm < 3
def x_fits__mutmut_2(width_mm: int) -> bool:
    """Whether it fits."""
    return width_mm <= 4
class StepBuilder:
    def xǁStepBuilderǁput__mutmut_orig(self) -> None:
        self.a = 1
        self.b = [2]
    def xǁStepBuilderǁput__mutmut_1(self) -> None:
        self.a = 1
        self.b = [None]
'''
VERDICTS = {"m.x_fits__mutmut_1": 0, "m.x_fits__mutmut_2": 1, "m.xǁStepBuilderǁput__mutmut_1": -24}
SURVIVED = Mutant("m", "fits", "survived", "return width_mm <= 3", "return width_mm < 3")
KILLED = Mutant("m", "fits", "killed", "return width_mm <= 3", "return width_mm <= 4")
ENDLESS = Mutant("m", "StepBuilder.put", "timeout", "self.b = [2]", "self.b = [None]")


def left_behind(folder: Path, verdicts: Mapping[str, int | None]) -> Path:
    """A folder as mutmut leaves it."""
    files = folder / "mutants" / "edge_agent" / "statemachine"
    files.mkdir(parents=True)
    (files / "m.py").write_text(GENERATED, encoding="utf-8")
    (files / "m.py.meta").write_text(json.dumps({"exit_code_by_key": verdicts}), encoding="utf-8")
    return folder / "mutants"


def test_what_mutmut_left_is_read_with_its_differences(tmp_path: Path) -> None:
    assert list(read_mutants(left_behind(tmp_path, VERDICTS))) == [SURVIVED, KILLED, ENDLESS]


@pytest.mark.parametrize(
    ("code", "verdict"), [(None, "not checked"), (33, "no tests"), (-9, "went wrong (-9)"), (3, "killed")]
)
def test_other_verdicts(tmp_path: Path, code: int | None, verdict: str) -> None:
    (mutant,) = read_mutants(left_behind(tmp_path, {"m.x_fits__mutmut_1": code}))
    assert mutant.verdict == verdict
    assert mutant.noticed is (code == 3)


def test_surviving_mutants_are_cleared_for_another_run(tmp_path: Path) -> None:
    folder = left_behind(tmp_path, {})
    meta = folder / MUTATED / "m.py.meta"
    codes = {"killed": 1, "late": 36, "survived": 0, "no tests": 33, "broken": -9}
    meta.write_text(json.dumps({"exit_code_by_key": codes, "hash": "h"}), encoding="utf-8")
    forget_survivors(folder)
    kept = {"killed": 1, "late": 36, "survived": None, "no tests": None, "broken": None}
    assert json.loads(meta.read_text(encoding="utf-8")) == {"exit_code_by_key": kept, "hash": "h"}


def test_the_first_reason_that_fits_counts() -> None:
    first = Reason("m.*", "limits", becomes="*<*")
    second = Reason("*", "lists", was="self.b = [2]")
    reasons = [first, second, Reason("m.fits", "never reached")]
    assert [why(one, reasons) for one in (SURVIVED, ENDLESS)] == ["limits", "lists"]
    assert why(SURVIVED, [second]) == UNWRITTEN
    assert idle([SURVIVED, KILLED, ENDLESS], [first, second]) == [second]


def test_reasons_are_read_and_a_misspelt_key_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[[reason]]\nplace = "a.b"\nwhy = "w"\nbecomes = "*x"\n', encoding="utf-8")
    assert read_reasons(path) == [Reason("a.b", "w", becomes="*x")]
    path.write_text('[[reason]]\nplace = "a.b"\nwy = "w"\n', encoding="utf-8")
    with pytest.raises(TypeError):
        read_reasons(path)


def test_the_page() -> None:
    page = render([SURVIVED, KILLED, ENDLESS, KILLED], [Reason("m.fits", "no such width")])
    assert "**3 of 4 noticed: 75.0 %** (2 by a failing test, 1 by running without end)." in page
    assert "| m | 4 | 3 | 75.0 |" in page
    missed = page.split("## Not noticed\n\n")[1]
    assert missed == (
        "### m.fits\n\n```diff\n- return width_mm <= 3\n+ return width_mm < 3\n```\nno such width\n"
    )
    assert rate([KILLED, ENDLESS]) == 100.0
    assert render([KILLED], []).endswith("## Not noticed\n\nNone.\n")


@pytest.mark.parametrize(
    ("verdicts", "code", "said"),
    [
        ({"m.x_fits__mutmut_1": 1, "m.x_fits__mutmut_2": 1}, 0, "2 of 2 mutants noticed: 100.0 %"),
        ({"m.x_fits__mutmut_1": 0, "m.x_fits__mutmut_2": 1}, 1, "1 of them without a reason"),
        ({"m.x_fits__mutmut_1": None}, 1, "the run is not complete: not checked"),
        ({}, 1, "the run is not complete: no mutants"),
    ],
)
def test_the_program(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verdicts: dict[str, int | None],
    code: int,
    said: str,
) -> None:
    left_behind(tmp_path, verdicts)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "mutants.reasons.toml").write_text('[[reason]]\nplace = "gone"\nwhy = ""\n')
    monkeypatch.chdir(tmp_path)
    assert program.main(["--only-page"]) == code
    printed = capsys.readouterr()
    assert said in printed.out + printed.err
    assert ("no longer needed" in printed.out) == ("complete" not in said)


def test_without_results_there_is_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert program.main(["--only-page"]) == 1
