"""Converts the configuration into the core's form."""

from __future__ import annotations

from edge_agent.config import Settings
from edge_agent.statemachine.state import Layout


def layout_of(settings: Settings) -> Layout:
    """The configuration in the core's form."""
    unlock = settings.unlock
    return Layout(
        specs={spec.label: spec for spec in settings.cell_specs()},
        max_pulses=unlock.attempts,
        max_concurrent_unlocks=unlock.max_concurrent_unlocks,
        duty_pulses=unlock.duty_pulses,
        duty_window_ns=unlock.duty_window_s * 10**9,
        code_digits=settings.codes.code_digits,
        door_ajar_ns=settings.doors.door_ajar_s * 10**9,
        weighed=frozenset(cell.label for cell in settings.cells if cell.scale is not None),
        empty_below_g=settings.weight.empty_below_g,
        weight_change_g=settings.weight.weight_change_g,
        drift_max_g=settings.weight.drift_max_g,
        hold_empty_dropoff=settings.weight.empty_dropoff == "hold",
        lock_boards={cell.label: cell.lock.device for cell in settings.cells},
        contact_boards={cell.label: cell.door.device for cell in settings.cells},
        thermometers=frozenset(cell.label for cell in settings.cells if cell.temperature is not None),
        climate={cell.label: regimes for cell in settings.cells if (regimes := settings.regimes(cell))},
    )
