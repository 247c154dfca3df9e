"""Makes the state of the last commit from the journal, before the first input."""

from __future__ import annotations

from dataclasses import replace

from edge_agent.errors import ConfigError, Finding
from edge_agent.journal.store import Loaded
from edge_agent.model import Instant
from edge_agent.statemachine.codes.retired import RetiredCodes
from edge_agent.statemachine.invariants import check
from edge_agent.statemachine.locker import restored
from edge_agent.statemachine.state import Layout, LockerState, empty_state


def restore(loaded: Loaded, layout: Layout, now: Instant) -> LockerState:
    """The journaled state on the cells that are configured now.

    Raises `ConfigError` if a cell that holds a parcel's reservation is no longer configured, and
    `InvariantBroken` if the journal contradicts itself.
    """
    findings = [
        Finding("cells", f"{cell.label!r} holds reservation {cell.reservation_id} and must stay configured")
        for cell in loaded.entities["cells"].values()
        if cell.label not in layout.specs and cell.reservation_id is not None
    ]
    if findings:
        raise ConfigError(findings)
    initial = empty_state(layout)
    cells = {label: loaded.entities["cells"].get(label, cell) for label, cell in initial.cells.items()}
    retired = RetiredCodes()
    for code, at in sorted(loaded.entities["resting_codes"].items(), key=lambda item: item[1].wall_s):
        retired = retired.with_code(code, at)
    state = replace(
        initial,
        cells=cells,
        reservations=dict(loaded.reservations),
        unlock_attempts={k: t for k, t in loaded.entities["tickets"].items() if t.cell in cells},
        alarms=dict(loaded.entities["alarms"]),
        former={label: left for label, left in loaded.former.items() if label in cells},
        retired_codes=retired,
        pulses=dict(loaded.entities["pulses"]),
        guesses=dict(loaded.entities["guesses"]),
        unconfirmed={k: u for k, u in loaded.entities["unconfirmed"].items() if k in cells},
        history=dict(loaded.entities["history"]),
        climate={
            label: climate
            for label, climate in loaded.entities["climate"].items()
            if label in layout.climate and layout.climate[label].of(climate.need) is not None
        },
    )
    check(replace(state, unlock_attempts={}), layout)
    return restored(state, now)
