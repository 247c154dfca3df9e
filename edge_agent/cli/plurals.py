"""Numbers with their nouns."""

from __future__ import annotations

from edge_agent.config import Settings


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 door`, `2 doors`; `plural` where an s is not enough."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def size_of(settings: Settings) -> str:
    """How large a machine is."""
    cells, devices = counted(len(settings.cells), "cell"), counted(len(settings.devices), "device")
    return f"{cells}, {devices}, {counted(len(settings.buses), 'bus', 'buses')}"
