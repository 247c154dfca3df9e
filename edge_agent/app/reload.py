"""Decides whether a new configuration may replace the running one (docs/decisions/0021-reload.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from edge_agent.config import CellSection, Settings
from edge_agent.errors import Finding
from edge_agent.model import Cell, CellStatus, Reservation
from edge_agent.statemachine.state import LockerState

RESTART = "stop the service, change it, and start it again"
REWIRED = (
    "its lock or its contact is on other wires than at the last start: a wrong door might open. Put the file "
    "right, or if the wires were really moved, start once with --rewired"
)


def objections(
    before: Settings, after: Settings, state: LockerState, *, relabelled: bool = False
) -> list[Finding]:
    """Why it may not, each with the key concerned; an empty list if it may.

    A reservation keeps its cell, its codes and its door on the same wires. An unreserved cell that may still
    hold something must be checked by a technician before it can be removed. A cell is identified by its
    `cell_id`; its label may change. `relabelled`: `state` already has the labels of `after`.
    """
    findings = []
    if after.machine.machine_id != before.machine.machine_id:
        findings.append(Finding("machine.machine_id", f"another machine has another journal: {RESTART}"))
    if after.path(after.paths.journal) != before.path(before.paths.journal):
        findings.append(Finding("paths.journal", f"the journal stays where it is: {RESTART}"))
    if after.codes != before.codes and state.reservations:
        held = f"{len(state.reservations)} reservations have codes of {before.codes.code_digits} digits"
        findings.append(Finding("codes.code_digits", held))
    old = {cell.cell_id: cell for cell in before.cells}
    new = {cell.cell_id: cell for cell in after.cells}
    ids = {cell.label: cell.cell_id for cell in (after if relabelled else before).cells}
    pair = _Pair(before, after, old, new)
    for label, cell in state.cells.items():
        known = ids.get(label)
        if known not in old or cell.reservation_id is not None or not in_use(cell):
            continue
        findings += pair.uncleared(known, f"{use_of(cell)}: look into it and clear it first")
    for reservation in state.reservations.values():
        if ids.get(reservation.cell) in old:
            findings += pair.kept(ids[reservation.cell], reservation)
    return findings


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both configurations, with their cells by cell_id."""

    before: Settings
    after: Settings
    old: dict[str, CellSection]
    new: dict[str, CellSection]

    def uncleared(self, cell_id: str, why: str) -> list[Finding]:
        """For a cell that no technician has checked: it must stay, on its wires."""
        was, becomes = self.old[cell_id], self.new.get(cell_id)
        path = f"cells.{was.label}"
        if becomes is None:
            return [Finding(path, why)]
        return [Finding(f"{path}.{use}", why) for use in ("lock", "door") if self._moved(was, becomes, use)]

    def kept(self, cell_id: str, reservation: Reservation) -> list[Finding]:
        """For a reserved cell: it must stay, on its wires, with the outputs that its parcel needs."""
        was, becomes = self.old[cell_id], self.new.get(cell_id)
        path, holds = f"cells.{was.label}", f"holds reservation {reservation.reservation_id}"
        if becomes is None:
            if was.label in {cell.label for cell in self.after.cells}:
                return [Finding(f"{path}.cell_id", f"{holds}, which knows it by {cell_id!r}")]
            return [Finding(path, f"{holds} and must stay")]
        findings = []
        for use in ("lock", "door"):
            if self._moved(was, becomes, use):
                problem = f"{holds}: another door might open; {RESTART}"
                findings.append(Finding(f"{path}.{use}", problem))
        packaging = reservation.packaging
        needs = (("cooling", packaging.cooling_required), ("heating", packaging.heating_required))
        for use, needed in needs:
            if needed and becomes.channels()[use] is None:
                findings.append(Finding(f"{path}.{use}", f"{holds}, which needs it"))
        return findings

    def _moved(self, was: CellSection, becomes: CellSection, use: str) -> bool:
        return _wires(self.before, was, use) != _wires(self.after, becomes, use)


def wires_of(settings: Settings) -> dict[str, str]:
    """The wires of each cell's lock and contact, by label, as stored in the journal.

    The port counts only if there are several: a replaced adapter has another name.
    """
    found = {}
    for cell in settings.cells:
        places = []
        for use, reference in (("lock", cell.lock), ("door", cell.door)):
            device = settings.devices[reference.device]
            port = settings.buses[device.bus].port if len(settings.buses) > 1 else ""
            places.append([use, port, device.profile, device.address, reference.channel])
        found[cell.label] = json.dumps(places)
    return found


def rewired(kept: dict[str, str], now: dict[str, str], state: LockerState) -> list[Finding]:
    """The cells that hold or may hold something and are on other wires than at the last start (`kept`)."""
    return [
        Finding(f"cells.{label}", f"{use_of(cell)}, and {REWIRED} ({kept[label]} before, {now[label]} now)")
        for label, cell in state.cells.items()
        if in_use(cell) and label in kept and kept[label] != now[label]
    ]


def in_use(cell: Cell) -> bool:
    """Whether a cell holds something, or may."""
    return cell.reservation_id is not None or cell.status is not CellStatus.IDLE


def use_of(cell: Cell) -> str:
    """What a cell is used for, in words."""
    if cell.reservation_id is not None:
        return f"holds reservation {cell.reservation_id}"
    return f"is {cell.status}"


def _wires(settings: Settings, cell: CellSection, use: str) -> tuple[Any, ...]:
    """Everything that decides which lock moves, or which contact is read and how."""
    reference = cell.lock if use == "lock" else cell.door
    device = settings.devices[reference.device]
    bus, profile = settings.buses[device.bus], settings.profile_of(reference.device)
    capability = profile.lock if use == "lock" else profile.doors
    level = settings.doors.closed_level if use == "door" else None
    named = reference.model_dump(exclude={"device"})
    return bus.port, bus.protocol, device.address, capability, level, named
