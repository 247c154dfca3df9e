"""Which simulated device stands behind a profile name, and how it is wired to the world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edge_agent.drivers.simulated.instruments import LaumasTransmitter, ThermometerBoard
from edge_agent.drivers.simulated.slave import Slave
from edge_agent.drivers.simulated.waveshare import IoBoard, RelayBoard
from edge_agent.drivers.simulated.world import Load, Weighing
from edge_agent.errors import ConfigError, Finding


@dataclass(slots=True)
class Wiring:
    """What is fastened to a device's terminals, by channel counted from 1.

    `uart` is what a board's own serial register reads, where it has one.
    """

    loads: dict[int, Load] = field(default_factory=dict)
    inputs: dict[int, Callable[[int], int]] = field(default_factory=dict)
    probes: dict[int, Callable[[int], float | None]] = field(default_factory=dict)
    weigh: Callable[[int], Weighing] | None = None
    uart: int = 0x0001


_KINDS: dict[str, Callable[[int, Wiring], Slave]] = {
    "waveshare-io-8ch": lambda address, w: IoBoard(address, w.loads, w.inputs, uart=w.uart),
    "waveshare-relay-8ch": lambda address, w: RelayBoard(address, w.loads, uart=w.uart),
    "laumas-tlb": lambda address, w: LaumasTransmitter(address, w.weigh),
    "r4dcb08": lambda address, w: ThermometerBoard(address, w.probes),
}


def build_device(name: str, profile: str, address: int, wiring: Wiring) -> Slave:
    """The device called `name` of a configuration.

    Raises `ConfigError` if nothing that behaves like this profile has been built.
    """
    kind = _KINDS.get(profile)
    if kind is None:
        known = ", ".join(sorted(_KINDS))
        message = f"no simulated device for profile {profile!r}; there are: {known}"
        raise ConfigError([Finding(f"devices.{name}.profile", message)])
    return kind(address, wiring)
