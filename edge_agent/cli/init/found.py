"""Asks where to search for boards, shows what was found, and assigns a profile to each board."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import get_args

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from edge_agent.cli.daemon import REFUSED, problems
from edge_agent.cli.init import words
from edge_agent.cli.init.answers import BadAnswer, Interview, Missing
from edge_agent.cli.init.plan import Board
from edge_agent.cli.init.ports import serial_ports
from edge_agent.cli.init.search import FoundBus, FoundDevice, NothingFound, PortBusy, Wanted, Wires, search
from edge_agent.cli.text.language import _
from edge_agent.config.sections import Baud
from edge_agent.drivers.profiles import Profile, Protocol

BAUDS = ("9600", "19200", "38400", "115200")
LEAVE_OUT = "none"


class Shown:
    """How far the search has come, where there is a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def begin(self, doing: str, steps: int) -> None:
        """See `search.Progress`."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(escape(doing), total=steps)

    def step(self) -> None:
        """See `search.Progress`."""
        if self._task is not None:
            self._progress.advance(self._task)


class Search:
    """Looks for boards where somebody says. `shown`: where the boards that are found are printed; the
    progress belongs to stderr."""

    def __init__(
        self, wires: Wires, profiles: Mapping[str, Profile], shown: Console, *, thorough: bool
    ) -> None:
        self._wires = wires
        self._profiles = profiles
        self._shown = shown
        self._thorough = thorough
        self._searched: dict[tuple[tuple[str, ...], Wanted], list[FoundBus]] = {}

    def look(self, interview: Interview) -> list[FoundBus]:
        """Asks where to look, and looks there unless that was done already; says what became of each port.
        Empty where nothing was found."""
        ports, wanted = _where(interview, self._thorough)
        place = (tuple(ports), wanted)
        if place not in self._searched:
            self._searched[place] = self._search(ports, wanted)
        return self._searched[place]

    def _search(self, ports: Sequence[str], wanted: Wanted) -> list[FoundBus]:
        found: list[FoundBus] = []
        with (
            Progress(console=problems, transient=True, disable=not problems.is_terminal) as progress,
            asyncio.Runner(loop_factory=self._wires.loop) as runner,
        ):
            for port in ports:
                name, shown = f"bus{len(found)}", Shown(progress)
                try:
                    result = runner.run(search(self._wires, name, port, wanted, self._profiles, shown))
                except PortBusy as busy:
                    _say(
                        _("{port}: if the service runs, `systemctl stop edge-agent` first", port=busy), "red"
                    )
                    continue
                if isinstance(result, NothingFound):
                    _say(_nothing_found(result, wanted), "yellow")
                else:
                    found.append(result)
        for bus in found:
            _show(bus, self._shown)
        if not found:
            _say(_("no board was found; nothing was written"), "red")
        return found


def _where(interview: Interview, thorough: bool) -> tuple[list[str], Wanted]:
    default = ", ".join(serial_ports())
    ports = interview.ask("ports", _("ports to look for boards on"), default, words.ports)
    if not ports:
        _say(_("there is no serial port here; --ports PORT,... names one"), "red")
        raise typer.Exit(REFUSED)
    protocols, rates = get_args(Protocol), [str(baud) for baud in get_args(Baud)]
    spoken = interview.ask("protocols", _("protocols to try"), ", ".join(protocols), words.chosen(protocols))
    bauds = interview.ask("bauds", _("speeds to try"), ", ".join(BAUDS), words.chosen(rates))
    parities = interview.ask("parities", _("parities to try (N, E, O)"), "N", words.chosen(("N", "E", "O")))
    last = interview.ask("last", _("last address to ask"), "255", words.number(0, 255))
    wanted = Wanted(
        tuple(protocol for protocol in protocols if protocol in spoken),
        tuple(int(baud) for baud in bauds),
        tuple(parities),
        None if last == 255 else last,
        thorough,
    )
    return ports, wanted


def _say(what: str, style: str) -> None:
    problems.print(what, style=style, highlight=False, markup=False, soft_wrap=True)


def _nothing_found(nothing: NothingFound, wanted: Wanted) -> str:
    if nothing.garbled:
        return _(
            "{port}: something answers, but cannot be understood. Possible causes: another speed or"
            " parity (--bauds, --parities), A and B swapped, no termination, two boards on one address",
            port=nothing.port,
        )
    more = "" if wanted.thorough else "; " + _("boards with high addresses: --thorough")
    text = _("{port}: no device answers: check power, wires (A and B), addresses", port=nothing.port)
    return text + more


def _show(bus: FoundBus, shown: Console) -> None:
    section = bus.section
    speed = ""
    if section.baud is not None:
        speed = " " + _("at {baud} baud, parity {parity}", baud=section.baud, parity=section.parity)
    line = f"{bus.name} {section.port}: {section.protocol}{speed}"
    shown.print(line, style="green", highlight=False, markup=False, soft_wrap=True)
    table = Table(_("where"), _("what it is"))
    for device in bus.devices:
        table.add_row(f"{bus.name}:{device.address}", escape(either(device.profiles) or _("no known board")))
    for address in bus.garbled:
        garbled = _("garbled: two boards on one address, or a bad line")
        table.add_row(f"{bus.name}:{address}", f"[yellow]{garbled}[/]")
    shown.print(table)


def either(names: Sequence[str]) -> str:
    """One or the other of them."""
    return _(" or ").join(names)


def recognised(
    interview: Interview, buses: Sequence[FoundBus], profiles: Mapping[str, Profile]
) -> list[Board]:
    """The boards with one profile each: as found, as said, and where that is not enough, as asked."""
    said = interview.ask(
        "devices",
        _("boards with another profile than found (BUS:ADDRESS=PROFILE)"),
        "-",
        _overrides(profiles),
    )
    everybody = {f"{bus.name}:{device.address}": (bus, device) for bus in buses for device in bus.devices}
    stray = sorted(set(said) - set(everybody))
    if stray:
        raise BadAnswer(_("devices: no device answers at {places}", places=", ".join(stray)))
    boards, unclear = [], []
    for place, (bus, device) in everybody.items():
        profile_name = said.get(place) or _which(interview, place, device, bus, profiles)
        if profile_name is None:
            unclear.append(f"{place} ({either(device.profiles)})")
        elif profile_name != LEAVE_OUT:
            boards.append(_board(bus, device, profile_name, profiles))
    if unclear:
        places = ", ".join(unclear)
        raise Missing(_("which board is it? --devices BUS:ADDRESS=PROFILE for {places}", places=places))
    return boards


def _which(
    interview: Interview, place: str, device: FoundDevice, bus: FoundBus, profiles: Mapping[str, Profile]
) -> str | None:
    """The profile of a board; None where only a person could say, and there is none."""
    if len(device.profiles) == 1:
        return device.profiles[0]
    if not interview.somebody:
        return None if device.profiles else LEAVE_OUT
    known = [name for name, profile in profiles.items() if profile.bus.protocol == bus.section.protocol]
    default = device.profiles[0] if device.profiles else LEAVE_OUT
    text = _(
        "profile of the board at {place} ({profiles}; none leaves it out)",
        place=place,
        profiles=either(device.profiles) or "?",
    )
    return interview.ask(place, text, default, words.one_of([*known, LEAVE_OUT]))


def _board(bus: FoundBus, device: FoundDevice, profile_name: str, profiles: Mapping[str, Profile]) -> Board:
    profile = profiles[profile_name]
    if profile.bus.protocol != bus.section.protocol:
        wrong = _(
            "devices: {profile} uses {protocol}, {bus} uses {other}",
            profile=profile_name,
            protocol=profile.bus.protocol,
            bus=bus.name,
            other=bus.section.protocol,
        )
        raise BadAnswer(wrong)
    return Board(bus.name, device.address, profile_name, profile, device.contacts.get(profile_name, ()))


def _overrides(profiles: Mapping[str, Profile]) -> words.Parser[dict[str, str]]:
    def parse(answer: str) -> dict[str, str]:
        found = {}
        for word in words.listed(answer):
            match = re.fullmatch(r"(\w+:\d{1,3})=([A-Za-z0-9_-]+)", word)
            if match is None or match[2] not in (*profiles, LEAVE_OUT):
                names = ", ".join(profiles)
                text = _(
                    "{word} is no BUS:ADDRESS=PROFILE; profiles are: {names}", word=repr(word), names=names
                )
                raise ValueError(text)
            found[match[1]] = match[2]
        return found

    return parse
