"""The benchmarks' arithmetic and table, and that one of them runs from end to end. No times are judged."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from edge_agent.config import load_settings
from tools.bench.settings import REPOSITORY
from tools.measure.__main__ import main
from tools.measure.disk import FRAME_HEADER, WAL_HEADER, Wal, read_wal
from tools.measure.figures import Figure, as_json, p50_p99, quantile, ratio, render, short
from tools.measure.lives import opening_time_s
from tools.measure.wire import closing_to_belief_s, command_to_coil_s, opening_to_reading_s, rate, scan_of


@pytest.mark.parametrize(
    ("share", "expected"), [(0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_quantile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert quantile([*range(100, 0, -1)], share) == expected


def test_quantile_of_few_and_of_none() -> None:
    assert quantile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no samples"):
        quantile([], 0.5)


def test_ratio() -> None:
    assert ratio(3, 4) == 0.75
    assert ratio(3, None) is None
    assert ratio(3, 0) is None
    assert Figure("f", 3, "", 1, 4).ratio == 0.75
    assert Figure("f", 3, "", 1, 4, paired_ratio=0.9).ratio == 0.9


def test_p50_and_p99_are_milliseconds() -> None:
    p50, p99 = p50_p99("x", [0.001, 0.002, 0.003, 0.010], [0.002, 0.004], targets=("<= 1", "<= 2"))
    assert (p50.name, p50.value, p50.unit, p50.samples, p50.target) == ("x, p50", 2.5, "ms", 4, "<= 1")
    assert (p99.name, p99.value, p99.peer, p99.target) == ("x, p99", 10, 4, "<= 2")
    assert p50.ratio == pytest.approx(2.5 / 3)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12.0, "12"), (0.1234, "0.123"), (1.234, "1.23"), (123.45, "123.5"), (3210.7, "3211")],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_the_table() -> None:
    figures = [
        Figure("rate", 58.84, "1/s", 8, 60.0, "a bare loop", ">= 0.97", "per second"),
        Figure("early", 0, "", 472),
    ]
    assert render(figures).split("\n") == [
        "figure  value  unit  limit/peer  ratio  target     n",
        "------  -----  ----  ----------  -----  -------  ---",
        "rate    58.84  1/s           60  0.981  >= 0.97    8",
        "early       0                                    472",
        "",
        "- rate: per second; beside it: a bare loop",
    ]
    assert json.loads(as_json(figures))[0]["ratio"] == pytest.approx(58.84 / 60)


def test_the_wire_s_limits_at_19200() -> None:
    scan = scan_of(load_settings(REPOSITORY / "config" / "demo.toml"))
    assert [question.address for question in scan.once] == [1, 2, 3, 5, *range(11, 19)]
    character, silence = 10 / 19200, 35 / 19200
    board = 14 * character + 2 * silence + 0.001
    assert scan.transaction_s(scan.doors[0]) == pytest.approx(board)
    scale = 23 * character + 2 * silence + 0.001
    thermometer = 29 * character + silence + 0.005 + 0.001
    assert rate(scan) == pytest.approx(12 / (3 * board + 8 * scale + thermometer))
    coil = command_to_coil_s(scan)
    least = board + 8 * character + silence  # the last moment of a silence: the reading goes at once
    assert least <= min(coil) < least + 0.0001
    assert max(coil) < least + silence + thermometer
    seen = opening_to_reading_s(scan)
    assert max(seen) - min(seen) == pytest.approx(board, rel=0.01)
    assert 0.6 < min(closing_to_belief_s(scan)) < 0.7


def test_commits_in_a_write_ahead_log() -> None:
    header, page, salt, old = (
        bytes(8) + (512).to_bytes(4, "big") + bytes(4),
        bytes(512),
        b"saltsalt",
        b"oldsalt!",
    )

    def frame(size: int, bearing: bytes) -> bytes:
        return bytes(4) + size.to_bytes(4, "big") + bearing + bytes(8) + page

    assert len(frame(0, salt)) == FRAME_HEADER + 512
    start = (header + salt).ljust(WAL_HEADER, b"\0")
    log = start + frame(0, salt) + frame(9, salt) + frame(9, salt) + frame(9, old)
    assert read_wal(log) == Wal(salt, 2)
    assert read_wal(log[:-1] + b"") == Wal(salt, 2)
    assert read_wal(b"") == Wal(b"", 0)


def test_a_lock_s_opening_time_is_the_simulator_s() -> None:
    assert 0.04 <= opening_time_s("A01") <= 0.09
    assert opening_time_s("A01") == opening_time_s("A01") != opening_time_s("A02")


def test_the_lives_of_the_core_s_benchmark_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--only", "core"]) == 0
    assert "steps of one life, after 300 lives" in capsys.readouterr().out


def test_a_quick_run_from_end_to_end_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    found = tmp_path / "figures.json"
    assert main(["--quick", "--only", "start", "--json", str(found), "--folder", str(tmp_path)]) == 0
    names = ["start -> first frame", "start -> first door reading", "start -> online"]
    assert [figure["name"] for figure in json.loads(found.read_text())] == names
    assert capsys.readouterr().out.startswith("figure ")
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    assert [file.name for file in tmp_path.iterdir()] == ["figures.json"]
