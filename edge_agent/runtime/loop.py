"""The loop that owns the state: passes one input at a time through the core, and commits before anything
acts.

Inputs that arrive during a commit go together into the next one. An effect, an answer or an event leaves only
when the commit that holds it is on the disk. If it cannot be written, the state goes back to what the disk
holds, commands are refused, and observations are kept and retried.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, get_args

import structlog

from edge_agent.errors import Code, Refusal, StorageFault
from edge_agent.journal.reader import InboxRow
from edge_agent.journal.store import Batch
from edge_agent.model import Alarm, Instant, Reservation, ReservationStatus
from edge_agent.runtime.clock import Clock
from edge_agent.runtime.loop_watch import MonitoredLoop
from edge_agent.runtime.views import Views
from edge_agent.runtime.writer import LONGEST_COMMIT_S, Writer
from edge_agent.statemachine import conditions
from edge_agent.statemachine.history import FROZEN
from edge_agent.statemachine.inputs import (
    Abandon,
    AnsweredInput,
    Cancel,
    Condition,
    EnterCode,
    HistoryCompared,
    Input,
    LargerCell,
    OpenCell,
    OpenForReservation,
    Reserve,
    Tick,
)
from edge_agent.statemachine.locker import UNSYNCED, next_due_ns, step
from edge_agent.statemachine.outputs import Answer, Effect
from edge_agent.statemachine.state import Layout, LockerState
from edge_agent.statemachine.step_builder import Step

log = structlog.get_logger()

STORAGE_RETRY_S = 1.0
"""Pause after a failed commit."""
LONGEST_BATCH = 64
"""At most this many inputs go into one commit."""
SENT_WAIT_S = 1.0
"""How long the progress of sent events waits for other work before it is committed by itself."""
LONGEST_WAIT_S = 30.0
"""The core reads the clock at least this often: no event reports that the clock was synchronised."""
LOOP_HANGS_AFTER_S = LONGEST_COMMIT_S + 15.0
"""A loop that makes no turn for this long hangs: one commit alone may take `LONGEST_COMMIT_S`."""
FROZEN_CHANGED = ("history", FROZEN)
"""The entry of `Step.changed` when the machine is frozen or no longer frozen."""
LOCAL_KEY_PREFIX = "\0"
"""First character of the key of a request made at the machine; such requests do not go into the inbox."""
ANSWERED_INPUTS = get_args(AnsweredInput)


@dataclass(frozen=True, slots=True)
class _Item:
    given: Input
    request: InboxRow | None
    on_done: Callable[[], None] | None


def journal_fault() -> Refusal:
    """Refuses a request while the journal cannot be used: nothing was decided, so it may be retried."""
    return Refusal(Code.OFFLINE, "the machine's journal cannot be used just now")


class LoopListener(Protocol):
    """What the loop reports: after the commit, except `doors_busy`, and the refusals when a commit has
    failed."""

    def carry_out(self, effect: Effect) -> None:
        """An effect of the core."""

    def answered(self, request_key: str, reply: str, answer: Answer) -> None:
        """The outcome of a request."""

    def events_committed(self) -> None:
        """The outbox has new events."""

    def state_changed(self) -> None:
        """The published state may have changed."""

    def lines_committed(self) -> None:
        """Events or ledger lines were committed."""

    def new_journal(self) -> None:
        """The journal has a new id; events since the start have to be published again under it."""

    def doors_busy(self, busy: bool) -> None:
        """True when a command that opens a door is queued, False when none is queued or under way any
        more."""


class LockerLoop:
    """Owns the state, and reports to the listener that `run` gets.

    `use_spare_space` gives the journal its reserved space on a full disk, once. `ended_status` returns the
    last status of a reservation that is over, as far as it is on the disk.
    """

    def __init__(
        self,
        state: LockerState,
        layout: Layout,
        last_sequence: int,
        writer: Writer,
        clock: Clock,
        views: Views,
        *,
        ended_status: Callable[[str], ReservationStatus | None],
        use_spare_space: Callable[[], bool] = lambda: False,
    ) -> None:
        self.state = state
        self.layout = layout
        self.last_sequence = last_sequence
        self.started_sequence = last_sequence
        """The last event before this start."""
        self.storage_fault: str | None = None
        self._fault_since: Instant | None = None
        self._listener: LoopListener | None = None
        self._writer = writer
        self._clock = clock
        self._views = views
        self._ended_status = ended_status
        self._use_spare_space = use_spare_space
        self._items: deque[_Item] = deque()
        self._sent_through: int | None = None
        """Progress of sent events that is not committed yet; see `events_sent`."""
        self._refused_requests: dict[str, str] = {}
        """Replies to journal for requests that were never acted on, by request id."""
        self._wake = asyncio.Event()
        self._doors_busy = False
        self.turns = 0
        """Turns of the loop in `run`, each with its commit, for the watchdog."""

    def submit(
        self,
        given: Input,
        request: InboxRow | None = None,
        on_done: Callable[[], None] | None = None,
    ) -> None:
        """Queues an input. `request` goes into the inbox with it; `on_done` is called after the commit, or
        when the input is refused because the commit failed."""
        if isinstance(given, OpenForReservation | OpenCell | EnterCode | LargerCell):
            self._doors_busy = True
            if self._listener is not None:
                self._listener.doors_busy(True)
        self._items.append(_Item(given, request, on_done))
        self._wake.set()

    def unjournaled_fault(self) -> tuple[Instant, str] | None:
        """Since when and why the journal cannot be written; None if an alarm of the state already shows
        it."""
        raised = f"{Alarm.STORAGE_FAULT}/" in self.state.alarms
        if self.storage_fault is None or self._fault_since is None or raised:
            return None
        return self._fault_since, self.storage_fault

    def events_sent(self, through: int) -> None:
        """The broker has every event up to this one; journaled with the next commit, within a second.

        A crash before that sends them again with the same sequences. That is harmless and saves one commit
        per event.
        """
        if self._sent_through is None:
            self._wake.set()  # so that the loop waits at most `SENT_WAIT_S`
        self._sent_through = max(through, self._sent_through or 0)

    def refuse_request(self, request_id: str, reply: str) -> None:
        """Journals the reply of a request that was never acted on."""
        self._refused_requests[request_id] = reply
        self._wake.set()

    async def run(self, listener: LoopListener) -> None:
        """Works and reports to `listener` until cancelled. Raises `InvariantBroken` if the core contradicts
        itself."""
        self._listener = listener
        if self._doors_busy:
            listener.doors_busy(True)
        while True:
            await self._wait()
            items = [self._items.popleft() for _ in range(min(len(self._items), LONGEST_BATCH))]
            if not items:
                items = [_Item(Tick(), None, None)]
            await self._turn(items, listener)
            self.turns += 1

    def monitored_loops(self) -> list[MonitoredLoop]:
        """See `HasLoops`. The loop turns by itself at least every `LONGEST_WAIT_S`."""
        return [MonitoredLoop("writer loop", lambda: self.turns, LOOP_HANGS_AFTER_S)]

    async def _wait(self) -> None:
        """Returns when there is work: an input, a refusal to journal, a due moment, or progress of sent
        events that has waited for `SENT_WAIT_S`."""
        while not (self._items or self._refused_requests):
            self.turns += 1
            self._wake.clear()
            now = self._clock.now()
            if now.synced is conditions.stands(self.state, UNSYNCED):
                # CLOCK_UNSYNCED is not up to date: the clock has changed since the last step, or the commit
                # of the step that changed the alarm failed.
                return
            due_ns = next_due_ns(self.state, self.layout, now)
            left_s = LONGEST_WAIT_S if due_ns is None else max(0.0, (due_ns - now.boottime_ns) / 1e9)
            longest_s = SENT_WAIT_S if self._sent_through is not None else LONGEST_WAIT_S
            try:
                async with asyncio.timeout(min(left_s, longest_s)):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _turn(self, items: list[_Item], listener: LoopListener) -> None:
        """Steps through the items, commits once, then releases effects, answers and events."""
        before = self.state
        batch = Batch(before=before, after=before)
        now = self._clock.now()
        batch.now_s = now.wall_s if now.synced else None
        steps: list[Step] = []
        answers: list[Answer] = []
        state, sequence = before, self.last_sequence
        for item in items:
            if item.request is not None:
                batch.requests.append(item.request)
            try:
                given = self._with_ended_status(item.given, batch.ended)
                done = self.step(state, given, self._clock.now())
            except Refusal as refusal:
                assert isinstance(item.given, ANSWERED_INPUTS)
                answers.append(Answer(item.given.request_key, refusal=refusal))
                continue
            if isinstance(given, HistoryCompared) and given.new_journal_id and FROZEN_CHANGED in done.changed:
                batch.new_journal = (given.new_journal_id, self.started_sequence)
            state = done.state
            batch.changed |= dict.fromkeys(done.changed)
            steps.append(done)
            answers += done.answers
            batch.ledger_lines += [(sequence, record) for record in done.ledger_lines]
            for fact in done.facts:
                sequence += 1
                batch.events.append((sequence, self._views.event(fact, sequence)))
            batch.ended += done.ended
            batch.temperatures += done.temperatures
        batch.after = state
        replies = [(answer, self._views.reply(answer)) for answer in answers]
        self._keep_replies(batch, replies)
        batch.sent_through, self._sent_through = self._sent_through, None
        refused, self._refused_requests = self._refused_requests, {}
        batch.replies |= refused
        try:
            if not batch.empty:
                await self._commit(batch)
        except StorageFault as fault:
            await self._storage_failed(items, listener, batch, refused, fault)
            return
        if self.storage_fault is not None:
            self.submit(Condition(Alarm.STORAGE_FAULT, "", True, self.storage_fault))
        self.storage_fault = None
        if batch.new_journal:
            self._views.take_journal_id(batch.new_journal[0])
            self._sent_through = None
        self.state, self.last_sequence = state, sequence
        if batch.events or batch.ledger_lines:
            listener.lines_committed()
        if batch.new_journal:
            listener.new_journal()
        self._release(items, listener, steps, replies, events=bool(batch.events), changed=bool(batch.changed))

    async def _commit(self, batch: Batch) -> None:
        """Commits; on a full disk with the reserved space. Raises `StorageFault`."""
        try:
            await self._writer.commit(batch)
        except StorageFault as fault:
            if not self._use_spare_space():
                raise
            log.error("disk full: the journal uses its reserve", error=str(fault))
            await self._writer.commit(batch)
            self.submit(Condition(Alarm.STORAGE_FAULT, "", True, str(fault)))

    def step(self, state: LockerState, given: Input, now: Instant) -> Step:
        """One step of the core; a method, so that `tools/simulate/record.py` can record the inputs."""
        return step(state, self.layout, given, now)

    def _with_ended_status(self, given: Input, ended: list[Reservation]) -> Input:
        """Fills in `ended` of a command: the last status of its reservation if that is over, including
        reservations that ended earlier in this batch.

        Raises `Refusal` if the journal cannot be read.
        """
        if not isinstance(given, Reserve | OpenForReservation | LargerCell | Cancel | Abandon):
            return given
        for reservation in ended:
            if reservation.reservation_id == given.reservation_id:
                return replace(given, ended=reservation.status)
        try:
            return replace(given, ended=self._ended_status(given.reservation_id))
        except StorageFault:
            raise journal_fault() from None

    @staticmethod
    def _keep_replies(batch: Batch, replies: list[tuple[Answer, str]]) -> None:
        """Stores every answer with its request, also `EXPIRED` and `OFFLINE`: a caller that was refused is
        not served afterwards."""
        batch.replies |= {
            a.request_key: reply for a, reply in replies if not a.request_key.startswith(LOCAL_KEY_PREFIX)
        }

    def _release(
        self,
        items: list[_Item],
        listener: LoopListener,
        steps: list[Step],
        replies: list[tuple[Answer, str]],
        *,
        events: bool,
        changed: bool,
    ) -> None:
        for done in steps:
            for effect in done.effects:
                listener.carry_out(effect)
        for item in items:
            if item.on_done is not None:
                item.on_done()
        if changed:
            listener.state_changed()
        for answer, reply in replies:
            listener.answered(answer.request_key, reply, answer)
        if events:
            listener.events_committed()
        if self._doors_busy and not (self._items or self.state.active_unlocks() or self.state.queue):
            self._doors_busy = False
            listener.doors_busy(False)

    async def _storage_failed(
        self,
        items: list[_Item],
        listener: LoopListener,
        batch: Batch,
        refused: dict[str, str],
        fault: StorageFault,
    ) -> None:
        """The commit failed, and the state is unchanged: refuses the commands; keeps the observations and the
        progress of sent events, and retries them after `STORAGE_RETRY_S`."""
        if self.storage_fault is None:
            log.error("journal cannot be written", error=str(fault))
            self._fault_since = self._clock.now()
        self.storage_fault = str(fault)
        if batch.sent_through is not None:
            self._sent_through = max(batch.sent_through, self._sent_through or 0)
        self._refused_requests = refused | self._refused_requests
        kept = []
        for item in items:
            if isinstance(item.given, ANSWERED_INPUTS):
                answer = Answer(item.given.request_key, refusal=journal_fault())
                listener.answered(answer.request_key, self._views.reply(answer), answer)
                if item.on_done is not None:
                    item.on_done()
            elif not isinstance(item.given, Tick):
                kept.append(item)
        self._items.extendleft(reversed(kept))
        await asyncio.sleep(STORAGE_RETRY_S)
