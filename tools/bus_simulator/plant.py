"""From a machine's configuration to its simulated hardware, wired as configured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from edge_agent.config import BusSection, Settings
from edge_agent.config.sections import ChannelReference
from edge_agent.drivers.simulated.devices import Wiring, build_device
from edge_agent.drivers.simulated.line import LineDevice
from edge_agent.drivers.simulated.waveshare import UART_CODES
from edge_agent.drivers.simulated.world import CellBuild, Load, World
from edge_agent.model import Door


def build_world(
    settings: Settings,
    *,
    clock_ns: Callable[[], int],
    wall_s: Callable[[], float],
    seed: int = 0,
    saved: Mapping[str, tuple[Door, int]] | None = None,
) -> World:
    """A world with the cells of a configuration, all doors closed and empty unless `saved` has other
    values."""
    builds = restored([CellBuild(cell.label) for cell in settings.cells], saved or {})
    return World(builds, clock_ns=clock_ns, wall_s=wall_s, seed=seed)


def build_devices(settings: Settings, world: World) -> dict[str, list[LineDevice]]:
    """The devices of every bus, wired to the world.

    Raises `ConfigError` for a profile without a simulated device.
    """
    wirings = {name: Wiring() for name in settings.devices}
    for name, device in settings.devices.items():
        wirings[name].uart = _uart(settings.buses[device.bus])
    for cell in settings.cells:
        level = settings.doors.closed_level if cell.door.closed_level is None else cell.door.closed_level
        wirings[cell.lock.device].loads[cell.lock.channel] = world.solenoid(cell.label)
        wirings[cell.door.device].inputs[cell.door.channel] = world.contact(cell.label, level)
        if cell.scale is not None:
            wirings[cell.scale.device].weigh = world.platform(cell.label)
        if cell.temperature is not None:
            wirings[cell.temperature.device].probes[cell.temperature.channel] = world.probe(cell.label)
        if cell.heating is not None:
            wirings[cell.heating.device].loads[cell.heating.channel] = world.heater(cell.label)
        if cell.cooling is not None:
            wirings[cell.cooling.device].loads[cell.cooling.channel] = world.cooler(cell.label)
        if cell.signal is not None:
            _wire_signal(settings, wirings, cell.signal, world.signal(cell.label))
    for name, cabinet in settings.signal.cabinets.items():
        _wire_signal(settings, wirings, cabinet, world.cabinet_signals.load(name))
    buses: dict[str, list[LineDevice]] = {name: [] for name in settings.buses}
    for name, device in settings.devices.items():
        described = settings.profile_of(name)
        buses[device.bus].append(build_device(name, device.profile, device.address, wirings[name], described))
    return buses


def _wire_signal(
    settings: Settings, wirings: Mapping[str, Wiring], place: ChannelReference, load: Load
) -> None:
    signal, wiring = settings.profile_of(place.device).signal, wirings[place.device]
    own = signal is not None and signal.own_outputs
    (wiring.signals if own else wiring.loads)[place.channel] = load


def line_baud(bus: BusSection) -> int:
    """Baud rate of a bus's wires; a fast one for a network bus without a baud rate."""
    return bus.baud or 115_200


def _uart(bus: BusSection) -> int:
    parity = {"N": 0, "E": 1, "O": 2}[bus.parity]
    return parity << 8 | UART_CODES.get(bus.baud or 0, UART_CODES[9600])


def restored(builds: Iterable[CellBuild], saved: Mapping[str, tuple[Door, int]]) -> list[CellBuild]:
    """The same cells with the doors and grams of an earlier world; labels that no longer exist are
    skipped."""
    result = []
    for build in builds:
        door, grams = saved.get(build.label, (build.door, build.grams))
        result.append(replace(build, door=door, grams=grams))
    return result
