"""What is kept of the temperatures that a parcel's cell went through."""

from __future__ import annotations

import pytest

from edge_agent.model import Door, Purpose, Reservation
from edge_agent.statemachine.inputs import DeviceHealth, DoorsChanged, TemperatureMeasured
from edge_agent.statemachine.outputs import TemperatureRecord
from tests.support.pure_core.core import SMALL, Core
from tests.support.pure_core.fridge import BOTH, CHILLED, WARM, locker


def logged(core: Core, degrees: float | None, label: str = "F1") -> tuple[TemperatureRecord, ...]:
    return core.feed(TemperatureMeasured(label, degrees)).temperatures


def line(core: Core, degrees: float | None, label: str = "F1") -> tuple[object, ...]:
    """The one line that a reading makes, without reservation and moment."""
    (record,) = logged(core, degrees, label)
    assert record.at == core.now
    return record.temperature_c, record.setpoint_c, record.limit_c, record.need, record.door, record.output


def test_each_temperature_that_counts_is_logged_with_door_and_output() -> None:
    core = locker()
    reservation = core.reserve(CHILLED)
    (record,) = logged(core, 8.0)
    assert record.reservation_id == reservation.reservation_id
    assert line(core, 7.9) == (7.9, 3.0, 5.0, "cold", Door.CLOSED, "cooling")
    core.opens(core.command(reservation, Purpose.DROPOFF))
    assert line(core, 9.0) == (9.0, 3.0, 5.0, "cold", Door.OPEN, "off")
    core.close("F1")
    core.feed(DeviceHealth("locks", False, ("F1",)))
    assert line(core, None) == (None, 3.0, 5.0, "cold", Door.UNKNOWN, "off")
    core.feed(DoorsChanged({"F1": Door.CLOSED}))
    core.feed(core.abandon(reservation))
    assert logged(core, 3.0) == ()


@pytest.mark.parametrize(
    ("packaging", "label", "need", "output"),
    [(WARM, "H1", "hot", "heating"), (BOTH, "X1", "cold", "cooling")],
)
def test_the_log_says_what_the_parcel_needed(packaging: object, label: str, need: str, output: str) -> None:
    core = locker()
    core.reserve(packaging)  # type: ignore[arg-type]
    logged(core, 22.0, label)
    assert line(core, 22.0, label)[3:] == (need, Door.CLOSED, output)


def test_nothing_is_logged_before_the_time_nor_after_the_need() -> None:
    core = locker()
    waiting: Reservation = core.reserve(CHILLED, eta_minutes=60)
    assert logged(core, 22.0) == ()
    core.pass_s(41 * 60)
    assert len(logged(core, 22.0)) == 1
    core.opens(core.command(waiting, Purpose.DROPOFF))
    core.close("F1")
    assert len(logged(core, 4.0)) == 1
    core.opens(core.command(waiting, Purpose.PICKUP))
    assert logged(core, 5.0) == ()


def test_a_parcel_that_needs_no_climate_has_no_log() -> None:
    core = locker()
    reservation = core.reserve(SMALL)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close(reservation.cell)
    assert [logged(core, 22.0, label) for label in core.layout.specs] == [(), (), (), ()]
