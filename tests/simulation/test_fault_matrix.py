"""The part of the fault matrix that is due today, a planted bug, and the judge's own rules."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tools.fault_matrix import __main__ as program
from tools.fault_matrix.actors import ACTORS
from tools.fault_matrix.faults import FAULTS
from tools.fault_matrix.page import explained
from tools.fault_matrix.pairs import EQUAL, draw, summary
from tools.fault_matrix.phases import PHASES
from tools.fault_matrix.planted import BUGS, hunt
from tools.fault_matrix.run import SEED, Part, chosen, digest, play_all
from tools.fault_matrix.triples import RED, Triple, all_triples, play

TODAY = datetime.now(UTC).timetuple().tm_yday
SHORT_PARTS, LONG_PARTS = 292, 20
"""The whole matrix has been played after this number of days by `make test`, or by `make test-long`."""


def _reds(triples: list[Triple], workers: int) -> dict[str, tuple[str, ...]]:
    results = play_all(triples, SEED, workers)
    return {r.triple.name: r.problems for r in results if r.verdict == RED and not explained(r)}


def test_the_part_of_today_has_only_explained_failures() -> None:
    assert not _reds(chosen(None, Part(TODAY % SHORT_PARTS + 1, SHORT_PARTS)), 1)


@pytest.mark.long
def test_a_twentieth_of_the_matrix_has_only_explained_failures() -> None:
    assert not _reds(chosen(None, Part(TODAY % LONG_PARTS + 1, LONG_PARTS)), 2)


def test_the_parts_are_the_whole() -> None:
    whole = list(all_triples())
    assert len(whole) == len(set(whole)) == len(FAULTS) * len(PHASES) * len(ACTORS)
    parts = [triple for number in range(1, 8) for triple in chosen(None, Part(number, 7))]
    assert sorted(map(repr, parts)) == sorted(map(repr, whole))


def test_two_runs_of_a_seed_are_equal() -> None:
    triple = Triple("frames lost", "pick-up wished", "code")
    first, second = (play(triple, 3) for _ in range(2))
    assert first.pulses > 2
    assert digest([first]) == digest([second])
    assert digest([first]) != digest([play(triple, 4)])


def test_every_planted_bug_replaces_something_that_exists() -> None:
    assert [bug.what for bug in BUGS if not hasattr(bug.where, bug.name)] == []


@pytest.mark.parametrize("number", [TODAY % len(BUGS), (TODAY + len(BUGS) // 2) % len(BUGS)])
def test_a_planted_bug_is_found(number: int) -> None:
    row = hunt(number)
    assert row["caught"], row["bug"]
    assert not row["problem"].startswith(("crash", "stuck"))


def test_pairs_are_drawn_from_the_seed_and_counted_by_demand() -> None:
    assert draw(50, 1) == draw(50, 1) != draw(50, 2)
    assert all(pair.first != pair.second for pair in draw(50, 1))
    row = play(Triple("gateway forgot", "free", "nobody"), SEED).as_row() | {"equal": ""}
    broken = row | {"problems": ("a: one", "f: two", "f: three")}
    unobservable = row | {"problems": ("c: one",), "equal": "no witness differs"}
    found = summary([broken, row, unobservable], 1, 2.0)
    assert (found["pairs"], found["a"], found["c"], found["others"]) == (3, 1, 0, {"f": 1})
    assert found["equal"] == ["gateway forgot × free × nobody: no witness differs"]


def test_pairs_that_equal_a_healthy_run_name_faults_of_the_matrix() -> None:
    assert all(names <= set(FAULTS) for names in EQUAL)


def test_without_results_there_is_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "RESULTS", tmp_path)
    assert program.main(["--page"]) == 2
    assert "there are no results" in capsys.readouterr().err
