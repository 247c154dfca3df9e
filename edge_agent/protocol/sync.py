"""The machine's digest and the reply to `sync`, by which a gateway finds and requests the events that it
lacks.

The digest is published on `state/digest` (QoS 1, retained) after every connection, before the events that
waited. A gateway that holds less than the digest shows sends `sync` from the first missing sequence, page by
page, until a page reaches `last_sequence`; that page also has every live reservation, with its codes.
"""

from __future__ import annotations

from edge_agent.model import CellStatus, ReservationStatus
from edge_agent.protocol.api import Body, ReservationView
from edge_agent.protocol.events import Event

SYNC_PAGE = 100
"""At most this many events are in one reply to `sync`."""


class Digest(Body):
    """What the machine holds after its event `last_sequence`; 0 if it never published one.

    `oldest_sequence`: the first event that `sync` can still return; `last_sequence` + 1 if there is none.
    """

    machine_id: str
    journal_id: str
    boot_id: str
    at: str
    oldest_sequence: int
    last_sequence: int
    reservations: dict[str, ReservationStatus]
    """Every live reservation by its id: those that hold a cell."""
    cells: dict[str, CellStatus]
    """Every cell by its label."""
    run: str | None = None
    """The start that published it, as in `state/online`."""


class SyncReply(Body):
    """Result of `sync`: events from `from_sequence` on, oldest first, at most `SYNC_PAGE`.

    Events older than `oldest_sequence` are no longer available. `reservations` is on the last page only: the
    live ones as they stand after `last_sequence`.
    """

    journal_id: str
    oldest_sequence: int
    last_sequence: int
    events: list[Event]
    reservations: list[ReservationView] | None = None
