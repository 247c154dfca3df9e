"""The operators' page: plain HTML without scripts or external resources; every text is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from cloud_gateway.operations.overview import (
    AbandonedParcel,
    DeadWebhook,
    MachineState,
    NotedReservation,
    Overview,
    TicketView,
    UnknownReservation,
)
from edge_agent.protocol.events import Health

STYLE = """
:root { color-scheme: light dark; --line: #c8ccd0; --soft: #f2f4f6; --bad: #b3261e; --good: #1b6e35; }
@media (prefers-color-scheme: dark) {
  :root { --line: #454a50; --soft: #23272b; --bad: #ff8a80; --good: #81c995; }
}
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 80rem; padding: 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
nav a { margin-right: 1rem; }
section { margin-top: 2rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
caption { font-size: 1.2rem; font-weight: bold; padding: .5rem 0; text-align: left; }
th, td { border-bottom: 1px solid var(--line); max-width: 24rem; overflow-wrap: break-word;
  padding: .4rem .6rem; text-align: left; vertical-align: top; }
.id { font: .8rem/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
thead th { background: var(--soft); white-space: nowrap; }
.bad { color: var(--bad); font-weight: bold; }
.good { color: var(--good); }
button { font: inherit; padding: .2rem .8rem; }
form { margin: 0; }
@media (max-width: 40rem) {
  thead { position: absolute; clip-path: inset(50%); height: 1px; overflow: hidden; width: 1px; }
  tr { border-bottom: 2px solid var(--line); display: block; padding: .5rem 0; }
  tbody th, tbody td { border: 0; display: block; padding: .1rem 0; }
  tbody [data-name]::before { content: attr(data-name) ": "; font-weight: normal; opacity: .75; }
}
"""

_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; "
    f"style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: a browser would then send `Origin: null` with the page's own form.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_ALARMING = ("CRITICAL", "HIGH")
_STATUS = "RESERVATION_STATUS_"


def render(seen: Overview, at: str) -> str:
    """Renders the whole page; `at` is when it was made."""
    machines = sorted(seen.machines, key=_rank)
    problems = [machine for machine in machines if _rank(machine) < _WELL]
    sections = (
        (bool(problems), _machines(machines)),
        (any(ticket.status == "OPEN" for ticket in seen.tickets), _tickets(seen.tickets)),
        (True, _dead(seen.dead_webhooks)),
        (True, _unknown(seen.unknown_reservations)),
        (bool(seen.abandoned), _abandoned(seen.abandoned)),
        (False, _noted(seen.reservations)),
    )
    # What needs somebody comes first; a table without anything to do comes last.
    tables = [html for needs, html in sections if needs] + [html for needs, html in sections if not needs]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Locker operations</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n"
        f'<h1>Locker operations</h1>\n<p>As of <time datetime="{escape(at)}">{escape(at)}</time>. '
        'The same as <a href="/operations.json">JSON</a>.</p>\n<nav aria-label="Sections">'
        '<a href="#machines">Machines</a><a href="#tickets">Tickets</a>'
        '<a href="#abandoned">Abandoned parcels</a><a href="#notes">Notes</a></nav>\n</header>\n<main>\n'
        f"{''.join(tables)}</main>\n</body>\n</html>\n"
    )


_WELL = 3
"""The rank of a machine without a problem."""


def _rank(machine: MachineState) -> int:
    """The order of machines: in doubt or in fault first, then offline, then degraded, then well."""
    verdict = None if machine.health is None else machine.health.verdict
    if machine.twins is not None or machine.history not in (None, "sound") or verdict == "fault":
        return 0
    if not machine.online:
        return 1
    return 2 if verdict == "degraded" or machine.refused_messages else _WELL


def _tickets(found: Sequence[TicketView]) -> str:
    rows = [
        [
            _mark(ticket.severity or "", bad=ticket.status == "OPEN" and ticket.severity in _ALARMING),
            _text(ticket.machine_id),
            _text(ticket.cell or "whole machine"),
            _text(ticket.description),
            _time(ticket.created_at),
            _text({True: "yes", False: "no", None: ""}[ticket.blocked]),
            f"closed {_time(ticket.closed_at)}" if ticket.closed_at else _close_form(ticket),
            _id(ticket.maintenance_ticket_id),
        ]
        for ticket in found
    ]
    names = ("Severity", "Machine", "Cell", "Description", "Created", "Cell blocked", "State", "Ticket")
    return _table("tickets", "Maintenance tickets", names, rows, "No tickets.")


def _close_form(ticket: TicketView) -> str:
    target = f"/operations/tickets/{quote(ticket.maintenance_ticket_id, safe='')}/close"
    target += f"?machine_id={quote(ticket.machine_id, safe='')}"
    label = escape(f"Close ticket {ticket.maintenance_ticket_id}")
    button = f'<button type="submit" aria-label="{label}">Close</button>'
    return f'open <form method="post" action="{escape(target)}">{button}</form>'


def _abandoned(found: Sequence[AbandonedParcel]) -> str:
    rows = [
        [
            _text(parcel.machine_id),
            _text(parcel.cell),
            _text(parcel.platform_order_id),
            _time(parcel.since),
            _id(parcel.reservation_id),
        ]
        for parcel in found
    ]
    names = ("Machine", "Cell", "Order", "Since", "Reservation")
    return _table("abandoned", "Abandoned parcels that await clean-up", names, rows, "None.")


def _noted(found: Sequence[NotedReservation]) -> str:
    rows = [
        [
            _text(reservation.machine_id),
            _text(reservation.cell),
            _text(reservation.notes),
            _text(reservation.status.removeprefix(_STATUS).replace("_", " ").lower()),
            _text(reservation.platform),
            _text(reservation.platform_order_id),
            _time(reservation.created_at),
            _id(reservation.reservation_id),
        ]
        for reservation in found
    ]
    names = ("Machine", "Cell", "Notes", "Status", "Platform", "Order", "Created", "Reservation")
    return _table("notes", "Ongoing reservations with notes", names, rows, "None.")


def _dead(found: Sequence[DeadWebhook]) -> str:
    """Present only if there are any."""
    if not found:
        return ""
    rows = [
        [
            _mark(hook.host, bad=True),
            _text(hook.platform_order_id),
            _text(hook.event_type.removeprefix("EVENT_TYPE_").replace("_", " ").lower()),
            str(hook.attempts),
            _text(hook.last_problem),
            _time(hook.since),
            _retry_form(hook),
            _id(hook.reservation_id),
        ]
        for hook in found
    ]
    names = ("Receiver", "Order", "Event", "Attempts", "Last problem", "Since", "State", "Reservation")
    return _table("webhooks", "Dead webhooks (no more retries)", names, rows, "None.")


def _retry_form(hook: DeadWebhook) -> str:
    label = escape(f"Try webhook {hook.webhook_id} again")
    button = f'<button type="submit" aria-label="{label}">Try again</button>'
    return f'<form method="post" action="/operations/webhooks/{hook.webhook_id}/retry">{button}</form>'


def _unknown(found: Sequence[UnknownReservation]) -> str:
    """Present only if there are any."""
    if not found:
        return ""
    rows = [
        [
            _mark(reservation.machine_id, bad=True),
            _text(reservation.cell),
            _text(reservation.status.removeprefix(_STATUS).replace("_", " ").lower()),
            _text(reservation.platform),
            _text(reservation.platform_order_id),
            _time(reservation.since),
            _id(reservation.reservation_id),
        ]
        for reservation in found
    ]
    names = ("Machine", "Cell", "Status", "Platform", "Order", "Since", "Reservation")
    return _table("unknown", "Reservations that their machine does not know", names, rows, "None.")


def _health(health: Health | None) -> str:
    """The verdict and its reasons."""
    if health is None:
        return ""
    reasons = [
        *(f"{count} {alarm}" for alarm, count in health.alarms.items()),
        *([f"{health.cells_out} of {health.cells} cells out"] if health.cells_out else []),
        *(f"bus {name} down" for name in health.buses_down),
        *([] if health.journal_writable else ["journal cannot be written"]),
    ]
    good = health.verdict == "good"
    mark = _mark(health.verdict, bad=health.verdict == "fault", good=good)
    return f"{mark} {_text(', '.join(reasons))}" if reasons else mark


def _doubt(machine: MachineState) -> str:
    """A lost history, or a twin with the form for the operator's decision."""
    html = ""
    if machine.history not in (None, "sound"):
        html += f" {_mark(f'history {machine.history}', bad=True)}"
    if machine.twins is not None:
        named = _text(" and ".join(machine.twins.instances))
        action = f"/operations/machines/{quote(machine.machine_id, safe='')}/release"
        html += (
            f" {_mark('two machines', bad=True)} {named}"
            f'<form method="post" action="{action}"><button>Only the right machine runs now</button></form>'
        )
    return html


def _rejected(machine: MachineState) -> str:
    """How many of its messages were rejected; nothing if none."""
    count = machine.refused_messages
    return f" {_mark(f'{count} messages rejected', bad=True)}" if count else ""


def _machines(found: Sequence[MachineState]) -> str:
    rows = [
        [
            _text(machine.machine_id),
            _mark("online" if machine.online else "offline", bad=not machine.online, good=machine.online),
            f"{_health(machine.health)}{_doubt(machine)}{_rejected(machine)}",
            _text(machine.name),
            _text(machine.location),
            _text((machine.occupancy_information or "").removeprefix("OCCUPANCY_STATUS_").lower()),
        ]
        for machine in found
    ]
    names = ("Machine", "State", "Health", "Name", "Location", "Occupancy")
    return _table("machines", "Machines", names, rows, "No machine has published yet.")


def _table(anchor: str, title: str, names: Sequence[str], rows: Sequence[Sequence[str]], none: str) -> str:
    """A table whose first column heads its rows; `rows` hold HTML.

    The roles are explicit because a narrow screen gets `display: block`, which removes them.
    """
    heads = "".join(f'<th role="columnheader" scope="col">{escape(name)}</th>' for name in names)
    lines = [_row(names, row) for row in rows]
    if not lines:
        lines = [f'<tr role="row"><td role="cell" colspan="{len(names)}">{escape(none)}</td></tr>\n']
    return (
        f'<section id="{anchor}">\n<table role="table">\n<caption>{escape(title)}</caption>\n'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead>\n<tbody role="rowgroup">\n'
        f"{''.join(lines)}</tbody>\n</table>\n</section>\n"
    )


def _row(names: Sequence[str], row: Sequence[str]) -> str:
    tags = ['th role="rowheader" scope="row"', *['td role="cell"'] * (len(row) - 1)]
    fields = [
        f'<{tag} data-name="{escape(name)}">{html}</{tag.split()[0]}>'
        for tag, name, html in zip(tags, names, row, strict=True)
    ]
    return f'<tr role="row">{"".join(fields)}</tr>\n'


def _text(value: str | None) -> str:
    return escape(_visible(value or ""))


def _id(value: str | None) -> str:
    """An identifier, which may break anywhere; words do not."""
    return f'<span class="id">{_text(value)}</span>' if value else ""


def _visible(value: str) -> str:
    """Removes characters that change how the following text is read: controls, and direction marks."""
    return "".join(sign if sign == " " or sign.isprintable() else "\ufffd" for sign in value)


def _mark(value: str, *, bad: bool = False, good: bool = False) -> str:
    kind = "bad" if bad else "good" if good else ""
    text = _text(value)
    return f'<span class="{kind}">{text}</span>' if kind else text


def _time(value: str) -> str:
    return f'<time datetime="{escape(value)}">{escape(value.replace("T", " ").replace("Z", " UTC"))}</time>'
