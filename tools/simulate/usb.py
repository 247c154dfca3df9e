"""A tree of USB adapters as the kernel shows it in sysfs, below a folder of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

CONTROLLER = "devices/pci0000:00/0000:00:14.0/usb1"


class UsbTree:
    """Adapters by the name of their tty; `sysfs` is used instead of /sys."""

    def __init__(self, sysfs: Path) -> None:
        self.sysfs = sysfs
        (sysfs / "class" / "tty").mkdir(parents=True, exist_ok=True)

    def plug(self, tty: str, socket: str, *, serial: str | None, interface: str = "00") -> None:
        """Plugs an adapter of one kind into a USB socket such as `1.2`."""
        device = self.sysfs / CONTROLLER / f"1-{socket}"
        line = device / f"1-{socket}:1.{int(interface)}"
        (line / tty).mkdir(parents=True)
        facts = {"idVendor": "1a86", "idProduct": "7523", "devpath": socket}
        if serial is not None:
            facts["serial"] = serial
        for name, text in facts.items():
            (device / name).write_text(f"{text}\n", encoding="utf-8")
        (line / "bInterfaceNumber").write_text(f"{interface}\n", encoding="utf-8")
        about = self.sysfs / "class" / "tty" / tty
        about.mkdir(exist_ok=True)
        os.symlink(line / tty, about / "device")

    def unplug(self, tty: str) -> None:
        """Removes it."""
        link = self.sysfs / "class" / "tty" / tty / "device"
        device = link.resolve().parent.parent
        link.unlink()
        shutil.rmtree(device)
