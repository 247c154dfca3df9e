"""`edge-agent bus doors`: leads a technician from door to door, and shows which contact changes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import typer

from edge_agent.cli.daemon import call, console, print_json_line, problems, rows_of
from edge_agent.cli.text.language import _, marked

DOOR_WORDS = {"open": marked("open"), "closed": marked("closed"), "unknown": marked("unknown")}
COLOURS = {"open": "yellow", "unknown": "red"}


class DoorCycle:
    """What was seen of one door: how it first read, and whether it was open and then closed."""

    def __init__(self) -> None:
        self.first: str | None = None
        self.now: str | None = None
        self.opened = False
        self.complete = False

    def see(self, door: str) -> None:
        """Takes one reading; `unknown` does not count."""
        if door == "unknown":
            return
        self.now = door
        self.first = self.first or door
        self.opened = self.opened or door == "open"
        self.complete = self.complete or (self.opened and door == "closed")


class Guide:
    """Says what to do next: which door to close, to open, and which of them are done."""

    def __init__(self, cycles: dict[str, DoorCycle]) -> None:
        self._cycles = cycles
        self._asked: str | None = None

    def begin(self) -> None:
        """The instructions, once every door was read."""
        for line in (
            _("No alarm is raised for these doors while this runs. Ctrl-C ends it."),
            _("1. Close every door."),
            _("2. Open the door that is asked for, with its key or emergency release, then close it."),
            _("3. Compare: each line must name the door that you have moved."),
        ):
            _say(line, "bold")
        for label, cycle in self._cycles.items():
            if cycle.first == "open":
                text = _(
                    "{cell} reads open: close it; if it is closed, its closed_level is wrong", cell=label
                )
                _say(text, "yellow")
        self.ask()

    def ask(self) -> None:
        """The next door, where it is another one than before."""
        waiting = [label for label, cycle in self._cycles.items() if not cycle.complete]
        moving = [label for label in waiting if self._cycles[label].opened]
        following = next(iter([*moving, *waiting]), None)
        if following is None or following == self._asked:
            return
        self._asked = following
        done = len(self._cycles) - len(waiting)
        text = _("now {cell}: open it, then close it", cell=following)
        if self._cycles[following].opened:
            text = _("now {cell}: close it", cell=following)
        count = _("({done} of {all} done)", done=done, all=len(self._cycles))
        _say(f"{text} {count}", "bold")

    def crossed(self, label: str, door: str) -> str | None:
        """A hint where another door was read open than the one that was asked for."""
        asked = self._asked
        if asked is None or asked == label or door != "open" or self._cycles[asked].opened:
            return None
        return _(
            "if you moved {asked}, the contacts of {asked} and {cell} are crossed", asked=asked, cell=label
        )


def watch_doors(socket: Path, labels: list[str], seconds: float | None, as_json: bool) -> bool:
    """Whether every door (all, without labels) went through its cycle."""
    there = [cell["label"] for cell in call(socket, "GET", "/v1/cells")]
    chosen = [_known(label, there) for label in labels]
    cycles = {label: DoorCycle() for label in chosen or there}
    asked = [("cell", label) for label in chosen]
    asked += [] if seconds is None else [("seconds", str(seconds))]
    query = f"?{urlencode(asked)}" if asked else ""
    with suppress(KeyboardInterrupt):
        _follow(socket, query, cycles, there, as_json)
    return _verdict(cycles)


def _known(label: str, there: list[str]) -> str:
    """The label as the machine writes it. Raises `typer.BadParameter`."""
    found = [one for one in there if one.casefold() == label.casefold()]
    if label not in there and len(found) != 1:
        raise typer.BadParameter(_("no such cell: {label}", label=label), param_hint="CELL")
    return label if label in there else found[0]


def _follow(socket: Path, query: str, cycles: dict[str, DoorCycle], there: list[str], as_json: bool) -> None:
    guide, shown, begun = Guide(cycles), set[str](), False
    for row in rows_of(socket, "GET", f"/v1/bus/doors{query}"):
        label, cycle = row["label"], cycles.get(row["label"])
        hint = guide.crossed(label, row["door"]) if begun else None
        if cycle is not None:
            cycle.see(row["door"])
        if as_json:
            print_json_line(row)
        elif begun or (cycle is not None and row["door"] != "closed"):
            console.print(_door_line(row, cycle), highlight=False)
            if hint is not None:
                _say(f"  {hint}", "yellow")
        shown.add(label)
        if all(one.complete for one in cycles.values()):
            break
        if as_json:
            continue
        if begun:
            guide.ask()
        elif shown >= {*there}:
            begun = True
            guide.begin()


def _verdict(cycles: dict[str, DoorCycle]) -> bool:
    missing = [label for label, cycle in cycles.items() if not cycle.complete]
    wrong = [label for label, cycle in cycles.items() if cycle.first == "open"]
    if missing:
        text = _("not seen open and closed again: {cells}", cells=", ".join(missing))
        problems.print(text, style="red", highlight=False, markup=False)
    if wrong:
        text = _(
            "read open at the beginning: {cells}; if they were closed then, closed_level is wrong for them",
            cells=", ".join(wrong),
        )
        problems.print(text, style="red", highlight=False, markup=False)
    return not missing and not wrong


def _door_line(row: dict[str, Any], cycle: DoorCycle | None) -> str:
    level = _("cannot be read") if row["level"] is None else _("reads {level}", level=row["level"])
    colour = COLOURS.get(row["door"], "green")
    note = ""
    if cycle is None:
        note = " " + _("(another cell than you chose)")
    elif cycle.complete:
        note = " " + _("(seen open and closed)")
    door = _(DOOR_WORDS[row["door"]])
    return f"{row['label']}  [{colour}]{door}[/]  {row['device']} {row['channel']} {level}{note}"


def _say(text: str, style: str) -> None:
    console.print(text, style=style, highlight=False, markup=False)
