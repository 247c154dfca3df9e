"""The bench's settings from the environment, and the files it writes for its processes."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from tools.bench.ports import HOST, free_port, is_free

REPOSITORY = Path(__file__).resolve().parents[2]
SCREEN_PORT = 8082
WEBHOOK_SECRET = "whsec_YmVuY2ggc2VjcmV0LCBub3QgZm9yIHByb2R1Y3Rpb24="
"""Signs the webhooks of the bench; public, as its API key is."""


class BadEnvironment(Exception):
    """An environment variable has an unusable value."""


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """Ports, key and places of one bench. All listeners bind 127.0.0.1."""

    api_port: int
    sim_port: int
    mqtt_port: int
    api_key: str
    folder: Path
    config: Path
    baud: int | None
    screen_port: int | None = None
    """The kiosk's screen; None: it is not served."""

    @property
    def ports(self) -> dict[str, int]:
        """The TCP ports by the variable that sets them."""
        ports = {
            "BENCH_API_PORT": self.api_port,
            "BENCH_SIM_PORT": self.sim_port,
            "BENCH_MQTT_PORT": self.mqtt_port,
        }
        return ports if self.screen_port is None else ports | {"BENCH_SCREEN_PORT": self.screen_port}

    @property
    def machine_file(self) -> Path:
        """The machine's configuration with the bench's own ports and paths."""
        return self.folder / "machine.toml"

    @property
    def gateway_file(self) -> Path:
        """The gateway's configuration."""
        return self.folder / "gateway.toml"

    @property
    def broker_file(self) -> Path:
        """Mosquitto's configuration."""
        return self.folder / "mosquitto.conf"

    @property
    def control_socket(self) -> Path:
        """The socket on which the bench serves `/processes/…`."""
        return self.folder / "bench.sock"

    @property
    def agent_socket(self) -> Path:
        """The agent's local API."""
        return self.folder / "agent.sock"


def from_environment(environment: Mapping[str, str]) -> BenchSettings:
    """Returns the settings. Raises `BadEnvironment` naming the variable."""

    def number(name: str, default: int | None) -> int | None:
        text = environment.get(name)
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 4_000_000:
            raise BadEnvironment(f"{name}: not a usable number: {text!r}")
        return int(text)

    def port(name: str, default: int) -> int:
        value = number(name, default)
        if value is None or value > 65_535:
            raise BadEnvironment(f"{name}: not a TCP port: {value}")
        return value

    def screen_port(others: set[int]) -> int | None:
        """As given. Else the usual one while it is free: a second bench goes without a screen."""
        if environment.get("BENCH_SCREEN_PORT"):
            return port("BENCH_SCREEN_PORT", SCREEN_PORT)
        return SCREEN_PORT if SCREEN_PORT not in others and is_free(SCREEN_PORT) else None

    default_config = REPOSITORY / "config" / "demo.toml"
    api, sim, mqtt = (
        port("BENCH_API_PORT", 8080),
        port("BENCH_SIM_PORT", 8081),
        port("BENCH_MQTT_PORT", 18830),
    )
    return BenchSettings(
        api_port=api,
        sim_port=sim,
        mqtt_port=mqtt,
        screen_port=screen_port({api, sim, mqtt}),
        api_key=environment.get("BENCH_API_KEY") or "bench-key",
        folder=Path(environment.get("BENCH_DIR") or ".bench").resolve(),
        config=Path(environment.get("BENCH_CONFIG") or default_config).resolve(),
        baud=number("BENCH_BAUD", None),
    )


def write_files(settings: BenchSettings) -> str:
    """Writes the configuration of every process; returns the machine's id.

    Raises `OSError` or `tomllib.TOMLDecodeError` if the machine's configuration cannot be read.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    machine = tomllib.loads(settings.config.read_text(encoding="utf-8"))
    _plug_in(machine, settings)
    settings.machine_file.write_text(tomli_w.dumps(machine), encoding="utf-8")
    machine_id = machine.get("machine", {}).get("machine_id", "")
    settings.gateway_file.write_text(
        tomli_w.dumps(
            {
                "listen_host": HOST,
                "listen_port": settings.api_port,
                "public_url": f"http://{HOST}:{settings.api_port}",
                "database_url": f"sqlite:///{settings.folder / 'gateway.sqlite'}",
                "operations_key": settings.api_key,
                "webhooks": {"allow_networks": ["127.0.0.0/8", "::1/128"]},
                "mqtt": {"host": HOST, "port": settings.mqtt_port, "client_id": "gateway"},
                "wall": {"simulator_url": f"http://{HOST}:{settings.sim_port}", "platform": "bench"},
                "platforms": [
                    {"name": "bench", "api_key": settings.api_key, "webhook_secrets": [WEBHOOK_SECRET]}
                ],
            }
        ),
        encoding="utf-8",
    )
    _write_broker_file(settings)
    return str(machine_id)


def _plug_in(machine: dict[str, Any], settings: BenchSettings) -> None:
    """The same machine on the bench's ports, files and broker."""
    folder = settings.folder
    profiles = machine.get("paths", {}).get("profiles", "devices")
    machine["paths"] = {
        "journal": str(folder / "journal.sqlite"),
        "socket": str(settings.agent_socket),
        "profiles": str(settings.config.parent / profiles),
        "mark": str(folder / "mark" / "commissioned.json"),
        "volatile": True,  # a bench works on any filesystem
    }
    # Plain and unsigned, whatever the machine's file has: the bench holds none of its secrets.
    session = {key: machine.get("mqtt", {}).get(key) for key in ("keepalive_s", "session_expiry_s")}
    kept = {key: value for key, value in session.items() if value is not None}
    machine["mqtt"] = {**kept, "host": HOST, "port": settings.mqtt_port}
    screen = machine.pop("screen", {})
    if settings.screen_port is not None:
        machine["screen"] = {"speech": "button", **screen, "port": settings.screen_port}
    machine.pop("access", None)  # neither its users nor its technicians' PINs
    for name, bus in machine.get("buses", {}).items():
        bus["port"] = _bench_port(str(bus.get("port", "")), folder / f"tty-{name}")
        if settings.baud is not None:
            bus["baud"] = settings.baud
    if "scanner" in machine:
        machine["scanner"]["port"] = str(folder / "tty-scanner")
    machine.pop("card_reader", None)  # the bench has none
    machine.pop("keypad", None)  # the bench uses no keyboard of the machine it runs on


def _bench_port(port: str, terminal: Path) -> str:
    """A bus over a network gets a free port on loopback, any other a pseudo-terminal."""
    scheme, network, _ = port.partition("://")
    if not network:
        return str(terminal)
    return f"{scheme}://{HOST}:{free_port()}"


def _write_broker_file(settings: BenchSettings) -> None:
    store = settings.folder / "mosquitto"
    store.mkdir(exist_ok=True)
    lines = [
        "# Written by the bench. Plain and anonymous, on loopback only.",
        f"listener {settings.mqtt_port} {HOST}",
        "allow_anonymous true",
        "persistence true",
        f"persistence_location {store}/",
        "autosave_on_changes true",  # a killed broker keeps what it acknowledged
        "autosave_interval 1",
        "max_queued_messages 0",
        "max_packet_size 4194304",  # as config/mosquitto/mosquitto.conf has it
        "set_tcp_nodelay true",
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # otherwise it drops root and can no longer write here
    settings.broker_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
