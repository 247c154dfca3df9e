"""What a journal is bound to: its machine, its cells by cell_id, their wires and ports.

Read and written only at a start, when there is no other writer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from edge_agent.errors import StorageFault
from edge_agent.journal.records import ENTITIES, RESERVATION, dump
from edge_agent.journal.rows import insert
from edge_agent.journal.store import JournalStore, Loaded, Statement
from edge_agent.model import CELL_ALARMS
from edge_agent.statemachine.state import HistoryMark, StandingAlarm, cell_of

BY_LABEL = frozenset({"cells", "pulses", "climate", "unconfirmed"})
"""Kinds of entity whose key is a cell's label."""
NOTHING: Mapping[str, HistoryMark] = MappingProxyType({})
OTHERWISE = frozenset({"tickets", "alarms", "resting_codes", "guesses", "history"})
"""Kinds with another key; `tickets` (unlock attempts) and alarms name their cell in the value."""


@dataclass(frozen=True, slots=True)
class Bound:
    """`machine_id`: None in a journal that never served. `labels`: by cell_id, empty if a version without
    labels wrote the journal. `wires`: by label. `ports`: the identity of each bus's port, by the bus's
    name."""

    machine_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    wires: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, str] = field(default_factory=dict)


def read_bound(store: JournalStore) -> Bound:
    """What the journal is bound to. Raises `StorageFault`."""
    owners = store.rows("SELECT machine_id FROM owner")
    return Bound(
        owners[0][0] if owners else None,
        dict(store.rows("SELECT cell_id, label FROM label")),
        dict(store.rows("SELECT cell, place FROM wires")),
        dict(store.rows("SELECT bus, identity FROM port")),
    )


def keep_bound(
    store: JournalStore,
    bound: Bound,
    relabelled: Loaded | None = None,
    history: Mapping[str, HistoryMark] = NOTHING,
) -> None:
    """Replaces what was stored before, in one transaction with the state under its new labels, if any
    changed, and the findings about the machine's history.

    Raises `StorageFault`, and then nothing has changed.
    """
    statements: list[Statement] = [
        ("DELETE FROM owner", [()]),
        (insert("owner"), [] if bound.machine_id is None else [(bound.machine_id,)]),
        ("DELETE FROM label", [()]),
        (insert("label"), list(bound.labels.items())),
        ("DELETE FROM wires", [()]),
        (insert("wires"), list(bound.wires.items())),
        ("DELETE FROM port", [()]),
        (insert("port"), list(bound.ports.items())),
    ]
    if relabelled is not None:
        statements += _rewritten(relabelled)
    doubts = [("history", key, dump(ENTITIES["history"], value)) for key, value in history.items()]
    statements.append((insert("entity", replace=True), list(doubts)))
    try:
        store.write_all(statements)
    except StorageFault:
        if not store.use_spare_space():
            raise
        store.write_all(statements)


def keep_port(store: JournalStore, bus: str, identity: str) -> None:
    """Stores the identity of one bus's port. Raises `StorageFault`."""
    store.write_all([(insert("port", replace=True), [(bus, identity)])])


def _rewritten(loaded: Loaded) -> list[Statement]:
    rows = [
        (kind, key, dump(ENTITIES[kind], value))
        for kind, values in loaded.entities.items()
        for key, value in values.items()
    ]
    held = [*loaded.reservations.values(), *loaded.former.values()]
    bodies = [(dump(RESERVATION, reservation), reservation.reservation_id) for reservation in held]
    return [
        ("DELETE FROM entity", [()]),
        (insert("entity"), rows),
        ("UPDATE reservation SET body = ? WHERE reservation_id = ?", bodies),
    ]


def relabelled(loaded: Loaded, labels: Mapping[str, str]) -> Loaded:
    """The same state with every label of `labels` replaced by its new one.

    Two cells may swap their labels. A label that is not in `labels` stays, unless another cell has taken it:
    then the old cell must have been empty, and is dropped.
    """
    taken = set(labels.values())

    def follow(label: str) -> str | None:
        if label in labels:
            return labels[label]
        return None if label in taken else label

    entities: dict[str, dict[str, Any]] = {kind: {} for kind in loaded.entities}
    for kind, values in loaded.entities.items():
        for key, value in values.items():
            moved = _moved(kind, key, value, follow)
            if moved is not None:
                entities[kind][moved[0]] = moved[1]
    reservations = {
        reservation_id: replace(reservation, cell=follow(reservation.cell) or reservation.cell)
        for reservation_id, reservation in loaded.reservations.items()
    }
    former = {}
    for label, reservation in loaded.former.items():
        now = follow(label)
        if now is not None:
            former[now] = replace(reservation, cell=now)
    return replace(loaded, entities=entities, reservations=reservations, former=former)


def _moved(kind: str, key: str, value: Any, follow: Any) -> tuple[str, Any] | None:
    """Key and value under the new label; None if the cell is dropped."""
    if kind == "cells":
        label = follow(key)
        return None if label is None else (label, replace(value, label=label))
    if kind in BY_LABEL:
        label = follow(key)
        return None if label is None else (label, value)
    if kind == "tickets":
        label = follow(value.cell)
        return None if label is None else (key, replace(value, cell=label))
    if kind == "alarms" and value.alarm in CELL_ALARMS:
        return _moved_alarm(value, follow)
    return key, value


def _moved_alarm(standing: StandingAlarm, follow: Any) -> tuple[str, StandingAlarm] | None:
    label = cell_of(standing.place)
    now = follow(label)
    if now is None:
        return None
    place = now + standing.place.removeprefix(label)
    return f"{standing.alarm}/{place}", replace(standing, place=place)
