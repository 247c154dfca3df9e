"""What `edge-agent init` is about to write, at a glance: shown before the last question."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.markup import escape
from rich.table import Table

from edge_agent.cli.init.plan import Cell, Machine
from edge_agent.cli.init.text import Site
from edge_agent.cli.init.words import NOTHING
from edge_agent.cli.text.language import _


def summary(site: Site, machine: Machine) -> Table:
    """A table of two columns: the question in a word, and the answer."""
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in _rows(site, machine):
        table.add_row(name, escape(value))
    return table


def _rows(site: Site, machine: Machine) -> Iterator[tuple[str, str]]:
    yield _("machine"), f"{site.machine_id}, {site.name}, {site.place} ({site.latitude}, {site.longitude})"
    yield _("broker"), f"{site.broker}:{site.broker_port}, {_tls(site)}"
    for bus in machine.buses:
        speed = "" if bus.section.baud is None else f", {bus.section.baud} baud {bus.section.parity}"
        yield _("bus {name}", name=bus.name), f"{bus.section.port}, {bus.section.protocol}{speed}"
    for name, board in machine.boards.items():
        yield _("board {name}", name=name), f"{board.place}, {board.profile_name}{_joined(machine, name)}"
    for size, cells in groupby(machine.cells, key=lambda cell: cell.size):
        labels = [cell.label for cell in cells]
        yield _("cells {span}", span=span(labels)), size
    for cells_of in machine.cabinets.values():
        yield _("one signal for"), ", ".join(cells_of) or _("all cells")
    for text, labels in _uses(machine.cells):
        if labels:
            yield text, ", ".join(labels)
    yield _("closed contact"), _("reads {level}", level=site.closed_level)
    yield _("scanner"), site.scanner or NOTHING
    yield _("keypad"), site.keypad or NOTHING
    yield _("card reader"), site.card_reader or NOTHING


def _uses(cells: list[Cell]) -> Iterator[tuple[str, list[str]]]:
    yield _("with a scale"), [cell.label for cell in cells if cell.scale is not None]
    yield _("with a sensor"), [cell.label for cell in cells if cell.temperature is not None]
    yield _("cooled"), [cell.label for cell in cells if "cooling" in cell.outputs]
    yield _("heated"), [cell.label for cell in cells if "heating" in cell.outputs]
    yield _("with a signal"), [cell.label for cell in cells if cell.signal is not None]


def _joined(machine: Machine, name: str) -> str:
    """Where the door contacts of a board's locks are, if not on it."""
    if not machine.boards[name].joined:
        return ""
    names = dict.fromkeys(cell.contact[0] for cell in machine.cells if cell.device == name)
    return ", " + _("door contacts on {boards}", boards=", ".join(names))


def span(labels: list[str]) -> str:
    """The first and the last of them."""
    return labels[0] if len(labels) == 1 else f"{labels[0]}-{labels[-1]}"


def _tls(site: Site) -> str:
    if not site.tls:
        return _("without TLS")
    ca = site.ca_file or _("the CAs of the system")
    parts = [_("TLS, verified with {ca}", ca=ca)]
    if site.cert_file is not None:
        parts.append(_("certificate {file}", file=site.cert_file))
    return ", ".join(parts)
