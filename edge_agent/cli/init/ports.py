"""The serial ports of this computer, each under the name that stays the longest."""

from __future__ import annotations

from pathlib import Path

from edge_agent.drivers.port_identity import has_serial

NAMED = ("locker-*", "serial/by-id/*", "serial/by-path/*", "ttyUSB*", "ttyACM*", "ttyAMA*", "ttyS*")
"""Where ports stand below /dev, best names first: those of our own udev rules belong to a USB socket."""
NO_UART = "0"
"""What the kernel says of a ttyS behind which there is nothing (PORT_UNKNOWN)."""


def serial_ports(dev: Path = Path("/dev"), classes: Path = Path("/sys/class/tty")) -> list[str]:
    """One name for each port that is there; those of the board itself only where they have a UART.

    A `by-id` name only where the adapter has a serial number of its own: else it is every such adapter's.
    """
    found: dict[Path, str] = {}
    for pattern in NAMED:
        for path in sorted(dev.glob(pattern)):
            real = path.resolve()
            if pattern.startswith("serial/by-id/") and not has_serial(str(path), classes.parent.parent):
                continue
            if real.exists() and _has_uart(classes / real.name):
                found.setdefault(real, str(path))
    return list(found.values())


def keyboards(dev: Path = Path("/dev")) -> list[str]:
    """What could be a keypad or a scanner that is a keyboard."""
    return [str(path) for path in sorted(dev.glob("input/by-id/*-event-kbd"))]


def _has_uart(about: Path) -> bool:
    if not about.name.startswith("ttyS"):
        return True
    try:
        return (about / "type").read_text(encoding="ascii").strip() != NO_UART
    except OSError:
        return False
