"""Compares the journal with the configuration before anything moves.

A journal belongs to one machine; a cell is its `cell_id`, whatever its label; its lock and contact stay on
their wires. If they disagree the start is refused, and the journal stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from edge_agent.app.commissioning_mark import Mark, read_mark, write_mark
from edge_agent.app.reload import in_use, rewired, use_of, wires_of
from edge_agent.config import Settings
from edge_agent.config.changes import digest
from edge_agent.config.sections import PathsSection
from edge_agent.errors import ConfigError, Finding, StorageFault
from edge_agent.journal.binding import keep_bound, read_bound, relabelled
from edge_agent.journal.configurations import ConfigurationChange, keep_configuration
from edge_agent.journal.recovery import restore
from edge_agent.journal.store import JournalStore, Loaded
from edge_agent.model import Instant
from edge_agent.statemachine.history import FROZEN, TO_LOSE, YOUNG, former_key
from edge_agent.statemachine.state import HistoryMark, Layout, LockerState

log = structlog.get_logger()

USUAL_MARK = Path("/var/lib/edge-agent-mark/commissioned.json")
RENAMED = "start once with --renamed if this machine was really given a new name"


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What a technician has confirmed with this start: `--rewired`, `--renamed`."""

    rewired: bool = False
    renamed: bool = False


NOTHING = Confirmed()


def load_state(
    store: JournalStore,
    loaded: Loaded,
    settings: Settings,
    layout: Layout,
    confirmed: Confirmed,
    now: Instant,
    files_beside_journal: list[str],
) -> LockerState:
    """The journal's state on the cells of this configuration; records what the journal is now bound to.

    `files_beside_journal`: companions that were there before the journal was opened.

    Raises `ConfigError` if the journal is another machine's, or if a cell in use has gone or is on other
    wires; `StorageFault` if the journal cannot be written.
    """
    bound = read_bound(store)
    machine_id = settings.machine.machine_id
    never_served = bound.machine_id is None and not bound.wires and loaded.last_sequence == 0
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
    now_at = Mark(machine_id, store.journal_id, loaded.last_sequence)
    history = history_at_start(
        settings, now_at, files_beside_journal, never_served=never_served, known=state.history
    )
    labels = {cell.cell_id: cell.label for cell in settings.cells}
    settled = replace(bound, machine_id=machine_id, labels=labels, wires=wires)
    if settled != bound or history:
        keep_bound(store, settled, carried if moved else None, history)
    if FROZEN not in history:
        write_this_mark(settings, store.journal_id, loaded.last_sequence)
    return replace(state, history={**state.history, **history})


def record_configuration(
    store: JournalStore,
    settings: Settings,
    change: ConfigurationChange | None,
    last_sequence: int,
    now: Instant,
) -> None:
    """Records in the journal that a configuration came into use. A full disk prevents no start."""
    if change is None:
        return
    try:
        if keep_configuration(store, change, digest(settings), now.wall_s, last_sequence):
            log.info("a configuration came into use", how=change.how, by=change.actor or None)
    except StorageFault as fault:
        log.warning("the configuration in use is not recorded", reason=str(fault))


def files_beside(journal: Path) -> list[str]:
    """Files that a journal leaves beside itself; must be called before the journal is opened."""
    return [
        f"{journal.name}{ending}"
        for ending in (".lock", ".reserve", "-wal")
        if journal.with_name(f"{journal.name}{ending}").exists()
    ]


def history_at_start(
    settings: Settings,
    journal: Mark,
    files_beside_journal: list[str],
    *,
    never_served: bool,
    known: Mapping[str, HistoryMark],
) -> dict[str, HistoryMark]:
    """What to record about the machine's history: nothing if journal and mark agree.

    `journal`: the mark that this journal would leave; `files_beside_journal`: its companions
    that were there before it; `never_served`: no daemon has served with it yet; `known`: what was recorded
    before.
    """
    mark = read_mark(mark_file(settings))
    ours = mark is not None and mark.machine_id in (settings.machine.machine_id, None)
    if never_served:
        found = [*files_beside_journal, *(["the commissioning mark"] if ours else [])]
        if not found:
            return {YOUNG: HistoryMark("the journal is new")}
        why = f"the journal is new or empty, yet there was one before: {', '.join(found)}"
        log.error("history lost", reason=why)
        return {TO_LOSE: HistoryMark(why)}
    if mark is None or not ours or former_key(mark.journal_id) in known:
        return {}
    if mark.journal_id != journal.journal_id:
        why = f"the journal is {journal.journal_id[:8]}, the commissioning mark names {mark.journal_id[:8]}"
    elif mark.last_sequence > journal.last_sequence:
        ends = f"it ends at event {journal.last_sequence}"
        why = f"the journal is an older copy: {ends}, the commissioning mark names event {mark.last_sequence}"
    else:
        return {}
    log.error("history in doubt", reason=why)
    return {FROZEN: HistoryMark(why)}


def mark_file(settings: Settings) -> Path | None:
    """The path of the commissioning mark; None if the journal is not at its usual place and no other place is
    configured."""
    if settings.paths.mark is not None:
        return settings.path(settings.paths.mark)
    usual = PathsSection().journal
    return USUAL_MARK if settings.paths.journal == usual else None


def write_this_mark(settings: Settings, journal_id: str, last_sequence: int) -> None:
    """Records outside the journal's folder which journal this machine has, and its last event."""
    write_mark(mark_file(settings), Mark(settings.machine.machine_id, journal_id, last_sequence))


def moved_labels(labels: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The changed labels, old to new, of cells that the journal knows by their cell_id."""
    return {
        labels[cell.cell_id]: cell.label
        for cell in settings.cells
        if labels.get(cell.cell_id, cell.label) != cell.label
    }


def refuse_lost_cells(loaded: Loaded, labels: Mapping[str, str], settings: Settings) -> None:
    """Raises `ConfigError` if a cell that holds a reservation, or that no technician has checked, has gone,
    or its label now belongs to a cell with another cell_id."""
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
