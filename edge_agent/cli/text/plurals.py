"""Numbers with their nouns."""

from __future__ import annotations

from edge_agent.cli.text.language import plural
from edge_agent.config import Settings


def size_of(settings: Settings) -> str:
    """How large a machine is."""
    cells = plural("{number} cell", "{number} cells", len(settings.cells))
    devices = plural("{number} device", "{number} devices", len(settings.devices))
    return f"{cells}, {devices}, {plural('{number} bus', '{number} buses', len(settings.buses))}"
