"""Faults of the field, raised and cleared by hand.

A bus is named; without a target a fault of a bus affects all of them. A device is named by its slave address,
which means that address on every bus, or by `bus:address`. A fault raised twice stands until both are
cleared.

| kind | target | value | does |
|---|---|---|---|
| `lock_jammed` | cell | | the solenoid moves nothing |
| `coil_stuck` | cell | | once pulsed the solenoid stays energised |
| `heater_stuck` | cell with a heater | | once switched on the heater stays on |
| `door_sensor_stuck` | cell | 0, 1 or none | its contact reads open (0), closed (1), or what it reads now |
| `door_bounce` | cell | ms | the contact chatters for this time after each change |
| `door_chatter` | cell | ms | its contact opens and closes with this period until cleared |
| `late_spring` | cell | ms | its freed door springs open this much later |
| `lock_crossed` | `A01,A02` | | the wires of these two locks are swapped |
| `contact_crossed` | `A01,A02` | | the wires of these two door contacts are swapped |
| `scale_drift` | cell with a scale | g/min | is added to what the scale reads, from now on |
| `temperature_sensor_dead` | cell with a thermometer | | its board answers "no sensor" |
| `device_silent` | device | | neither acts nor answers |
| `late_reply` | device | ms | its replies come this much later |
| `ghost_reply` | device | 0 to 1 | how often it repeats its last reply unasked, after a request to another |
| `noise` | bus | 0 to 1 | the probability that a frame, request or reply, is damaged |
| `delay_ms` | bus | ms | every reply comes this much later |
| `bus_unplugged` | bus | | the port vanishes; cleared, it returns under the same name |
| `echo` | bus | | the master's adapter receives what it sends |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import Field

from edge_agent.drivers.simulated.line import LineDevice
from edge_agent.drivers.simulated.trouble import End, LineTrouble, Standing
from edge_agent.drivers.simulated.world import Part, World
from edge_agent.errors import Code, FieldViolation, Refusal
from edge_agent.model import Door
from edge_agent.protocol.api import Body

LONGEST_MS = 60_000.0
STEEPEST_DRIFT = 100_000.0
MS_NS = 1_000_000


class FaultBody(Body):
    """Body of POST /faults; `target` is a cell's label, a slave address, or the name of a bus."""

    kind: Annotated[str, Field(strict=True, min_length=1, max_length=64)]
    target: Annotated[str, Field(strict=True)] | Annotated[int, Field(strict=True)] | None = None
    value: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = None


class Bus(Protocol):
    """The bus functions that faults need; a `MemoryCable` is one."""

    trouble: LineTrouble

    def unplug(self) -> None:
        """The master's port vanishes."""

    def plug(self) -> None:
        """The port returns. Raises `OSError`."""


@dataclass(frozen=True, slots=True)
class _Fault:
    body: FaultBody
    end: End


class Faults:
    """Raises and clears the faults of a world and its buses; `devices` by the name of their bus."""

    def __init__(
        self, world: World, buses: Mapping[str, Bus], devices: Mapping[str, Sequence[LineDevice]]
    ) -> None:
        self._world = world
        self._buses = dict(buses)
        self._devices = devices
        self._unplugged: dict[str, Standing[None]] = {name: Standing() for name in buses}
        self._standing: dict[str, _Fault] = {}
        self._count = 0

    def all(self) -> list[dict[str, Any]]:
        """The active faults, oldest first."""
        return [
            {"id": fault_id, **fault.body.model_dump(exclude_none=True)}
            for fault_id, fault in self._standing.items()
        ]

    def raise_fault(self, body: FaultBody) -> str:
        """Begins a fault; returns its id. Raises `Refusal`: INVALID_ARGUMENT naming the field, NOT_FOUND for
        no such target."""
        begin = _KINDS.get(body.kind)
        if begin is None:
            raise _invalid("kind", "no such kind of fault")
        end = begin(self, body)
        self._count += 1
        self._standing[str(self._count)] = _Fault(body, end)
        return str(self._count)

    def clear(self, fault_id: str) -> None:
        """Ends a fault. Raises `Refusal` NOT_FOUND if there is none of this id."""
        fault = self._standing.pop(fault_id, None)
        if fault is None:
            raise Refusal(Code.NOT_FOUND, f"no such fault: {fault_id}")
        fault.end()

    # Cells.

    def _jam(self, body: FaultBody) -> End:
        _no_value(body)
        return self._world.jam_lock(self._cell(body))

    def _weld_solenoid(self, body: FaultBody) -> End:
        _no_value(body)
        return self._world.weld_solenoid(self._cell(body))

    def _weld_heater(self, body: FaultBody) -> End:
        _no_value(body)
        return self._world.weld_heater(self._cell(body, "heater"))

    def _stick_contact(self, body: FaultBody) -> End:
        if body.value not in (None, 0, 1):
            raise _invalid("value", "0 (reads open), 1 (reads closed), or none (reads what it reads now)")
        reads = None if body.value is None else Door.CLOSED if body.value else Door.OPEN
        return self._world.stick_contact(self._cell(body), reads)

    def _bounce(self, body: FaultBody) -> End:
        label = self._cell(body)
        return self._world.bounce_contact(label, _milliseconds_ns(body))

    def _chatter(self, body: FaultBody) -> End:
        label = self._cell(body)
        return self._world.chatter_contact(label, round(_value(body, 1, LONGEST_MS, "milliseconds") * MS_NS))

    def _spring_late(self, body: FaultBody) -> End:
        label = self._cell(body)
        return self._world.spring_late(label, _milliseconds_ns(body))

    def _cross_locks(self, body: FaultBody) -> End:
        _no_value(body)
        return self._world.cross_locks(*self._pair(body))

    def _cross_contacts(self, body: FaultBody) -> End:
        _no_value(body)
        return self._world.cross_contacts(*self._pair(body))

    def _pair(self, body: FaultBody) -> tuple[str, str]:
        """Two cells, `A01,A02`."""
        if not isinstance(body.target, str) or body.target.count(",") != 1:
            raise _invalid("target", "the labels of two cells with a comma between them")
        one, other = (
            self._cell(FaultBody(kind=body.kind, target=part.strip())) for part in body.target.split(",")
        )
        if one == other:
            raise _invalid("target", "two different cells")
        return one, other

    def _drift(self, body: FaultBody) -> End:
        label = self._cell(body, "scale")
        return self._world.drift_scale(label, _value(body, -STEEPEST_DRIFT, STEEPEST_DRIFT, "g/min"))

    def _kill_probe(self, body: FaultBody) -> End:
        _no_value(body)
        return self._world.kill_probe(self._cell(body, "temperature"))

    def _cell(self, body: FaultBody, part: Part | None = None) -> str:
        if not isinstance(body.target, str):
            raise _invalid("target", "the label of a cell")
        fitted = self._world.fitted(body.target)
        if part is not None and part not in fitted:
            what = {"temperature": "temperature sensor"}.get(part, part)
            raise _invalid("target", f"cell {body.target} has no {what}")
        return body.target

    # Devices.

    def _silence(self, body: FaultBody) -> End:
        _no_value(body)
        return _all([t.silences[address].begin(None) for t, address in self._places(body)])

    def _late(self, body: FaultBody) -> End:
        places, late_ns = self._places(body), _milliseconds_ns(body)
        return _all([t.latenesses_ns[address].begin(late_ns) for t, address in places])

    def _ghost(self, body: FaultBody) -> End:
        places, probability = self._places(body), _value(body, 0, 1, "a probability")
        return _all([t.ghosts[address].begin(probability) for t, address in places])

    def _places(self, body: FaultBody) -> list[tuple[LineTrouble, int]]:
        """The matching devices: at most one on each bus."""
        if body.target is None:
            raise _invalid("target", "the address of a slave")
        name, colon, number = str(body.target).rpartition(":")
        if not (number.isascii() and number.isdigit() and len(number) <= 3):
            raise _invalid("target", "the address of a slave, or bus:address")
        address = int(number)
        found = [
            (self._bus(bus).trouble, address)
            for bus in ([name] if colon else self._buses)
            if any(device.address == address for device in self._devices.get(bus, ()))
        ]
        if colon:
            self._bus(name)
        if not found:
            raise Refusal(Code.NOT_FOUND, f"no slave has address {body.target}")
        return found

    # Buses.

    def _noise(self, body: FaultBody) -> End:
        buses, probability = self._named(body), _value(body, 0, 1, "a probability")
        return _all([self._buses[name].trouble.noises.begin(probability) for name in buses])

    def _delay(self, body: FaultBody) -> End:
        buses, delay_ns = self._named(body), _milliseconds_ns(body)
        return _all([self._buses[name].trouble.delays_ns.begin(delay_ns) for name in buses])

    def _echo(self, body: FaultBody) -> End:
        _no_value(body)
        return _all([self._buses[name].trouble.echoes.begin(None) for name in self._named(body)])

    def _unplug(self, body: FaultBody) -> End:
        _no_value(body)
        return _all([self._unplug_one(name) for name in self._named(body)])

    def _unplug_one(self, name: str) -> End:
        bus, unplugged = self._buses[name], self._unplugged[name]
        end = unplugged.begin(None)
        bus.unplug()

        def plug() -> None:
            end()
            if not unplugged:
                bus.plug()

        return plug

    def _named(self, body: FaultBody) -> list[str]:
        if body.target is None:
            return list(self._buses)
        if not isinstance(body.target, str):
            raise _invalid("target", "the name of a bus")
        self._bus(body.target)
        return [body.target]

    def _bus(self, name: str) -> Bus:
        bus = self._buses.get(name)
        if bus is None:
            raise Refusal(Code.NOT_FOUND, f"no such bus: {name}")
        return bus


_KINDS: dict[str, Callable[[Faults, FaultBody], End]] = {
    "lock_jammed": Faults._jam,
    "coil_stuck": Faults._weld_solenoid,
    "heater_stuck": Faults._weld_heater,
    "door_sensor_stuck": Faults._stick_contact,
    "door_bounce": Faults._bounce,
    "door_chatter": Faults._chatter,
    "late_spring": Faults._spring_late,
    "lock_crossed": Faults._cross_locks,
    "contact_crossed": Faults._cross_contacts,
    "scale_drift": Faults._drift,
    "temperature_sensor_dead": Faults._kill_probe,
    "device_silent": Faults._silence,
    "late_reply": Faults._late,
    "ghost_reply": Faults._ghost,
    "noise": Faults._noise,
    "delay_ms": Faults._delay,
    "bus_unplugged": Faults._unplug,
    "echo": Faults._echo,
}


def _all(ends: Sequence[End]) -> End:
    def end() -> None:
        for each in ends:
            each()

    return end


def _value(body: FaultBody, least: float, most: float, unit: str) -> float:
    if body.value is None or not least <= body.value <= most:
        raise _invalid("value", f"{least:g} to {most:g}, {unit}")
    return body.value


def _milliseconds_ns(body: FaultBody) -> int:
    return round(_value(body, 0, LONGEST_MS, "milliseconds") * MS_NS)


def _no_value(body: FaultBody) -> None:
    if body.value is not None:
        raise _invalid("value", "this kind has none")


def _invalid(field: str, problem: str) -> Refusal:
    return Refusal(Code.INVALID_ARGUMENT, f"{field}: {problem}", (FieldViolation(field, problem),))
