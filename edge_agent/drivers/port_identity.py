"""Which adapter a serial port belongs to, from the kernel's sysfs.

A name below /dev identifies little: `/dev/ttyUSB0` is the adapter that came first, and a `by-id` link of an
adapter without a serial number is the same for all of its kind. Facts about sysfs: a tty has
`class/tty/NAME/device`; above it are the USB interface (`bInterfaceNumber`) and the USB device (`idVendor`,
`idProduct`, `serial`, `devpath`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SYSFS = Path("/sys")
SERIAL, PATH, NAME = "usb-serial", "usb-path", "name"
"""First word of an identity: what it is made of."""
ANOTHER_ADAPTER = "another adapter"
"""The beginning of BUS_DOWN's detail for a bus that is kept closed."""
NO_SERIALS = frozenset(
    {"0001", "00000001", "1234", "12345678", "123456789", "0123456789", "0123456789ABCDEF"}
)
"""Numbers that factories give to every unit."""


@dataclass(frozen=True, slots=True)
class PortIdentity:
    """The identities of a port: `serial` if its adapter has a number of its own, `path` if it is on USB.
    `there`: whether there is a device of that name at all.

    Each is a whole identity as the journal stores it; `name` is the configured one.
    """

    name: str
    path: str | None = None
    serial: str | None = None
    there: bool = True

    @property
    def best(self) -> str:
        """The identity to bind a bus to."""
        return self.serial or self.path or self.name

    def like(self, expected: str) -> str:
        """The identity of the same kind as `expected`, if there is one: the one to compare with it."""
        kind = expected.partition(" ")[0]
        same = {SERIAL: self.serial, PATH: self.path, NAME: None if self.path else self.name}.get(kind)
        return same or self.best


def identify(port: str, sysfs: Path = SYSFS) -> PortIdentity:
    """The identity of a configured port (a device, or `tcp://…`), as it is plugged in now."""
    name = f"{NAME} {port}"
    if "://" in port:
        return PortIdentity(name)
    found = _usb(_device(sysfs, os.path.basename(os.path.realpath(port))))
    if found is None:
        return PortIdentity(name, there=os.path.exists(port))
    interface, device = found
    number = _read(interface / "bInterfaceNumber")
    path = f"{PATH} {_controller(device)}:{_read(device / 'devpath')}:{number}"
    serial = _serial(device)
    if serial is None or _carriers(sysfs, serial) > 1:
        return PortIdentity(name, path)
    return PortIdentity(name, path, f"{SERIAL} {serial} {number}")


def has_serial(port: str, sysfs: Path = SYSFS) -> bool:
    """Whether the port's adapter has a serial number that no other one here has."""
    return identify(port, sysfs).serial is not None


def _device(sysfs: Path, tty: str) -> Path:
    return (sysfs / "class" / "tty" / tty / "device").resolve()


def _usb(place: Path) -> tuple[Path, Path] | None:
    """The USB interface and the USB device above a tty; None if it is not on USB."""
    interface: Path | None = None
    for folder in (place, *place.parents):
        if interface is None and (folder / "bInterfaceNumber").exists():
            interface = folder
        elif interface is not None and (folder / "idVendor").exists():
            return interface, folder
    return None


def _controller(device: Path) -> str:
    """The name of the controller of the USB tree (a PCI function, a SoC's block), because bus numbers
    change."""
    for folder in device.parents:
        if folder.name.startswith("usb") and folder.name[3:].isdecimal():
            return folder.parent.name
    return device.parent.name


def _serial(device: Path) -> str | None:
    number = _read(device / "serial")
    if not number or number.upper() in NO_SERIALS or len(set(number)) == 1:
        return None
    return f"{_read(device / 'idVendor')}:{_read(device / 'idProduct')} {number}"


def _carriers(sysfs: Path, serial: str) -> int:
    """How many adapters that are plugged in now have this number."""
    return len({device for device in _usb_adapters(sysfs) if _serial(device) == serial})


def _usb_adapters(sysfs: Path) -> Iterator[Path]:
    for tty in (sysfs / "class" / "tty").glob("*"):
        if (tty / "device").exists():
            found = _usb(_device(sysfs, tty.name))
            if found is not None:
                yield found[1]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
