"""What `/api/operations/v1` answers about machines."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from cloud_gateway.events.twins import TwinsFound
from cloud_gateway.operations.overview import TicketView
from edge_agent.model import Alarm, CellStatus, Door
from edge_agent.protocol.api import Body
from edge_agent.protocol.events import EventType, HistoryState

_AT = "2026-11-30T10:00:00Z"


def shown(text: str, example: Any, **given: Any) -> Any:
    """A field with its description and an example, for /openapi.json."""
    return Field(description=text, examples=[example], **given)


class Problem(Body):
    """One kind of problem of a machine."""

    kind: str = shown("Which kind; docs/gateway.md lists them.", "offline")
    points: int = shown("What it adds to the score.", 1000)


class LinkQuality(Body):
    """What the gateway saw of a machine's link in the last 24 hours, or since `observed_since`."""

    losses: int = shown("How often the machine went offline.", 2)
    offline_s: int = shown("For how many seconds it was offline.", 340)
    restarts: int = shown("How often its daemon started anew.", 1)


class FleetMachine(Body):
    """One machine of the fleet. A figure that the gateway does not know is absent."""

    machine_id: str = shown("The machine.", "machine_123")
    name: str = shown("Its name for people.", "Central station, hall B")
    location: str = shown("Its address for people; the site.", "Platform 4, by the lifts")
    online: bool = shown("Whether it is connected now.", True)
    state_since: str | None = shown("Since when it is known to be online or offline.", _AT, default=None)
    last_seen: str | None = shown("When its last message came.", _AT, default=None)
    agent_version: str | None = shown("The version of its daemon.", "0.2.0", default=None)
    up_since: str | None = shown("When its daemon started.", _AT, default=None)
    verdict: Literal["good", "degraded", "fault"] | None = shown(
        "Its own judgement; absent while it is offline.", "good", default=None
    )
    alarms: dict[str, int] = shown("How many alarms of each kind stand.", {"DOOR_AJAR": 1})
    cells: int = shown("How many cells it has.", 24)
    cells_out: int = shown("How many of them are out of use.", 1)
    unlocks: int | None = shown("Of how many of its last unlocks the rate is made.", 480, default=None)
    first_open_rate: float | None = shown(
        "The share of them whose door opened at the first pulse, from 0 to 1.", 0.995, default=None
    )
    worn: list[str] | None = shown("Cells whose lock opens ever more slowly.", ["C07"], default=None)
    events_waiting: int | None = shown(
        "Events that the broker did not have yet, as last published.", 0, default=None
    )
    link: LinkQuality
    open_tickets: int = shown("How many maintenance tickets are open.", 1)
    worst_ticket: str | None = shown("The highest severity of the open tickets.", "HIGH", default=None)
    refused_messages: int = shown("How many of its messages this gateway rejected since its start.", 0)
    history: HistoryState | None = shown("Whether its journal is complete.", "sound", default=None)
    two_machines: bool = shown("Whether two machines use this machine_id.", False)
    score: int = shown("The sum of the points of its problems; 0 without any.", 1005)
    problems: list[Problem] = Field(description="What is wrong with it, the weightiest first.")


class FleetPage(Body):
    """Response to GET /machines: the machines that fit, the highest score first."""

    machines: list[FleetMachine] = Field(description="One page of machines.")
    next_page_token: str = shown("Give it as `page_token` for the next page; empty on the last one.", "MjAw")
    total_count: int = shown("How many machines all pages have.", 57)
    broker_connected: bool = shown("Whether the gateway is connected; if not, all are offline.", True)
    observed_since: str = shown("Since when this gateway observes links and telemetry.", _AT)
    at: str = shown("When this was made.", _AT)


class FleetCell(Body):
    """One cell: its state, and what telemetry last gave."""

    label: str = shown("The label on its door.", "C07")
    cell_id: str = shown("Its identifier in the machine's configuration.", "cell_c07")
    height: int = shown("Inside height in millimetres.", 200)
    status: CellStatus = shown("The use of the cell.", "IDLE")
    blocked: bool = shown("Whether a technician or a ticket has blocked it.", False)
    faulty: bool = shown("Whether a fault keeps it out of use.", False)
    door: Door | None = shown("The door as it reads.", "closed", default=None)
    in_doubt: bool | None = shown("Whether the door contact is not believed.", False, default=None)
    alarms: list[Alarm] | None = shown("The alarms that stand for it.", [], default=None)
    mass_g: int | None = shown("What its scale reads, in grams.", 0, default=None)
    temperature_c: float | None = shown("What its probe reads.", 4.5, default=None)
    worn: bool | None = shown("Whether its lock opens ever more slowly.", False, default=None)
    unlocks: int | None = shown("Of how many of its last unlocks the rate is made.", 20, default=None)
    first_open_rate: float | None = shown(
        "The share of them that opened at the first pulse.", 1.0, default=None
    )


class FleetEvent(Body):
    """An event of a machine, without codes."""

    sequence: int = shown("Its number in the machine's journal.", 4711)
    at: str = shown("When it happened, by the machine's clock.", _AT)
    event_type: EventType = shown("What happened.", "EVENT_TYPE_PICKUP")
    cell: str | None = shown("The label on the cell's door.", "C07", default=None)
    reservation_id: str | None = shown("The reservation.", "res_1f0a6c2e9b7d4c53", default=None)
    platform_order_id: str | None = shown("The platform's id of the order.", "order-1234", default=None)
    alarm: str | None = shown("The alarm that was raised or cleared.", "DOOR_AJAR", default=None)
    device: str | None = shown("The device that it is about.", "locks_a", default=None)
    outcome: str | None = shown("The outcome of an unlock.", "OPENED", default=None)
    cause: str | None = shown("Why a cell's state changed.", "BLOCKED", default=None)
    text: str | None = shown("Reason or description.", "the door rubs", default=None)
    actor: str | None = shown("The technician who acted at the machine.", "ada", default=None)


class FleetEvents(Body):
    """Response to GET /machines/{machine_id}/events: applied events of its present journal, newest first."""

    events: list[FleetEvent] = Field(description="One page of events.")
    next_before: int = shown("Give it as `before` for older ones; 0 if there are none.", 4661)


class FleetAct(Body):
    """What a person did to this machine at the gateway's pages."""

    at: str = shown("When.", _AT)
    actor: str = shown("Who.", "ada@example.org")
    act: str = shown("What.", "block cell")
    target: str = shown("On what, and why.", "machine_123/C07 (the door rubs)")
    result: str = shown("Requested, done, refused, or the machine's error code.", "done")


class FleetMachineDetail(Body):
    """Response to GET /machines/{machine_id}."""

    machine: FleetMachine = Field(description="Its row of the fleet.")
    twins: TwinsFound | None = Field(default=None, description="The two machines that use this machine_id.")
    buses_down: list[str] = shown("Its buses that do not work.", [])
    telemetry_at: str | None = shown("When its last telemetry came.", _AT, default=None)
    cells: list[FleetCell] = Field(description="Every cell, by label.")
    tickets: list[TicketView] = Field(description="Open tickets, then those closed last.")
    events: list[FleetEvent] = Field(description="Its last events, newest first.")
    acts: list[FleetAct] = Field(description="What people did to it, newest first.")


class ActDone(Body):
    """Response to an act: it was carried out."""

    machine_id: str = shown("The machine.", "machine_123")
    target: str = shown("The cell's label, or the ticket's id.", "C07")
    act: str = shown("What was done.", "block cell")
