"""The machine's configuration: one TOML file and the device profiles it names, as frozen settings.

Bounds are declared at the field; an unknown key is an error with its path; `wiring_findings` checks what
several keys must agree on.
"""

from edge_agent.config.load import load_settings
from edge_agent.config.sections import (
    BusSection,
    CellSection,
    DeviceSection,
    KeypadSection,
    ScannerSection,
    Settings,
)
from edge_agent.config.wiring import wiring_findings

__all__ = [
    "BusSection",
    "CellSection",
    "DeviceSection",
    "KeypadSection",
    "ScannerSection",
    "Settings",
    "load_settings",
    "wiring_findings",
]
