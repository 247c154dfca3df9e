"""What is settled between the journal and the configuration before anything moves.

A journal belongs to one machine; a cell is its `cell_id`, whatever its label; its lock and contact stay on
their wires. Where they disagree the start is refused, and the journal stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog

from edge_agent.app.reload import rewired, wires_of
from edge_agent.config import Settings
from edge_agent.errors import ConfigError, Finding
from edge_agent.journal.binding import keep_bound, read_bound, relabelled
from edge_agent.journal.recovery import restore
from edge_agent.journal.store import JournalStore, Loaded
from edge_agent.model import Cell, CellStatus, Instant
from edge_agent.statemachine.state import Layout, LockerState

log = structlog.get_logger()

RENAMED = "start once with --renamed if this machine was really given a new name"


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What a technician has confirmed with this start: `--rewired`, `--renamed`."""

    rewired: bool = False
    renamed: bool = False


NOTHING = Confirmed()


def taken_up(
    store: JournalStore,
    loaded: Loaded,
    settings: Settings,
    layout: Layout,
    confirmed: Confirmed,
    now: Instant,
) -> LockerState:
    """The journal's state on the cells of this configuration; what the journal is bound to is noted anew.

    Raises `ConfigError` where the journal is another machine's, where a cell that is in use has gone or is on
    other wires; `StorageFault` if the journal cannot be written.
    """
    bound = read_bound(store)
    machine_id = settings.machine.machine_id
    if bound.machine_id not in (None, machine_id):
        if not confirmed.renamed:
            whose = f"the journal {store.path} is of machine {bound.machine_id!r}: {RENAMED}"
            raise ConfigError([Finding("machine.machine_id", whose)])
        log.warning("renamed", before=bound.machine_id, now=machine_id, by="--renamed")
    moved = moved_labels(bound.labels, settings)
    refuse_lost_cells(loaded, bound.labels, settings)
    carried = relabelled(loaded, moved) if moved else loaded
    for before, label in moved.items():
        log.warning("a cell has another label", before=before, now=label)
    state = restore(carried, layout, now)
    taken = set(moved.values()) - set(moved)
    kept = {moved.get(label, label): place for label, place in bound.wires.items() if label not in taken}
    wires = wires_of(settings)
    found = rewired(kept, wires, state)
    if found and not confirmed.rewired:
        raise ConfigError(found)
    for finding in found:
        log.warning("rewired", cell=finding.path, by="--rewired")
    labels = {cell.cell_id: cell.label for cell in settings.cells}
    settled = replace(bound, machine_id=machine_id, labels=labels, wires=wires)
    if settled != bound:
        keep_bound(store, settled, carried if moved else None)
    return state


def moved_labels(labels: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The labels that have changed, old to new, of the cells that the journal knows by their cell_id."""
    return {
        labels[cell.cell_id]: cell.label
        for cell in settings.cells
        if labels.get(cell.cell_id, cell.label) != cell.label
    }


def refuse_lost_cells(loaded: Loaded, labels: Mapping[str, str], settings: Settings) -> None:
    """Raises `ConfigError` if a cell that holds a reservation, or that nobody has looked into, has gone, or
    its label now belongs to a cell with another cell_id."""
    ids = {label: cell_id for cell_id, label in labels.items()}
    configured = {cell.cell_id for cell in settings.cells}
    named = {cell.label for cell in settings.cells}
    findings = []
    for label, cell in loaded.entities["cells"].items():
        if not in_use(cell):
            continue
        cell_id = ids.get(label)
        if cell_id is not None and cell_id not in configured:
            problem = f"cell {label!r} with cell_id {cell_id!r} {use_of(cell)} and must stay configured"
            findings.append(Finding("cells", problem))
        elif cell_id is None and label not in named:
            findings.append(Finding("cells", f"{label!r} {use_of(cell)} and must stay configured"))
    if findings:
        raise ConfigError(findings)


def in_use(cell: Cell) -> bool:
    """Whether something lies in a cell, or may."""
    return cell.reservation_id is not None or cell.status is not CellStatus.IDLE


def use_of(cell: Cell) -> str:
    """What a cell is used for, in words."""
    if cell.reservation_id is not None:
        return f"holds reservation {cell.reservation_id}"
    return f"is {cell.status}"
