"""The questions about the machine: who and where it is, and which cell has what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from edge_agent.cli.daemon import REFUSED, problems
from edge_agent.cli.init import words
from edge_agent.cli.init.answers import Interview
from edge_agent.cli.init.plan import Board, Cell, Machine, closed_level, planned, pulse_ms
from edge_agent.cli.init.ports import keyboards
from edge_agent.cli.init.search import FoundBus
from edge_agent.cli.init.text import Site
from edge_agent.cli.text.language import _

SIZES = "medium=350x250x450:10000"
MOST_CELLS = 100
"""With codes of four digits."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who and where the machine is, and its broker."""

    machine_id: str
    name: str
    place: str
    latitude: float
    longitude: float
    broker: str
    tls: bool
    broker_port: int
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


def who_and_where(interview: Interview, hostname: str) -> Identity:
    """The questions that need no bus."""
    ask = interview.ask
    usual = re.sub(r"[^A-Za-z0-9_-]", "-", hostname)[:50] or "locker"
    machine_id = ask("machine_id", _("machine_id, as the gateway knows it"), usual, words.identifier)
    name = ask("name", _("name, as people call it"), machine_id, words.text())
    place = ask("place", _("location, where the machine stands"), name, words.text())
    latitude = ask("latitude", _("latitude, degrees north"), "0.0", words.degrees(90))
    longitude = ask("longitude", _("longitude, degrees east"), "0.0", words.degrees(180))
    broker = ask("broker", _("MQTT broker, name or address"), "127.0.0.1", words.host)
    local = broker in ("localhost", "127.0.0.1", "::1")
    tls = ask("tls", _("does the broker use TLS"), _("no") if local else _("yes"), words.yes)
    port = ask("broker_port", _("port of the broker"), "8883" if tls else "1883", words.number(1, 65_535))
    files = _tls_files(interview) if tls else (None, None, None)
    return Identity(machine_id, name, place, latitude, longitude, broker, tls, port, *files)


def _tls_files(interview: Interview) -> tuple[str | None, str | None, str | None]:
    """CA, certificate and key."""
    ask, none = interview.ask, words.NOTHING
    ca = ask(
        "ca_file", _("certificate of the broker's CA (- for the CAs of the system)"), none, words.file_or_none
    )
    text = _("certificate of this machine for the broker (- for none)")
    certificate = ask("cert_file", text, none, words.file_or_none)
    if certificate is None:
        return ca, None, None
    return ca, certificate, ask("key_file", _("key of that certificate"), none, words.file)


def machine_of(interview: Interview, buses: Sequence[FoundBus], boards: Sequence[Board]) -> Machine:
    """The boards with names, and their cells with all that serves them but sizes. Ends the process where no
    board has cells."""
    used = [bus for bus in buses if any(board.bus == bus.name for board in boards)]
    machine = planned(used, boards)
    if not machine.cells:
        said = _(
            "no locks with door contacts were found; nothing was written. "
            "If they are on separate boards, --contacts says which belong together"
        )
        problems.print(said, style="red")
        raise typer.Exit(REFUSED)
    labels = [cell.label for cell in machine.cells]
    _scales(interview, machine, labels)
    _thermometers(interview, machine, labels)
    _climate(interview, machine)
    _signals(interview, machine)
    return machine


def _first(labels: Sequence[str], count: int) -> str:
    return ", ".join(labels[:count]) or words.NOTHING


def _scales(interview: Interview, machine: Machine, labels: Sequence[str]) -> None:
    scales = list(machine.some("scale"))
    if not scales:
        return
    places = ", ".join(machine.boards[name].place for name in scales)
    text = _("cells of the scales {places}, in this order", places=places)
    answer = interview.ask("scales", text, _first(labels, len(scales)), words.cells(len(scales), labels))
    for label, name in zip(answer, scales, strict=True):
        if label is not None:
            _cell(machine, label).scale = name


def _thermometers(interview: Interview, machine: Machine, labels: Sequence[str]) -> None:
    sensors = machine.sensors
    if not sensors:
        return
    places = _places(machine, sensors)
    text = _(
        "cells of the {number} temperature sensors, in order ({places})", number=len(sensors), places=places
    )
    parse = words.cells(len(sensors), labels)
    answer = interview.ask("thermometers", text, _first(labels, len(sensors)), parse)
    for label, place in zip(answer, sensors, strict=True):
        if label is not None:
            _cell(machine, label).temperature = place


def _climate(interview: Interview, machine: Machine) -> None:
    """Asks what the relays switch. It is never guessed: a heater taken for a cooler can cause a fire."""
    outputs = machine.outputs
    labels = [cell.label for cell in machine.cells if cell.temperature is not None]
    if not outputs or not labels:
        return
    text = _(
        "what the {number} relays switch, in order ({places}): CELL:cold, CELL:hot or -;"
        " cold or hot alone for the cells with sensors in order",
        number=len(outputs),
        places=_places(machine, outputs),
    )
    parse = words.outputs(len(outputs), labels)
    for output, place in zip(interview.ask("climate", text, "-", parse), outputs, strict=True):
        if output is not None:
            label, kind = output
            _cell(machine, label).outputs[kind] = place


def _signals(interview: Interview, machine: Machine) -> None:
    """Asks at which outputs lights and buzzers are. It is never guessed: they could have another load."""
    outputs = machine.signals
    if not outputs:
        return
    labels = [cell.label for cell in machine.cells]
    text = _(
        "the cell of the light or buzzer at each of {number} free outputs, in order ({places});"
        " CELL+CELL or all for one that serves several, - for none",
        number=len(outputs),
        places=_places(machine, outputs),
    )
    answer = interview.ask("signals", text, words.NOTHING, words.signals(len(outputs), labels))
    for chosen, place in zip(answer, outputs, strict=True):
        if chosen is not None and len(chosen) == 1:
            _cell(machine, chosen[0]).signal = place
        elif chosen is not None:
            machine.cabinets[place] = chosen


def _places(machine: Machine, channels: Sequence[tuple[str, int]]) -> str:
    return ", ".join(dict.fromkeys(machine.boards[name].place for name, _channel in channels))


def _cell(machine: Machine, label: str) -> Cell:
    return next(cell for cell in machine.cells if cell.label == label)


def site_of(interview: Interview, identity: Identity, machine: Machine, profiles: str) -> Site:
    """The rest of the questions; gives the cells their sizes. Ends the process where the boards have no pulse
    in common."""
    level, count, of = closed_level(machine)
    text = _(
        "what the contact of a closed door reads (with all doors closed: {count} of {of} read {level})",
        count=count,
        of=of,
        level=level,
    )
    level = interview.ask("closed_level", text, str(level), words.number(0, 1))
    sizes = interview.ask("sizes", _("sizes, NAME=WIDTHxHEIGHTxDEPTH:GRAMS in mm"), SIZES, words.sizes)
    labels = [cell.label for cell in machine.cells]
    text = _("sizes of {first} to {last}, in order (NAME or NAME*COUNT)", first=labels[0], last=labels[-1])
    parse = words.repeated(len(labels), [size.name for size in sizes])
    for cell, size in zip(
        machine.cells, interview.ask("cell_sizes", text, sizes[0].name, parse), strict=True
    ):
        cell.size = size
    scanner, keypad, card_reader = _readers(interview, [bus.section.port for bus in machine.buses])
    pulse = pulse_ms(machine.boards.values())
    if pulse is None:
        problems.print(_("these lock boards share no pulse length: leave some out (--devices)"), style="red")
        raise typer.Exit(REFUSED)
    return Site(
        machine_id=identity.machine_id,
        name=identity.name,
        place=identity.place,
        latitude=identity.latitude,
        longitude=identity.longitude,
        broker=identity.broker,
        tls=identity.tls,
        broker_port=identity.broker_port,
        ca_file=identity.ca_file,
        cert_file=identity.cert_file,
        key_file=identity.key_file,
        closed_level=level,
        pulse_ms=pulse,
        code_digits=4 if len(machine.cells) <= MOST_CELLS else 5,
        sizes=tuple(sizes),
        profiles=profiles,
        scanner=scanner,
        keypad=keypad,
        card_reader=card_reader,
    )


def _readers(interview: Interview, taken: Sequence[str]) -> tuple[str | None, str | None, str | None]:
    """The devices of scanner, keypad and card reader. `taken`: ports with boards."""
    parse = words.another_port(taken)
    scanner = interview.ask("scanner", _("serial port of a QR scanner"), words.NOTHING, parse)
    keys = ", ".join(keyboards())
    there = " " + _("(there is: {devices})", devices=keys) if keys else ""
    text = _("keypad or scanner that is a keyboard")
    keypad = interview.ask("keypad", text + there, words.NOTHING, words.port_or_none)
    text = _("card reader: its serial port, or the keyboard that it is")
    free = words.another_device([scanner, keypad], parse)
    return scanner, keypad, interview.ask("card_reader", text + there, words.NOTHING, free)
