"""A model in the state of a core, so that both start alike."""

from __future__ import annotations

from edge_agent.model import CellStatus, Reservation, Source
from tests.support.pure_core.core import Core
from tests.support.second_model.observed import Model
from tests.support.second_model.parcels import Attempt, Parcel, Standing


def mirrored(core: Core, known: Reservation | None) -> Model:
    """A model in the core's state. `known` is a reservation that may be over."""
    model = Model(core.layout, core.now)
    model.boot_id = core.now.boot_id
    assert not core.state.unlock_attempts
    live = {r.reservation_id: r for r in core.state.reservations.values()}
    over = {r.reservation_id: r for r in (*core.state.former.values(), *([known] if known else ()))}
    for reservation in (over | live).values():
        model.parcels[reservation.reservation_id] = parcel(
            reservation, over=reservation.reservation_id not in live
        )
    for label, cell in core.state.cells.items():
        place = model.places[label]
        former = core.state.former.get(label)
        place.holder = model.parcels.get(cell.reservation_id or "")
        place.last = model.parcels[former.reservation_id] if former else None
        awaiting = cell.status in (CellStatus.AWAITING_CLEANUP, CellStatus.AWAITING_INSPECTION)
        place.awaits = cell.status if awaiting else None
        place.door, place.since, place.answering = cell.door, cell.door_since, cell.answering
        place.open_since = cell.open_since
        place.opened, place.outcome_unknown = cell.opened_since_allocation, cell.outcome_unknown
        place.unlocked, place.inspect_unless_empty = cell.unlocked_since_allocation, cell.inspect_unless_empty
        place.uncertain, place.settled = cell.last_outcome is not None, cell.settled
        place.closing_unseen, place.opened_by_machine, place.unexplained = (
            cell.closing_unseen,
            cell.opened_by_unlock,
            cell.unexplained_since,
        )
        place.contact_doubted, place.quiet_ns = cell.contact_doubt is not None, cell.quiet_from_ns
        place.changes_ns, place.opened_rightly = list(cell.changes_ns), cell.opened_rightly
        place.failing, place.board_down = cell.failing, cell.board_down
        place.blocked, place.faulty, place.worn = cell.blocked is not None, cell.faulty is not None, cell.worn
        pulses = core.state.pulses.get(label)
        place.pulses, place.recent = cell.pulse_count, list(pulses.at_ns if pulses else ())
        place.unread = cell.unread
        if pulses and pulses.pulses_without_opening:
            place.unspent = place.recent[-pulses.pulses_without_opening :]
            whose = model.parcels[pulses.reservation_id]
            kiosk = pulses.source is Source.MACHINE
            place.pulsed_for = Attempt("over", None, whose, pulses.purpose, kiosk, None, label)
    model.alarms = {key: Standing(alarm.since, alarm.gone) for key, alarm in core.state.alarms.items()}
    assert not core.state.unconfirmed
    return model


def parcel(reservation: Reservation, *, over: bool) -> Parcel:
    """A reservation in the model's form."""
    return Parcel(
        rid=reservation.reservation_id,
        size=reservation.packaging,
        cell=reservation.cell,
        grace_dropoff_s=reservation.grace_dropoff_s,
        grace_pickup_s=reservation.grace_pickup_s,
        drop_off_code=reservation.drop_off_code,
        pickup_code=reservation.pickup_code,
        status=reservation.status,
        over=over,
        first_dropoff=reservation.first_dropoff,
        picked_up=reservation.picked_up,
        dropping=reservation.dropoff_opened,
        grace_unknown=reservation.grace_unknown,
        to_weigh=reservation.to_be_weighed,
        held=reservation.held,
        too_small=reservation.larger_than,
        codes_used=set(reservation.codes_opened),
    )
