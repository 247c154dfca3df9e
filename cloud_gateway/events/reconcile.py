"""Detects missing events, and requests them from the machines.

Three things start it: a machine that comes online (or is found online after our own connection) and publishes
its digest; an event that waits for one before it; and a gateway that died with events the broker had given
it. For `Timing.missing_after_s` events may still be on their way; what is missing then is requested with
`sync`, page by page.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from cloud_gateway.db.replicas import forget_gateways, record_alive
from cloud_gateway.db.store import Store
from cloud_gateway.events import audit, sync
from cloud_gateway.events.sequence import skip_to_first_held
from cloud_gateway.events.sync import Asking, EventProgress
from cloud_gateway.logs import error_fields, log
from cloud_gateway.machines.commands import MachineCommands, MachineRefusal, Reply
from cloud_gateway.machines.message_validation import MachineAccounts, SyncPage
from cloud_gateway.machines.sealed_ids import Seals
from cloud_gateway.settings import Timing
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.sync import Digest

MACHINES_AT_ONCE = 16
"""How many machines are asked at the same time."""
CROWDED = 10
"""While more machines than that have to be asked, the pause between two checks is this many times shorter."""
CHECKED_AT_ONCE = 256
"""How many machines one check looks at, the others next: after a restart every machine has to be checked."""
PAGES_MAX = 100_000
INCOMPLETE_MAX = 1000
PAUSE_MAX_S = 600.0
ASKED_ANYWAY_AFTER = 10
"""A machine that sends events without a pause is asked at the latest after this many times
`missing_after_s`."""


@dataclass
class _Check:
    """A machine that has to be checked. `must_ask`: only the machine itself knows whether anything is
    missing; `since` is when the check was requested (wall clock), `began_s` the same on the loop's clock."""

    since: float
    began_s: float
    digest: Digest | None = None
    must_ask: bool = False


@dataclass
class _LastProgress:
    """The last applied sequence of a machine, and when it last changed, on the loop's clock."""

    applied: int | None
    at_s: float


@dataclass
class _Pause:
    """When a request may be repeated, on the loop's clock."""

    until_s: float
    length_s: float


class Reconciler:
    """Used on the event loop only. `wake_webhooks` is called when events were applied."""

    def __init__(
        self,
        store: Store,
        machines: MachineCommands,
        timing: Timing,
        clock: Callable[[], float],
        wake_webhooks: Callable[[], None],
        gateway_id: str,
        *,
        accounts: MachineAccounts | None = None,
        seals: Seals | None = None,
    ) -> None:
        self._store = store
        self._machines = machines
        self._timing = timing
        self._clock = clock
        self._wake_webhooks = wake_webhooks
        self._gateway_id = gateway_id
        self._accounts = accounts or MachineAccounts()
        self._seals = seals or Seals(())
        self._checks: dict[str, _Check] = {}
        self._moved: dict[str, _LastProgress] = {}
        self._pauses: dict[str, _Pause] = {}
        self._asking: set[str] = set()
        self._learning: set[str] = set()
        self._to_learn: deque[tuple[str, str]] = deque()
        self._crowded = False
        """Whether machines had to wait for others at the last check."""
        self._alive_s = self._completed_s = self._losses_handled_s = float("-inf")

    def check_machine(self, machine_id: str, digest: Digest | None, retained: bool) -> None:
        """Schedules a check of a machine that published its digest, or (None) came online. `retained`: the
        broker sent its stored copy after our own connection, which does not show what we missed meanwhile."""
        self._pauses.pop(machine_id, None)
        last = self._checks.get(machine_id)
        check = _Check(self._clock(), self._now_s())
        if digest is not None and not retained:
            check.digest = digest  # the machine itself has just published what it holds
        else:
            known = None if last is None else last.digest
            check.digest = digest or known
            check.must_ask = (last is not None and last.must_ask) or (
                digest is None and (retained or known is None)
            )
        self._checks[machine_id] = check

    @property
    def unsure(self) -> frozenset[str]:
        """The machines that still have to be checked."""
        return frozenset(self._checks)

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    await self._beat(group)
                except SQLAlchemyError as error:
                    log().error("database_failed", **error_fields(error))
                pause_s = self._timing.check_pause_s
                await asyncio.sleep(pause_s / CROWDED if self._crowded else pause_s)

    async def _beat(self, group: asyncio.TaskGroup) -> None:
        now_s = self._now_s()
        if self._store.shared and now_s - self._alive_s >= self._timing.replica_lost_s / 3:
            self._alive_s = now_s
            await self._check_other_gateways()
        if now_s - self._completed_s >= self._timing.completion_s:
            self._completed_s = now_s
            await self._complete(group)
        if not self._machines.connected:
            return
        checked = self._next_to_check()
        found = await self._store.read(lambda db: sync.progress_of(db, checked) | sync.progress_of(db))
        self._crowded = len(self._checks) > len(checked)
        if not self._crowded:
            self._moved = {name: moved for name, moved in self._moved.items() if name in found}
        for machine_id, progress in found.items():
            await self._check_progress(group, machine_id, progress)

    def _next_to_check(self) -> list[str]:
        """The machines whose turn it is, at most `CHECKED_AT_ONCE`."""
        names = list(islice(self._checks, CHECKED_AT_ONCE))
        if len(names) < len(self._checks):
            for name in names:  # behind those that wait for their turn
                self._checks[name] = self._checks.pop(name)
        return names

    async def _check_progress(
        self, group: asyncio.TaskGroup, machine_id: str, progress: EventProgress
    ) -> None:
        """Decides whether a machine is asked, once no event of it was applied for `missing_after_s`."""
        now_s, missing_after_s = self._now_s(), self._timing.missing_after_s
        moved = self._moved.get(machine_id)
        if moved is None or moved.applied != progress.applied:
            if moved is not None:
                self._pauses.pop(machine_id, None)
            moved = self._moved[machine_id] = _LastProgress(progress.applied, now_s)
        pause, check = self._pauses.get(machine_id), self._checks.get(machine_id)
        if machine_id in self._asking or (pause is not None and now_s < pause.until_s):
            return
        if not self._machines.is_online(machine_id) or await self._machines.has_twins(machine_id):
            self._checks.pop(machine_id, None)  # it is checked again when it publishes that it is online
            return
        still = now_s - moved.at_s >= missing_after_s
        since: float | None = None
        if progress.waiting and still:
            since = self._clock() + 1  # later than any `verified_s`: an earlier confirmation does not count
        elif check is not None and now_s - check.began_s >= missing_after_s:
            more_announced = check.digest is not None and (progress.applied or 0) < check.digest.last_sequence
            patient = more_announced or now_s - check.began_s < ASKED_ANYWAY_AFTER * missing_after_s
            if patient and not still:
                return  # events are still arriving; they may be all that is missing
            since = await self._since(check, progress)
            if since is None:
                self._checks.pop(machine_id, None)
        if since is None:
            return
        if len(self._asking) >= MACHINES_AT_ONCE:
            self._crowded = True
        else:
            self._start(group, self._asking, machine_id, partial(self._sync, machine_id, since))

    async def _since(self, check: _Check, progress: EventProgress) -> float | None:
        """The moment from which a confirmation that nothing is missing counts; None if nothing is missing."""
        digest = check.digest
        if check.must_ask:
            return check.since
        if digest is not None and await self._store.read(lambda db: sync.differs(db, digest, progress)):
            return self._clock() + 1  # see `_check_progress`
        return None

    def _start(
        self,
        group: asyncio.TaskGroup,
        busy: set[str],
        name: str,
        work: Callable[[], Awaitable[None]],
        then: Callable[[], None] = lambda: None,
    ) -> None:
        async def guarded() -> None:
            try:
                await work()
            except SQLAlchemyError as error:
                log().error("database_failed", **error_fields(error))
                self._wait(name)
            except Exception as error:  # one machine's answers must not end the work for all
                log().error("reconcile_failed", machine_id=name, **error_fields(error))
                self._wait(name)
            finally:
                busy.discard(name)
            then()

        busy.add(name)
        group.create_task(guarded(), name=f"check of {name}")

    async def _sync(self, machine_id: str, since: float) -> None:
        """Requests all that is missing from a machine."""
        lease_s, check = self._timing.sync_lease_s, self._checks.get(machine_id)
        begun = await self._store.write(
            lambda db: sync.begin_asking(db, machine_id, self._clock(), lease_s, since)
        )
        if begun is Asking.BUSY:
            return
        if begun is Asking.MINE:
            try:
                if not await self._pages(machine_id):
                    return
            finally:
                await self._store.write(lambda db: sync.end_asking(db, machine_id))
        self._wait(machine_id)  # if nothing was applied, an immediate repetition would change nothing
        if check is not None and self._checks.get(machine_id) is check:
            del self._checks[machine_id]

    async def _pages(self, machine_id: str) -> bool:
        """Requests page after page; False if that has to be repeated later."""
        try:
            for _ in range(PAGES_MAX):
                taken = await self._page(machine_id)
                if taken.applied:
                    self._wake_webhooks()
                if taken.last:
                    for reservation_id in taken.missing:
                        await self._check_missing(machine_id, reservation_id)
                    return True
        except (MachineRefusal, Refusal) as refusal:
            if refusal.code == Code.NOT_BUILT:
                await self._continue_without_sync(machine_id)
                return True
            log().warning("sync_refused", machine_id=machine_id, code=int(refusal.code))
        except ValueError as error:
            log().error("sync_unreadable", machine_id=machine_id, **error_fields(error))
        self._wait(machine_id)
        return False

    async def _page(self, machine_id: str) -> sync.Taken:
        asked_s, lease_s = self._clock(), self._timing.sync_lease_s
        start = await self._store.write(lambda db: sync.start_request(db, machine_id, asked_s + lease_s))
        reply = await self._ask(machine_id, "sync", {"from_sequence": start})
        page = SyncPage.model_validate(reply.result)
        if not self._accounts.take_quota(machine_id, [reply.size, *([0] * len(page.events))]):
            self._accounts.count_rejected(machine_id, "quota")
            raise Refusal(Code.NO_CELL, "the machine has used up its quota")
        now_s, may_learn = self._clock(), self._seals.holds
        return await self._store.write(
            lambda db: sync.take_page(db, machine_id, page, start, asked_s, now_s, may_learn)
        )

    async def _continue_without_sync(self, machine_id: str) -> None:
        """Skips what is missing: the machine's version does not have `sync`."""
        log().warning("sync_not_built", machine_id=machine_id)
        now_s = self._clock()

        def work(db: Connection) -> int:
            return audit.skip(db, machine_id, now_s) + skip_to_first_held(db, machine_id, now_s)

        if await self._store.write(work):
            self._wake_webhooks()

    async def _check_missing(self, machine_id: str, reservation_id: str) -> None:
        """Asks for a reservation that is live in the projection and missing in the machine's list."""
        now_s = self._clock()
        try:
            reply = await self._ask(machine_id, "get-reservation", {"reservation_id": reservation_id})
        except MachineRefusal as refusal:
            if refusal.code != Code.NOT_FOUND:
                raise
            log().error("reservation_unknown", machine_id=machine_id, reservation_id=reservation_id)
            await self._store.write(lambda db: sync.note_unknown(db, machine_id, reservation_id, now_s))
            return
        if reply.reservation is not None:  # the reply itself is in the projection by now
            await self._store.write(lambda db: sync.note_over(db, machine_id, reservation_id, now_s))

    async def _complete(self, group: asyncio.TaskGroup) -> None:
        """Requests reservations that are known from events only, because the reply was lost."""
        before_s = self._clock() - self._timing.completion_s
        online = self._machines.online()
        waiting = await self._store.read(lambda db: sync.incomplete(db, online, before_s, INCOMPLETE_MAX))
        names = {f"reservation {reservation_id}" for reservation_id, _ in waiting}
        for name in [name for name in self._pauses if name.startswith("reservation ")]:
            if name not in names:
                del self._pauses[name]
        self._to_learn = deque(waiting)
        self._learn_next(group)

    def _learn_next(self, group: asyncio.TaskGroup) -> None:
        """Requests the next ones, at most `MACHINES_AT_ONCE` at a time."""
        while self._to_learn and len(self._learning) < MACHINES_AT_ONCE:
            reservation_id, machine_id = self._to_learn.popleft()
            name = f"reservation {reservation_id}"
            pause = self._pauses.get(name)
            free = name not in self._learning and (pause is None or self._now_s() >= pause.until_s)
            if free and self._machines.is_online(machine_id):
                work = partial(self._learn, name, machine_id, reservation_id)
                self._start(group, self._learning, name, work, partial(self._learn_next, group))

    async def _learn(self, name: str, machine_id: str, reservation_id: str) -> None:
        if await self._machines.has_twins(machine_id):
            return
        try:
            await self._ask(machine_id, "get-reservation", {"reservation_id": reservation_id})
        except (MachineRefusal, Refusal) as refusal:
            log().warning("completion_refused", machine_id=machine_id, code=int(refusal.code))
            self._wait(name, self._timing.completion_s)
            if refusal.code == Code.NOT_FOUND:
                now_s = self._clock()
                await self._store.write(lambda db: sync.note_unknown(db, machine_id, reservation_id, now_s))

    async def _check_other_gateways(self) -> None:
        """Records that we are alive; if another gateway died, every machine is asked for what we missed."""
        now_s, timing = self._clock(), self._timing
        dead = await self._store.write(
            lambda db: record_alive(db, self._gateway_id, now_s, timing.replica_lost_s)
        )
        if not dead:
            return
        if self._now_s() - self._losses_handled_s >= timing.replica_lost_s:
            self._losses_handled_s = self._now_s()
            log().warning("gateway_lost", names=sorted(dead))
            for machine_id in self._machines.online():
                self.check_machine(machine_id, None, retained=True)
        over = [name for name, seen_s in dead.items() if now_s - seen_s > timing.session_s]
        if over:
            await self._store.write(lambda db: forget_gateways(db, over))

    async def _ask(self, machine_id: str, name: str, fields: dict[str, Any]) -> Reply:
        command_id = f"req_{uuid.uuid4().hex}"
        return await self._machines.call(
            machine_id, name, fields, command_id=command_id, x_request_id=command_id
        )

    def _wait(self, name: str, first_s: float | None = None) -> None:
        """Pauses the requests of a machine (or reservation) for a while; twice as long as before if the last
        pause has only just ended."""
        last, now_s = self._pauses.get(name), self._now_s()
        first_s = self._timing.ask_again_s if first_s is None else first_s
        again = last is not None and now_s < last.until_s + last.length_s + self._timing.completion_s
        length_s = min(PAUSE_MAX_S, 2 * last.length_s) if last is not None and again else first_s
        self._pauses[name] = _Pause(now_s + length_s, length_s)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()
