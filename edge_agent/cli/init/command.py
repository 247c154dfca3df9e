"""`edge-agent init`: asks, looks on the buses, and writes the configuration of a new machine."""

from __future__ import annotations

import os
import socket as sockets
from dataclasses import replace
from getpass import getuser
from pathlib import Path

import typer

from edge_agent.cli.daemon import (
    DEFAULT_CONFIG,
    REFUSED,
    USAGE,
    AsJson,
    console,
    file_problem,
    print_json,
    problems,
)
from edge_agent.cli.init import claim as at_gateway
from edge_agent.cli.init import options
from edge_agent.cli.init.answers import (
    KEYS,
    Back,
    BadAnswer,
    Interview,
    Missing,
    is_interactive,
    read_answers,
)
from edge_agent.cli.init.claim import Claimed
from edge_agent.cli.init.contacts import with_contacts
from edge_agent.cli.init.found import Search, recognised
from edge_agent.cli.init.interview import machine_of, site_of, who_and_where
from edge_agent.cli.init.kiosk_page import kiosk_page
from edge_agent.cli.init.plan import Machine, notes
from edge_agent.cli.init.search import FoundBus, Wires
from edge_agent.cli.init.store import obstacle, put
from edge_agent.cli.init.summary import summary
from edge_agent.cli.init.text import Site, document
from edge_agent.cli.text.language import _, from_daemon, in_english
from edge_agent.cli.text.plurals import size_of
from edge_agent.config import Settings
from edge_agent.config.load import SHIPPED_PROFILES, shipped_profiles
from edge_agent.config.origin import head
from edge_agent.drivers.profiles import Profile, load_profile
from edge_agent.enrolment.key_store import KeyStore
from edge_agent.errors import ConfigError
from edge_agent.protocol.api import rfc3339
from edge_agent.runtime.clock import SystemClock

DEFAULT_PROFILES = "devices"


def init(
    context: typer.Context,
    output: options.Output = DEFAULT_CONFIG,
    answers: options.AnswersFile = None,
    force: options.Force = False,
    thorough: options.Thorough = False,
    profiles: options.Profiles = None,
    as_json: AsJson = False,
    claim: options.Claim = None,
    key_store: options.Store = None,
    screen_port: options.ScreenPort = None,
    machine_id: options.MachineId = None,
    name: options.Name = None,
    place: options.Place = None,
    latitude: options.Latitude = None,
    longitude: options.Longitude = None,
    broker: options.Broker = None,
    tls: options.Tls = None,
    broker_port: options.BrokerPort = None,
    ca_file: options.CaFile = None,
    cert_file: options.CertFile = None,
    key_file: options.KeyFile = None,
    ports: options.Ports = None,
    protocols: options.Protocols = None,
    bauds: options.Bauds = None,
    parities: options.Parities = None,
    last: options.Last = None,
    devices: options.Devices = None,
    contacts: options.Contacts = None,
    closed_level: options.ClosedLevel = None,
    sizes: options.Sizes = None,
    cell_sizes: options.CellSizes = None,
    scales: options.Scales = None,
    thermometers: options.Thermometers = None,
    climate: options.Climate = None,
    signals: options.Signals = None,
    scanner: options.Scanner = None,
    keypad: options.Keypad = None,
    card_reader: options.CardReader = None,
) -> None:
    """Make the configuration of a new machine: asks, looks for boards on the buses, writes a commented file.

    The service must not run: it holds the ports. Everything that is sent is a read: no lock and no relay
    moves. Close all doors first. Without a terminal everything comes from options or --answers. With
    --claim the machine's id, place, broker and certificate come from the gateway.
    """
    said = {key: value for key, value in context.params.items() if key in KEYS and value is not None}
    try:
        _ready(output, force=force)
        claimed = _claimed(context.obj, claim, output, key_store, screen_port)
        interview = _interview(answers, said | ({} if claimed is None else claimed.answers()))
        known = _profiles(output, profiles)
        if interview.somebody:
            _say(_("Enter takes what stands in brackets; < goes back to the previous question."), "bold")
        shown = problems if as_json else console  # what was found, for people
        search = Search(context.obj, known, shown, thorough=thorough)
        planned = _plan(interview, search, known, output, profiles)
    except (BadAnswer, Missing) as problem:
        raise _stop(str(problem), USAGE) from None
    _write(output, force, as_json, claimed, *planned)


def _claimed(
    wires: Wires, url: str | None, output: Path, store: KeyStore | None, port: int | None
) -> Claimed | None:
    """What the gateway gave, if the machine is claimed there. `store`: where a new key goes; `port`: of the
    kiosk's page. Raises `BadAnswer`."""
    if url is None:
        if store is not None:
            raise BadAnswer(_("--key-store: without --claim no key is made"))
        return None
    with kiosk_page(wires.claim_page, output, port) as show:
        return at_gateway.claim(url, output, store or KeyStore.AUTO, show=show)


def _interview(answers: Path | None, said: dict[str, str]) -> Interview:
    """The interview that knows the answers of a file and of the options. Raises `BadAnswer`, `Missing`."""
    known = {} if answers is None else read_answers(answers)
    interview = Interview(known | said, somebody=is_interactive())
    interview.check()
    return interview


Plan = tuple[Site, Machine, list[str]]
"""What was answered and found, and the notes about it."""


def _plan(
    interview: Interview,
    search: Search,
    known: dict[str, Profile],
    output: Path,
    profiles: Path | None,
) -> Plan:
    """Asks, looks on the buses, shows the summary and asks whether to write; from the last question again
    while somebody goes back."""
    folder = DEFAULT_PROFILES if profiles is None else str(profiles.resolve())
    while True:
        try:
            identity = who_and_where(interview, sockets.gethostname())
            buses = search.look(interview)
            if not buses:
                raise typer.Exit(REFUSED)
            boards = with_contacts(interview, recognised(interview, buses, known))
            machine = machine_of(interview, buses, boards)
            site = site_of(interview, identity, machine, folder)
            with in_english():
                remarks = notes(machine, site.closed_level)  # for the file, and for scripts
            if interview.somebody:
                problems.print(summary(site, machine))
            for note in notes(machine, site.closed_level):
                _say(_("note: {note}", note=note), "yellow")
            if not interview.sure(_("write {file}? (yes, no; < goes back)", file=output)):
                raise typer.Exit(REFUSED)
        except Back:
            interview.step_back()
        else:
            return site, machine, remarks


def _stop(why: str, code: int) -> typer.Exit:
    _say(why, "red")
    return typer.Exit(code)


def _say(what: str, style: str) -> None:
    problems.print(what, style=style, highlight=False, markup=False, soft_wrap=True)


def _ready(output: Path, *, force: bool) -> None:
    """Ends the process where nothing could be written at the end."""
    why = obstacle(output, force=force)
    if why is not None:
        raise _stop(why, REFUSED if output.exists() and not output.is_dir() else USAGE)


def _profiles(output: Path, folder: Path | None) -> dict[str, Profile]:
    """All profiles that the machine could name, by name; its own go before the package's."""
    found: dict[str, Profile] = {}
    for place in (*reversed(shipped_profiles()), folder or output.parent / DEFAULT_PROFILES):
        for path in sorted(place.glob("*.toml")):
            try:
                found[path.stem] = load_profile(path)
            except ConfigError as error:
                findings = [from_daemon(str(finding)) for finding in error.findings]
                raise _stop("; ".join(findings), USAGE) from None
    if not found:
        where = folder or SHIPPED_PROFILES[-1]
        raise _stop(_("no device profiles in {folder}; --profiles DIR says where", folder=where), USAGE)
    return dict(sorted(found.items()))


def _write(
    output: Path,
    force: bool,
    as_json: bool,
    claimed: Claimed | None,
    site: Site,
    machine: Machine,
    remarks: list[str],
) -> None:
    if claimed is not None:
        site = replace(site, claimed=claimed.enrolled, gateway=claimed.url)
    try:
        settings = put(output, document(site, machine, remarks, _head()), force=force)
    except ConfigError as error:
        said = [from_daemon(str(one)) for one in error.findings]
        findings = [_("not consistent: {finding}", finding=one) for one in said]
        raise _stop("\n".join(findings), USAGE) from None
    except OSError as error:
        raise _stop(file_problem(output, error), USAGE) from None
    if as_json:
        print_json(_summary(output, settings, machine, remarks))
    else:
        _next_steps(output, settings)


def _head() -> str:
    """The first line of the file: the time and the user of its writing."""
    actor = os.environ.get("SUDO_USER") or getuser()
    return head(rfc3339(SystemClock().now().wall_s), "-".join(actor.split()) or "-")


def _summary(output: Path, settings: Settings, machine: Machine, remarks: list[str]) -> dict[str, object]:
    def line(bus: FoundBus) -> dict[str, object]:
        return {"bus": bus.name} | bus.section.model_dump(include={"port", "protocol", "baud", "parity"})

    boards = machine.boards.items()
    return {
        "output": str(output),
        "buses": [line(bus) for bus in machine.buses],
        "devices": [
            {"device": name, "bus": board.bus, "address": board.address, "profile": board.profile_name}
            for name, board in boards
        ],
        "cells": [cell.label for cell in settings.cells],
        "notes": remarks,
    }


def _next_steps(output: Path, settings: Settings) -> None:
    written = _("{file}: written: {size}", file=output, size=size_of(settings))
    console.print(written, highlight=False, markup=False, soft_wrap=True)
    console.print(_("Next:"), highlight=False, markup=False)
    steps = (
        (_("look at it, then"), f"edge-agent check --config {output}", ""),
        (_("start the service"), "systemctl start edge-agent", ""),
        (_("check the boards"), "edge-agent bus check", ""),
        (_("doors and polarity"), "edge-agent bus doors", _("(open and close each door by hand)")),
        (_("empty the scales"), "edge-agent tare CELL", _("(each cell with a scale)")),
        (_("everything"), _("edge-agent diagnose, then edge-agent diagnose --doors"), ""),
    )
    widths = [max(len(step[column]) for step in steps) for column in (0, 1)]
    for what, how, more in steps:
        line = f"  {what:<{widths[0]}}   {how:<{min(widths[1], 24)}}   {more}".rstrip()
        console.print(line, highlight=False, markup=False, soft_wrap=True)
