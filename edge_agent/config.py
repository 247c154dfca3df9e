"""The machine's configuration: one TOML file and the device profiles it names, made into frozen settings.

Bounds stand at the field; an unknown key is an error with its path; what several keys must agree on
(no two cells on one coil, every device there, channels on the board) is checked by `wiring_findings`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from edge_agent.drivers.profiles import Profile, load_profile
from edge_agent.errors import ConfigError, Finding
from edge_agent.model import CellSpec
from edge_agent.protocol.api import field_path
from edge_agent.runtime.climate_outputs import HOLD_MS
from edge_agent.statemachine.state import Need, Regime, Regimes

Name = Annotated[str, Field(strict=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Text = Annotated[str, Field(strict=True, max_length=1024)]
Millimetres = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Baud = Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200]


class Section(BaseModel):
    """Base of all sections: immutable, an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MachineSection(Section):
    """Who and where the machine is; `clock = "rtc"` says that a battery-backed clock may be trusted."""

    machine_id: Annotated[str, Field(strict=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
    name: Text
    location: Text
    latitude: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
    longitude: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
    clock: Literal["ntp", "rtc"] = "ntp"


class PathsSection(Section):
    """Files of the daemon; a relative path is relative to the configuration file."""

    journal: str = "/var/lib/edge-agent/journal.sqlite"
    socket: str = "/run/edge-agent/agent.sock"
    profiles: str = "devices"


class MqttSection(Section):
    """The broker."""

    host: Annotated[str, Field(strict=True, min_length=1)]
    port: Annotated[int, Field(strict=True, ge=1, le=65_535)] = 1883
    keepalive_s: Annotated[int, Field(strict=True, ge=5, le=600)] = 20
    session_expiry_s: Annotated[int, Field(strict=True, ge=0, le=2_592_000)] = 604_800


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
    """`closed_level`: what a door contact reads when the door is closed. Wiring decides, so no default.

    A door open longer than `door_ajar_s` raises DOOR_AJAR.
    """

    closed_level: Literal[0, 1]
    door_ajar_s: Annotated[int, Field(strict=True, ge=1, le=86_400)] = 120


class WeightSection(Section):
    """What the scales in the cells are taken for; grams.

    `empty_dropoff`: a drop-off that the scale finds empty raises an alarm, or with `hold` also leaves the
    reservation PENDING. Less than `empty_below_g` is nothing; more than `weight_change_g` is a change. A
    scale's zero may creep by `drift_max_g` before it has to be tared.
    """

    empty_dropoff: Literal["alarm", "hold"] = "alarm"
    empty_below_g: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 50
    weight_change_g: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 100
    drift_max_g: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 300


Degrees = Annotated[float, Field(ge=-40, le=120, allow_inf_nan=False)]
Band = Annotated[float, Field(ge=0.1, le=20, allow_inf_nan=False)]


class ClimateSection(Section):
    """How cells are kept cold or hot, in degrees Celsius; what is left out is taken from `CLIMATE`.

    A cooler comes on `band_c` above the setpoint and goes off `band_c` below; a heater the other way round.
    Food longer than `allowed_min` beyond `limit_c` (above where it is cold, below where it is hot) is out of
    range. An output that moves the temperature by less than `least_change_c` in `no_effect_min` is faulty.
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
"""What a cooled and a heated cell get where nothing else is said."""


class BusSection(Section):
    """One serial port and its pair of wires."""

    port: Annotated[str, Field(strict=True, min_length=1)]
    baud: Baud
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1


class DeviceSection(Section):
    """One board on a bus; `profile` names a file of the profiles folder."""

    bus: Name
    address: Annotated[int, Field(strict=True, ge=1, le=247)]
    profile: Name


class ScannerSection(Section):
    """A scanner or keypad that sends text lines on a serial port of its own."""

    port: Annotated[str, Field(strict=True, min_length=1)]
    baud: Baud = 9600


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
    """A door contact; `closed_level` where one cell is wired otherwise than the rest."""

    closed_level: Literal[0, 1] | None = None


class CoolingReference(ChannelReference):
    """A cooler; `climate` names the section of `[climate]` that says how it is used."""

    climate: Name = "cold"


class HeatingReference(ChannelReference):
    """A heater; `climate` names the section of `[climate]` that says how it is used."""

    climate: Name = "hot"


class CellSection(Section):
    """One cell: its size and the channels that serve it."""

    label: Annotated[str, Field(strict=True, min_length=1, max_length=16, pattern=r"^[A-Za-z0-9_-]+$")]
    cell_id: Annotated[str, Field(strict=True, min_length=1, max_length=64)]
    size: Name
    lock: ChannelReference
    door: DoorReference
    scale: ChannelReference | None = None
    temperature: ChannelReference | None = None
    heating: HeatingReference | None = None
    cooling: CoolingReference | None = None


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
    scanner: ScannerSection | None = None
    buses: Annotated[dict[Name, BusSection], Field(min_length=1)]
    devices: Annotated[dict[Name, DeviceSection], Field(min_length=1)]
    sizes: Annotated[dict[Name, SizeSection], Field(min_length=1)]
    cells: Annotated[list[CellSection], Field(min_length=1, max_length=512)]
    _profiles: dict[str, Profile] = PrivateAttr(default_factory=dict)
    _folder: Path = PrivateAttr(default=Path())

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

    def _regime(self, need: Need, name: str) -> Regime:
        usual, chosen = CLIMATE[need], self.climate.get(name, CLIMATE[need])
        setpoint_c = usual.setpoint_c if chosen.setpoint_c is None else chosen.setpoint_c
        limit_c = usual.limit_c if chosen.limit_c is None else chosen.limit_c
        allowed_min = usual.allowed_min if chosen.allowed_min is None else chosen.allowed_min
        assert setpoint_c is not None
        assert limit_c is not None
        assert allowed_min is not None
        return Regime(
            need=need,
            setpoint_c=setpoint_c,
            band_c=chosen.band_c,
            min_on_ns=chosen.min_on_s * 10**9,
            min_off_ns=chosen.min_off_s * 10**9,
            limit_c=limit_c,
            allowed_ns=allowed_min * 60 * 10**9,
            precondition_ns=chosen.precondition_min * 60 * 10**9,
            no_effect_ns=chosen.no_effect_min * 60 * 10**9,
            least_change_c=chosen.least_change_c,
        )


def load_settings(path: Path) -> Settings:
    """Reads, validates and cross-checks a configuration with its profiles.

    Raises `ConfigError` holding every finding, each with its key path.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Finding("", f"{path}: {error}")]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Finding("", f"{path}: not TOML: {error}")]) from None
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        raise ConfigError(_findings(error)) from None
    settings._folder = path.parent.resolve()
    findings = _load_profiles(settings)
    if not findings:
        findings = wiring_findings(settings)
    if findings:
        raise ConfigError(findings)
    return settings


def _findings(error: ValidationError) -> list[Finding]:
    findings = []
    for item in error.errors(include_url=False):
        message = "unknown key" if item["type"] == "extra_forbidden" else item["msg"]
        location = tuple(part for part in item["loc"] if part != "[key]")
        findings.append(Finding(field_path(location), message))
    return findings


def _load_profiles(settings: Settings) -> list[Finding]:
    findings = []
    for name, device in settings.devices.items():
        if device.profile in settings._profiles:
            continue
        file = settings.path(settings.paths.profiles) / f"{device.profile}.toml"
        try:
            settings._profiles[device.profile] = load_profile(file)
        except ConfigError as error:
            findings += [Finding(f"devices.{name}.profile", str(finding)) for finding in error.findings]
    return findings


def wiring_findings(settings: Settings) -> list[Finding]:
    """What the keys of a configuration must agree on; an empty list if all is well."""
    findings: list[Finding] = []
    findings += _device_findings(settings)
    findings += _cell_findings(settings)
    unlock = settings.unlock
    if unlock.watch_ms < unlock.pulse_ms:
        findings.append(Finding("unlock.watch_ms", f"must be at least pulse_ms ({unlock.pulse_ms})"))
    possible = 10**settings.codes.code_digits
    if len(settings.cells) > possible // 100:
        limit = f"{possible // 100} cells at most with codes of {settings.codes.code_digits} digits"
        findings.append(Finding("cells", limit))
    return findings


def _device_findings(settings: Settings) -> list[Finding]:
    findings = []
    seen: dict[tuple[str, int], str] = {}
    for name, device in settings.devices.items():
        if device.bus not in settings.buses:
            findings.append(Finding(f"devices.{name}.bus", f"no such bus: {device.bus!r}"))
        other = seen.setdefault((device.bus, device.address), name)
        if other != name:
            taken = f"address {device.address} on bus {device.bus!r} is taken by {other!r}"
            findings.append(Finding(f"devices.{name}.address", taken))
    ports: dict[str, str] = {}
    places = [(f"buses.{name}.port", bus.port) for name, bus in settings.buses.items()]
    if settings.scanner is not None:
        places.append(("scanner.port", settings.scanner.port))
    for place, port in places:
        other = ports.setdefault(port, place)
        if other != place:
            findings.append(Finding(place, f"port {port!r} is taken by {other}"))
    return findings


_CAPABILITY = {
    "lock": "lock",
    "door": "doors",
    "scale": "scale",
    "temperature": "temperature",
    "heating": "relays",
    "cooling": "relays",
}
"""Which capability of a profile each channel of a cell needs."""


def _cell_findings(settings: Settings) -> list[Finding]:
    findings: list[Finding] = []
    labels: dict[str, int] = {}
    ids: dict[str, int] = {}
    taken: dict[tuple[str, str, int], str] = {}
    for index, cell in enumerate(settings.cells):
        place = f"cells[{index}]"
        if labels.setdefault(cell.label, index) != index:
            findings.append(Finding(f"{place}.label", f"{cell.label!r} is also cells[{labels[cell.label]}]"))
        if ids.setdefault(cell.cell_id, index) != index:
            findings.append(
                Finding(f"{place}.cell_id", f"{cell.cell_id!r} is also cells[{ids[cell.cell_id]}]")
            )
        if cell.size not in settings.sizes:
            findings.append(Finding(f"{place}.size", f"no such size: {cell.size!r}"))
        for use, capability in _CAPABILITY.items():
            reference: ChannelReference | None = getattr(cell, use)
            if reference is not None:
                path = f"{place}.{use}"
                findings += _channel_findings(settings, path, reference, capability, taken)
        findings += _pulse_findings(settings, place, cell)
        findings += _climate_findings(settings, place, cell)
    return list(dict.fromkeys(findings))


def _channel_findings(
    settings: Settings,
    path: str,
    reference: ChannelReference,
    capability: str,
    taken: dict[tuple[str, str, int], str],
) -> list[Finding]:
    if reference.device not in settings.devices:
        return [Finding(f"{path}.device", f"no such device: {reference.device!r}")]
    channels = settings.profile_of(reference.device).channels(capability)
    profile = settings.devices[reference.device].profile
    if channels == 0:
        return [Finding(f"{path}.device", f"{reference.device!r} ({profile}) has no {capability}")]
    if reference.channel > channels:
        return [Finding(f"{path}.channel", f"{reference.device!r} ({profile}) has channels 1 to {channels}")]
    # Locks and relays of one board are the same coils.
    kind = "coil" if capability in ("lock", "relays") else capability
    other = taken.setdefault((kind, reference.device, reference.channel), path)
    if other != path:
        return [Finding(path, f"{kind} {reference.channel} of {reference.device!r} is taken by {other}")]
    return []


def _pulse_findings(settings: Settings, place: str, cell: CellSection) -> list[Finding]:
    if cell.lock.device not in settings.devices:
        return []
    lock = settings.profile_of(cell.lock.device).lock
    if lock is None:
        return []
    pulse, asked = lock.pulse, settings.unlock.pulse_ms
    if pulse.min_ms <= asked <= pulse.max_ms and asked % pulse.unit_ms == 0:
        return []
    able = f"{pulse.min_ms} to {pulse.max_ms} ms in steps of {pulse.unit_ms} ms"
    return [Finding("unlock.pulse_ms", f"{place}.lock ({cell.lock.device!r}) can do {able}, not {asked} ms")]


def _climate_findings(settings: Settings, place: str, cell: CellSection) -> list[Finding]:
    findings = []
    outputs: dict[Need, CoolingReference | HeatingReference | None]
    outputs = {"cold": cell.cooling, "hot": cell.heating}
    if any(outputs.values()) and cell.temperature is None:
        findings.append(Finding(f"{place}.temperature", "a heater or cooler needs a temperature sensor"))
    for need, output in outputs.items():
        if output is None:
            continue
        path = f"{place}.{'cooling' if need == 'cold' else 'heating'}"
        if output.climate not in settings.climate and output.climate not in CLIMATE:
            findings.append(Finding(f"{path}.climate", f"no such climate: {output.climate!r}"))
        else:
            findings += _regime_findings(settings._regime(need, output.climate), output.climate)
        if output.device in settings.devices:
            findings += _output_findings(settings, path, output.device)
    return findings


def _regime_findings(regime: Regime, name: str) -> list[Finding]:
    findings = []
    sign = 1 if regime.need == "cold" else -1
    if sign * (regime.limit_c - regime.setpoint_c) < regime.band_c:
        wrong = f"{regime.setpoint_c} °C lies less than the band of {regime.band_c} from the"
        findings.append(Finding(f"climate.{name}.setpoint_c", f"{wrong} limit, {regime.limit_c} °C"))
    if regime.least_change_c > 2 * regime.band_c:
        wrong = f"{regime.least_change_c} is more than twice the band of {regime.band_c}: never reached"
        findings.append(Finding(f"climate.{name}.least_change_c", wrong))
    return findings


def _output_findings(settings: Settings, path: str, device: str) -> list[Finding]:
    """A heater or cooler must go off when the daemon dies."""
    relays, profile = settings.profile_of(device).relays, settings.devices[device].profile
    if relays is None:
        return []  # told already: it has no relays at all
    pulse = relays.pulse
    if pulse is None:
        if relays.communication_timeout_ms is not None:
            return []
        lacks = f"{device!r} ({profile}) has neither timed pulses nor a communication timeout"
        return [Finding(f"{path}.device", f"{lacks}: it would stay on when the daemon dies")]
    if pulse.min_ms <= HOLD_MS <= pulse.max_ms and HOLD_MS % pulse.unit_ms == 0:
        return []
    able = f"{pulse.min_ms} to {pulse.max_ms} ms in steps of {pulse.unit_ms} ms"
    return [Finding(f"{path}.device", f"{device!r} ({profile}) can do {able}, not {HOLD_MS} ms")]
