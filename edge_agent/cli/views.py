"""The tables of `status`, `cells`, `alarms` and `events`, made of the bodies of the local API."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from edge_agent.cli.text.display import climate_word, door_word, flag_word, key_word, state_word
from edge_agent.cli.text.event_rows import event_row
from edge_agent.cli.text.language import _, from_daemon
from edge_agent.cli.text.times import moment


def status_table(found: dict[str, Any], *, utc: bool) -> Table:
    """The machine at a glance, `/v1/status`."""
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in found.items():
        if key not in ("alarms", "buses"):
            table.add_row(key_word(key), escape(_readable(value, utc)))
    for name, bus in found["buses"].items():
        counts = ", ".join(f"{count} {key_word(key)}" for key, count in bus.items() if count)
        table.add_row(_("bus {name}", name=name), counts)
    for alarm in found["alarms"]:
        where = alarm["label"] or alarm["device"]
        place = f" {escape(where)}" if where else ""
        since = _("since {time}", time=moment(alarm["since"], utc=utc))
        detail = f": {escape(from_daemon(alarm['detail']))}" if alarm["detail"] else ""
        table.add_row(_("alarm"), f"[yellow]{alarm['alarm']}{place}[/] {since}{detail}")
    return table


def _readable(value: Any, utc: bool, key: str = "") -> str:
    """A value of `/v1/status` for people; a time has a key that ends with `_at`."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, dict):
        parts = (f"{key_word(name)} {_readable(one, utc, name)}" for name, one in value.items())
        return ", ".join(parts)
    if isinstance(value, list):
        return ", ".join(_readable(one, utc) for one in value)
    return moment(value, utc=utc) if key.endswith("_at") else state_word(str(value))


def alarms_table(found: list[dict[str, Any]], *, utc: bool) -> Table:
    """The standing alarms, `/v1/alarms`."""
    since_column = Column(_("since"), no_wrap=True)
    table = Table(_("alarm"), _("cell"), _("device"), since_column, _("count"), _("detail"))
    for alarm in found:
        name, since = f"[yellow]{alarm['alarm']}[/]", moment(alarm["since"], utc=utc)
        detail = escape(from_daemon(alarm["detail"]))
        device = alarm["device"]
        if device is not None:  # with a label it is a part of the cell
            device = escape(device if alarm["label"] is None else from_daemon(device))
        table.add_row(name, alarm["label"], device, since, str(alarm["count"]), detail)
    return table


def events_table(found: list[dict[str, Any]], *, utc: bool) -> Table:
    """Events and lines of the ledger, `/v1/events`."""
    when = Column(_("when"), no_wrap=True)
    table = Table(when, _("what"), _("cell"), _("reservation"), _("who"), _("more"))
    for row in found:
        table.add_row(*map(escape, event_row(row, utc=utc)))
    return table


def cells_table(found: list[dict[str, Any]]) -> Table:
    """Every cell, `/v1/cells`. Statuses keep their names: `edge-agent explain` knows them."""
    table = Table(
        _("cell"),
        Column(_("door"), no_wrap=True),
        _("status"),
        _("flags"),
        Column(_("weight"), no_wrap=True),
        Column(_("temperature"), no_wrap=True),
        _("climate"),
        _("reservation"),
    )
    for cell in found:
        flags = " ".join(flag_word(flag) for flag in ("blocked", "faulty") if cell[flag])
        weight = "" if cell["mass_g"] is None else f"{cell['mass_g']} g"
        if cell["tare_g"]:
            weight += " " + _("(tare {grams} g)", grams=cell["tare_g"])
        degrees = "" if cell["temperature_c"] is None else f"{cell['temperature_c']:.1f} °C"
        colour = {"open": "yellow", "unknown": "red"}.get(cell["door"])
        door = door_word(cell["door"])
        door = door if colour is None else f"[{colour}]{door}[/]"
        holder = cell["reservation_id"] or ""
        climate = climate_word(cell["climate"]) if cell["heating"] or cell["cooling"] else ""
        table.add_row(cell["label"], door, cell["status"], flags, weight, degrees, climate, holder)
    return table
