"""Inputs of every class, for a core in any situation."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from edge_agent.model import (
    Alarm,
    Door,
    Purpose,
    Reservation,
    Severity,
    Verdict,
    qr_text,
)
from edge_agent.statemachine.inputs import (
    BlockCell,
    Boot,
    Clear,
    ClosingSettled,
    Condition,
    DeviceHealth,
    DoorRead,
    DoorsChanged,
    HandCheck,
    HistoryAhead,
    HistoryCompared,
    HistoryLost,
    Input,
    LargerCell,
    OpenCell,
    PulseDone,
    RequestMaintenance,
    Reserve,
    Resolve,
    Restore,
    Tare,
    TemperatureMeasured,
    Tick,
    UnblockCell,
    Weighed,
)
from edge_agent.statemachine.transitions import (
    COMMAND_TRIGGERS,
    Trigger,
)
from tests.support.pure_core.core import SMALL, Core
from tests.support.pure_core.situations import LABEL, ended

PURPOSES = {
    Trigger.DROPOFF: Purpose.DROPOFF,
    Trigger.PICKUP: Purpose.PICKUP,
    Trigger.OPEN_DOOR: Purpose.OPEN_DOOR,
}


def asked(core: Core, reservation: Reservation, command: Trigger) -> Input:
    """The input of a request."""
    over = ended(core, reservation)
    rid = reservation.reservation_id
    if command is Trigger.RESERVE:
        codes = tuple(f"{n}" for n in range(7000, 7010))
        return Reserve(core.key(), rid, "p", "o", SMALL, codes, ended=over)
    if command is Trigger.LARGER_CELL:
        return LargerCell(core.key(), rid, "unl-larger", ended=over)
    if command is Trigger.CANCEL:
        return replace(core.cancel(reservation), ended=over)
    if command is Trigger.ABANDON:
        return replace(core.abandon(reservation), ended=over)
    return replace(core.command(reservation, PURPOSES[command]), ended=over)


def inputs(core: Core, reservation: Reservation) -> list[Input]:
    """Inputs of every class, several where they differ."""
    ids = [*core.state.unlock_attempts, "unl-none"]
    found: list[Input] = [asked(core, reservation, command) for command in COMMAND_TRIGGERS]
    found += [core.entry(reservation.drop_off_code), core.entry(reservation.pickup_code), core.entry("x")]
    found += [core.entry(qr_text(Purpose.PICKUP, reservation.reservation_id, reservation.pickup_code))]
    found += [RequestMaintenance("k", "m", "d", Severity.LOW, label) for label in (None, LABEL, "Z9")]
    found += [RequestMaintenance("k", "m", "d", Severity.LOW, LABEL, block=True)]
    for label in (LABEL, "C01", "Z9"):
        found += [BlockCell("k", label, "r"), UnblockCell("k", label), Clear("k", label)]
        found += [Tare("k", label), OpenCell("k", label, "r", f"unl-{label}", "bob")]
        found += [OpenCell("k", label, "r", f"unl-test-{label}", purpose=Purpose.SELF_TEST)]
        found += [Resolve("k", label, one) for one in Verdict]
    found += [HandCheck((LABEL, "Z9"), running) for running in (True, False)]
    for door in Door:
        found += [DoorsChanged({LABEL: door}), DoorsChanged({LABEL: door, "C01": Door.OPEN})]
        found += [Boot({}), Boot({LABEL: door, "C01": Door.CLOSED})]
        found += [DoorRead(unlock_id, door) for unlock_id in ids]
        for unlock_id, attempt, given in product(ids, (0, 1, 2), (True, False)):
            found += [PulseDone(unlock_id, attempt, door, given, seen) for seen in (True, False)]
    found += [ClosingSettled(label, core.now.boottime_ns) for label in (LABEL, "C01")]
    found += [Weighed(label, mass_g) for label in (LABEL, "C01") for mass_g in (None, 0, 900)]
    found += [TemperatureMeasured(label, read_c) for label in (LABEL, "C01") for read_c in (None, -3.5, 20.0)]
    outside = (Alarm.BUS_DOWN, Alarm.STORAGE_FAULT, Alarm.COMMAND_REJECTED, Alarm.LINK_REFUSED)
    found += [Condition(alarm, "", stands) for alarm in outside for stands in (True, False)]
    found += [DeviceHealth("locks", answering, (LABEL,)) for answering in (True, False)]
    known = {reservation.reservation_id: (reservation.cell, reservation.status)}
    found += [HistoryLost("new"), HistoryAhead("older"), Restore("k"), Restore("k", (reservation,))]
    found += [Restore("k", place={reservation.reservation_id: "C01"})]
    found += [HistoryCompared(known), HistoryCompared(known, "j2")]
    return [*found, Tick()]
