"""Wanted and reported configurations of machines, in the database; works inside the caller's transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select, update

from cloud_gateway.db.store import insert_once
from cloud_gateway.db.tables import machine_configurations
from edge_agent.protocol.service_commands import ReportedConfiguration


@dataclass(frozen=True, slots=True)
class MachineConfiguration:
    """What is wanted of a machine, and what it reported last. `version` is None if nothing was ever wanted;
    `sent_version`: the last one that the machine was asked to take."""

    machine_id: str
    version: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    actor: str | None = None
    wanted_s: float | None = None
    sent_version: int | None = None
    reported: ReportedConfiguration | None = None
    reported_s: float | None = None

    @property
    def to_send(self) -> bool:
        """Whether the machine has to be asked: it has another version, and was not asked for this one."""
        if self.version is None or self.sent_version == self.version:
            return False
        return self.reported is None or self.reported.version != self.version


def want(db: Connection, machine_id: str, settings: dict[str, Any], actor: str, now_s: float) -> int:
    """Stores wanted settings under the next version, which it returns; it is higher than any that the machine
    reported."""
    known = configuration_of(db, machine_id)
    reported = 0 if known.reported is None else max(known.reported.version or 0, _tried(known.reported))
    version = max(known.version or 0, reported) + 1
    _ensure(db, machine_id)
    values = {
        "version": version,
        "settings": json.dumps(settings, ensure_ascii=False),
        "actor": actor,
        "wanted_s": now_s,
        "sent_version": None,
    }
    _set(db, machine_id, values)
    return version


def _tried(reported: ReportedConfiguration) -> int:
    return 0 if reported.last is None else reported.last.version


def set_sent(db: Connection, machine_id: str, version: int) -> bool:
    """Records that the machine is asked to take a version; False if it was asked already, by another
    gateway."""
    table = machine_configurations
    not_sent = (table.c.sent_version.is_(None)) | (table.c.sent_version != version)
    chosen = (table.c.machine_id == machine_id) & (table.c.version == version) & not_sent
    return db.execute(update(table).where(chosen).values(sent_version=version)).rowcount == 1


def take_reported(db: Connection, reported: ReportedConfiguration, now_s: float) -> None:
    """Stores what a machine reports."""
    _ensure(db, reported.machine_id)
    _set(db, reported.machine_id, {"reported": reported.model_dump_json(), "reported_s": now_s})


def configuration_of(db: Connection, machine_id: str) -> MachineConfiguration:
    """What is known of a machine's configuration."""
    table = machine_configurations
    row = db.execute(select(table).where(table.c.machine_id == machine_id)).one_or_none()
    return MachineConfiguration(machine_id) if row is None else _configuration(row)


def to_send(db: Connection) -> list[MachineConfiguration]:
    """Every machine that has to be asked to take a version."""
    table = machine_configurations
    query = select(table).where(
        table.c.version.is_not(None),
        (table.c.sent_version.is_(None)) | (table.c.sent_version != table.c.version),
    )
    return [one for one in map(_configuration, db.execute(query)) if one.to_send]


def _ensure(db: Connection, machine_id: str) -> None:
    insert_once(db, machine_configurations, {"machine_id": machine_id})


def _set(db: Connection, machine_id: str, values: dict[str, Any]) -> None:
    table = machine_configurations
    db.execute(update(table).where(table.c.machine_id == machine_id).values(**values))


def _configuration(row: Any) -> MachineConfiguration:
    reported = None if row.reported is None else ReportedConfiguration.model_validate_json(row.reported)
    return MachineConfiguration(
        machine_id=row.machine_id,
        version=row.version,
        settings={} if row.settings is None else json.loads(row.settings),
        actor=row.actor,
        wanted_s=row.wanted_s,
        sent_version=row.sent_version,
        reported=reported,
        reported_s=row.reported_s,
    )
