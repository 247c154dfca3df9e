"""X1, X7: guessing codes by every means that a person at the kiosk has, and how many doors that opens."""

from __future__ import annotations

import re

import pytest

from edge_agent.model import Alarm, Purpose, qr_text
from edge_agent.statemachine.codes import guessing
from edge_agent.statemachine.codes.guessing import Way
from tests.attack.guesser import (
    Guesser,
    Plan,
    bound_in_a_day,
    expected_doors,
    found_by_chance,
    known_strategies,
)
from tools.bench.settings import REPOSITORY

PAGE = REPOSITORY / "docs" / "guessing.md"
GOAL = 0.01
"""Strangers' doors that may be expected to open in a day."""
LIVE = 24
BOTH_SERVE = 2
"""Codes of one reservation that open its door during its drop-off grace."""
PLANS = [*known_strategies(), *(found_by_chance(seed) for seed in range(40))]
WAYS: tuple[Way, ...] = ("digits", "qr")


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_x1_no_strategy_gets_more_guesses_in_a_day_than_the_rules_allow(plan: Plan) -> None:
    guesser = plan.run()
    for way in WAYS:
        assert guesser.in_a_day(way) <= bound_in_a_day()
        if guesser.in_a_day(way) >= guessing.WRONG_IN_A_DAY:
            assert guesser.alarms[way] > 0, "a full day's total and no CODE_GUESSING"


def test_x1_the_best_strategy_found_nearly_reaches_the_bound() -> None:
    best = {way: max(plan.run().in_a_day(way) for plan in known_strategies()) for way in WAYS}
    assert best["digits"] >= bound_in_a_day() - 4
    assert best["qr"] >= bound_in_a_day() - 4


def test_x1_codes_of_one_s_own_give_no_more_guesses() -> None:
    plans = {plan.name: plan for plan in known_strategies()}
    without = max(
        plans[name].run().in_a_day("digits") for name in ("as fast as it goes", "four in every window")
    )
    own = [name for name in plans if name.startswith("own ")]
    assert len(own) == 4
    for name in own:
        guesser = plans[name].run()
        assert guesser.opened > 0, name
        assert guesser.in_a_day("digits") <= without, name


def test_x1_expected_doors_of_24_reservations() -> None:
    """Six digits reach the goal, also while both codes serve; four and five do not."""
    guesses = bound_in_a_day()
    assert expected_doors(guesses, LIVE, 4) == pytest.approx(0.197, abs=0.001)
    assert expected_doors(guesses, LIVE * BOTH_SERVE, 6) < GOAL
    assert expected_doors(guesses, LIVE, 5) > GOAL
    # By QR texts he aims at one reservation, whose id he has to know.
    assert expected_doors(guesses, 1, 4) < GOAL


def test_x7_a_right_qr_text_opens_while_digits_rest_and_prolongs_no_rest() -> None:
    guesser = Guesser()
    core, victim = guesser.core, guesser.strangers[0]
    while guesser.guess():
        pass
    rest_s = guesser.rest_s()
    assert 0 < rest_s <= guessing.LONGEST_REST_NS / 1e9
    began_s = guesser.now_s
    for _ in range(50):
        guesser.guess()  # the vandal goes on
    assert guesser.rest_s() == pytest.approx(rest_s - (guesser.now_s - began_s))
    right = qr_text(Purpose.DROPOFF, victim.reservation_id, victim.drop_off_code)
    assert core.opens(core.entry(right)).cell == victim.cell
    core.close(victim.cell)
    guesser.wait(guesser.rest_s())
    other = guesser.strangers[1]
    assert core.opens(core.entry(other.drop_off_code)).cell == other.cell


@pytest.mark.parametrize("plan", [*known_strategies()], ids=lambda plan: plan.name)
def test_x7_no_attack_keeps_a_customer_waiting_longer_than_the_longest_rest(plan: Plan) -> None:
    guesser = plan.run(hours=6)
    for way in WAYS:
        assert guesser.rest_s(way) <= guessing.LONGEST_REST_NS / 1e9
    guesser.wait(max(guesser.rest_s("digits"), guesser.rest_s("qr")))
    core, honest = guesser.core, guesser.strangers[2]
    assert core.opens(core.entry(honest.drop_off_code)).cell == honest.cell


def test_x7_four_mistakes_in_five_minutes_cost_nothing_and_the_fifth_a_minute() -> None:
    guesser = Guesser()
    for _ in range(guessing.INVALID_ENTRIES - 1):
        assert guesser.guess()
    assert guesser.rest_s() == 0
    assert guesser.guess()
    assert guesser.rest_s() == guessing.FIRST_REST_NS / 1e9
    alarm = guesser.core.state.alarms[f"{Alarm.CODE_GUESSING}/digits"]
    assert alarm.detail.startswith(
        "5 invalid entries of digits within 5 min opened nothing; resting for 60 s"
    )
    assert alarm.detail.endswith("; a full right QR text still opens")


def test_x1_the_page_shows_the_arithmetic_of_the_constants() -> None:
    text = PAGE.read_text(encoding="utf-8")
    constants = {
        "entries in the window": guessing.INVALID_ENTRIES,
        "the window": guessing.WINDOW_NS // 60_000_000_000,
        "the first rest": guessing.FIRST_REST_NS // 10**9,
        "the longest rest": guessing.LONGEST_REST_NS // 10**9,
        "guesses in an hour": guessing.WRONG_IN_AN_HOUR,
        "guesses in a day": guessing.WRONG_IN_A_DAY,
        "most guesses in a day": bound_in_a_day(),
    }
    for name, value in constants.items():
        assert re.search(rf"^\| {name} \| {value}( min| s)? \|$", text, re.MULTILINE), name
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d,]+) \|$", text, re.MULTILINE)
    assert [int(row[0]) for row in rows] == [4, 5, 6, 7]
    for digits, doors, doors_in_grace, most in rows:
        assert float(doors) == pytest.approx(expected_doors(bound_in_a_day(), LIVE, int(digits)), rel=0.02)
        in_grace = expected_doors(bound_in_a_day(), LIVE * BOTH_SERVE, int(digits))
        assert float(doors_in_grace) == pytest.approx(in_grace, rel=0.02)
        within_goal = int(most.replace(",", ""))
        assert expected_doors(bound_in_a_day(), within_goal, int(digits)) <= GOAL
        assert expected_doors(bound_in_a_day(), within_goal + 1, int(digits)) > GOAL
