"""Writes down everything that a core says and does, one line each, for tests that want it word by word."""

from __future__ import annotations

from dataclasses import MISSING, fields
from enum import Enum
from typing import Any

from edge_agent.errors import Refusal
from edge_agent.model import Instant, Reservation
from edge_agent.statemachine.inputs import Input
from edge_agent.statemachine.state import Layout
from edge_agent.statemachine.step_builder import Step
from tests.support.pure_core.core import START, Core


def brief(value: object) -> str:
    """A value in a word or two; moments are seconds since the first boot began."""
    match value:
        case Enum():
            return str(value.value).rpartition("_")[2] if "SOURCE" in value.name else value.name
        case Reservation():
            return f"{value.reservation_id} {value.status.name} {value.cell}"
        case Refusal():
            return f"{value.code.value} {value.message}"
        case Instant():
            since = value.boottime_ns - (START.boottime_ns if value.boot_id == START.boot_id else 0)
            boot = "" if value.boot_id == START.boot_id else f"{value.boot_id} "
            return f"{boot}{since / 1e9:g}s"
        case tuple():
            return "(" + ", ".join(brief(one) for one in value) + ")"
    return str(value)


def line(value: Any, *skip: str) -> str:
    """All fields of a dataclass that are not as they are by default."""
    shown = []
    for field in fields(value):
        found = getattr(value, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if field.name not in skip and (found != default or type(found) is not type(default)):
            shown.append(f"{field.name}={brief(found)}")
    return " ".join([type(value).__name__, *shown])


class Minutes(Core):
    """A core whose words are written down."""

    def __init__(self, layout: Layout | None = None) -> None:
        self.lines: list[str] = []
        super().__init__(layout)
        self.lines.clear()

    def feed(self, given: Input) -> Step:
        """One step, written down."""
        try:
            done = super().feed(given)
        except Refusal as refusal:
            self.lines.append(f"refused: {brief(refusal)}")
            raise
        for fact in done.facts:
            assert fact.at == self.now
            self.lines.append(line(fact, "at"))
        self.lines += [line(one) for one in done.effects]
        self.lines += [line(one) for one in done.answers]
        for one in done.ledger_lines:
            assert one.at == self.now
            self.lines.append(line(one, "at"))
        self.lines += [f"over: {brief(one)}" for one in done.ended]
        return done

    def standing(self) -> list[str]:
        """The alarms that stand."""
        assert all(key == f"{one.alarm}/{one.place}" for key, one in self.state.alarms.items())
        return [line(one) for one in self.state.alarms.values()]

    def take(self) -> str:
        """What was written down since the last call."""
        lines, self.lines = self.lines, []
        return "\n".join(lines)
