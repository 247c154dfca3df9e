"""The serial number of the board that the daemon runs on.

It never reads /etc/machine-id: that is a file, and a copied memory card would carry it along.
"""

from __future__ import annotations

from pathlib import Path

PLACES = (
    "proc/device-tree/serial-number",
    "sys/firmware/devicetree/base/serial-number",
    "sys/class/dmi/id/board_serial",
    "sys/class/dmi/id/product_serial",
    "sys/class/dmi/id/product_uuid",
)
"""Where the kernel shows it: boards with a device tree first, then PCs (some files for root only)."""
NO_NUMBERS = frozenset({"", "none", "default string", "to be filled by o.e.m.", "not specified", "0"})
"""What makers write if they give no number."""


def board_serial(root: Path = Path("/")) -> str:
    """The number; `unknown` if the board has none or it cannot be read."""
    for place in PLACES:
        try:
            text = (root / place).read_text(encoding="ascii", errors="replace").strip("\0 \n")
        except OSError:
            continue
        if text.lower() not in NO_NUMBERS:
            return text
    return "unknown"
