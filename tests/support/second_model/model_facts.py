"""The facts of the core in the form in which the model predicts them."""

from __future__ import annotations

from edge_agent.model import Severity
from edge_agent.statemachine.outputs import Fact, FactKind


def as_model_fact(fact: Fact) -> tuple[object, ...]:
    """A fact in the model's form."""
    rid = None if fact.reservation is None else fact.reservation.reservation_id
    source = fact.source.removeprefix("SOURCE_TYPE_")
    match fact.kind:
        case FactKind.DROPOFF | FactKind.PICKUP | FactKind.PICKUP_FAILED:
            return fact.kind, rid, fact.cell, source, fact.recovered
        case FactKind.OPEN_DOOR_FULFILLED if fact.reservation is None:
            return fact.kind, fact.cell, fact.outcome, fact.actor or ""
        case FactKind.OPEN_DOOR_FULFILLED:
            return fact.kind, rid, fact.outcome, fact.request_key
        case FactKind.MAINTENANCE_REQUESTED:
            return fact.kind, fact.cell
        case FactKind.CELL_STATUS_CHANGED:
            return fact.kind, fact.cell, fact.cause, fact.status
        case FactKind.ALARM_RAISED | FactKind.ALARM_CLEARED:
            return fact.kind, fact.alarm, "/".join(part for part in (fact.cell, fact.device) if part)
    return fact.kind, rid, fact.cell


def is_wear(fact: Fact) -> bool:
    """Whether a fact reports a lock that has become slow, which the model does not predict."""
    return fact.kind is FactKind.MAINTENANCE_REQUESTED and fact.severity is Severity.MEDIUM
