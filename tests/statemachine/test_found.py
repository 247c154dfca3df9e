"""Where the core differs from the behaviour page: each test fails today, and says what it should do.

Who mends one takes its mark off here, and its name, where it has one, out of `QUIRKS` in
`tests/support/model.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import InvariantBroken
from edge_agent.model import ReservationStatus
from edge_agent.statemachine import access
from edge_agent.statemachine.invariants import check
from tests.statemachine.test_codes import at, dead, turn
from tests.support.core import Core


@pytest.mark.xfail(strict=True, reason="a rested code that was just chosen is counted twice")
def test_a_code_that_never_lived_comes_before_one_that_died_lately() -> None:
    """A code that died is not given again for 7 days while others are left: 9 was left."""
    week_s = 7 * 24 * 3600
    resting = dead("0")
    for code in "12345678":
        resting = resting.died(code, at(week_s))
    assert access.choose_codes(turn(resting, week_s + 10), ()) == ("0", "9")


@pytest.mark.xfail(strict=True, raises=KeyError, reason="a status is looked up before it is checked")
def test_a_live_reservation_that_is_over_breaks_an_invariant() -> None:
    """The whole check says so by the rule's name, as the check by change does."""
    core = Core()
    reservation = core.reserve()
    over = replace(reservation, status=ReservationStatus.CANCELLED)
    with pytest.raises(InvariantBroken):
        check(replace(core.state, reservations={over.reservation_id: over}), core.layout)
