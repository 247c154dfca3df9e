"""Doors: what their contacts read, and with `--doors` what each lock, contact and coil does when it is tried.

A contact that never changes and a lock that never moves look the same from here; only a look at the door
shows which it is. If a door opens and is not closed again, either its coil stays energised or no person
closed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from edge_agent.errors import Code
from edge_agent.field.doors import Doors
from edge_agent.model import Alarm, Cell, CellStatus, Door, Purpose
from edge_agent.runtime.local_requests import LocalRequests
from edge_agent.service.diagnosis.findings import Found, ask, progress

REASON = "self-test"
CLOSE_S = 60.0
"""How long the self-test waits for a person to close a door."""
CONTACT_WATCH_S = 1.0
"""How long a contact is watched after its door has moved."""
CHATTER_S = 0.3
"""A contact that changes back sooner than this chatters: no person moves a door that fast."""


@dataclass(slots=True)
class Contact:
    """What one contact reads while it is watched: each change, and when (seconds of the loop)."""

    label: str
    reads: Door | None = None
    changes_s: list[float] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def see(self, seen: Mapping[str, Door]) -> None:
        """Takes one reading of a board."""
        door = seen.get(self.label)
        if door is None:
            return
        if self.reads is not None and door is not self.reads:
            self.changes_s.append(asyncio.get_running_loop().time())
        self.reads = door
        self.news.set()

    def chatter_s(self) -> float:
        """The longest time that it chattered: from a change through others that followed at once."""
        longest_s, begun_s = 0.0, None
        for earlier_s, later_s in zip(self.changes_s, self.changes_s[1:], strict=False):
            if later_s - earlier_s > CHATTER_S:
                begun_s = None
                continue
            begun_s = earlier_s if begun_s is None else begun_s
            longest_s = max(longest_s, later_s - begun_s)
        return longest_s


class DoorChecks:
    """Checks the doors of one machine."""

    def __init__(self, local: LocalRequests, doors: Doors) -> None:
        self._local = local
        self._doors = doors

    def _cells(self) -> list[Cell]:
        return list(self._local.loop.state.cells.values())

    def passive(self, answering: Collection[str], *, tried: bool) -> Iterator[Found]:
        """What the contacts read, without moving a door; `answering`: the devices that answer. `tried`: the
        free ones are tried afterwards and reported then."""
        known = [cell for cell in self._cells() if self._doors.board_of(cell.label) in answering]
        readable = [cell for cell in known if cell.answering and cell.door is not Door.UNKNOWN]
        stand_open = [cell for cell in readable if cell.door is Door.OPEN]
        for cell in stand_open:
            if not (tried and cell.status is CellStatus.IDLE and cell.blocked is None):
                yield self._open(cell)
        worn = [cell for cell in known if cell.worn]
        for cell in worn:
            recent_ms, usual_ms = (cell.recent_open_us or 0) // 1000, (cell.usual_open_us or 0) // 1000
            why = f"it opens after {recent_ms} ms, usually {usual_ms} ms"
            step = "look at latch, seal and supply voltage; swap the lock, then `edge-agent clear`"
            yield Found("lock", cell.label, "warning", why, step)
        closed = len(readable) - len(stand_open)
        if closed:
            yield Found("door", "doors", "good", f"{closed} of {len(self._cells())} read closed")
        blind = [cell.label for cell in self._cells() if cell not in readable]
        if blind:
            step = "put their board right first, then look again"
            yield Found("door", ", ".join(blind), "unknown", "cannot be read", step)
        if not tried:
            why = "not tried: a jammed lock or a contact that is stuck closed shows only when a door moves"
            yield Found("lock", "locks", "unknown", why, "`edge-agent diagnose --doors`, at the machine")

    def _open(self, cell: Cell) -> Found:
        standing = self._local.loop.state.alarms
        alarm = any(f"{one}/{cell.label}" in standing for one in (Alarm.DOOR_AJAR, Alarm.DOOR_FORCED))
        if cell.status is not CellStatus.IDLE and not alarm:
            return Found(
                "door", cell.label, "warning", "stands open; somebody may be at it", "look, close it"
            )
        return _reads_open(cell.label, "fault" if alarm else "warning")

    # With `--doors`.

    async def tried(self, actor: str) -> AsyncGenerator[Found | dict[str, Any], None]:
        """Opens the free cells, one after the other, in `actor`'s name, and asks for each to be closed.

        Yields rows of findings, of progress, and of what a person has to close now.
        """
        free = [cell.label for cell in self._cells() if _free(cell)]
        others = [cell.label for cell in self._cells() if not _free(cell)]
        good = []
        for number, label in enumerate(free, 1):
            yield progress(number, len(free), f"door {label}")
            async with aclosing(self._try(label, number, len(free), actor)) as rows:
                async for row in rows:
                    if isinstance(row, Found) and row.verdict == "good":
                        good.append(label)
                    else:
                        yield row
        if good:
            yield Found("lock", "locks", "good", f"{len(good)} doors opened and were closed again")
        if others:
            why = "in use or blocked: not tried"
            yield Found("lock", ", ".join(others), "unknown", why, "look again when they are free")

    async def _try(
        self, label: str, number: int, of: int, actor: str
    ) -> AsyncGenerator[Found | dict[str, Any], None]:
        if not _free(self._local.loop.state.cells[label]):
            yield Found("lock", label, "unknown", "it was allocated in the meantime: not tried")
            return
        contact = Contact(label)
        self._doors.reading_observers.append(contact.see)
        try:
            if self._doors.reported(label) is Door.OPEN:
                yield ask(number, of, label, f"close door {label}")
                if not await self._closed(contact):
                    yield _reads_open(label, "fault")
                    return
                contact.changes_s.clear()
            answer = await self._local.open_cell(label, REASON, actor, Purpose.SELF_TEST)
            if answer.refusal is not None and f"{Alarm.WRONG_DOOR}/{label}" in self._local.loop.state.alarms:
                yield self._wrong_door(label)
                return
            if answer.refusal is not None:
                yield _not_opened(label, answer.refusal.code, answer.refusal.message)
                return
            await asyncio.sleep(CONTACT_WATCH_S)
            yield ask(number, of, label, f"door {label} is open: close it")
            if not await self._closed(contact):
                yield _not_closed(label)
                return
            await asyncio.sleep(CONTACT_WATCH_S)
        finally:
            self._doors.reading_observers.remove(contact.see)
        yield _moved(label, contact)

    def _wrong_door(self, label: str) -> Found:
        why = self._local.loop.state.alarms[f"{Alarm.WRONG_DOOR}/{label}"].detail
        step = (
            "look which door stands open. The one that was tried: the wires of the contacts are crossed"
            " (contact_crossed), see `edge-agent bus doors`. The other one: those of the locks are crossed"
            " (lock_crossed). Put them right, open each with `edge-agent open`, then `edge-agent clear`"
        )
        return Found("lock", label, "fault", why, step, ("lock_crossed", "contact_crossed"))

    async def _closed(self, contact: Contact) -> bool:
        """Whether the door is closed in time."""
        try:
            async with asyncio.timeout(CLOSE_S):
                while self._doors.reported(contact.label) is not Door.CLOSED:
                    contact.news.clear()
                    await contact.news.wait()
        except TimeoutError:
            return False
        return True


def _free(cell: Cell) -> bool:
    return cell.status is CellStatus.IDLE and cell.blocked is None and cell.answering


def _reads_open(label: str, verdict: Any) -> Found:
    step = (
        f"close door {label}. If it stays shut and still reads open: the contact, its magnet or its wire"
        " (door_sensor_stuck); if it reads closed now and then, it is loose (door_chatter). If it springs"
        " open again: the coil stays energised (coil_stuck), take the locks off their supply NOW and swap"
        " lock or board"
    )
    why = "reads open"
    return Found("door", label, verdict, why, step, ("door_sensor_stuck", "coil_stuck", "door_chatter"))


def _not_closed(label: str) -> Found:
    step = (
        "was it closed by hand? If it will not latch, and its lock is warm or hums: the coil stays energised,"
        " take the locks off their supply NOW and swap"
        " lock or board"
    )
    why = f"opened, and was not closed again within {CLOSE_S:.0f} s"
    return Found("lock", label, "fault", why, step, ("coil_stuck",))


def _not_opened(label: str, code: Code, message: str) -> Found:
    if code is not Code.INTERNAL or "NO_MOVEMENT" not in message:
        return Found("lock", label, "unknown", f"not tried: {message}", "look again later")
    step = (
        "look at the door. It stands open and is reported closed: its contact (door_sensor_stuck), magnet"
        " and wire. It is shut: the bolt (lock_jammed), listen whether it clicks: no click is wire, fuse"
        " or board, a click is a bent latch. It opened some seconds later (late_spring): a seal or a magnet"
        " that holds it; then `edge-agent clear`"
    )
    why = "was pulsed, and nothing was seen to move"
    return Found("lock", label, "fault", why, step, ("lock_jammed", "door_sensor_stuck", "late_spring"))


def _moved(label: str, contact: Contact) -> Found:
    chatter_s = contact.chatter_s()
    if chatter_s == 0.0:
        return Found("lock", label, "good", "opened and was closed again")
    step = "look at the contact and its magnet: loose, too far apart, a wire that touches; then swap it"
    why = f"its contact chattered for some {chatter_s * 1000:.0f} ms when the door moved"
    return Found("door", label, "fault", why, step, ("door_bounce",))
