"""Makes the devices on the buses from the configuration and its profiles; names the concrete drivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import structlog

from edge_agent.app.transports import owner_of
from edge_agent.config import BusSection, Settings
from edge_agent.config.sections import SignalReference
from edge_agent.config.wiring import ADDRESSES, LAST_SCANNED
from edge_agent.drivers.boards import (
    Device,
    DoorInputs,
    RegisterScale,
    SignalLine,
    TemperatureInputs,
    TimedRelay,
    lock_at,
    outputs_of,
)
from edge_agent.drivers.decode import Wire
from edge_agent.drivers.interfaces import HeldOutput, Lock, OutputBoard
from edge_agent.drivers.profiles import Profile
from edge_agent.drivers.transport import Transport
from edge_agent.errors import BusFault, DeviceFault
from edge_agent.field.climate_outputs import ClimateOutputs
from edge_agent.field.doors import DoorPlace, Doors
from edge_agent.field.poller import FieldValues, Poller, SlowDevice, scale_of, thermometer_of
from edge_agent.field.scale_errors import hearing_errors
from edge_agent.field.signals import Signal, Signals
from edge_agent.field.temperatures import Temperatures
from edge_agent.field.weighing import Weighing
from edge_agent.runtime.loop import LockerLoop
from edge_agent.service.bus_service import BusPlace, Placed
from edge_agent.service.diagnosis.cell_watch import Sensors

log = structlog.get_logger()

OFF_TRIES = 3


class Devices:
    """All devices on the buses."""

    def __init__(self, settings: Settings, transport: Callable[[str, BusSection], Transport]) -> None:
        """`transport` gives a bus's transport by its name and section."""
        self._settings = settings
        self.values = FieldValues()
        self.buses = {name: owner_of(name, bus, transport(name, bus)) for name, bus in settings.buses.items()}
        self.by_name = {
            name: Device(name, self.buses[device.bus], device.address, settings.profile_of(name).bus)
            for name, device in settings.devices.items()
        }
        self.locks = {cell.label: self._lock(cell.label) for cell in settings.cells}
        self.outputs: list[OutputBoard] = [
            board
            for name, device in self.by_name.items()
            if (board := outputs_of(device, settings.profile_of(name))) is not None
        ]
        # At a stop there is little time: boards that have nothing but signals are the last.
        self.outputs.sort(key=lambda board: _only_signals(settings.profile_of(board.name)))
        self.door_boards = {
            name: DoorInputs(self.by_name[name], doors)
            for name in dict.fromkeys(cell.door.device for cell in settings.cells)
            if (doors := settings.profile_of(name).doors) is not None
        }

    def bus_places(self) -> dict[str, BusPlace]:
        """Each bus and its configured devices, for the bus service."""
        found: dict[str, BusPlace] = {}
        for name, bus in self._settings.buses.items():
            devices = tuple(
                Placed(
                    device, at.address, at.profile, self._settings.profile_of(device), self._cells_of(device)
                )
                for device, at in self._settings.devices.items()
                if at.bus == name
            )
            wire: Wire = "modbus-tcp" if bus.link == "tcp" else bus.protocol
            usual = LAST_SCANNED.get(bus.protocol, ADDRESSES[bus.protocol][1])
            addresses = (*ADDRESSES[bus.protocol], usual)
            found[name] = BusPlace(
                self.buses[name],
                bus.port,
                wire,
                bus.baud or 0,
                addresses,
                devices,
                bus.bits_per_character,
            )
        return found

    def _cells_of(self, device: str) -> tuple[tuple[str, str, int], ...]:
        return tuple(
            (use, cell.label, place.channel)
            for cell in self._settings.cells
            for use, place in cell.channels().items()
            if place is not None and place.device == device
        )

    def _lock(self, label: str) -> Lock:
        cell = next(cell for cell in self._settings.cells if cell.label == label)
        lock = self._settings.profile_of(cell.lock.device).lock
        assert lock is not None  # checked by the configuration
        return lock_at(
            self.by_name[cell.lock.device], lock, cell.lock.channel, self._settings.unlock.pulse_ms
        )

    def held_outputs(self, which: Literal["heating", "cooling"]) -> dict[str, HeldOutput]:
        """The heaters or the coolers, by the label of their cell."""
        found: dict[str, HeldOutput] = {}
        for cell in self._settings.cells:
            place = cell.heating if which == "heating" else cell.cooling
            if place is not None:
                relays = self._settings.profile_of(place.device).relays
                assert relays is not None  # checked by the configuration
                found[cell.label] = TimedRelay(self.by_name[place.device], relays, place.channel)
        return found

    def climate_outputs(self, steered: Callable[[], bool]) -> ClimateOutputs:
        """All heaters and coolers, see `ClimateOutputs`."""
        return ClimateOutputs(self.held_outputs("heating"), self.held_outputs("cooling"), steered)

    def signals(self, doors: Doors) -> Signals:
        """All lights and buzzers, see `Signals`."""
        section, every = self._settings.signal, frozenset(cell.label for cell in self._settings.cells)
        found = [
            self._signal(f"of {cell.label}", frozenset({cell.label}), cell.signal)
            for cell in self._settings.cells
            if cell.signal is not None
        ]
        for name, cabinet in section.cabinets.items():
            found.append(self._signal(name, frozenset(cabinet.cells) or every, cabinet))
        return Signals(found, doors.reported)

    def _signal(self, name: str, labels: frozenset[str], place: SignalReference) -> Signal:
        signal = self._settings.profile_of(place.device).signal
        assert signal is not None  # checked by the configuration
        line = SignalLine(self.by_name[place.device], signal, place.channel)
        return Signal(name, labels, line, place.on_max_s or self._settings.signal.on_max_s)

    def door_boards_on(self, bus: str) -> dict[int, str]:
        """The boards with door contacts on one bus, by address."""
        return {
            self._settings.devices[name].address: name for name in self.door_boards if self._on(name, bus)
        }

    def door_places(self) -> dict[str, DoorPlace]:
        """Where each door's contact is wired."""
        default = self._settings.doors.closed_level
        return {
            cell.label: DoorPlace(
                cell.door.device,
                cell.door.channel,
                default if cell.door.closed_level is None else cell.door.closed_level,
            )
            for cell in self._settings.cells
        }

    def slow_devices(self, bus: str, weighing: Weighing, temperatures: Temperatures) -> list[SlowDevice]:
        """Scales and thermometers on one bus."""
        found: list[SlowDevice] = []
        probes: dict[str, dict[str, int]] = {}
        for cell in self._settings.cells:
            if cell.scale is not None and self._on(cell.scale.device, bus):
                scale = self._settings.profile_of(cell.scale.device).scale
                assert scale is not None
                driver = RegisterScale(self.by_name[cell.scale.device], scale)
                device = scale_of(driver, cell.label, self.values, weighing)
                found.append(hearing_errors(device, cell.label, self.values, weighing))
            if cell.temperature is not None and self._on(cell.temperature.device, bus):
                channels = probes.setdefault(cell.temperature.device, {})
                channels[cell.label] = cell.temperature.channel
        for name, channels in probes.items():
            temperature = self._settings.profile_of(name).temperature
            assert temperature is not None
            board = TemperatureInputs(self.by_name[name], temperature)
            found.append(thermometer_of(board, channels, self.values, temperatures))
        return found

    def sensors(self) -> Sensors:
        """Which device each scale and thermometer is, and which cells have heaters."""
        cells = self._settings.cells
        return Sensors(
            scales={cell.label: cell.scale.device for cell in cells if cell.scale is not None},
            thermometers={c.label: c.temperature.device for c in cells if c.temperature is not None},
            heaters=[cell.label for cell in cells if cell.heating is not None],
        )

    def _on(self, device: str, bus: str) -> bool:
        return self._settings.devices[device].bus == bus

    def pollers(
        self,
        doors: Doors,
        weighing: Weighing,
        temperatures: Temperatures,
        loop: LockerLoop,
        silent: list[str],
    ) -> list[Poller]:
        """One poller for each bus; `silent`: devices that were reported silent before the start."""
        return [
            Poller(
                doors,
                [board for board in self.door_boards if self._on(board, bus)],
                self.slow_devices(bus, weighing, temperatures),
                loop.submit,
                silent,
            )
            for bus in self.buses
        ]

    async def all_off(self) -> None:
        """Switches every output of every board off; a board that does not answer is logged."""
        for board in self.outputs:
            for attempt in range(1, OFF_TRIES + 1):
                try:
                    await board.all_off()
                    break
                except (BusFault, DeviceFault) as fault:
                    if attempt == OFF_TRIES:
                        log.error("outputs could not be switched off", device=board.name, fault=str(fault))


def _only_signals(profile: Profile) -> bool:
    return profile.lock is None and profile.relays is None
