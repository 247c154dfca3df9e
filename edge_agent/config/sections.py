"""The sections of a machine's configuration. Bounds are declared at the field; an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from edge_agent.config.credentials import CredentialSection
from edge_agent.config.readers import Baud as Baud
from edge_agent.config.readers import CardReaderSection
from edge_agent.config.readers import KeypadSection as KeypadSection
from edge_agent.config.readers import ScannerSection as ScannerSection
from edge_agent.config.remote_settings import Drift, Merged
from edge_agent.config.screen import ScreenSection
from edge_agent.config.service import EnrolmentSection, PublicKey, RetentionSection, ServiceSection
from edge_agent.drivers.profiles import Profile, Protocol
from edge_agent.model import CellSpec
from edge_agent.protocol.broker import BrokerSection
from edge_agent.statemachine.state import Need, Regime, Regimes

Name = Annotated[str, Field(strict=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Text = Annotated[str, Field(strict=True, max_length=1024)]
Millimetres = Annotated[int, Field(strict=True, ge=1, le=10_000)]


def _is_id(value: str) -> str:
    if set(value) & set("/+# ") or not value.isprintable():
        raise ValueError("must not contain '/', '+', '#' (of MQTT topics), spaces or control characters")
    return value


Id = Annotated[str, Field(strict=True, min_length=1, max_length=64), AfterValidator(_is_id)]
"""Printable, without characters that have a meaning in MQTT topics and access lists."""


class Section(BaseModel):
    """Base of all sections: immutable, an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MachineSection(Section):
    """Identity and place of the machine; `clock = "rtc"` means that a battery-backed clock may be trusted."""

    machine_id: Annotated[str, Field(strict=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
    name: Text
    location: Text
    latitude: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
    longitude: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
    clock: Literal["ntp", "rtc"] = "ntp"


class PathsSection(Section):
    """Files of the daemon; a relative path is relative to the configuration file.

    `mark`: the commissioning mark, outside the journal's folder; the default is /var/lib/edge-agent-mark if
    the journal is at its usual place. `volatile`: the journal may be on a filesystem that loses its content
    at a power cut.
    """

    journal: str = "/var/lib/edge-agent/journal.sqlite"
    socket: str = "/run/edge-agent/agent.sock"
    profiles: str = "devices"
    mark: str | None = None
    volatile: bool = False


UserName = Annotated[str, Field(strict=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.@$-]+$")]


class AccessSection(Section):
    """Permissions on the local API (docs/decisions/0019).

    `group`: the group that may use the socket besides our own user. `kiosk_users` may only send codes. If
    `technicians_file` is given, opening a door or giving a cell away by hand needs the PIN of a technician.
    """

    group: UserName | None = None
    kiosk_users: Annotated[list[UserName], Field(max_length=64)] = []
    technicians_file: Annotated[str, Field(strict=True, min_length=1)] | None = None


class MqttSection(BrokerSection):
    """The broker and our session with it; `signing_keys`: the keys that may sign commands.

    paho-mqtt notices a dead link after twice `keepalive_s` at worst, and checks once a second: with 14 s that
    is within 30 s. With no key in `signing_keys` commands are not signed; several of them allow for rotation.
    """

    keepalive_s: Annotated[int, Field(strict=True, ge=5, le=14)] = 10
    session_expiry_s: Annotated[int, Field(strict=True, ge=0, le=2_592_000)] = 604_800
    reconnect_max_s: Annotated[float, Field(ge=0.5, le=300, allow_inf_nan=False)] = 8.0
    """The longest pause between two attempts at a broker that is not there."""
    username: (
        Annotated[str, Field(strict=True, min_length=1, max_length=1024), AfterValidator(_is_id)] | None
    ) = None
    """Stands for `%u` in the broker's access list."""
    signing_keys: Annotated[dict[Name, PublicKey], Field(default_factory=dict)]


class UnlockSection(Section):
    """How a door is opened; times in milliseconds."""

    attempts: Annotated[int, Field(strict=True, ge=1, le=10)] = 3
    pulse_ms: Annotated[int, Field(strict=True, ge=50, le=10_000)] = 500
    watch_ms: Annotated[int, Field(strict=True, ge=100, le=10_000)] = 1500
    """How long the door is watched after a pulse before it counts as not moved."""
    max_concurrent_unlocks: Annotated[int, Field(strict=True, ge=1, le=16)] = 2
    duty_pulses: Annotated[int, Field(strict=True, ge=1, le=100)] = 6
    duty_window_s: Annotated[int, Field(strict=True, ge=1, le=600)] = 10


class CodesSection(Section):
    """Codes typed at the kiosk."""

    code_digits: Annotated[int, Field(strict=True, ge=4, le=9)] = 4


class DoorsSection(Section):
    """`closed_level`: what a door contact reads when the door is closed. It depends on the wiring, so there
    is no default.

    A door open longer than `door_ajar_s` raises DOOR_AJAR.
    """

    closed_level: Literal[0, 1]
    door_ajar_s: Annotated[int, Field(strict=True, ge=1, le=86_400)] = 120


class WeightSection(Section):
    """How the readings of the scales are interpreted; grams.

    `empty_dropoff`: a drop-off that the scale finds empty raises an alarm, or with `hold` also leaves the
    reservation PENDING. Less than `empty_below_g` is nothing; more than `weight_change_g` is a change. A
    scale's zero may drift by `drift_max_g` before it has to be tared.
    """

    empty_dropoff: Literal["alarm", "hold"] = "alarm"
    empty_below_g: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 50
    weight_change_g: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 100
    drift_max_g: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 300


Degrees = Annotated[float, Field(ge=-40, le=120, allow_inf_nan=False)]
Band = Annotated[float, Field(ge=0.1, le=20, allow_inf_nan=False)]


class ClimateSection(Section):
    """How cells are kept cold or hot, in degrees Celsius; missing keys come from `CLIMATE`.

    A cooler comes on `band_c` above the setpoint and goes off `band_c` below; a heater the other way round.
    Food longer than `allowed_min` beyond `limit_c` (above it when cold, below it when hot) is out of range.
    An output that moves the temperature by less than `least_change_c` in `no_effect_min` is faulty.
    """

    setpoint_c: Degrees | None = None
    band_c: Band = 1.0
    min_on_s: Annotated[int, Field(strict=True, ge=0, le=3600)] = 60
    min_off_s: Annotated[int, Field(strict=True, ge=0, le=3600)] = 180
    limit_c: Degrees | None = None
    allowed_min: Annotated[int, Field(strict=True, ge=1, le=1440)] | None = None
    precondition_min: Annotated[int, Field(strict=True, ge=0, le=1440)] = 30
    no_effect_min: Annotated[int, Field(strict=True, ge=1, le=240)] = 15
    least_change_c: Band = 0.5


CLIMATE = {
    "cold": ClimateSection(setpoint_c=3.0, limit_c=5.0, allowed_min=30),
    "hot": ClimateSection(setpoint_c=65.0, limit_c=57.0, allowed_min=120),
}
"""Defaults of a cooled and a heated cell."""


def _reachable(port: str) -> str:
    scheme, found, rest = port.partition("://")
    if found and scheme not in ("tcp", "rtu+tcp"):
        raise ValueError(
            "must be a device such as /dev/serial/by-id/..., tcp://HOST:PORT or rtu+tcp://HOST:PORT"
        )
    host, _, number = rest.rpartition(":")
    if found and not (host and number.isdecimal() and 1 <= int(number) <= 65_535):
        raise ValueError(f"{scheme}:// needs HOST:PORT")
    return port


class BusSection(Section):
    """One pair of wires with one protocol on it.

    `port`: a serial device, or over a network `tcp://HOST:PORT` (Modbus TCP) or `rtu+tcp://HOST:PORT` (a
    serial server that passes RTU bytes on). `local_echo`: the adapter returns to us what we send.
    `latency_ms`: how much longer than the wire a network may take for a request and its reply.

    `pace`: whether a reply takes the time that the baud rate says; then a sooner one is no reply. A board
    that is on USB itself has no pace: `false`, which is the default on a ttyACM port.

    `check_transaction`: over `tcp://`, a reply must carry the transaction number of its request; `false` for
    a gateway that does not return it.
    """

    port: Annotated[str, Field(strict=True, min_length=1), AfterValidator(_reachable)]
    protocol: Protocol = "modbus"
    baud: Baud | None = None
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1
    local_echo: bool = False
    pace: bool | None = None
    check_transaction: bool = True
    latency_ms: Annotated[int, Field(strict=True, ge=0, le=5000)] = 200

    @model_validator(mode="after")
    def _line_known(self) -> BusSection:
        if self.baud is None and self.link != "tcp":
            raise ValueError("baud: is needed for a serial line")
        if self.link == "tcp" and self.protocol != "modbus":
            raise ValueError("protocol: tcp:// is Modbus TCP")
        return self

    @property
    def link(self) -> Literal["serial", "tcp", "rtu+tcp"]:
        """How the wires are reached."""
        if self.port.startswith("tcp://"):
            return "tcp"
        return "rtu+tcp" if self.port.startswith("rtu+tcp://") else "serial"

    @property
    def place(self) -> tuple[str, int]:
        """Host and port of a bus over a network."""
        host, _, number = self.port.partition("://")[2].rpartition(":")
        return host.strip("[]"), int(number)

    @property
    def bits_per_character(self) -> int:
        """Start bit, eight data bits, parity bit if any, stop bits."""
        return 1 + 8 + (self.parity != "N") + self.stop_bits


class DeviceSection(Section):
    """One board on a bus; `profile` names a file of the profiles folder."""

    bus: Name
    address: Annotated[int, Field(strict=True, ge=0, le=255)]
    profile: Name


def _loopback(listen: str) -> str:
    host, colon, port = listen.rpartition(":")
    try:
        inside = ip_address(host.strip("[]")).is_loopback
    except ValueError:
        inside = False
    if not (colon and inside and port.isascii() and port.isdecimal() and 1 <= int(port) <= 65_535):
        raise ValueError("must be ADDRESS:PORT on the loopback interface, such as 127.0.0.1:9464")
    return listen


class MetricsSection(Section):
    """Where metrics are served beside the local API: loopback only, for a collector on this machine."""

    listen: Annotated[str, Field(strict=True), AfterValidator(_loopback)]

    @property
    def place(self) -> tuple[str, int]:
        """Address and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class SizeSection(Section):
    """Inside lengths of a cell and its weight limit."""

    width_mm: Millimetres
    height_mm: Millimetres
    depth_mm: Millimetres
    max_mass_g: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]


class ChannelReference(Section):
    """A channel of a device, counted from 1 as printed on the board."""

    device: Name
    channel: Annotated[int, Field(strict=True, ge=1, le=64)] = 1


class DoorReference(ChannelReference):
    """A door contact; `closed_level` if one cell is wired differently from the rest."""

    closed_level: Literal[0, 1] | None = None


class CoolingReference(ChannelReference):
    """A cooler; `climate` names the section of `[climate]` with its settings."""

    climate: Name = "cold"


class HeatingReference(ChannelReference):
    """A heater; `climate` names the section of `[climate]` with its settings."""

    climate: Name = "hot"


SignalSeconds = Annotated[int, Field(strict=True, ge=1, le=600)]


class SignalReference(ChannelReference):
    """A light or buzzer; `on_max_s`: how long it is on at most, if not as `[signal]` says."""

    on_max_s: SignalSeconds | None = None


class CabinetSignal(SignalReference):
    """A light or buzzer for several cells, by their labels; for all, if none is named."""

    cells: Annotated[list[str], Field(max_length=512)] = []


class SignalSection(Section):
    """Lights and buzzers at the doors. One goes off when its door is closed, or after `on_max_s`.

    `cabinets`: those that serve several cells.
    """

    on_max_s: SignalSeconds = 60
    cabinets: dict[Name, CabinetSignal] = {}


class CellSection(Section):
    """One cell: its size and the channels that serve it."""

    label: Annotated[str, Field(strict=True, min_length=1, max_length=16, pattern=r"^[A-Za-z0-9_-]+$")]
    cell_id: Id
    size: Name
    lock: ChannelReference
    door: DoorReference
    scale: ChannelReference | None = None
    temperature: ChannelReference | None = None
    heating: HeatingReference | None = None
    cooling: CoolingReference | None = None
    signal: SignalReference | None = None
    low: bool = False
    """Whether a person in a wheelchair reaches the door and the whole inside: 380 to 1,220 mm above the floor
    (EN 301 549, 8.3). A reservation with `accessible` gets such a cell."""

    def channels(self) -> dict[str, ChannelReference | None]:
        """The channel that serves each use of the cell; None if it has none for it."""
        return {
            "lock": self.lock,
            "door": self.door,
            "scale": self.scale,
            "temperature": self.temperature,
            "heating": self.heating,
            "cooling": self.cooling,
            "signal": self.signal,
        }


class Settings(Section):
    """The whole configuration, checked."""

    machine: MachineSection
    mqtt: MqttSection
    doors: DoorsSection
    weight: WeightSection = WeightSection()
    climate: dict[Name, ClimateSection] = {}
    paths: PathsSection = PathsSection()
    unlock: UnlockSection = UnlockSection()
    codes: CodesSection = CodesSection()
    access: AccessSection = AccessSection()
    scanner: ScannerSection | None = None
    keypad: KeypadSection | None = None
    card_reader: CardReaderSection | None = None
    metrics: MetricsSection | None = None
    screen: ScreenSection | None = None
    signal: SignalSection = SignalSection()
    service: ServiceSection = ServiceSection()
    enrolment: EnrolmentSection | None = None
    retention: RetentionSection = RetentionSection()
    credentials: Annotated[dict[Name, CredentialSection], Field(max_length=1000)] = {}
    buses: Annotated[dict[Name, BusSection], Field(min_length=1)]
    devices: Annotated[dict[Name, DeviceSection], Field(min_length=1)]
    sizes: Annotated[dict[Name, SizeSection], Field(min_length=1)]
    cells: Annotated[list[CellSection], Field(min_length=1, max_length=512)]
    _profiles: dict[str, Profile] = PrivateAttr(default_factory=dict)
    _folder: Path = PrivateAttr(default=Path())
    _given: frozenset[str] = PrivateAttr(default=frozenset())
    _remote: Merged = PrivateAttr(default_factory=lambda: Merged({}))

    def at(self, folder: Path, environment: Mapping[str, str]) -> Settings:
        """The same settings, read from a file in `folder`: relative paths begin there."""
        placed = self.model_copy(update={"mqtt": self.mqtt.placed(folder, environment)})
        placed._folder = folder
        return placed

    @property
    def keys_in_file(self) -> frozenset[str]:
        """The key paths that the file gives; every other key has its default."""
        return self._given

    @property
    def remote_keys(self) -> frozenset[str]:
        """The key paths whose values were set remotely."""
        return self._remote.keys

    @property
    def drift(self) -> tuple[Drift, ...]:
        """The keys that were set remotely and changed in the file since."""
        return self._remote.drift

    def profile_of(self, device: str) -> Profile:
        """The profile of a configured device."""
        return self._profiles[self.devices[device].profile]

    def path(self, value: str) -> Path:
        """A path of the configuration, made absolute."""
        return self._folder / value

    def cell_specs(self) -> list[CellSpec]:
        """The cells as the state machine knows them, in the order of the file."""
        specs = []
        for cell in self.cells:
            size = self.sizes[cell.size]
            specs.append(
                CellSpec(
                    label=cell.label,
                    cell_id=cell.cell_id,
                    width_mm=size.width_mm,
                    height_mm=size.height_mm,
                    depth_mm=size.depth_mm,
                    max_mass_g=size.max_mass_g,
                    heating=cell.heating is not None,
                    cooling=cell.cooling is not None,
                    weight_sensor=cell.scale is not None,
                    low=cell.low,
                )
            )
        return specs

    def regimes(self, cell: CellSection) -> Regimes | None:
        """What a cell's heater and cooler are used for; None if it has neither."""
        if cell.heating is None and cell.cooling is None:
            return None
        cold = None if cell.cooling is None else self._regime("cold", cell.cooling.climate)
        hot = None if cell.heating is None else self._regime("hot", cell.heating.climate)
        return Regimes(cold, hot)

    def climates(self) -> dict[str, ClimateSection]:
        """The sections of `[climate]` and those that cells use without one, with defaults filled in."""
        found = dict(self.climate)
        for cell in self.cells:
            if cell.cooling is not None:
                found[cell.cooling.climate] = self._climate("cold", cell.cooling.climate)
            if cell.heating is not None:
                found[cell.heating.climate] = self._climate("hot", cell.heating.climate)
        return found

    def _climate(self, need: Need, name: str) -> ClimateSection:
        """A section of `[climate]`; `CLIMATE` gives the keys that it leaves out."""
        usual, chosen = CLIMATE[need], self.climate.get(name, CLIMATE[need])
        missing = [key for key in ("setpoint_c", "limit_c", "allowed_min") if getattr(chosen, key) is None]
        return chosen.model_copy(update={key: getattr(usual, key) for key in missing})

    def _regime(self, need: Need, name: str) -> Regime:
        chosen = self._climate(need, name)
        assert chosen.setpoint_c is not None
        assert chosen.limit_c is not None
        assert chosen.allowed_min is not None
        return Regime(
            need=need,
            setpoint_c=chosen.setpoint_c,
            band_c=chosen.band_c,
            min_on_ns=chosen.min_on_s * 10**9,
            min_off_ns=chosen.min_off_s * 10**9,
            limit_c=chosen.limit_c,
            allowed_ns=chosen.allowed_min * 60 * 10**9,
            precondition_ns=chosen.precondition_min * 60 * 10**9,
            no_effect_ns=chosen.no_effect_min * 60 * 10**9,
            least_change_c=chosen.least_change_c,
        )
