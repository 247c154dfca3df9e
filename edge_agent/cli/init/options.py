"""The options of `edge-agent init`: each answers one question of the interview."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edge_agent.enrolment.key_store import KeyStore


def option(text: str, metavar: str = "TEXT") -> Any:
    """An option whose default the interview knows."""
    return typer.Option(help=text, metavar=metavar, show_default=False)


Output = Annotated[Path, typer.Option(metavar="FILE", help="the configuration to write")]
AnswersFile = Annotated[Path | None, option("answers as TOML; options override them", "FILE")]
Force = Annotated[bool, typer.Option("--force", help="replace an existing file")]
Thorough = Annotated[
    bool, typer.Option("--thorough", help="ask every address at every speed; some minutes a port")
]
Profiles = Annotated[Path | None, option("folder of device profiles, beside the package's own", "DIR")]
Claim = Annotated[
    str | None, option("gateway that this machine is claimed at: it shows a code to enter there", "URL")
]
Store = Annotated[
    KeyStore | None,
    option("where the key of --claim goes; auto: a TPM if it can be used", "auto|file|tpm"),
]
ScreenPort = Annotated[
    int | None,
    typer.Option(
        help="port of the kiosk's page, which shows the code too (default: that of the file, else 8082)",
        metavar="N",
        min=1,
        max=65_535,
        show_default=False,
    ),
]
MachineId = Annotated[str | None, option("id of the machine, as the gateway knows it")]
Name = Annotated[str | None, option("what people call it")]
Place = Annotated[str | None, option("where it stands")]
Latitude = Annotated[str | None, option("degrees north", "DEGREES")]
Longitude = Annotated[str | None, option("degrees east", "DEGREES")]
Broker = Annotated[str | None, option("name or address of the MQTT broker", "HOST")]
Tls = Annotated[str | None, option("whether the broker uses TLS", "yes|no")]
BrokerPort = Annotated[str | None, option("TCP port of the broker (default: 8883, or 1883 without TLS)", "N")]
CaFile = Annotated[str | None, option("certificate of the broker's CA; - for the CAs of the system", "FILE")]
CertFile = Annotated[str | None, option("certificate of the machine for the broker; - for none", "FILE")]
KeyFile = Annotated[str | None, option("key of that certificate", "FILE")]
Ports = Annotated[str | None, option("ports to search for boards (default: every serial port)", "PORT,...")]
Protocols = Annotated[
    str | None, option("tried: modbus, 8a, kerong-cu12, kerong-cu16, kerong-cu48, wkly", "NAME,...")
]
Bauds = Annotated[str | None, option("which speeds are tried; else 9600 to 115200", "N,...")]
Parities = Annotated[str | None, option("parities to try, of N, E and O (default: N)", "X,...")]
Last = Annotated[str | None, option("last address to ask", "ADDRESS")]
Devices = Annotated[str | None, option("boards: BUS:ADDRESS=PROFILE, or =none to leave one out", "LIST")]
Contacts = Annotated[
    str | None, option("door contacts of locks on another board: BUS:ADDRESS=BUS:ADDRESS", "LIST")
]
ClosedLevel = Annotated[str | None, option("what the contact of a CLOSED door reads", "0|1")]
Sizes = Annotated[str | None, option("kinds of cells: NAME=WIDTHxHEIGHTxDEPTH:GRAMS, in mm", "LIST")]
CellSizes = Annotated[str | None, option("size of each cell in order, such as small*6, large*2", "LIST")]
Scales = Annotated[str | None, option("the cell of each scale in order; - for none", "CELL,...")]
Thermometers = Annotated[str | None, option("cell of each sensor channel in order; - for none", "CELL,...")]
Climate = Annotated[str | None, option("what relays switch: CELL:cold or CELL:hot; - for nothing", "LIST")]
Signals = Annotated[
    str | None,
    option("the cell of each light or buzzer in order; CELL+CELL or all for one of several", "LIST"),
]
Scanner = Annotated[str | None, option("serial port of a QR scanner; - for none", "PORT")]
Keypad = Annotated[str | None, option("/dev/input/by-id/*-event-kbd; - for none", "DEVICE")]
CardReader = Annotated[
    str | None, option("card reader: its serial port or /dev/input/by-id/*-event-kbd; - for none", "DEVICE")
]
