"""Everything that a machine sends is validated and parsed here, or rejected and counted.

A machine is only believed about its own topics, cells and reservations, within bounds (`value_bounds`) and
its quota; a reply only counts for a command that was sent. What passes is a validated model; nothing else of
the gateway reads a machine's payload. Rejected messages are counted for each machine and shown at
`/operations`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from cloud_gateway.machines.commands import MachineRefusal, Reply, SentCommand
from cloud_gateway.rate_limits import Bucket
from cloud_gateway.settings import DAY_S
from cloud_gateway.value_bounds import (
    DETAILS_MAX,
    SEQUENCE_MAX,
    TEXT_MAX,
    OutOfBounds,
    check,
    check_json,
    check_unmodelled,
    is_machine_id,
    read_json,
)
from edge_agent.errors import Code
from edge_agent.protocol.api import Body, Machine, ReservationView, refusal_from
from edge_agent.protocol.events import Event, Online
from edge_agent.protocol.service_commands import PART_BYTES, ReportedConfiguration, ServiceReport
from edge_agent.protocol.sync import SYNC_PAGE, Digest
from edge_agent.protocol.topics import machine_of

KIB = 1024
PACKET_MAX = 4096 * KIB
"""The broker's largest packet; only the replies in `LONG_REPLIES` need that much."""
EVENT_MAX = 32 * KIB
SERVICE_MAX = 2 * PART_BYTES
"""The longest report on a service command, in bytes."""
CONFIGURATION_MAX = 256 * 1024
"""The longest reported configuration, in bytes."""
STATE_MAX = {"online": 16 * KIB, "machine": 384 * KIB, "digest": 128 * KIB}
"""For a machine with 512 cells, with room to spare."""
REPLY_MAX = 384 * KIB
LONG_REPLIES = frozenset({"sync", "list-reservations"})
QUOTA_BYTES = 64 * KIB * KIB
"""How many bytes of events one machine may send at once, and in a day (some fifty thousand events). Events
beyond it are not stored. The machine has them in its journal and is asked for them when the quota allows
it."""
OVERHEAD_BYTES = 256
"""The size of a row besides its payload."""
MACHINES_MAX = 10_000
"""The most machines that are counted; beyond that the one that sent nothing for longest is forgotten."""
KNOWN_CODES = frozenset(int(code) for code in Code)

Key = Annotated[str, Field(strict=True, pattern=r"^[ -~]{1,200}$")]
"""A text that fits into any index."""
AnyBody = TypeVar("AnyBody", bound=Body)


class EventNumber(Body):
    """The fields that place an event in its machine's sequence. An event that has them, but is otherwise
    unreadable, takes its number, so that it does not hold back later events."""

    machine_id: str
    sequence: Annotated[int, Field(strict=True, ge=1, le=SEQUENCE_MAX)]
    idempotency_key: Key
    journal_id: Key | None = None


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One event as a machine sent it; `event` is None if it is unreadable, and `problem` gives the reason."""

    number: EventNumber
    event: Event | None
    payload: str
    problem: str


class SyncPage(Body):
    """The reply to `sync`, its parts not yet read: an unreadable one must not hide the others."""

    journal_id: Key
    oldest_sequence: Annotated[int, Field(ge=0, le=SEQUENCE_MAX + 1)]
    last_sequence: Annotated[int, Field(ge=0, le=SEQUENCE_MAX)]
    events: Annotated[list[dict[str, Any]], Field(max_length=10 * SYNC_PAGE)]
    reservations: Annotated[list[dict[str, Any]], Field(max_length=1024)] | None = None


class NotEntitled(ValueError):
    """Something that this machine is not entitled to state; the text names it, and can be logged."""


@dataclass(slots=True)
class _Account:
    """What one machine has sent: its rejected messages by kind, and the rest of its quota."""

    rejected: Counter[str]
    quota: Bucket


class MachineAccounts:
    """For each machine its quota of events and the count of its rejected messages. Used on the event loop
    only. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        quota_bytes: int = QUOTA_BYTES,
        on_rejected: Callable[[str], None] = lambda _kind: None,
    ) -> None:
        """`on_rejected` is called with the kind of each rejected message."""
        self._on_rejected = on_rejected
        self._clock = clock
        self._quota_bytes = quota_bytes
        self._by_machine: OrderedDict[str, _Account] = OrderedDict()

    def rejected(self, machine_id: str) -> int:
        """How many messages of a machine were rejected since this gateway started."""
        account = self._by_machine.get(machine_id)
        return 0 if account is None else account.rejected.total()

    def count_rejected(self, machine_id: str, kind: str) -> None:
        """Counts a rejected message of a kind: event, state, reply or quota."""
        self._account(machine_id).rejected[kind] += 1
        self._on_rejected(kind)

    def take_quota(self, machine_id: str, sizes: Sequence[int]) -> bool:
        """Takes events of these sizes in bytes from the machine's quota; False, and nothing is taken, if it
        has no room for them."""
        return not self._account(machine_id).quota.take(
            self._clock(), sum(sizes) + OVERHEAD_BYTES * len(sizes)
        )

    def _account(self, machine_id: str) -> _Account:
        account = self._by_machine.get(machine_id)
        if account is None:
            quota = Bucket(self._quota_bytes / DAY_S, self._quota_bytes, self._clock())
            account = self._by_machine[machine_id] = _Account(Counter(), quota)
            if len(self._by_machine) > MACHINES_MAX:
                self._by_machine.popitem(last=False)
        self._by_machine.move_to_end(machine_id)
        return account


def sender_of(topic: str) -> str:
    """The machine that a topic belongs to. Raises `NotEntitled`."""
    machine_id = machine_of(topic)
    if machine_id is None or not is_machine_id(machine_id):
        raise NotEntitled("not a topic of a machine")
    return machine_id


def reason_of(error: Exception) -> str:
    """Why a message was rejected, without its content."""
    if isinstance(error, ValidationError):
        return refusal_from(error).message
    if isinstance(error, (OutOfBounds, NotEntitled)):
        return str(error)
    return type(error).__name__


def read_event(machine_id: str, payload: bytes) -> ReceivedEvent:
    """Reads an event. Raises `ValueError` (pydantic's included) if it has no valid `EventNumber`."""
    return received_event(machine_id, read_json(payload, PACKET_MAX), payload.decode(), len(payload))


def received_event(machine_id: str, document: Any, text: str, size: int) -> ReceivedEvent:
    """A parsed document as an event; `text` is its JSON, of `size` bytes. Raises `ValueError` (pydantic's
    included) if it has no valid `EventNumber`."""
    number = EventNumber.model_validate(document)
    if number.machine_id != machine_id:
        raise NotEntitled("machine_id: another machine's event")
    if size > EVENT_MAX:
        return ReceivedEvent(number, None, text[:TEXT_MAX], f"payload: larger than {EVENT_MAX} bytes")
    try:
        return ReceivedEvent(number, event_in(document), text, "")
    except ValueError as error:
        return ReceivedEvent(number, None, text, reason_of(error))


def event_in(document: Any) -> Event:
    """A document as an event, within bounds. Raises `ValueError` (pydantic's included)."""
    event = Event.model_validate(document)
    check(event)
    return event


def read_stored_event(payload: str) -> Event:
    """Reads an event that was stored and waited. Raises `ValueError` (pydantic's included)."""
    return event_in(read_json(payload.encode(), EVENT_MAX))


def read_state(machine_id: str, name: str, payload: bytes) -> Online | Machine | Digest:
    """Reads a state by the last part of its topic. Raises `ValueError` (pydantic's included)."""
    models: dict[str, type[Online] | type[Machine] | type[Digest]] = {
        "online": Online,
        "machine": Machine,
        "digest": Digest,
    }
    model = models.get(name)
    if model is None:
        raise NotEntitled("not one of the three states")
    check_json(payload, STATE_MAX[name])
    state = model.model_validate_json(payload)
    check(state)
    if not isinstance(state, Online) and state.machine_id != machine_id:
        raise NotEntitled("machine_id: another machine's state")
    if isinstance(state, Machine):
        _check_cells(state)
    return state


def read_service_report(machine_id: str, payload: bytes) -> ServiceReport:
    """Reads the report on a service command. Raises `ValueError` (pydantic's included)."""
    report = ServiceReport.model_validate(read_json(payload, SERVICE_MAX))
    if report.machine_id != machine_id:
        raise NotEntitled("machine_id: another machine's report")
    check_unmodelled(report.model_dump(exclude={"data"}), "payload")
    return report


def read_configuration(machine_id: str, payload: bytes) -> ReportedConfiguration:
    """Reads the configuration that a machine reports. Raises `ValueError` (pydantic's included)."""
    reported = ReportedConfiguration.model_validate(read_json(payload, CONFIGURATION_MAX))
    if reported.machine_id != machine_id:
        raise NotEntitled("machine_id: another machine's configuration")
    check_unmodelled(reported.model_dump(), "payload")
    return reported


def _check_cells(machine: Machine) -> None:
    """Raises `OutOfBounds` if a machine names a cell twice, or if an id or a label is too long."""
    for n, cell in enumerate(machine.all_cells):
        if len(cell.cell_id) > 64 or len(cell.description) > 64:
            raise OutOfBounds(f"all_cells[{n}]: cell_id or description longer than 64 characters")
    if len({cell.cell_id for cell in machine.all_cells}) < len(machine.all_cells):
        raise OutOfBounds("all_cells: two with one cell_id")


def read_reply(command: SentCommand, payload: bytes) -> Reply | MachineRefusal:
    """Reads the reply to a command. Raises `ValueError` (pydantic's included) if it is not one, or does not
    fit the command."""
    document = read_json(payload, PACKET_MAX if command.name in LONG_REPLIES else REPLY_MAX)
    if not isinstance(document, dict):
        raise OutOfBounds("payload: not an object")
    error, result = document.get("error"), document.get("result")
    if isinstance(error, dict):
        return _refusal_in(error)
    if not isinstance(result, dict):
        raise OutOfBounds("payload: neither result nor error")
    if command.name not in LONG_REPLIES:
        check_unmodelled(result, "result")
    given = result.get("reservation")
    view = None if given is None else view_in(command.machine_id, given)
    if view is not None and view.reservation_id != command.fields.get("reservation_id"):
        raise NotEntitled("result.reservation: another one than the command's")
    return Reply(result, view, len(payload))


def _refusal_in(error: dict[str, Any]) -> MachineRefusal:
    code, message, details = error.get("code"), error.get("message"), error.get("details")
    if isinstance(code, bool) or not isinstance(code, int) or not isinstance(message, str):
        raise OutOfBounds("error: without code and message")
    check_unmodelled(message, "error.message")
    details = details if isinstance(details, list) else []
    if len(details) > DETAILS_MAX:
        raise OutOfBounds(f"error.details: more than {DETAILS_MAX}")
    check_unmodelled(details, "error.details")
    return MachineRefusal(code if code in KNOWN_CODES else int(Code.INTERNAL), message, details)


def view_in(machine_id: str, document: Any) -> ReservationView:
    """A document as a reservation of a machine. Raises `ValueError` (pydantic's included)."""
    view = ReservationView.model_validate(document)
    check(view)
    if view.machine_id != machine_id:
        raise NotEntitled("machine_id: another machine's reservation")
    return view


def with_own_fields(view: ReservationView, fields: dict[str, Any]) -> ReservationView:
    """A reserve's reply with the fields of the gateway's own request: the machine does not decide them."""
    own = ("platform", "platform_order_id", "notes", "webhook_url")
    return view.model_copy(update={name: fields.get(name, "") for name in own})
