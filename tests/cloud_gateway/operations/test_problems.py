"""The order of the fleet page."""

from __future__ import annotations

import pytest

from cloud_gateway.operations.problems import POINTS, Signs, problems_of, score_of

MANY = {"CRITICAL": 9, "HIGH": 9, "MEDIUM": 9, "LOW": 99}
SMALL = Signs(
    online=True,
    verdict="degraded",
    alarms=99,
    cells_out=99,
    worn=99,
    losses=99,
    refused_messages=99,
    events_waiting=9999,
    first_open_rate=0.1,
    unlocks=500,
    tickets=MANY,
)


def test_a_machine_without_a_problem_has_no_points() -> None:
    assert (
        problems_of(Signs(online=True, verdict="good", history="sound", first_open_rate=1.0, unlocks=500))
        == []
    )


@pytest.mark.parametrize(
    "signs",
    [
        Signs(online=False),
        Signs(online=True, verdict="fault"),
        Signs(online=True, verdict="good", history="lost"),
        Signs(online=True, verdict="good", twins=True),
        Signs(online=True, shown=False),
    ],
)
def test_small_problems_never_outweigh_a_large_one(signs: Signs) -> None:
    assert score_of(problems_of(signs)) > score_of(problems_of(SMALL))


def test_the_weightiest_problem_comes_first_and_many_are_limited() -> None:
    found = problems_of(SMALL)
    assert found[0][0] == "ticket_critical"
    assert [points for _, points in found] == sorted((points for _, points in found), reverse=True)
    assert all(points <= POINTS[kind][1] for kind, points in found)


def test_few_unlocks_are_not_judged() -> None:
    assert problems_of(Signs(online=True, first_open_rate=0.0, unlocks=3)) == []
    assert [kind for kind, _ in problems_of(Signs(online=True, first_open_rate=0.5, unlocks=20))] == [
        "first_open"
    ]
