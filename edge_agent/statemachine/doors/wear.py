"""How long a lock takes to open, and whether it begins to fail.

Two running means are kept for each lock: a slow one (what is usual) and a quick one (the last few openings).
The time runs from the command's first pulse, so that a lock that needs a second one counts as slow. When the
recent openings take twice the usual time, maintenance is requested, once, before the lock fails.
"""

from __future__ import annotations

from edge_agent.model import Severity, UnlockAttempt
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.step_builder import StepBuilder

USUAL_WEIGHT = 64
RECENT_WEIGHT = 4
CAP = 3
"""One opening counts as at most this many times the usual, so that one person leaning on a door is no
trend."""
SLOW = 2
LEAST_US = 10_000
"""The shortest time of a lock; with a mean of zero every opening would count as slow."""
ENOUGH_UNLOCKS = 16
"""Until a lock has had this many pulses, its usual time is the plain mean and no opening counts as slow."""


def record_opening(builder: StepBuilder, unlock: UnlockAttempt, maintenance_id: str) -> None:
    """The lock of the attempt's cell has just opened."""
    cell = builder.cells[unlock.cell]
    if unlock.first_pulse_ns is None:
        return
    taken_us = max(LEAST_US, (builder.now.boottime_ns - unlock.first_pulse_ns) // 1000)
    usual_us, recent_us = cell.usual_open_us, cell.recent_open_us
    if usual_us is None or recent_us is None:
        builder.change_cell(unlock.cell, usual_open_us=taken_us, recent_open_us=taken_us)
        return
    if cell.pulse_count < ENOUGH_UNLOCKS:
        usual_us += (taken_us - usual_us) // cell.pulse_count
        recent_us += (taken_us - recent_us) // RECENT_WEIGHT
        builder.change_cell(unlock.cell, usual_open_us=usual_us, recent_open_us=recent_us)
        return
    recent_us += (min(taken_us, CAP * usual_us) - recent_us) // RECENT_WEIGHT
    slow = recent_us > SLOW * usual_us
    usual_us += (min(taken_us, usual_us * 3 // 2) - usual_us) // USUAL_WEIGHT
    builder.change_cell(unlock.cell, usual_open_us=usual_us, recent_open_us=recent_us, worn=cell.worn or slow)
    if slow and not cell.worn:
        slow_ms, usual_ms = recent_us // 1000, usual_us // 1000
        what = f"the lock of cell {unlock.cell} opens after {slow_ms} ms, usually {usual_ms} ms"
        cells.request_maintenance(builder, f"{maintenance_id}_worn", what, Severity.MEDIUM, unlock.cell)
