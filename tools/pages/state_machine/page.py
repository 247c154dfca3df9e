"""The page and its pictures, made only from the tables."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from textwrap import TextWrapper

from edge_agent.model import CellStatus as C
from edge_agent.statemachine.invariants import INVARIANTS
from edge_agent.statemachine.transitions import (
    CELL_TABLE,
    COMMAND_TRIGGERS,
    FLAG_TABLE,
    TABLE,
    WHY_NOT,
    WINDOWS,
    CellRule,
    CellTrigger,
    Flag,
    FlagTrigger,
    Phase,
    Refused,
    Rule,
    Trigger,
)
from tools.pages.state_machine.svg import Arrow, Box, Loop, picture

RESERVATION_BOXES = [
    Box(Phase.NONE, 40, 260, dot=True),
    Box(Phase.PENDING, 390, 260),
    Box(Phase.DROPPED_OFF, 960, 260),
    Box(Phase.PICKED_UP, 1470, 260),
    Box(Phase.CANCELLED, 390, 490, end=True),
    Box(Phase.ABANDONED, 960, 490, end=True),
    Box(Phase.COMPLETED, 1470, 490, end=True),
]
CELL_BOXES = [
    Box(C.IDLE, 150, 280),
    Box(C.RESERVED, 520, 70),
    Box(C.OCCUPIED, 960, 70),
    Box(C.IN_GRACE, 1230, 280),
    Box(C.AWAITING_INSPECTION, 520, 560),
    Box(C.AWAITING_CLEANUP, 960, 560),
]
ARROW_CHARS, LOOP_CHARS = 30, 56
"""At how many characters the text of an arrow and of a loop is wrapped."""
BENDS: dict[tuple[StrEnum, StrEnum], tuple[float, float]] = {
    (Phase.NONE, Phase.PENDING): (0, 0.42),
    (C.IDLE, C.RESERVED): (40, 0.45),
    (C.RESERVED, C.IDLE): (40, 0.6),
    (C.IN_GRACE, C.IDLE): (0, 0.45),
    (C.IDLE, C.AWAITING_INSPECTION): (40, 0.45),
    (C.AWAITING_INSPECTION, C.IDLE): (60, 0.42),
    (C.RESERVED, C.AWAITING_INSPECTION): (0, 0.3),
    (C.IN_GRACE, C.AWAITING_INSPECTION): (-30, 0.2),
    (C.AWAITING_CLEANUP, C.IDLE): (-40, 0.28),
    (C.OCCUPIED, C.AWAITING_CLEANUP): (0, 0.82),
}
"""The bends of arrows in the pictures, and the place of their text; an arrow that is not listed is
straight."""


def reservation_picture() -> str:
    """Every rule of the table of reservations."""
    ways: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, trigger), entry in TABLE.items():
        if isinstance(entry, Rule):
            ways.setdefault((phase, entry.to), []).extend(_words(trigger, entry))
    title = "How a reservation moves"
    return picture(title, 1640, 570, RESERVATION_BOXES, *_drawn(ways, above=True))


def cell_picture() -> str:
    """Every rule of the table of cells that changes the status."""
    ways: dict[tuple[C, C], list[str]] = {}
    for (status, trigger), entry in CELL_TABLE.items():
        if not isinstance(entry, CellRule):
            continue
        if trigger in (CellTrigger.DOUBTED, CellTrigger.CLEARED) and entry.to is status:
            continue  # nearly every status has it
        ways.setdefault((status, entry.to), []).append(trigger)
        if entry.otherwise is not None:
            ways.setdefault((status, entry.otherwise), []).append(f"{trigger} [unless {entry.guard}]")
    return picture("How a cell is used", 1400, 650, CELL_BOXES, *_drawn(ways))


def _words(trigger: Trigger, rule: Rule) -> list[str]:
    event = f" / {rule.fact}" if rule.fact is not None else ""
    guard = f" [{rule.guard}]" if rule.guard is not None else ""
    return [f"{trigger}{guard}{event}"]


def _wrapped(words: list[str], width: int) -> tuple[str, ...]:
    """Each transition starts on a line of its own."""
    wrapper = TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return tuple(line for word in words for line in wrapper.wrap(word))


def _drawn(
    ways: dict[tuple[Phase, Phase], list[str]] | dict[tuple[C, C], list[str]], *, above: bool = False
) -> tuple[list[Arrow], list[Loop]]:
    arrows, loops = [], []
    for (source, target), words in ways.items():
        if source == target:
            inside = above and source is not Phase.COMPLETED
            loops.append(Loop(source, ("stays:", *_wrapped(words, LOOP_CHARS)), above=inside))
        else:
            bend, at = BENDS.get((source, target), (0.0, 0.5))
            arrows.append(Arrow(source, target, _wrapped(words, ARROW_CHARS), bend, at))
    return arrows, loops


def page() -> str:
    """docs/state-machine.md."""
    return "\n\n".join(
        [
            HEAD,
            "## Reservations\n\n![How a reservation moves](state-machine-reservation.svg)",
            "### What may be requested, and what is refused",
            _grid([t for t in Trigger if t in COMMAND_TRIGGERS]),
            "### What happens",
            _grid([t for t in Trigger if t not in COMMAND_TRIGGERS]),
            "### Conditions, and what a refusal says where one is not met",
            _table(("condition", "says"), [(guard, why) for guard, why in WHY_NOT.items()]),
            "### The five windows of an open-door\n\nThe first one that holds counts; none: refused.",
            _windows(),
            "## Cells\n\n![How a cell is used](state-machine-cell.svg)",
            _cells(),
            "### Blocked and faulty",
            "Beside its status a cell may be blocked, faulty, or both; either takes it out of allocation.",
            _flags(),
            "## Rules that join them\n\nChecked after every step; a breach ends the daemon.",
            _table(("rule", "says"), list(INVARIANTS.items())),
        ]
    )


HEAD = """# The state machine

Made from the tables in `edge_agent/statemachine/transitions.py` by `python -m tools.pages.state_machine`; a
test fails when this page or a picture is stale. The tables are total, and nothing moves outside them.

A *command* is granted or refused, and a refusal changes nothing: NOT_ALLOWED, or NOT_FOUND where there is no
such reservation. A *fact* cannot be refused; an entry with a dash changes nothing."""


def _grid(triggers: list[Trigger]) -> str:
    head = ("", *(f"{phase}" if phase is not Phase.NONE else "(none)" for phase in Phase))
    return _table(head, [(trigger, *(_entry(phase, trigger) for phase in Phase)) for trigger in triggers])


def _entry(phase: Phase, trigger: Trigger) -> str:
    entry = TABLE[phase, trigger]
    if isinstance(entry, Refused):
        return f"*{entry.code.name}: {entry.why}*"
    if not isinstance(entry, Rule):
        return f"– ({entry.why})"
    text = f"**{entry.to}**"
    if entry.guard is not None:
        text += f" if {entry.guard}"
    if entry.fact is not None:
        text += f"; event {entry.fact}"
    if entry.cell is not None:
        text += f"; cell: {entry.cell}"
    return text


def _windows() -> str:
    rows = [
        (str(w.number), w.name, ", ".join(w.phases), w.guard if w.guard is not None else "") for w in WINDOWS
    ]
    return _table(("window", "name", "while", "and"), rows)


def _cells() -> str:
    rows = []
    for trigger in CellTrigger:
        row = [str(trigger)]
        for status in C:
            entry = CELL_TABLE[status, trigger]
            if isinstance(entry, Refused):
                row.append(f"*{entry.code.name}: {entry.why}*")
            elif isinstance(entry, CellRule):
                text = f"**{entry.to}**" + (f" if {entry.guard}" if entry.guard is not None else "")
                if entry.guard is not None:
                    text += (
                        f", else **{entry.otherwise}**"
                        if entry.otherwise is not None
                        else ", else *NOT_ALLOWED*"
                    )
                row.append(text)
            else:
                row.append("–")
        rows.append(tuple(row))
    return _table(("", *C), rows)


def _flags() -> str:
    head = ("", *(f"{'' if is_set else 'not '}{flag}" for flag in Flag for is_set in (False, True)))
    rows = []
    for trigger in FlagTrigger:
        row = [str(trigger)]
        for flag in Flag:
            for is_set in (False, True):
                entry = FLAG_TABLE.get((flag, is_set, trigger))
                if isinstance(entry, Refused):
                    row.append(f"*{entry.code.name}: {entry.why}*")
                else:
                    row.append("–" if entry is None else f"**{'' if entry else 'not '}{flag}**")
        rows.append(tuple(row))
    return _table(head, rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
