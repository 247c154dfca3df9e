"""Binds a bus to its adapter: another adapter at the same name keeps the bus closed.

The journal holds each bus's adapter, beside the wires. It is compared at every opening of the port, because
adapters can also change places while the machine runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from edge_agent.drivers.port_identity import ANOTHER_ADAPTER, NAME, identify
from edge_agent.drivers.transport import Transport
from edge_agent.errors import PortLost, StorageFault
from edge_agent.journal.binding import keep_port, read_bound
from edge_agent.journal.store import JournalStore

log = structlog.get_logger()


class BoundAdapters:
    """The adapter of each bus of a machine. `on_another` is called with a bus when its `problem` has
    changed."""

    def __init__(
        self, store: JournalStore, sysfs: Path, on_another: Callable[[str], None], *, rewired: bool
    ) -> None:
        """`rewired`: the first adapter that each bus finds is accepted, whatever it was bound to before."""
        self._store = store
        self._sysfs = sysfs
        self._bound = dict(read_bound(store).ports)
        self._accepted: set[str] = set()
        self._rewired = rewired
        self._problems: dict[str, str] = {}
        self._on_another = on_another

    def bound(self, bus: str, port: str, transport: Transport) -> Transport:
        """A transport that opens only on the adapter that the bus is bound to."""
        return _BoundTransport(self, bus, port, transport)

    def problem(self, bus: str) -> str | None:
        """Why a bus is kept closed; None if it is not."""
        return self._problems.get(bus)

    def check(self, bus: str, port: str) -> None:
        """Raises `PortLost` naming both if another adapter than the bus's own is at `port`."""
        found, expected = identify(port, self._sysfs), self._bound.get(bus)
        if expected is not None and not found.there and not expected.startswith(NAME):
            if self._problems.pop(bus, None) is not None:
                self._on_another(bus)
            raise PortLost(f"{port}: not there")
        like = found.best if expected is None else found.like(expected)
        if expected is not None and like != expected and not self._accepts(bus, expected, like):
            problem = (
                f"{ANOTHER_ADAPTER} is at {port}: expected {expected}, found {like}; put it back, or "
                "if it was really changed, start once with --rewired"
            )
            if self._problems.get(bus) != problem:
                self._problems[bus] = problem
                log.error("bus kept closed", bus=bus, expected=expected, found=like, port=port)
                self._on_another(bus)
            raise PortLost(problem)

    def opened(self, bus: str, port: str) -> None:
        """Records that the bus is open on its own adapter, or binds it to its first one."""
        self._problems.pop(bus, None)
        self._accepted.add(bus)
        if bus in self._bound:
            return
        found = identify(port, self._sysfs).best
        self._bound[bus] = found
        try:
            keep_port(self._store, bus, found)
        except StorageFault as fault:
            log.error("the adapter of a port cannot be recorded", bus=bus, error=str(fault))

    def _accepts(self, bus: str, expected: str, found: str) -> bool:
        if not self._rewired or bus in self._accepted:
            return False
        log.warning("rewired", bus=bus, before=expected, now=found, by="--rewired")
        del self._bound[bus]
        return True


class _BoundTransport:
    """A `Transport` that checks the adapter at the port before and after it is opened."""

    def __init__(self, adapters: BoundAdapters, bus: str, port: str, transport: Transport) -> None:
        self._adapters, self._bus, self._port, self._transport = adapters, bus, port, transport

    async def dial(self) -> None:
        """See `Transport.dial`."""
        self._adapters.check(self._bus, self._port)
        await self._transport.dial()

    def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        """See `Transport.open`."""
        self._adapters.check(self._bus, self._port)
        self._transport.open(on_bytes, on_lost)
        try:
            # The name may have moved to another adapter meanwhile.
            self._adapters.check(self._bus, self._port)
        except PortLost:
            self._transport.close()
            raise
        self._adapters.opened(self._bus, self._port)

    def write(self, frame: bytes) -> None:
        """See `Transport.write`."""
        self._transport.write(frame)

    def close(self) -> None:
        """See `Transport.close`."""
        self._transport.close()
