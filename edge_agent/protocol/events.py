"""Events from a machine: the webhook body plus the machine's own ordering fields (topic `evt`, QoS 1)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from edge_agent.model import Alarm, CellCause, CellStatus, Severity, Source, UnlockOutcome
from edge_agent.protocol.api import Body, CellReference


class EventType(StrEnum):
    """Every type of event that this version of the machine publishes."""

    RESERVATION_CREATED = "EVENT_TYPE_RESERVATION_CREATED"
    DROPOFF = "EVENT_TYPE_DROPOFF"
    PICKUP = "EVENT_TYPE_PICKUP"
    PICKUP_FAILED = "EVENT_TYPE_PICKUP_FAILED"
    RESERVATION_CANCELLED = "EVENT_TYPE_RESERVATION_CANCELLED"
    PICKUP_ABANDONED = "EVENT_TYPE_PICKUP_ABANDONED"
    RESERVATION_COMPLETED = "EVENT_TYPE_RESERVATION_COMPLETED"
    OPEN_DOOR_FULFILLED = "EVENT_TYPE_OPEN_DOOR_FULFILLED"
    MAINTENANCE_REQUESTED = "EVENT_TYPE_MAINTENANCE_REQUESTED"
    CELL_STATUS_CHANGED = "EVENT_TYPE_CELL_STATUS_CHANGED"
    ALARM_RAISED = "EVENT_TYPE_ALARM_RAISED"
    ALARM_CLEARED = "EVENT_TYPE_ALARM_CLEARED"


WEBHOOK_TYPES = frozenset(
    {
        EventType.DROPOFF,
        EventType.PICKUP,
        EventType.PICKUP_FAILED,
        EventType.RESERVATION_CANCELLED,
        EventType.PICKUP_ABANDONED,
        EventType.OPEN_DOOR_FULFILLED,
    }
)
"""The types that trigger a webhook; the others only feed the gateway's projection."""


class MachineReference(Body):
    """The machine in a webhook."""

    machine_id: str
    name: str
    location: str


class EventDetail(Body):
    """The object that an event carries under its type's own key."""

    source_type: Source
    machine: MachineReference
    cell: CellReference | None = None
    outcome: UnlockOutcome | None = None
    """Outcome of the unlock: of a failed one, and of every open-door."""
    reason: str | None = None
    recovered: bool | None = None
    """True if nobody observed it: the machine concluded it from the journal and later readings."""
    status: CellStatus | None = None
    blocked: bool | None = None
    faulty: bool | None = None
    cause: CellCause | None = None
    """Why `status`, `blocked` or `faulty` changed. MOVED comes with the reservation and its new cell."""
    request_id: str | None = None
    """The X-Request-ID of the open-door's request."""
    platform_reference_id: str | None = None
    maintenance_ticket_id: str | None = None
    description: str | None = None
    severity: Severity | None = None
    alarm: Alarm | None = None
    device: str | None = None
    actor: str | None = None
    """The name of the technician who acted at the machine. An OPEN_DOOR_FULFILLED with a name and without a
    reservation is a technician's opening; `description` gives the reason."""


DETAIL_KEY: dict[EventType, str] = {
    EventType.RESERVATION_CREATED: "reservation_created_event",
    EventType.DROPOFF: "drop_off_event",
    EventType.PICKUP: "pickup_event",
    EventType.PICKUP_FAILED: "pickup_failed_event",
    EventType.RESERVATION_CANCELLED: "reservation_cancelled_event",
    EventType.PICKUP_ABANDONED: "pickup_abandoned_event",
    EventType.RESERVATION_COMPLETED: "reservation_completed_event",
    EventType.OPEN_DOOR_FULFILLED: "open_door_fulfilled_event",
    EventType.MAINTENANCE_REQUESTED: "maintenance_requested_event",
    EventType.CELL_STATUS_CHANGED: "cell_status_changed_event",
    EventType.ALARM_RAISED: "alarm_raised_event",
    EventType.ALARM_CLEARED: "alarm_cleared_event",
}


class Event(Body):
    """One event on `evt`; it has exactly the detail of its type, and absent fields are left out."""

    event_id: str
    idempotency_key: str
    event_time_unix_timestamp: int
    event_time_timestamp: str
    event_type: EventType
    machine_id: str
    sequence: int
    journal_id: str | None = None
    """The journal that counts `sequence`: a machine with a new disk starts again at 1, under another id."""
    boot_id: str
    clock_synced: bool
    uptime_ms: int | None = None
    """When it happened on the clock of the boot `boot_id`, in milliseconds. Dates from before the clock was
    synchronised are corrected with it."""
    platform_order_id: str | None = None
    reservation_id: str | None = None
    request_id: str | None = None
    reservation_created_event: EventDetail | None = None
    drop_off_event: EventDetail | None = None
    pickup_event: EventDetail | None = None
    pickup_failed_event: EventDetail | None = None
    reservation_cancelled_event: EventDetail | None = None
    pickup_abandoned_event: EventDetail | None = None
    reservation_completed_event: EventDetail | None = None
    open_door_fulfilled_event: EventDetail | None = None
    maintenance_requested_event: EventDetail | None = None
    cell_status_changed_event: EventDetail | None = None
    alarm_raised_event: EventDetail | None = None
    alarm_cleared_event: EventDetail | None = None

    @property
    def detail(self) -> EventDetail | None:
        """The object under this type's key."""
        value: EventDetail | None = getattr(self, DETAIL_KEY[self.event_type])
        return value


class Health(Body):
    """The machine's health: `good`; `degraded` if something is wrong but parcels still come and go; `fault`
    if they do not."""

    verdict: Literal["good", "degraded", "fault"]
    alarms: dict[str, int]
    """How many alarms of each kind stand."""
    cells: int
    cells_out: int
    """Cells that are blocked, faulty, or have a door that cannot be read."""
    buses_down: list[str]
    journal_writable: bool
    clock_synced: bool


HistoryState = Literal["sound", "asking", "lost"]
"""Whether the journal holds everything that the machine did. `asking`: it is new, or another party knows of
more than it holds; `lost`: JOURNAL_LOST stands. The gateway answers the last two with the command
`restore`."""


class Online(Body):
    """`state/online`: birth, will and clean good-bye, retained; published again when `health` changes."""

    online: bool
    boot_id: str
    instance: str | None = None
    """This machine's identity: the serial number of its board, and the id of its journal."""
    run: str | None = None
    """A random id of this start of the daemon. Two runs that publish alternately are two machines with
    one machine_id."""
    history: HistoryState | None = None
    """Absent from the will, the good-bye, and machines that do not report it."""
    agent_version: str
    at: str
    challenge: str | None = None
    """If commands are signed and the machine's clock is not synchronised: a command that changes something
    must repeat it, to prove that it was made just now."""
    health: Health | None = None
    """Absent from the will and the good-bye."""
