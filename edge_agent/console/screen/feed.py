"""What the screen may show: the cabinet, its doors, whether it works, and what became of an entry.

Nothing here holds a code, a reservation or what is in a cell: anybody in front of the kiosk sees it.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from edge_agent.console.screen.results import result_of
from edge_agent.console.screen.sessions import KioskSessions
from edge_agent.model import Cell, Door
from edge_agent.runtime.clock import Clock
from edge_agent.runtime.ids import Ids
from edge_agent.runtime.loop import LockerLoop
from edge_agent.statemachine.codes.guessing import rest_left_ns
from edge_agent.statemachine.history import FROZEN, LOST
from edge_agent.statemachine.larger_cell import offer_left_s
from edge_agent.statemachine.outputs import Answer

PAGES_MAX = 4
"""Pages that may be connected at the same time; a further one takes the place of the oldest."""
WAITING_MAX = 64
"""Messages that may wait for one page. A page that does not take them is closed, and connects again."""
COMPARE_S = 1.0
"""How often the state is compared while nothing reports a change: links and buses report none."""
BEAT_S = 3.0
"""An idle stream carries a beat this often, so that the page notices a daemon that hangs."""

PageQueue = asyncio.Queue[str | None]


class ScreenFeed:
    """Passes what may be shown to every connected page. Costs nothing while no page is connected."""

    def __init__(
        self,
        loop: LockerLoop,
        clock: Clock,
        ids: Ids,
        *,
        link_up: Callable[[], bool],
        any_bus: Callable[[], bool],
    ) -> None:
        """`link_up`: whether the broker is connected. `any_bus`: whether any bus has its port."""
        self._loop = loop
        self._clock = clock
        self._link_up = link_up
        self._any_bus = any_bus
        self._sessions = KioskSessions(ids)
        self._pages: dict[PageQueue, None] = {}
        self._changed = asyncio.Event()

    def state_changed(self) -> None:
        """The state may have changed: every page gets the difference at once."""
        if self._pages:
            self._changed.set()

    async def entered(self, entry: Callable[[], Any]) -> Answer:
        """Carries out an entry of the scanner or keypad, and shows the pages that it is under way and what
        became of it."""
        self._publish(_line("entry", result="under_way"))
        answer: Answer = await entry()
        self._publish(_line("entry", **self.result(answer)))
        return answer

    def result(self, answer: Answer) -> dict[str, Any]:
        """What became of an entry, see `result_of`.

        While a larger cell can be had, `larger` has the `session` that asks for it and the `seconds` left.
        """
        now = self._clock.now()
        result = result_of(answer, now)
        if answer.reservation is not None and answer.refusal is None:
            reservation_id, loop = answer.reservation.reservation_id, self._loop
            left_s = offer_left_s(loop.state, loop.layout, reservation_id, now)
            if left_s > 0:
                session = self._sessions.begin(reservation_id, now.boottime_ns + left_s * 10**9)
                result["larger"] = {"session": session, "seconds": left_s}
        return result

    async def larger_cell(self, session: str, ask: Callable[[str], Awaitable[Answer]]) -> dict[str, Any]:
        """Asks for a larger cell by `ask`, for the reservation of a session; the result is that of an entry.
        `too_late`: there is no such session, or no longer.

        A reservation that has moved before the request failed is `not_opened` with its new cell: the page
        must not send the parcel to the old one.
        """
        reservation_id = self._sessions.reservation_of(session, self._clock.now().boottime_ns)
        if reservation_id is None:
            return {"result": "too_late"}
        before = self._cell_of(reservation_id)
        answer = await ask(reservation_id)
        result, cell = self.result(answer), self._cell_of(reservation_id)
        if answer.refusal is not None and cell not in (None, before, result.get("cell")):
            return {"result": "not_opened", "cell": cell}
        return result

    def _cell_of(self, reservation_id: str) -> str | None:
        """The cell of a live reservation."""
        found = self._loop.state.reservations.get(reservation_id)
        return None if found is None else found.cell

    def cabinet(self) -> list[dict[str, Any]]:
        """The cells in the order of the configuration: label, width and height inside in millimetres."""
        specs = self._loop.layout.specs.values()
        return [{"label": one.label, "width": one.width_mm, "height": one.height_mm} for one in specs]

    def state(self) -> dict[str, Any]:
        """The doors that are not closed, whether the broker is connected, whether entries can be carried
        out."""
        doors = {cell.label: _door(cell) for cell in self._loop.state.cells.values()}
        return {
            "doors": {label: door for label, door in doors.items() if door is not Door.CLOSED},
            "link": self._link_up(),
            "service": self._service(),
        }

    def rest(self) -> dict[str, int]:
        """Seconds until entries of each way (`digits`, `qr`) are compared again; only those that rest."""
        now, guesses = self._clock.now(), self._loop.state.guesses
        left = {way: math.ceil(rest_left_ns(known, now) / 1e9) for way, known in guesses.items()}
        return {way: seconds for way, seconds in left.items() if seconds > 0}

    def _service(self) -> str:
        """`out_of_order`: nothing can be opened. `checking`: the history is being compared. `lost`: only
        codes that are known for certain open."""
        if self._loop.storage_fault is not None or not self._any_bus():
            return "out_of_order"
        state = self._loop.state
        if FROZEN in state.history:
            return "checking"
        return "lost" if LOST in state.alarms else "ok"

    async def run(self) -> None:
        """Publishes every change of the state until cancelled; then ends every stream, so that a stop of the
        daemon waits for none."""
        try:
            await self._follow()
        finally:
            for page in tuple(self._pages):
                _close(page)

    async def _follow(self) -> None:
        shown, beat_at_s = self._shown(), 0.0
        clock = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(COMPARE_S if self._pages else None):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            if (now_shown := self._shown()) != shown:
                shown = now_shown
                self._publish(self._state_line())
            if clock.time() >= beat_at_s:
                beat_at_s = clock.time() + BEAT_S
                self._publish(_line("beat"))

    def _shown(self) -> tuple[Any, ...]:
        """What a page must be sent again when it differs; a rest that runs down does not."""
        since = [(way, known.resting_since) for way, known in self._loop.state.guesses.items()]
        return self.state(), since, sorted(self.rest())

    def _state_line(self) -> str:
        return _line("state", **self.state(), rest=self.rest())

    async def stream(self, page: str) -> AsyncGenerator[str, None]:
        """One page's stream, as server-sent events: `cabinet` once, then `state`, `entry` and `beat`.

        `page` identifies what the server serves now: a page that is another one loads itself again.
        """
        queue: PageQueue = asyncio.Queue(WAITING_MAX)
        if len(self._pages) >= PAGES_MAX:
            _close(next(iter(self._pages)))
            del self._pages[next(iter(self._pages))]
        self._pages[queue] = None
        self._changed.set()  # `run` looks at the state again while there is a page
        try:
            yield _line("cabinet", cells=self.cabinet(), page=page)
            yield self._state_line()
            while (line := await queue.get()) is not None:
                yield line
        finally:
            self._pages.pop(queue, None)

    def _publish(self, line: str) -> None:
        for page in tuple(self._pages):
            try:
                page.put_nowait(line)
            except asyncio.QueueFull:
                del self._pages[page]
                _close(page)


def _door(cell: Cell) -> Door:
    """A door as people may be shown it: what is in doubt is unknown."""
    return cell.door if cell.answering and cell.contact_doubt is None else Door.UNKNOWN


def _close(page: PageQueue) -> None:
    """Ends the stream of a page."""
    while not page.empty():
        page.get_nowait()
    page.put_nowait(None)


def _line(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(fields, separators=(',', ':'))}\n\n"
