"""The core of a locker with a fridge and an oven, and short names for what happens to them."""

from __future__ import annotations

from dataclasses import replace

from edge_agent.model import Alarm, CellSpec, Packaging, Purpose, Reservation
from edge_agent.statemachine.inputs import TemperatureMeasured, Tick
from edge_agent.statemachine.locker import next_due_ns
from edge_agent.statemachine.outputs import SetClimate
from edge_agent.statemachine.state import Climate, Layout, Regime, Regimes
from edge_agent.statemachine.step_builder import Step
from tests.support.pure_core.core import Core

S = 10**9
MIN = 60 * S
CHILLED = Packaging(200, 100, 300, 500, cooling_required=True)
WARM = Packaging(200, 100, 300, 500, heating_required=True)
BOTH = Packaging(200, 100, 300, 500, heating_required=True, cooling_required=True)
COLD = Regime("cold", 3.0, 1.0, 60 * S, 180 * S, 5.0, 30 * MIN, 20 * MIN, 10 * MIN, 0.5)
HOT = Regime("hot", 65.0, 2.0, 40 * S, 90 * S, 57.0, 120 * MIN, 45 * MIN, 15 * MIN, 0.8)
COOL_ON = SetClimate("F1", heating=False, cooling=True)
HEAT_ON = SetClimate("H1", heating=True, cooling=False)


def off(label: str) -> SetClimate:
    return SetClimate(label, heating=False, cooling=False)


def locker() -> Core:
    """A fridge, an oven, a cell that can be either, and a plain one with a thermometer."""
    sizes = (350, 250, 450, 10_000)
    built = [
        CellSpec("F1", "id_f1", *sizes, cooling=True),
        CellSpec("H1", "id_h1", *sizes, heating=True),
        CellSpec("X1", "id_x1", *sizes, heating=True, cooling=True),
        CellSpec("P1", "id_p1", *sizes),
    ]
    climate = {"F1": Regimes(cold=COLD), "H1": Regimes(hot=HOT), "X1": Regimes(COLD, HOT)}
    specs = {spec.label: spec for spec in built}
    return Core(Layout(specs=specs, climate=climate, thermometers=frozenset(specs)))


def feels(core: Core, degrees: float | None, label: str = "F1") -> tuple[object, ...]:
    return core.feed(TemperatureMeasured(label, degrees)).effects


def stands(core: Core, alarm: Alarm, label: str = "F1") -> bool:
    return f"{alarm}/{label}" in core.state.alarms


def out_of_range(core: Core, label: str = "F1") -> bool:
    return stands(core, Alarm.TEMPERATURE_OUT_OF_RANGE, label)


def climate(core: Core, label: str = "F1") -> Climate:
    return core.state.climate[label]


def left_s(core: Core) -> float | None:
    due_ns = next_due_ns(core.state, core.layout, core.now)
    return None if due_ns is None else (due_ns - core.now.boottime_ns) / 1e9


def pass_ns(core: Core, ns: int) -> Step:
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + ns, wall_s=core.now.wall_s + ns / 1e9)
    return core.feed(Tick())


def wakes(core: Core, ns: int) -> Step:
    """Nothing is due before `ns` are over, and then something is; the step that does it."""
    due_ns = next_due_ns(core.state, core.layout, core.now)
    assert due_ns == core.now.boottime_ns + ns
    before = core.state
    done = pass_ns(core, ns - 1)
    assert (done.effects, core.state) == ((), before)
    return pass_ns(core, 1)


def cooling() -> tuple[Core, Reservation]:
    """A chilled parcel is awaited, and its cell is being cooled from 22 degrees."""
    core = locker()
    reservation = core.reserve(CHILLED)
    assert reservation.cell == "F1"
    assert feels(core, 22.0) == (COOL_ON,)
    return core, reservation


def stored(degrees: float = 4.0) -> tuple[Core, Reservation]:
    """A chilled parcel was dropped off in a fridge at `degrees`, which was reported just then."""
    core = locker()
    reservation = core.reserve(CHILLED, grace_pickup_s=0)
    feels(core, degrees)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("F1")
    feels(core, degrees)
    return core, core.live(reservation)
