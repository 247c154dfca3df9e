"""What became of an entry at the kiosk, as the screen gets it: no code, no reservation, nobody's name."""

from __future__ import annotations

from typing import Any

from edge_agent.errors import Code, Refusal
from edge_agent.model import Instant, Reservation, ReservationStatus
from edge_agent.statemachine.codes.access import not_valid
from edge_agent.statemachine.outputs import Answer

REASONS = {
    "CONTACT_IN_DOUBT": "in_doubt",
    "DOOR_NOT_OPENED": "not_opened",
    "DOOR_NOT_READ": "not_read",
    "DOOR_BUSY": "busy",
    "WRONG_DOOR": "wrong_door",
    "LOCK_COOLS_DOWN": "cools_down",
    "HISTORY_UNKNOWN": "call_for_help",
    "NO_LARGER_CELL": "no_larger_cell",
}
"""The `result` for each reason of a refusal."""
CODES = {Code.EXPIRED: "too_late", Code.OFFLINE: "try_again"}


def result_of(answer: Answer, now: Instant) -> dict[str, Any]:
    """The outcome of an entry.

    `result` is `opened`, `not_valid`, `try_again`, `too_late` or one of `REASONS`. With `opened` come `cell`,
    `purpose` (`dropoff` or `pickup`) and `grace_s`, for how long the same code opens the door again; with a
    door that did not open, `cell`, and with a lock that cools down also `seconds`.
    """
    if answer.refusal is not None:
        return _refused(answer.refusal)
    found: dict[str, Any] = {"result": "opened", "cell": answer.cell}
    if answer.reservation is not None:
        picked_up = answer.reservation.status is ReservationStatus.PICKED_UP
        found["purpose"] = "pickup" if picked_up else "dropoff"
        found["grace_s"] = _grace_left_s(answer.reservation, now)
    return found


def _refused(refusal: Refusal) -> dict[str, Any]:
    if refusal.info is not None and refusal.info.reason in REASONS:
        given = refusal.info.metadata
        about: dict[str, Any] = {"result": REASONS[refusal.info.reason]}
        if "cell" in given:
            about["cell"] = given["cell"]
        if "seconds" in given:
            about["seconds"] = int(given["seconds"])
        return about
    if refusal.code in CODES:
        return {"result": CODES[refusal.code]}
    return {"result": "not_valid" if refusal.message == not_valid().message else "try_again"}


def _grace_left_s(reservation: Reservation, now: Instant) -> int:
    """Whole seconds in which the same code opens the door again; 0 if no clock shows it."""
    if reservation.status is ReservationStatus.PICKED_UP:
        since, grace_s = reservation.picked_up, reservation.grace_pickup_s
    else:
        since, grace_s = reservation.first_dropoff, reservation.grace_dropoff_s
    elapsed_ns = None if since is None else since.elapsed_ns(now)
    return 0 if elapsed_ns is None or reservation.grace_unknown else max(0, grace_s - elapsed_ns // 10**9)
