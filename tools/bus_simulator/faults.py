"""The teeth of the field: faults that are raised and taken away by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from edge_agent.drivers.simulated.slave import Slave
from edge_agent.drivers.simulated.world import World
from edge_agent.errors import Code, FieldViolation, Refusal
from edge_agent.protocol.api import Body

LATER = (
    "door_sensor_stuck",
    "scale_drift",
    "temperature_sensor_dead",
    "noise",
    "delay_ms",
    "bus_unplugged",
)
"""Kinds of the contract that the simulator has not yet."""


class FaultBody(Body):
    """Body of POST /faults; `target` is a cell's label or a slave address."""

    kind: Annotated[str, Field(strict=True, min_length=1, max_length=64)]
    target: Annotated[str, Field(strict=True)] | Annotated[int, Field(strict=True)] | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True)
class _Fault:
    body: FaultBody
    end: Callable[[], None]


class Faults:
    """Raises and clears; a fault raised twice stands until both are cleared."""

    def __init__(self, world: World, devices: Mapping[str, list[Slave]]) -> None:
        self._world = world
        self._slaves = [slave for slaves in devices.values() for slave in slaves]
        self._standing: dict[str, _Fault] = {}
        self._count = 0

    def all(self) -> list[dict[str, Any]]:
        """The standing faults, oldest first."""
        return [
            {"id": fault_id, **fault.body.model_dump(exclude_none=True)}
            for fault_id, fault in self._standing.items()
        ]

    def raise_fault(self, body: FaultBody) -> str:
        """Begins a fault; returns its id. Raises `Refusal`: 3 naming the field, 5 for no such target, 12."""
        if body.kind in LATER:
            raise Refusal(Code.NOT_BUILT, f"{body.kind} is not built in this version")
        if body.kind == "lock_jammed":
            end = self._jam(body.target)
        elif body.kind == "device_silent":
            end = self._silence(body.target)
        else:
            raise _invalid("kind", "no such kind of fault")
        self._count += 1
        self._standing[str(self._count)] = _Fault(body, end)
        return str(self._count)

    def clear(self, fault_id: str) -> None:
        """Ends a fault. Raises `Refusal` code 5 if there is none of this id."""
        fault = self._standing.pop(fault_id, None)
        if fault is None:
            raise Refusal(Code.NOT_FOUND, f"no such fault: {fault_id}")
        if all((other.body.kind, other.body.target) != _what(fault) for other in self._standing.values()):
            fault.end()

    def _jam(self, target: object) -> Callable[[], None]:
        if not isinstance(target, str):
            raise _invalid("target", "the label of a cell")
        self._world.jam(target, True)
        return lambda: self._world.jam(target, False)

    def _silence(self, target: object) -> Callable[[], None]:
        address = int(target) if isinstance(target, str) and target.isdecimal() else target
        if not isinstance(address, int):
            raise _invalid("target", "the address of a slave")
        found = [slave for slave in self._slaves if slave.address == address]
        if not found:
            raise Refusal(Code.NOT_FOUND, f"no slave has address {address}")

        def switch(silent: bool) -> None:
            for slave in found:
                slave.silent = silent

        switch(True)
        return lambda: switch(False)


def _what(fault: _Fault) -> tuple[str, object]:
    return fault.body.kind, fault.body.target


def _invalid(field: str, problem: str) -> Refusal:
    return Refusal(Code.INVALID_ARGUMENT, f"{field}: {problem}", (FieldViolation(field, problem),))
