"""An electric load: a solenoid, a heater, a cooler, a light or buzzer."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.drivers.simulated.trouble import Standing

Load = Callable[[int, int | None], None]
"""A load of an output: `load(at_ns, until_ns)` powers it from one instant until the other (None: until the
next call); `until_ns <= at_ns` switches it off."""


class Power:
    """A load that is on from `since_ns` until `until_ns` (None: no end known)."""

    __slots__ = ("_asked_until_ns", "since_ns", "until_ns", "welds")

    def __init__(self) -> None:
        self.since_ns = 0
        self.until_ns: int | None = 0
        self.welds: Standing[None] = Standing()
        """While there is one, the load stays on whatever is asked of it."""
        self._asked_until_ns: int | None = 0

    def on(self, at_ns: int) -> bool:
        """Whether it is energised."""
        return self.until_ns is None or at_ns < self.until_ns

    def switch(self, at_ns: int, until_ns: int | None) -> bool:
        """Asks for power until an instant; one not after `at_ns` is off. Returns whether this energised a
        load that was off."""
        was_on = self.on(at_ns)
        self._asked_until_ns = until_ns
        wanted = until_ns is None or until_ns > at_ns
        if wanted and not was_on:
            self.since_ns, self.until_ns = at_ns, until_ns
        self.settle(at_ns)
        return wanted and not was_on

    def settle(self, at_ns: int) -> None:
        """Applies a change of the request or of `welds` from this instant."""
        if self.on(at_ns):
            asked_ns = self._asked_until_ns
            self.until_ns = None if self.welds or asked_ns is None else max(asked_ns, at_ns)


class CabinetSignals:
    """The lights and buzzers that serve several cells, by name."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._powers: dict[str, Power] = {}

    def load(self, name: str) -> Load:
        """The wires of one of them."""
        power = self._powers.setdefault(name, Power())

        def load(at_ns: int, until_ns: int | None) -> None:
            power.switch(at_ns, until_ns)

        return load

    def on(self) -> dict[str, bool]:
        """Whether each is on now."""
        now_ns = self._clock_ns()
        return {name: power.on(now_ns) for name, power in self._powers.items()}
