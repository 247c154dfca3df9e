"""The description and an example of every field and parameter of the OpenAPI document.

One text for each name: a field means the same in every body. `MODEL_TEXTS` holds the exceptions.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_RESERVATION = "res_1f0a6c2e9b7d4c53a8e60b7d2f4c9e15"
_TIME = "2025-07-10T10:00:00Z"
_QR = f"DLV-PICK-{_RESERVATION}-4711"
_QR_URL = f"https://lockers.example.org/qrcode/{_QR}"

TEXTS: dict[str, tuple[str, Any]] = {
    # Reservations
    "reservation_id": ("The id of the reservation.", _RESERVATION),
    "platform": ("The platform whose key made the reservation.", "food-express"),
    "platform_order_id": ("Your own id of the order; webhooks repeat it.", "order-1234"),
    "notes": ("A text for the operators. Do not put personal data here.", "two bags"),
    "webhook_url": (
        "Where this reservation's webhooks go, in place of the platform's own URL.",
        "https://platform.example.org/lockers",
    ),
    "eta_minutes": (
        "In how many minutes the courier is expected: a cell with climate control is ready by then.",
        30,
    ),
    "grace_period_pickup_in_seconds": (
        "For how many seconds after the pick-up its code opens the door again.",
        120,
    ),
    "grace_period_dropoff_in_seconds": (
        "For how many seconds after the first drop-off call the door can be opened again to drop off.",
        120,
    ),
    "accessible": (
        "Whether only a cell within reach of a person in a wheelchair suits; our extension of the API.",
        False,
    ),
    "packaging": ("The size of the parcel and what it needs.", None),
    "weight": ("The parcel's weight in grams; 0 if it is not known.", 1500),
    "heating_required": ("Whether the parcel needs a heated cell.", False),
    "cooling_required": ("Whether the parcel needs a cooled cell.", True),
    "status": ("The state it is in.", None),
    "created_at": ("When it was made, in UTC.", _TIME),
    "dropped_off_at": ("When the parcel was dropped off, in UTC; absent until then.", _TIME),
    "picked_up_at": ("When the door opened for the pick-up, in UTC; absent until then.", _TIME),
    "drop_off_code": ("The digits that the courier enters at the keypad.", "0815"),
    "drop_off_qrcode": ("The text of the courier's QR code.", f"DLV-DROP-{_RESERVATION}-0815"),
    "drop_off_qrcode_url": (
        "The image of the courier's QR code; needs no key.",
        f"https://lockers.example.org/qrcode/DLV-DROP-{_RESERVATION}-0815",
    ),
    "pickup_code": ("The digits that the customer enters at the keypad.", "4711"),
    "pickup_code_qrcode": ("The text of the customer's QR code.", _QR),
    "pickup_code_qrcode_url": ("The image of the customer's QR code; needs no key.", _QR_URL),
    "reservations": ("The ongoing reservations, oldest first.", None),
    "next_page_token": ("Give it as `page_token` for the next page; empty on the last page.", "MjAw"),
    "total_count": ("How many reservations all pages have.", 57),
    # Machines and cells
    "machine_id": ("The machine.", "machine_123"),
    "name": ("The machine's name for people.", "Central station, hall B"),
    "location": ("The machine's address for people.", "Platform 4, by the lifts"),
    "latitude": ("Degrees north.", 52.5251),
    "longitude": ("Degrees east.", 13.3694),
    "radius": ("In metres, around the given place.", 5000),
    "limit": ("How many machines at most; all of them if absent.", 10),
    "only_available_lockers": ("Whether a machine without a fitting free cell is left out.", True),
    "distance_in_metres": ("The distance from the given place.", 820),
    "online": ("Whether the machine is connected now.", True),
    "machine": ("The machine, as it was last known.", None),
    "machines": ("The machines.", None),
    "preferred_cells": ("The kinds of free cells that fit the packaging, best first.", None),
    "all_cells": ("Every cell of the machine.", None),
    "occupancy_information": ("How full the machine is.", "OCCUPANCY_STATUS_LOW"),
    "cell": ("The cell.", None),
    "cell_id": ("The cell's identifier in the machine's configuration.", "cell_a03"),
    "width": ("Inside width in millimetres.", 300),
    "height": ("Inside height in millimetres.", 200),
    "depth": ("Inside depth in millimetres.", 400),
    "heating": ("Whether the cell can be heated.", False),
    "cooling": ("Whether the cell can be cooled.", True),
    "weight_sensor": ("Whether the cell has a scale.", True),
    "blocked": ("Whether a technician or a maintenance ticket has blocked the cell.", False),
    "faulty": ("Whether a fault keeps the cell out of use.", False),
    "available": ("Whether the cell would be given to a parcel now; absent from older machines.", True),
    "low": ("Whether a person in a wheelchair reaches the cell; absent from older machines.", True),
    "max_weight": ("The cell's limit in grams; absent from older machines.", 10000),
    # Doors, maintenance, errors
    "reason": ("Why the door is opened, for the log and the webhook.", "customer called support"),
    "platform_reference_id": ("Your own reference, repeated by the webhook.", "case-77"),
    "request_id": ("The `X-Request-ID` of the call.", "7f1c2b1e-0a52-4a54-9d0a-3d9f6f0e8f11"),
    "accepted_at": ("When the call was accepted, in UTC.", _TIME),
    "description": ("The label on the cell's door.", "A03"),
    "severity": ("How urgent it is.", "MEDIUM"),
    "block_cell_immediately": ("Whether the cell takes no parcel from now on.", True),
    "maintenance_ticket_id": ("The ticket.", "maint_9e2b7a40c1d84f6e8b3a5d0f7c6e1b29"),
    "message": ("A text for people; its wording may change.", "no cell of this machine fits the parcel"),
    "code": ("The number of the error; the table in `docs/integrate.md` says what to do.", 8),
    "details": ("google.rpc details: BadRequest names each wrong field, ErrorInfo gives a reason.", []),
    "source_type": ("Who caused it: a call of the API, or a person at the machine.", "SOURCE_TYPE_MACHINE"),
    "outcome": ("Whether the door opened.", "OPENED"),
    # Operations
    "abandoned": ("Abandoned parcels that still lie in their cells.", None),
    "tickets": ("Maintenance tickets, the most urgent first.", None),
    "dead_webhooks": ("Webhooks that their receivers did not accept for days.", None),
    "unknown_reservations": ("Reservations that are live here and unknown to their machine.", None),
    "since": ("Since when, in UTC.", _TIME),
    "closed_at": ("When the ticket was closed, in UTC.", _TIME),
    "webhook_id": ("The webhook's number, for retrying it.", 17),
    "host": ("The receiver's host.", "platform.example.org"),
    "event_type": ("The kind of the event.", "EVENT_TYPE_DROPOFF"),
    "attempts": ("How often it was sent.", 12),
    "last_problem": ("What went wrong in the last attempt.", "HTTP 503"),
    "health": ("What the machine reports of itself; absent while it is offline.", None),
    "verdict": ("`good`; `degraded`: parcels still come and go; `fault`: they do not.", "good"),
    "alarms": ("How many alarms of each kind stand.", {"DOOR_AJAR": 1}),
    "cells": ("How many cells the machine has.", 24),
    "cells_out": ("How many of them are out of use.", 1),
    "buses_down": ("The buses that do not work.", []),
    "journal_writable": ("Whether the machine can write its journal.", True),
    "clock_synced": ("Whether its clock is synchronised.", True),
    "refused_messages": ("How many of its messages this gateway rejected since its start.", 0),
    "instance": (
        "The hardware: the serial number of its board, and the id of its journal.",
        "10000000abcd/7c1e",
    ),
    "instances": ("What each of the two machines published of itself.", ["10000000abcd/7c1e"]),
    "history": ("`lost` or `asking` while the machine's history is in doubt.", "lost"),
    "twins": ("Two machines that use one machine_id; absent if there is one.", None),
}
"""By the field's name: description, example (None: an object, or a list of objects with examples)."""

MODEL_TEXTS: dict[str, tuple[str, Any]] = {
    "EchoBody.message": ("Any text.", "hello"),
    "EchoResponse.message": ("The text of the request.", "hello"),
    "HealthResponse.status": ("`ok`, or what is wrong.", "ok"),
    "MaintenanceBody.description": ("What is wrong, for the technician.", "the door sticks"),
    "MaintenanceBody.cell_id": (
        "The cell, by its id or the label on its door; needed where the cell is to be blocked.",
        "cell_a03",
    ),
    "MaintenanceBody.machine_id": ("The machine; needed where no cell is named.", "machine_123"),
    "MaintenanceResponse.status": ("A new ticket is open.", "OPEN"),
    "TicketView.description": ("What is wrong.", "the door sticks"),
    "TicketView.status": ("`OPEN` while work remains, then `CLOSED`.", "OPEN"),
    "TicketView.cell": ("The label on the cell's door; absent for the whole machine.", "A03"),
    "AbandonedParcel.cell": ("The label on the cell's door.", "A03"),
    "NotedReservation.cell": ("The label on the cell's door.", "A03"),
    "UnknownReservation.cell": ("The label on the cell's door.", "A03"),
    "OperatorActBody.reason": ("Why; it is recorded with your name.", "the door rubs at the frame"),
    "FleetMachine.link": ("What the gateway saw of its link.", None),
    "SearchBody.packaging": ("Only cells that fit this parcel count.", None),
    **{
        f"PackagingBody.{side}": (f"Outside {side} in millimetres.", mm)
        for side, mm in (("width", 250), ("height", 150), ("depth", 350))
    },
    **{
        f"{model}.status": ("The reservation's status.", "RESERVATION_STATUS_DROPPED_OFF")
        for model in ("ListedReservation", "ReservationResponse", "NotedReservation", "UnknownReservation")
    },
    "CellDetail.status": ("The use of the cell.", "IDLE"),
}
"""By `Model.field`: where a name means something else."""

PARAMETERS: dict[str, tuple[str, Any]] = {
    "reservation_id": TEXTS["reservation_id"],
    "machine_id": TEXTS["machine_id"],
    "ticket_id": TEXTS["maintenance_ticket_id"],
    "position": TEXTS["webhook_id"],
    "label": ("The label on the cell's door.", "C07"),
    "before": ("Only events before this sequence; absent for the newest.", 4661),
    "q": ("Only machines with this text in their id, name, place or version.", "station"),
    "state": ("Only machines in this state.", "problem"),
    "version": ("Only machines with this version of the daemon.", "0.2.0"),
    "site": ("Only machines at this place (`location`).", "Platform 4, by the lifts"),
    "text": ("The QR text of a reservation.", _QR),
    "page_size": ("How many entries a page has.", 50),
    "page_token": ("`next_page_token` of the page before; absent for the first page.", "MjAw"),
    "limit": ("How many of the newest.", 50),
    "request_id": ("The id of a service command.", "svc_0f1e2d3c"),
    "release_id": ("The id of a release.", "rel_0f1e2d3c"),
    "after": ("Only rows after this position; 0 for all.", 0),
    "created_after": ("Only reservations made after this time, in seconds since 1970.", 1752141600),
}


def explain_fields(name: str, schema: Json) -> None:
    """Adds description and example to every field of the schema `name` whose model gives none.

    Raises `KeyError` for a field without a text.
    """
    for field, kind in schema.get("properties", {}).items():
        if "description" in kind and ("examples" in kind or _is_composed(kind)):
            continue
        text, example = MODEL_TEXTS.get(f"{name}.{field}") or TEXTS[field]
        add_text(kind, text, example)


def _is_composed(kind: Json) -> bool:
    """Whether a field holds other models: they have the examples."""
    return "$ref" in kind or "$ref" in kind.get("items", {})


def explain_parameter(parameter: Json) -> None:
    """Adds description and example to a parameter that has none."""
    if "description" not in parameter:
        text, example = PARAMETERS[parameter["name"]]
        parameter["description"] = text
        parameter["example"] = example


def add_text(kind: Json, text: str, example: Any) -> None:
    """Adds a description, unless there is one, and an example."""
    kind.setdefault("description", text)
    if example is not None:
        kind["examples"] = [example]
