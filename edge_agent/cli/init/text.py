"""The configuration that is written: TOML with a comment on every key, like the shipped example."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_agent.cli.init.plan import Board, Cell, Machine
from edge_agent.cli.init.search import FoundBus
from edge_agent.cli.init.words import Kind, Size
from edge_agent.config.sections import CLIMATE as USUAL
from edge_agent.protocol.enrolment import Enrolled

COLUMN = 32
CLIMATE = {"cooling": "cold", "heating": "hot"}


@dataclass(frozen=True, slots=True)
class Site:
    """Who and where the machine is, its broker, and what else was answered."""

    machine_id: str
    name: str
    place: str
    latitude: float
    longitude: float
    broker: str
    tls: bool
    broker_port: int
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    closed_level: int
    pulse_ms: int
    code_digits: int
    sizes: tuple[Size, ...]
    profiles: str
    scanner: str | None
    keypad: str | None
    card_reader: str | None
    claimed: Enrolled | None = None
    gateway: str | None = None
    """What the gateway gave, and its address, if the machine was claimed there."""


def _row(key: str, value: object, comment: str) -> str:
    if not isinstance(value, str):
        value = str(value).lower() if isinstance(value, bool) else repr(value)
    else:
        value = json.dumps(value, ensure_ascii=False)
    return _line(f"{key} = {value}", comment)


def _line(code: str, comment: str) -> str:
    return f"{code.ljust(COLUMN - 1)} # {comment}"


def _file(key: str, value: str | None, example: str, comment: str) -> str:
    """A row with a file, commented out where there is none."""
    return _row(f"# {key}", example, comment) if value is None else _row(key, value, comment)


def _section(title: str, comment: str, *rows: str) -> list[str]:
    return ["", _line(f"[{title}]", comment), *rows]


def document(site: Site, machine: Machine, notes: Iterable[str], first: str) -> str:
    """The whole file. `first`: its first line, see `edge_agent.config.origin`."""
    lines = [
        first,
        "# from its search of the buses and from the answers. Read it, change what is wrong, and validate it",
        "# with",
        "#   edge-agent check --config /etc/edge-agent/locker.toml",
        "# which names whatever does not fit together, by its key. A key that is not known is an error. All",
        "# keys that there are stand in /usr/share/edge-agent/examples/locker.example.toml.",
        *(f"# NOTE: {note}" for note in notes),
        *_site(site),
        *_settings_sections(site),
        *_cabinets(machine),
    ]
    for kind in dict.fromkeys(kind for cell in machine.cells for kind in cell.outputs):
        lines += _climate(kind)
    for bus in machine.buses:
        lines += _bus(bus)
    for name, board in machine.boards.items():
        lines += _device(name, board)
    for size in site.sizes:
        lines += _size(size)
    for cell in machine.cells:
        lines += _cell(site.machine_id, cell, machine.boards)
    return "\n".join(lines) + "\n"


def _site(site: Site) -> list[str]:
    port = f"port = {site.broker_port}"
    lines = _section(
        "machine",
        "who and where",
        _row("machine_id", site.machine_id, "as the cloud knows the machine; letters, digits, - and _"),
        _row("name", site.name, "what people call it"),
        _row("location", site.place, "where it stands"),
        _row("latitude", site.latitude, "degrees north, for the map"),
        _row("longitude", site.longitude, "degrees east"),
        _line(
            'clock = "ntp"', 'when the time may be trusted: "ntp" once it was synchronised, "rtc" at once,'
        ),
        _line("", "for a board with a clock on a battery"),
    )
    lines += _section(
        "paths",
        "files; a relative path counts from this file's folder",
        _row("journal", "/var/lib/edge-agent/journal.sqlite", "everything that must outlive a power cut"),
        _row(
            "socket",
            "/run/edge-agent/agent.sock",
            "the local API: console, kiosk screen, `edge-agent status`",
        ),
        _row("profiles", site.profiles, "your own device profiles; they go before the package's"),
    )
    lines += _section(
        "mqtt",
        "the broker",
        _row("host", site.broker, "its name or address"),
        _line(port, "its TCP port"),
        _line('# username = "NAME"', "needed with password_file; may stand alone"),
        _line(
            '# password_file = "FILE"',
            "one line, readable by the service's user alone; credential:NAME is what",
        ),
        _line("", "systemd hands to the service (LoadCredential=NAME:...)"),
        *_signing_keys(site.claimed),
    )
    if site.tls:
        lines += _section(
            "mqtt.tls",
            "TLS 1.2 or newer; the broker's certificate and name are verified",
            _file(
                "ca_file", site.ca_file, "broker-ca.pem", "certificate of the broker's CA; else the system's"
            ),
            _file("cert_file", site.cert_file, "credential:cert.pem", "the certificate of this machine"),
            _file(
                "key_file",
                site.key_file,
                "credential:key.pem",
                "its key, readable by the service's user alone",
            ),
        )
    return lines + _enrolment(site)


def _signing_keys(claimed: Enrolled | None) -> list[str]:
    comment = "only commands signed with one of these keys are accepted"
    if claimed is None or not claimed.signing_keys:
        return [_line("# signing_keys = { NAME = KEY }", comment)]
    keys = ", ".join(f'{name} = "{key}"' for name, key in claimed.signing_keys.items())
    return [_line(f"signing_keys = {{ {keys} }}", comment)]


def _enrolment(site: Site) -> list[str]:
    """The sections of a machine that was claimed at a gateway."""
    if site.claimed is None or site.gateway is None:
        return []
    lines = _section(
        "enrolment",
        "who renews the certificate",
        _row("url", site.gateway, "the gateway"),
    )
    for name, key in site.claimed.service_keys.items():
        lines += _section(
            f"service.keys.{name}",
            "a key that may request remote work",
            _row("public_key", key.public_key, "its public half"),
            _line(f"rights = {json.dumps(key.rights)}", "what it may request"),
        )
    return lines


def _settings_sections(site: Site) -> list[str]:
    lines = _section(
        "doors",
        "the contacts of all doors",
        _row(
            "closed_level", site.closed_level, "what a contact reads while its door is CLOSED, 1 or 0. Wiring"
        ),
        _line("", "decides: open a door and look (`edge-agent bus doors`)"),
        _row("door_ajar_s", 120, "a door open for longer raises an alarm"),
    )
    lines += _section(
        "unlock",
        "how a door is opened",
        _row("attempts", 3, "pulses for one unlock attempt, if the door does not move"),
        _row("pulse_ms", site.pulse_ms, "how long the solenoid is energised; every lock board can do this"),
        _row("watch_ms", 1500, "how long the door is watched after a pulse; at least pulse_ms"),
        _row("max_concurrent_unlocks", 2, "solenoids energised at once: what the power supply bears"),
        _row("duty_pulses", 6, "a solenoid gets at most this number of pulses ..."),
        _row("duty_window_s", 10, "... in this number of seconds, or it burns"),
    )
    lines += _section(
        "access",
        "who may do what at the machine, over the socket above",
        _line('# group = "GROUP"', "beside the daemon's own user this group may use the socket"),
        _line('# kiosk_users = ["kiosk"]', "these users' processes may only send codes: no lists, no acts"),
        _line(
            "# technicians_file =",
            "with this file, opening a door or giving a cell away needs a PIN that",
        ),
        _line('# "/etc/edge-agent/technicians"', "is in it; `edge-agent technician NAME` makes its lines"),
    )
    lines += _section(
        "codes",
        "what is typed at the kiosk",
        _row("code_digits", site.code_digits, "the length of a code; 100 cells at most with 4"),
    )
    if site.scanner is not None:
        lines += _section(
            "scanner",
            "a QR scanner or keypad on a serial port of its own",
            _row("port", site.scanner, "a name that stays, whatever is plugged in first"),
            _row("baud", 9600, "as it is set up"),
            _row("delimiter", "any", 'what ends a text: "cr", "lf", "any" (either), or "none" (a pause)'),
        )
    if site.keypad is not None:
        lines += _section(
            "keypad",
            "a USB keypad that is a keyboard; taken for the daemon alone",
            _row("device", site.keypad, "always the -event-kbd of /dev/input/by-id"),
        )
    if site.card_reader is not None:
        lines += _card_reader(site.card_reader)
    return lines


def _card_reader(place: str) -> list[str]:
    keyboard = place.startswith("/dev/input/")
    rows = [_row("device", place, "the keyboard that it is: the -event-kbd of /dev/input/by-id")]
    if not keyboard:
        rows = [
            _row("port", place, "a name that stays, whatever is plugged in first"),
            _row("baud", 9600, "as it is set up"),
        ]
    more = [
        _line(
            "# [credentials.NAME]", "a card that opens a door needs such a section; see locker.example.toml"
        )
    ]
    return _section("card_reader", "a reader of cards or tags", *rows, *more)


def _cabinets(machine: Machine) -> list[str]:
    lines: list[str] = []
    for number, ((device, channel), labels) in enumerate(machine.cabinets.items(), 1):
        rows = [
            _row("device", device, "its board"),
            _row("channel", channel, "the output that switches it"),
        ]
        if labels:
            listed = ", ".join(f'"{label}"' for label in labels)
            rows.append(_line(f"cells = [{listed}]", "the cells that it serves"))
        lines += _section(f"signal.cabinets.signal_{number}", "a light or buzzer for several cells", *rows)
    return lines


def _climate(kind: Kind) -> list[str]:
    cold = kind == "cooling"
    usual = USUAL["cold" if cold else "hot"]
    return _section(
        f"climate.{CLIMATE[kind]}",
        f"how cells with a {'cooler' if cold else 'heater'} are kept",
        _row("setpoint_c", usual.setpoint_c, "the temperature to hold, degrees Celsius"),
        _row(
            "band_c", usual.band_c, "on at this much beyond the setpoint, off at this much on its other side"
        ),
        _row("min_on_s", usual.min_on_s, "once on it stays on for this time: compressors need that"),
        _row("min_off_s", usual.min_off_s, "once off it stays off for this time"),
        _row("limit_c", usual.limit_c, f"food {'above' if cold else 'below'} that ..."),
        _row("allowed_min", usual.allowed_min, "... for longer than this is out of range"),
        _row(
            "precondition_min",
            usual.precondition_min,
            "the cell is cooled or heated this long before it is used",
        ),
    )


def _bus(bus: FoundBus) -> list[str]:
    section = bus.section
    rows = [
        _row("port", section.port, "which adapter"),
        _row("protocol", section.protocol, "the protocol, the same for all boards of the bus"),
    ]
    if section.baud is not None:
        rows += [
            _row("baud", section.baud, "the same for every device on the pair"),
            _row("parity", section.parity, "N none, E even, O odd"),
            _row("stop_bits", section.stop_bits, "1 or 2"),
            _row("local_echo", section.local_echo, "true for an adapter that echoes what is sent"),
        ]
    return _section(f"buses.{bus.name}", "one pair of wires; the name is yours", *rows)


def _device(name: str, board: Board) -> list[str]:
    identity = board.profile.identity
    kind = f"{identity.vendor}: {', '.join(identity.models)}"
    return _section(
        f"devices.{name}",
        "one board; the name is yours",
        _row("bus", board.bus, "the pair of wires that it is on"),
        _row("address", board.address, "as set on it; every device of a pair has another one"),
        _row("profile", board.profile_name, kind),
    )


def _size(size: Size) -> list[str]:
    return _section(
        f"sizes.{size.name}",
        "a kind of cell; the name is yours",
        _row("width_mm", size.width_mm, "inside, millimetres: across"),
        _row("height_mm", size.height_mm, "up"),
        _row("depth_mm", size.depth_mm, "to the back"),
        _row("max_mass_g", size.max_mass_g, "the heaviest parcel, grams"),
    )


def _cell(machine_id: str, cell: Cell, boards: Mapping[str, Board]) -> list[str]:
    lines = [
        "",
        _line("[[cells]]", f"cell {cell.label}"),
        _row("label", cell.label, "what stands on its door"),
        _row("cell_id", f"cell_{machine_id}_{cell.label.lower()}", "as the cloud knows it"),
        _row("size", cell.size, "one of the sizes above"),
        _on("lock", cell.device, cell.channel, "the output that drives its solenoid; channels count from 1"),
        _on("door", *cell.contact, "the input that its contact is on"),
    ]
    if cell.scale is not None:
        lines.append(_line(f'scale = {{ device = "{cell.scale}" }}', "the scale under its floor"))
    if cell.temperature is not None:
        lines.append(_on("temperature", *cell.temperature, "its sensor"))
    for kind, place in cell.outputs.items():
        what = f"its {'cooler' if kind == 'cooling' else 'heater'}, kept by [climate.{CLIMATE[kind]}]"
        lines.append(_on(kind, *place, what))
    if cell.signal is not None:
        lines.append(_on("signal", *cell.signal, "the light or buzzer at its door"))
    return lines


def _on(key: str, device: str, channel: int, comment: str) -> str:
    return _line(f'{key} = {{ device = "{device}", channel = {channel} }}', comment)
