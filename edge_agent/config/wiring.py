"""Cross-checks of a configuration's keys: no two cells on one coil, every device configured, and so on."""

from __future__ import annotations

import os
from collections.abc import Container

from edge_agent.config.credentials import credential_findings
from edge_agent.config.sections import (
    CLIMATE,
    CellSection,
    ChannelReference,
    CoolingReference,
    DeviceSection,
    HeatingReference,
    Settings,
)
from edge_agent.errors import Finding
from edge_agent.field.climate_outputs import HOLD_MS
from edge_agent.statemachine.state import Need, Regime


def wiring_findings(settings: Settings) -> list[Finding]:
    """Cross-checks the keys of a configuration; an empty list if all is well."""
    findings: list[Finding] = []
    findings += _device_findings(settings)
    findings += _cell_findings(settings)
    findings += credential_findings(settings.credentials, settings.codes.code_digits)
    unlock = settings.unlock
    if unlock.watch_ms < unlock.pulse_ms:
        findings.append(Finding("unlock.watch_ms", f"must be at least pulse_ms ({unlock.pulse_ms})"))
    screen, metrics = settings.screen, settings.metrics
    if screen is not None and metrics is not None and screen.port == metrics.place[1]:
        findings.append(Finding("screen.port", f"{screen.port} is taken by metrics.listen"))
    possible = 10**settings.codes.code_digits
    if len(settings.cells) > possible // 100:
        limit = f"{possible // 100} cells at most with codes of {settings.codes.code_digits} digits"
        findings.append(Finding("cells", limit))
    return findings


def _device_findings(settings: Settings) -> list[Finding]:
    findings: list[Finding] = []
    seen: dict[tuple[str, int], str] = {}
    for name, device in settings.devices.items():
        if device.bus not in settings.buses:
            findings.append(Finding(f"devices.{name}.bus", f"no such bus: {device.bus!r}"))
        else:
            findings += _protocol_findings(settings, name, device)
        other = seen.setdefault((device.bus, device.address), name)
        if other != name:
            taken = f"address {device.address} on bus {device.bus!r} is taken by {other!r}"
            findings.append(Finding(f"devices.{name}.address", taken))
    ports: dict[str, str] = {}
    places = [(f"buses.{name}.port", bus.port) for name, bus in settings.buses.items()]
    if settings.scanner is not None:
        places.append(("scanner.port", settings.scanner.port))
    if settings.keypad is not None:
        places.append(("keypad.device", settings.keypad.device))
    card = settings.card_reader
    if card is not None:
        places.append(
            ("card_reader.port", card.port) if card.port else ("card_reader.device", card.device or "")
        )
    for place, port in places:
        # Two names may refer to one device.
        real = port if "://" in port else os.path.realpath(port)
        other = ports.setdefault(real, place)
        if other != place:
            same = "" if real == port else f" (both are {real})"
            findings.append(Finding(place, f"port {port!r} is taken by {other}{same}"))
    return findings


def _protocol_findings(settings: Settings, name: str, device: DeviceSection) -> list[Finding]:
    """One protocol per pair of wires, and only addresses that the protocol has."""
    protocol, spoken = settings.profile_of(name).bus.protocol, settings.buses[device.bus].protocol
    if protocol != spoken:
        wrong = f"{device.profile!r} uses {protocol}, bus {device.bus!r} is set to {spoken}"
        return [Finding(f"devices.{name}.profile", wrong)]
    first, last = ADDRESSES[protocol]
    if first <= device.address <= last:
        return []
    return [Finding(f"devices.{name}.address", f"must be {first} to {last} with {protocol}")]


ADDRESSES = {
    "modbus": (1, 255),  # 248 to 255 are reserved, but they are the factory address of some boards
    "8a": (1, 32),
    "kerong-cu12": (0, 255),
    "kerong-cu16": (0, 15),
    "kerong-cu48": (0, 255),
    "wkly": (0, 255),
}
"""First and last address of a board, by protocol."""
LAST_SCANNED = {"modbus": 247}
"""Where a scan ends by default: 248 to 255 are reserved."""

_CAPABILITY = {
    "lock": "lock",
    "door": "doors",
    "scale": "scale",
    "temperature": "temperature",
    "heating": "relays",
    "cooling": "relays",
    "signal": "signal",
}
"""The capability of a profile that each channel of a cell needs."""


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
            reference = cell.channels()[use]
            if reference is not None:
                path = f"{place}.{use}"
                findings += _channel_findings(settings, path, reference, capability, taken)
        findings += _pulse_findings(settings, place, cell)
        findings += _climate_findings(settings, place, cell)
    findings += _cabinet_findings(settings, labels, taken)
    return list(dict.fromkeys(findings))


def _cabinet_findings(
    settings: Settings, labels: Container[str], taken: dict[tuple[str, str, int], str]
) -> list[Finding]:
    findings: list[Finding] = []
    for name, cabinet in settings.signal.cabinets.items():
        path = f"signal.cabinets.{name}"
        findings += _channel_findings(settings, path, cabinet, "signal", taken)
        for label in cabinet.cells:
            if label not in labels:
                findings.append(Finding(f"{path}.cells", f"no such cell: {label!r}"))
    return findings


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
    # The locks, relays and signals of one board are the same coils, unless the signals have their own.
    signal = settings.profile_of(reference.device).signal if capability == "signal" else None
    shared = capability in ("lock", "relays") or (signal is not None and not signal.own_outputs)
    kind = "coil" if shared else capability
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
    asked = settings.unlock.pulse_ms
    if lock.pulse.able(asked):
        return []
    able = lock.pulse.ability
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
            regime = settings._regime(need, output.climate)
            findings += _regime_findings(regime, output.climate)
            findings += _range_findings(settings, path, cell, regime)
        if output.device in settings.devices:
            findings += _output_findings(settings, path, output.device)
    return findings


def _range_findings(settings: Settings, path: str, cell: CellSection, regime: Regime) -> list[Finding]:
    """A limit beyond the range of the cell's probe could never be seen to be passed."""
    device = None if cell.temperature is None else settings.devices.get(cell.temperature.device)
    if cell.temperature is None or device is None:
        return []  # reported elsewhere
    probe = settings.profile_of(cell.temperature.device).temperature
    if probe is None:
        return []
    needed = {
        "setpoint_c - band_c": regime.setpoint_c - regime.band_c,
        "setpoint_c + band_c": regime.setpoint_c + regime.band_c,
        "limit_c": regime.limit_c,
    }
    range_c = f"above {probe.above_c:g} and below {probe.below_c:g} °C"
    return [
        Finding(f"{path}.climate", f"{what} is {at_c:g} °C, and {cell.temperature.device} measures {range_c}")
        for what, at_c in needed.items()
        if not probe.plausible(at_c)
    ]


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
        return []  # reported already: it has no relays at all
    pulse = relays.pulse
    if pulse is None:
        if relays.communication_timeout_ms is not None:
            return []
        lacks = f"{device!r} ({profile}) has neither timed pulses nor a communication timeout"
        return [Finding(f"{path}.device", f"{lacks}: it would stay on when the daemon dies")]
    if pulse.able(HOLD_MS):
        return []
    return [Finding(f"{path}.device", f"{device!r} ({profile}) can do {pulse.ability}, not {HOLD_MS} ms")]
