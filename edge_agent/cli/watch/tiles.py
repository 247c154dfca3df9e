"""What the wall shows, as text: a cell's tile, the line above, the health of the buses, the last events."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from edge_agent.cli.text.display import (
    climate_word,
    device_word,
    door_word,
    flag_word,
    state_word,
    status_word,
)
from edge_agent.cli.text.event_rows import event_row
from edge_agent.cli.text.language import _, from_daemon, plural
from edge_agent.cli.text.times import moment
from edge_agent.protocol.api import rfc3339

STATUS_STYLE = {
    "IDLE": "dim",
    "RESERVED": "cyan",
    "OCCUPIED": "bold blue",
    "IN_GRACE": "magenta",
    "AWAITING_CLEANUP": "yellow",
    "AWAITING_INSPECTION": "yellow",
}
DOOR = {"closed": ("▣", "green"), "open": ("□", "bold yellow"), "unknown": ("?", "bold red")}
"""Sign and style of each door state; readable without colour."""


def tile(cell: dict[str, Any]) -> Text:
    """Four lines: label and flags, door, use, what is measured."""
    sign, colour = DOOR[cell["door"]]
    word = door_word(cell["door"])
    word = word.upper() if cell["door"] == "open" else word
    return Text.assemble(
        (cell["label"], "bold"),
        *((f" {flag.upper()}", "bold red") for flag in _flags(cell)),
        "\n",
        (f"{sign} {word}", colour),
        "\n",
        _status(cell),
        "\n",
        "  ".join(_values(cell)),
    )


def line(cell: dict[str, Any]) -> Text:
    """The same in one line, for a screen that is too small for tiles."""
    sign, colour = DOOR[cell["door"]]
    text = Text.assemble(
        (f"{cell['label']:<4}", "bold"),
        (f"{sign} ", colour),
        *((f"{flag.upper()} ", "bold red") for flag in _flags(cell)),
        *(() if _flags(cell) else (_status(cell), " ")),
        " ".join(_values(cell)).replace(" °C", "°"),
    )
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _flags(cell: dict[str, Any]) -> list[str]:
    return [flag_word(name) for name in ("blocked", "faulty", "worn") if cell[name]]


def _status(cell: dict[str, Any]) -> tuple[str, str]:
    return status_word(cell["status"]), STATUS_STYLE.get(cell["status"], "")


def _values(cell: dict[str, Any]) -> list[str]:
    return [
        *([] if cell["mass_g"] is None else [f"{cell['mass_g']} g{'' if cell['mass_stable'] else ' ~'}"]),
        *([] if cell["temperature_c"] is None else [f"{cell['temperature_c']:.1f} °C"]),
        *([] if cell["climate"] == "off" else [climate_word(cell["climate"])]),
    ]


def details(cell: dict[str, Any]) -> Text:
    """All of the cell that is chosen, in one line."""
    parts = [
        *([_("reservation {id}", id=cell["reservation_id"])] if cell["reservation_id"] else []),
        *([_("blocked: {why}", why=cell["blocked_reason"])] if cell["blocked"] else []),
        *([_("ticket {id}", id=cell["maintenance_ticket_id"])] if cell["maintenance_ticket_id"] else []),
        *([_("faulty: {why}", why=from_daemon(cell["faulty_reason"] or ""))] if cell["faulty"] else []),
        *([_("tare {grams} g", grams=cell["tare_g"])] if cell["tare_g"] else []),
        plural("{number} unlock", "{number} unlocks", cell["unlocks"]),
        *([_("opens in {ms} ms", ms=cell["usual_open_ms"])] if cell["usual_open_ms"] else []),
    ]
    return Text.assemble((f"{cell['label']} ", "bold"), ", ".join(parts))


def headline(status: dict[str, Any]) -> Text:
    """The machine, and the alarms and faults of the whole machine."""
    broker = status["broker"]
    fault = status["storage_fault"]
    alarms, waiting = len(status["alarms"]), status["events_waiting"]
    return Text.assemble(
        (status["machine_id"], "bold"),
        f"  {_('broker')} ",
        (state_word(broker), "green" if broker == "connected" else "bold yellow"),
        f"  {_('clock')} ",
        (_("synchronised"), "green") if status["clock_synced"] else (_("not synchronised"), "yellow"),
        f"  {plural('{number} reservation', '{number} reservations', status['live_reservations'])}",
        f"  {plural('{number} event waits', '{number} events wait', waiting)}" if waiting else "",
        "  ",
        (plural("{number} alarm", "{number} alarms", alarms), "bold red" if alarms else "green"),
        (f"  {_('JOURNAL')}: {fault}", "bold red") if fault else "",
    )


def stale_headline(status: dict[str, Any], answered_s: float, *, utc: bool) -> Text:
    """The machine, and since when its daemon has not answered: the wall is as it was then."""
    since = moment(rfc3339(answered_s), utc=utc)
    return Text.assemble(
        (status["machine_id"], "bold"), "  " + _("NO ANSWER: the picture is of {time}", time=since)
    )


def health(status: dict[str, Any], buses: list[dict[str, Any]]) -> Text:
    """The buses with the devices that do not answer as they should, then the standing alarms."""
    text = Text()
    for bus in buses:
        state = (_("up"), "green") if bus["up"] else (_("down").upper(), "bold red")
        share = "" if bus["utilisation"] is None else f"{bus['utilisation']:.0%}"
        share = ", " + _("{share} busy", share=share) if share else ""
        text.append_text(Text.assemble((_("bus {name}", name=bus["bus"]) + " ", "bold"), state, share, "\n"))
        for device in bus["devices"]:
            if device["state"] != "answering" or device["failing_checks"]:
                why = ", ".join([device_word(device["state"]), *map(from_daemon, device["failing_checks"])])
                text.append(f"  {device['device']} ({device['address']}): {why}\n", "red")
    for alarm in status["alarms"]:
        label, device = alarm["label"], alarm["device"] or ""
        part = from_daemon(device) if label else device  # with a label it is a part of the cell
        where = " ".join(word for word in (label, part) if word)
        text.append_text(Text.assemble((alarm["alarm"], "bold red"), f" {where}\n"))
        if alarm["detail"]:
            text.append(f"  {from_daemon(alarm['detail'])}\n", "dim")
    return text


def event_line(row: dict[str, Any], *, utc: bool) -> Text:
    """One event or line of the ledger; its time in local time or in UTC, without the date."""
    at, what, cell, reservation, who, more = event_row(row, utc=utc)
    time = at.partition(" ")[2]
    rest = "  ".join(part for part in (reservation, who, more) if part)
    return Text.assemble((time, "dim"), f" {cell:<4}" if cell else " " * 5, " ", (what, "bold"), f"  {rest}")
