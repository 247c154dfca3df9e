"""Whether a daemon's beliefs about its doors are true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_agent.app import Agent
from edge_agent.drivers.simulated.world import World
from edge_agent.model import Door
from edge_agent.statemachine.inputs import Boot, DoorRead, DoorsChanged, PulseDone

STALE_S = 0.3
"""How old a reading may be when it is reported: its way over the wire, the debounce, a second reading."""


class Witness:
    """Compares every door reading that an agent's core gets with the door's physical state.

    `untrue` lists the readings of doors that have been in the other state for longer than `stale_s`.
    """

    def __init__(self, world: World, stale_s: float = STALE_S) -> None:
        self.judged = 0
        self.untrue: list[str] = []
        self._world = world
        self._stale_s = stale_s

    def watch(self, agent: Agent) -> None:
        """Listens to one agent, which does not run yet."""
        for place, name in ((agent.doors, "_submit"), (agent._executor, "_submit"), (agent.loop, "submit")):
            setattr(place, name, self._listening(agent, getattr(place, name)))

    def _listening(self, agent: Agent, submit: Callable[..., None]) -> Callable[..., None]:
        def judged(given: Any, *others: Any, **named: Any) -> None:
            match given:
                case DoorsChanged() | Boot():
                    for label, door in given.doors.items():
                        self._judge(label, door, type(given).__name__)
                case DoorRead():
                    self._judge(self._cell_of(agent, given.unlock_id), given.door, "DoorRead")
                case PulseDone() if given.sent:
                    self._judge(self._cell_of(agent, given.unlock_id), given.door, "PulseDone")
            submit(given, *others, **named)

        return judged

    def _judge(self, label: str | None, door: Door, how: str) -> None:
        if label is None or door is Door.UNKNOWN:
            return
        self.judged += 1
        stands, for_s = self._world.door_stands(label)
        if stands is not door and for_s > self._stale_s:
            self.untrue.append(f"{label} {door} ({how}), but {stands} for {for_s:.3f} s")

    @staticmethod
    def _cell_of(agent: Agent, unlock_id: str) -> str | None:
        unlock = agent.loop.state.unlock_attempts.get(unlock_id)
        return None if unlock is None else unlock.cell
