"""Which simulated device implements a profile, and how it is wired to the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edge_agent.drivers.profiles import Profile, Protocol
from edge_agent.drivers.simulated.framing import Framing, ModbusRtu
from edge_agent.drivers.simulated.from_profile import ProfiledBoard, Terminals
from edge_agent.drivers.simulated.instruments import (
    GenericTransmitter,
    LaumasTransmitter,
    RegisterThermometer,
    ThermometerBoard,
)
from edge_agent.drivers.simulated.line import LineDevice
from edge_agent.drivers.simulated.lock_boards import (
    CU16,
    CU48,
    Board8a,
    Framing8a,
    FramingCu12,
    FramingWkly,
    KerongCu12,
    KerongCu16,
    KerongCu48,
    WklyBoard,
)
from edge_agent.drivers.simulated.relays import CoilBoard, EletechsupRelays, LcBoard
from edge_agent.drivers.simulated.waveshare import IoBoard, RelayBoard
from edge_agent.drivers.simulated.world import Load, Weighing
from edge_agent.errors import ConfigError, Finding

HUMIDITY = 546
"""An XY-MD02's humidity reading, in tenths of a percent."""


@dataclass(slots=True)
class Wiring:
    """What is connected to a device's terminals, by channel counted from 1.

    `uart` is the value of a board's own serial register, if it has one.
    """

    loads: dict[int, Load] = field(default_factory=dict)
    signals: dict[int, Load] = field(default_factory=dict)
    """Where the board has outputs of their own for signals."""
    inputs: dict[int, Callable[[int], int]] = field(default_factory=dict)
    probes: dict[int, Callable[[int], float | None]] = field(default_factory=dict)
    weigh: Callable[[int], Weighing] | None = None
    uart: int = 0x0001


Kind = Callable[[int, Wiring], LineDevice]


def _thermometer(function: int, register: int, constants: Mapping[int, int] | None = None) -> Kind:
    return lambda address, w: RegisterThermometer(
        address, w.probes.get(1), function=function, register=register, constants=constants
    )


_KINDS: dict[str, Kind] = {
    "waveshare-io-8ch": lambda address, w: IoBoard(address, w.loads, w.inputs, uart=w.uart),
    "waveshare-relay-8ch": lambda address, w: RelayBoard(address, w.loads, uart=w.uart),
    "eletechsup-r4d8a08": lambda address, w: EletechsupRelays(address, w.loads),
    "lc-modbus-8r": lambda address, w: LcBoard(address, w.loads, w.inputs),
    "cheap-4-relay": lambda address, w: CoilBoard(address, w.loads, coils=4, on=0x0100, first=1),
    "moxa-e1211": lambda address, w: CoilBoard(address, w.loads, coils=16),
    "moxa-e1214": lambda address, w: CoilBoard(address, w.loads, w.inputs, coils=6, discretes=6),
    "laumas-tlb": lambda address, w: LaumasTransmitter(address, w.weigh),
    "generic-transmitter": lambda address, w: GenericTransmitter(address, w.weigh),
    "r4dcb08": lambda address, w: ThermometerBoard(address, w.probes),
    "xy-md02": _thermometer(4, 1, {2: HUMIDITY}),
    "dixell": _thermometer(3, 256),
    "pixsys-atr142": _thermometer(3, 1000),
    "lock-8a": lambda address, w: Board8a(address, w.loads, w.inputs),
    "lock-8a-50": lambda address, w: Board8a(address, w.loads, w.inputs, channels=50),
    "lock-8a-9933": lambda address, w: Board8a(address, w.loads, w.inputs, unlock=0x33, query=0x99),
    "kerong-cu12": lambda address, w: KerongCu12(address, w.loads, w.inputs),
    "kerong-cu16": lambda address, w: KerongCu16(address, w.loads, w.inputs),
    "kerong-cu48": lambda address, w: KerongCu48(address, w.loads, w.inputs),
    "wkly-12": lambda address, w: WklyBoard(address, w.loads, w.inputs),
    "wkly-24": lambda address, w: WklyBoard(address, w.loads, w.inputs, channels=24),
}
_FRAMINGS: dict[Protocol, Framing] = {
    "modbus": ModbusRtu(),
    "8a": Framing8a(),
    "kerong-cu12": FramingCu12(),
    "kerong-cu16": CU16,
    "kerong-cu48": CU48,
    "wkly": FramingWkly(),
}


def framing_of(protocol: Protocol) -> Framing:
    """The framing on a line with this protocol."""
    return _FRAMINGS[protocol]


def build_device(
    name: str, profile: str, address: int, wiring: Wiring, described: Profile | None = None
) -> LineDevice:
    """The device called `name` of a configuration. A Modbus board without a simulated device of its own does
    what its profile, `described`, says.

    Raises `ConfigError` if there is no simulated device for this profile.
    """
    kind = _KINDS.get(profile)
    if kind is not None:
        return kind(address, wiring)
    if described is not None and described.bus.protocol == "modbus":
        terminals = Terminals(wiring.loads, wiring.inputs, wiring.probes, wiring.weigh, wiring.signals)
        return ProfiledBoard(address, described, terminals)
    known = ", ".join(sorted(_KINDS))
    message = f"no simulated device for profile {profile!r}; there are: {known}"
    raise ConfigError([Finding(f"devices.{name}.profile", message)])
