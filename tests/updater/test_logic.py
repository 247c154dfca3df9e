"""The order of an update, on machines whose power may fail at any instant."""

from __future__ import annotations

import random

import pytest

from edge_updater.logic import LONGEST_TRIAL_S, MOST_BOOTS, PROVES_GOOD_S
from edge_updater.state import Outcome, State, Wanted, from_json, to_json
from tools.fleet_update.light import POISONS, LightMachine, Poison, Release

OLD, NEW = "1.0", "1.1"


def machine(poison: Poison = "", seed: int = 1, cuts: list[float] | None = None) -> LightMachine:
    releases = {OLD: Release(OLD), NEW: Release(NEW, poison)}
    return LightMachine("m", releases, OLD, random.Random(seed), cuts or [])


def outcome(made: LightMachine) -> Outcome:
    found = made.state.outcome
    assert found is not None, made.log
    return found


def test_a_good_version_is_kept_when_it_was_well_for_five_minutes() -> None:
    made = machine()
    made.disk.wanted = Wanted(NEW, "r-1")
    while made.current() == OLD:
        made.run_until(made.now_s + 1)
    began_s = made.now_s
    made.run_until(began_s + PROVES_GOOD_S - 20)
    assert made.state.trial is not None
    assert made.state.outcome is None
    made.run_until(began_s + PROVES_GOOD_S + 60)
    assert outcome(made) == Outcome(Wanted(NEW, "r-1"), "APPLIED", "")
    assert (made.running, made.current()) == (NEW, NEW)
    assert max(made.off_air) < 10


@pytest.mark.parametrize("poison", POISONS)
def test_a_bad_version_is_taken_back_by_itself(poison: Poison) -> None:
    made = machine(poison)
    made.disk.wanted = Wanted(NEW, "r-1")
    made.run_until(1200 + LONGEST_TRIAL_S)
    assert outcome(made).result == "REVERTED"
    assert outcome(made).detail
    assert (made.running, made.serves) == (OLD, True)
    if poison in ("crashes", "hangs"):
        assert 3 < max(made.off_air) < 10  # from the stop of the old version until it answers again
    made.run_until(made.now_s + 3600)
    assert made.running == OLD  # the same wanted is not tried again
    made.disk.wanted = Wanted(NEW, "r-2")
    made.run_until(made.now_s + 1200 + LONGEST_TRIAL_S)
    assert outcome(made).wanted.request_id == "r-2"


def test_a_busy_machine_is_not_interrupted() -> None:
    made = machine()
    made.disk.wanted = Wanted(NEW, "r-1")
    made.busy_until_s = 5000.0
    made.run_until(4900)
    assert made.running == OLD
    assert NEW in made.disk.trees  # fetched ahead
    made.run_until(5000 + PROVES_GOOD_S + 60)
    assert made.running == NEW


def test_the_version_in_use_is_applied_at_once() -> None:
    made = machine()
    made.disk.wanted = Wanted(OLD, "r-1")
    made.run_until(30)
    assert outcome(made) == Outcome(Wanted(OLD, "r-1"), "APPLIED", "the version was in use already")
    assert made.off_air == []


def test_a_trial_that_sees_many_boots_ends() -> None:
    made = machine()
    made.disk.wanted = Wanted(NEW, "r-1")
    while made.current() == OLD:
        made.run_until(made.now_s + 1)
    made._cuts = [made.now_s + 100.0 * n for n in range(20, 0, -1)]
    made.run_until(made.now_s + 100.0 * (MOST_BOOTS + 3))
    assert outcome(made).result == "REVERTED"
    assert "the board started" in outcome(made).detail


@pytest.mark.parametrize("seed", range(400))
def test_power_cuts_at_any_instant_brick_nothing(seed: int) -> None:
    """Also within the milliseconds of a save, a switch and a restart: most cuts are set around these."""
    rng = random.Random(seed)
    poison: Poison = rng.choice(("", "", "", *POISONS))
    whole = machine(poison, seed)
    whole.disk.wanted = Wanted(NEW, "r-1")
    whole.run_until(2400)
    moments = [float(line.split()[0]) for line in whole.log]
    cuts = [max(0.0, rng.choice(moments) + rng.uniform(-3.0, 0.3)) for _ in range(rng.randrange(1, 4))]
    made = machine(poison, seed, cuts)
    codes = made.disk.codes
    made.disk.wanted = Wanted(NEW, "r-1")
    made.run_until(9000)
    assert made.cuts_met >= 1
    assert made.serves, made.log
    assert made.state.trial is None, made.log
    assert made.running == (OLD if outcome(made).result == "REVERTED" else NEW)
    assert outcome(made).result == ("REVERTED" if poison else "APPLIED") or made.boots > MOST_BOOTS
    assert made.disk.codes == codes


def test_a_state_is_read_as_it_was_written_and_a_damaged_one_is_named() -> None:
    state = State(None, Outcome(Wanted("1", "r"), "FAILED", "why"))
    assert from_json(to_json(state)) == state
    for text in (
        "",
        "{",
        "[]",
        "{}",
        '{"trial": 1, "outcome": null}',
        '{"trial": null, "outcome": {"wanted": 1}}',
    ):
        with pytest.raises(ValueError):
            from_json(text)
