"""Requests at the machine: entries of the keypad and scanner, and technicians' actions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from edge_agent.model import Purpose, Reservation, Source, Verdict, plain_digits
from edge_agent.runtime.clock import Clock
from edge_agent.runtime.credentials import Credentials
from edge_agent.runtime.ids import Ids
from edge_agent.runtime.loop import LOCAL_KEY_PREFIX, LockerLoop
from edge_agent.statemachine.codes.access import not_valid
from edge_agent.statemachine.history import LOST
from edge_agent.statemachine.inputs import (
    BlockCell,
    Clear,
    EnterCode,
    Input,
    LargerCell,
    OpenCell,
    Resolve,
    Restore,
    Tare,
    UnblockCell,
)
from edge_agent.statemachine.outputs import Answer

log = structlog.get_logger()


class LocalRequests:
    """Submits requests made at the machine to the loop, and waits for their outcomes. They are not stored in
    the inbox."""

    def __init__(
        self,
        loop: LockerLoop,
        clock: Clock,
        ids: Ids,
        *,
        weigh: Callable[[str], None] = lambda cell: None,
        offered: Callable[[], list[Reservation]] = list,
        history_changed: Callable[[], None] = lambda: None,
        credentials: Credentials | None = None,
    ) -> None:
        """`weigh` makes the weighing report the present reading of a scale to the loop. `offered` gives
        the reservations that the gateway has offered for restoring; `history_changed` is called when a
        technician has decided about them. `credentials`: ids of cards that stand for codes."""
        self.loop = loop
        self._clock = clock
        self._ids = ids
        self._weigh = weigh
        self.offered = offered
        self._history_changed = history_changed
        self._credentials = credentials or Credentials()
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._numbers = 0

    async def enter_code(self, text: str, waited_s: float = 0.0) -> Answer:
        """Handles digits, a QR text or a credential's id from the kiosk, read `waited_s` ago; returns the
        outcome. The text is not stored.

        A wrong code is refused with "not valid" only; a valid code whose door does not open gets the reason.
        """
        key = self._key()
        entered_ns = self._clock.now().boottime_ns - round(waited_s * 1e9)
        credential = self._credentials.find(text)
        if credential is None:
            code: str | None = plain_digits(text)
        else:
            code = credential.code_now(self.loop.state.reservations.values())
        actor = "" if credential is None else f"credential {credential.name}"
        if code is None:
            answer = Answer(key, refusal=not_valid())
        else:
            given = EnterCode(key, code, self._ids.unique("unl"), entered_ns, actor)
            answer = await self._submit(key, given)
        if answer.refusal is not None:
            who = {"by": actor} if actor else {}
            log.info("entry at the kiosk refused", reason=answer.refusal.message, **who)
        return answer

    async def larger_cell(self, reservation_id: str) -> Answer:
        """The person at the kiosk's screen asks for a larger cell for a drop-off; returns the outcome."""
        key = self._key()
        asked_ns = self._clock.now().boottime_ns
        given = LargerCell(key, reservation_id, self._ids.unique("unl"), asked_ns)
        answer = await self._submit(key, given)
        if answer.refusal is not None:
            log.info("larger cell refused", reason=answer.refusal.message, reservation_id=reservation_id)
        return answer

    def label_of(self, given: str) -> str:
        """The label of a cell from what a person typed: upper and lower case are the same where no two labels
        differ in that alone. Without a match, what was given."""
        labels, given = self.loop.state.cells, given.strip()
        alike = [label for label in labels if label.casefold() == given.casefold()]
        return alike[0] if given not in labels and len(alike) == 1 else given

    async def open_cell(
        self, cell: str, reason: str, actor: str = "", purpose: Purpose = Purpose.TECHNICIAN
    ) -> Answer:
        """A technician opens a cell, or tests its lock; returns the outcome. `actor`: the technician's name,
        here and in all other actions."""
        key = self._key()
        asked_ns = self._clock.now().boottime_ns
        given = OpenCell(key, cell, reason, self._ids.unique("unl"), actor, purpose, asked_ns)
        return await self._submit(key, given)

    async def clear(self, cell: str, actor: str = "") -> Answer:
        """A technician has checked the cell."""
        key = self._key()
        return await self._submit(key, Clear(key, cell, Source.MACHINE, actor=actor))

    async def block(self, cell: str, reason: str, actor: str = "") -> Answer:
        """A technician takes a cell out of allocation."""
        key = self._key()
        return await self._submit(key, BlockCell(key, cell, reason, Source.MACHINE, actor=actor))

    async def unblock(self, cell: str, actor: str = "") -> Answer:
        """A technician returns a blocked cell to allocation."""
        key = self._key()
        return await self._submit(key, UnblockCell(key, cell, Source.MACHINE, actor=actor))

    async def resolve(self, cell: str, verdict: Verdict, actor: str = "") -> Answer:
        """A technician states what is true of a cell in doubt."""
        key = self._key()
        return await self._submit(key, Resolve(key, cell, verdict, Source.MACHINE, actor=actor))

    async def restore(self, *, none: bool, place: dict[str, str], actor: str = "") -> Answer:
        """A technician lets lost reservations hold their cells again; `none`: he restores none and starts
        empty.

        Raises `Refusal` (`OFFLINE`) if the gateway has not yet sent what it holds.
        """
        key = self._key()
        lost = LOST in self.loop.state.alarms
        restored = () if none or not lost else tuple(self.offered())
        answer = await self._submit(key, Restore(key, restored, place, actor))
        self._history_changed()
        return answer

    async def tare(self, cell: str, actor: str = "") -> Answer:
        """A technician confirms that a cell is empty: the present reading of its scale becomes zero."""
        key = self._key()
        self._weigh(cell)
        return await self._submit(key, Tare(key, cell, Source.MACHINE, actor=actor))

    def _key(self) -> str:
        self._numbers += 1
        return f"{LOCAL_KEY_PREFIX}{self._numbers}"

    async def _submit(self, key: str, given: Input) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        self.loop.submit(given)
        try:
            return await future
        finally:
            self._waiting.pop(key, None)

    def answered(self, request_key: str, answer: Answer) -> bool:
        """Called with every outcome, see `LoopListener.answered`; returns whether the request was made at the
        machine."""
        future = self._waiting.get(request_key)
        if future is None:
            return False
        if not future.done():
            future.set_result(answer)
        return True
