"""Renders the state and the core's facts and answers as JSON: API bodies, events, replies, the digest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from edge_agent.model import CellSpec, Instant, Reservation
from edge_agent.protocol.api import (
    Body,
    CellDetail,
    CellInformation,
    CellReference,
    Machine,
    PackagingBody,
    ReservationView,
    rfc3339,
    rpc_status,
)
from edge_agent.protocol.events import DETAIL_KEY, Event, EventDetail, EventType, MachineReference
from edge_agent.protocol.replies import AcceptedResult, CellResult, ReservationResult, TicketResult
from edge_agent.protocol.sync import Digest
from edge_agent.runtime.ids import Ids
from edge_agent.statemachine.cell import allocatable, occupancy, preferred
from edge_agent.statemachine.outputs import Answer, Fact
from edge_agent.statemachine.state import Layout, LockerState, attempt_on


@dataclass(frozen=True, slots=True)
class Identity:
    """Id, name and place of this machine, from the configuration."""

    machine_id: str
    name: str
    location: str
    latitude: float
    longitude: float


class Views:
    """Renders the state of one machine."""

    def __init__(self, identity: Identity, layout: Layout, ids: Ids, journal_id: str) -> None:
        self._identity = identity
        self._journal_id = journal_id
        self._layout = layout
        self._ids = ids
        self._reference = MachineReference(
            machine_id=identity.machine_id, name=identity.name, location=identity.location
        )

    def take_journal_id(self, journal_id: str) -> None:
        """The journal has a new id."""
        self._journal_id = journal_id

    def cell(self, label: str) -> CellReference:
        """The reference to a cell in an answer; without an id if the configuration has no such cell any
        more."""
        spec = self._layout.specs.get(label)
        return CellReference(description=label, cell_id=None if spec is None else spec.cell_id)

    def reservation(self, reservation: Reservation) -> ReservationView:
        """A reservation with its codes, for a command's reply."""
        packaging = reservation.packaging
        return ReservationView(
            reservation_id=reservation.reservation_id,
            machine_id=self._identity.machine_id,
            platform=reservation.platform,
            platform_order_id=reservation.platform_order_id,
            notes=reservation.notes,
            webhook_url=reservation.webhook_url,
            status=reservation.status,
            created_at=rfc3339(reservation.created.wall_s),
            cell=self.cell(reservation.cell),
            drop_off_code=reservation.drop_off_code,
            pickup_code=reservation.pickup_code,
            packaging=PackagingBody(
                width=packaging.width_mm,
                height=packaging.height_mm,
                depth=packaging.depth_mm,
                weight=packaging.mass_g,
                heating_required=packaging.heating_required,
                cooling_required=packaging.cooling_required,
            ),
            eta_minutes=reservation.eta_minutes,
            grace_period_pickup_in_seconds=reservation.grace_pickup_s,
            grace_period_dropoff_in_seconds=reservation.grace_dropoff_s,
            dropped_off_at=_moment(reservation.dropped_off),
            picked_up_at=_moment(reservation.picked_up),
        )

    def machine(self, state: LockerState, *, online: bool = True) -> Machine:
        """The machine as the API's Machine, as it stands now."""
        identity = self._identity
        return Machine(
            machine_id=identity.machine_id,
            name=identity.name,
            location=identity.location,
            latitude=identity.latitude,
            longitude=identity.longitude,
            online=online,
            preferred_cells=[
                CellInformation.model_validate(_ability(spec))
                for spec in preferred(self._layout.specs, state.cells)
            ],
            all_cells=[self._detail(state, spec) for spec in self._layout.specs.values()],
            occupancy_information=occupancy(state.cells.values()),
        )

    @staticmethod
    def _detail(state: LockerState, spec: CellSpec) -> CellDetail:
        cell = state.cells[spec.label]
        return CellDetail.model_validate(
            {
                **_ability(spec),
                "cell_id": spec.cell_id,
                "description": spec.label,
                "status": cell.status,
                "blocked": cell.blocked is not None,
                "faulty": cell.faulty is not None,
                "available": allocatable(cell) and attempt_on(state.unlock_attempts, spec.label) is None,
                "max_weight": spec.max_mass_g,
                "low": spec.low,
            }
        )

    def event(self, fact: Fact, sequence: int) -> str:
        """A fact as the JSON of an event with this sequence."""
        kind = EventType(f"EVENT_TYPE_{fact.kind.value}")
        detail = EventDetail(
            source_type=fact.source,
            machine=self._reference,
            cell=None if fact.cell is None else self.cell(fact.cell),
            outcome=fact.outcome,
            reason=fact.reason,
            recovered=True if fact.recovered else None,
            status=fact.status,
            blocked=fact.blocked,
            faulty=fact.faulty,
            cause=fact.cause,
            request_id=fact.x_request_id,
            platform_reference_id=fact.platform_reference_id,
            maintenance_ticket_id=fact.maintenance_ticket_id,
            description=fact.description,
            severity=fact.severity,
            alarm=fact.alarm,
            device=fact.device,
            actor=fact.actor,
        )
        reservation = fact.reservation
        body: dict[str, Any] = {
            "event_id": f"evt_{self._ids.uuid()}",
            "idempotency_key": f"idem_{self._ids.uuid()}",
            "event_time_unix_timestamp": int(fact.at.wall_s),
            "event_time_timestamp": rfc3339(fact.at.wall_s),
            "event_type": kind,
            "machine_id": self._identity.machine_id,
            "sequence": sequence,
            "journal_id": self._journal_id,
            "boot_id": fact.at.boot_id,
            "clock_synced": fact.at.synced,
            "uptime_ms": fact.at.boottime_ns // 1_000_000,
            "platform_order_id": None if reservation is None else reservation.platform_order_id,
            "reservation_id": None if reservation is None else reservation.reservation_id,
            "request_id": fact.request_key,
            DETAIL_KEY[kind]: detail,
        }
        return Event(**body).model_dump_json(exclude_none=True)

    def digest(
        self, state: LockerState, oldest: int | None, last: int, now: Instant, run: str | None = None
    ) -> Digest:
        """What the machine holds after its event `last`; `oldest`: the oldest event that is still kept, if
        any."""
        return Digest(
            machine_id=self._identity.machine_id,
            journal_id=self._journal_id,
            boot_id=now.boot_id,
            at=rfc3339(now.wall_s),
            oldest_sequence=last + 1 if oldest is None else oldest,
            last_sequence=last,
            reservations={rid: reservation.status for rid, reservation in state.reservations.items()},
            cells={label: cell.status for label, cell in state.cells.items()},
            run=run,
        )

    def reply(self, answer: Answer) -> str:
        """An answer as the JSON of a command's reply."""
        if answer.refusal is not None:
            return json.dumps({"error": rpc_status(answer.refusal)}, ensure_ascii=False)
        result = self._result(answer).model_dump(mode="json", exclude_none=True)
        return json.dumps({"result": result}, ensure_ascii=False)

    def _result(self, answer: Answer) -> Body:
        cell = None if answer.cell is None else self.cell(answer.cell)
        if answer.accepted is not None:
            request_id, at = answer.accepted
            return AcceptedResult(request_id=request_id, accepted_at=rfc3339(at.wall_s))
        if answer.maintenance is not None:
            ticket_id, at = answer.maintenance
            return TicketResult(maintenance_ticket_id=ticket_id, created_at=rfc3339(at.wall_s), cell=cell)
        if answer.reservation is not None:
            return ReservationResult(reservation=self.reservation(answer.reservation), cell=cell)
        return Body() if cell is None else CellResult(cell=cell)


def _moment(moment: Instant | None) -> str | None:
    return None if moment is None else rfc3339(moment.wall_s)


def _ability(spec: CellSpec) -> dict[str, Any]:
    return {
        "width": spec.width_mm,
        "height": spec.height_mm,
        "depth": spec.depth_mm,
        "heating": spec.heating,
        "cooling": spec.cooling,
        "weight_sensor": spec.weight_sensor,
    }
