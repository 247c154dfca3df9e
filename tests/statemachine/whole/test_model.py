"""The core beside a second opinion: a small model written from the behaviour page, through random lives.

After every input the two must agree on the answer, on what is published, read and pulsed, and on how every
reservation and cell stands; `tests/support/second_model/watch.py` checks what must never happen, whatever the
model predicts.

How long it searches is chosen by the environment variable `CORE_EFFORT`: unset for the ordinary suite,
`least` and `fast` for the search for mutants, or a number of lives for a campaign with new random numbers
each time (`make campaign` does 20,000).
"""

from __future__ import annotations

import os
from dataclasses import replace

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from edge_agent.model import TECHNICIAN_PURPOSES, Door, Instant, Packaging, Purpose, Severity, Verdict
from edge_agent.model import ReservationStatus as S
from edge_agent.statemachine.doors.outcome import COMMAND_FOR
from edge_agent.statemachine.inputs import (
    Abandon,
    BlockCell,
    Cancel,
    Clear,
    ClosingSettled,
    DeviceHealth,
    DoorRead,
    DoorsChanged,
    EnterCode,
    HandCheck,
    Input,
    LargerCell,
    OpenCell,
    OpenForReservation,
    PulseDone,
    RequestMaintenance,
    Reserve,
    Resolve,
    Tare,
    Tick,
    UnblockCell,
    Weighed,
)
from edge_agent.statemachine.locker import next_due_ns, step
from edge_agent.statemachine.outputs import PulseLock, ReadDoor
from edge_agent.statemachine.state import Layout
from tests.support.pure_core.core import SMALL, Core, specs
from tests.support.second_model.compared import Compared
from tests.support.second_model.observed import Model
from tests.support.second_model.parcels import Parcel
from tests.support.second_model.watch import Watch

EFFORT = os.environ.get("CORE_EFFORT", "")
LIVES, LENGTH = {"": (150, 50), "fast": (50, 40), "least": (10, 30)}.get(
    EFFORT, (int(EFFORT) if EFFORT.isdigit() else 0, 80)
)
LOCKS = {"A01": "locks", "A02": "locks", "B01": "locks"}
BOARDS = {"locks_a": ("A01", "A02"), "locks_b": ("B01", "C01")}
LABELS = ("A01", "A02", "B01", "C01")
TALL = Packaging(200, 350, 300, 500)
COLD = replace(SMALL, cooling_required=True)
DESK = (
    "block",
    "unblock",
    "clear",
    "clear",
    "tare",
    "maintain",
    "maintain and block",
    "guess digits",
    "guess qr",
)
some = st.integers(0, 11)
graces = st.sampled_from([0, 5, 120])
masses = st.sampled_from([None, 0, 20, 40, 60, 120, 161, 350, 900, 1100, -20, -50])
doors = st.sampled_from(Door)
usually = st.sampled_from([True, True, True, False])
seldom = st.sampled_from([True, False, False])
mostly_closed = st.sampled_from([Door.CLOSED, Door.CLOSED, Door.CLOSED, Door.OPEN, Door.UNKNOWN])


def later(now: Instant, seconds: float) -> Instant:
    """Some seconds on, by both clocks."""
    return replace(now, boottime_ns=now.boottime_ns + round(seconds * 1e9), wall_s=now.wall_s + seconds)


class Lives(Compared):
    """Random lives of one locker."""

    core: Core
    model: Model

    @initialize(
        concurrent=st.sampled_from([1, 2]), scales=st.booleans(), hold=st.booleans(), boards=st.booleans()
    )
    def begin(self, concurrent: int, scales: bool, hold: bool, boards: bool) -> None:
        built = {spec.label: spec for spec in specs() if spec.label in LABELS}
        self.core = Core(
            Layout(
                specs=built,
                max_concurrent_unlocks=concurrent,
                weighed=frozenset({"A01"} if scales else ()),
                hold_empty_dropoff=hold,
                lock_boards=LOCKS if boards else {},
                contact_boards=LOCKS if boards else {},
            )
        )
        self.model = Model(self.core.layout, self.core.now)
        self.model.restart(dict.fromkeys(LABELS, Door.CLOSED))
        for label in LABELS:
            self.model.closing_settled(label, self.core.now.boottime_ns)
        self.model.apply_due()
        self.watch = Watch(self.core.layout)
        self.ids: list[str] = []
        self.boots = 1
        self.stepped = False
        self.reserve(SMALL, 120, 5, 1)

    # --- what the API and the kiosk send ------------------------------------------------------------------

    def pick(self, which: int) -> Parcel:
        """A reservation: mostly one that lives, sometimes one that is over or never was."""
        known = list(self.model.parcels.values())
        choice = [p for p in known if not p.over] * 3 + [p for p in known if p.over][-3:]
        never = Parcel("res_never", SMALL, "A01", 0, 0)
        return choice[which % len(choice)] if choice else never

    def ended(self, parcel: Parcel) -> S | None:
        """What the loop knows from the journal."""
        return parcel.status if parcel.over else None

    def uid(self) -> str:
        """A new unlock id, remembered for results that come too late."""
        self.ids.append(f"unl-{len(self.ids)}")
        return self.ids[-1]

    @rule(
        size=st.sampled_from([SMALL, SMALL, TALL, COLD, Packaging(9_000, 1, 1)]),
        d=graces,
        p=graces,
        again=some,
    )
    def reserve(self, size: Packaging, d: int, p: int, again: int) -> None:
        model, key = self.model, self.core.key()
        rid = f"res_{len(model.parcels)}" if again else self.pick(again).rid
        n = len(model.parcels) * 37
        codes = tuple(f"{(n + i * 101) % 10_000:04d}" for i in range(20))
        ended = self.ended(model.parcels[rid]) if rid in model.parcels else None
        given = Reserve(key, rid, "p", "o", size, codes, grace_dropoff_s=d, grace_pickup_s=p, ended=ended)
        if self.play(given, lambda: model.reserve(key, rid, size, d, p)):
            made = self.core.state.reservations[rid]
            model.parcels[rid].drop_off_code = made.drop_off_code
            model.parcels[rid].pickup_code = made.pickup_code
            live = self.core.state.reservations.values()
            assert len({c for r in live for c in (r.drop_off_code, r.pickup_code)}) == 2 * len(live)

    def ask(self, parcel: Parcel, purpose: Purpose, life_s: float) -> str | None:
        """A command by the API; its unlock id if it was accepted."""
        key, uid = self.core.key(), self.uid()
        expires_ns = self.core.now.boottime_ns + round(life_s * 1e9)
        given = OpenForReservation(key, parcel.rid, purpose, uid, expires_ns, ended=self.ended(parcel))
        granted = self.play(given, lambda: self.model.open_for(key, parcel.rid, purpose, uid, expires_ns))
        return uid if granted else None

    @rule(which=some, purpose=st.sampled_from(list(COMMAND_FOR)), life_s=st.sampled_from([30, 30, 4, -1]))
    def command(self, which: int, purpose: Purpose, life_s: float) -> None:
        self.ask(self.pick(which), purpose, life_s)

    @rule(which=some, pick=st.booleans(), qr=st.booleans(), age_s=st.sampled_from([0, 0, 0, 29, 31]))
    def enter(self, which: int, pick: bool, qr: bool, age_s: int) -> None:
        self.type(self.text(self.pick(which), pick, qr), age_s)

    def text(self, parcel: Parcel, pick: bool, qr: bool) -> str:
        """What opens a parcel's door at the kiosk."""
        code = (parcel.pickup_code if pick else parcel.drop_off_code) or "0000"
        return f"DLV-{'PICK' if pick else 'DROP'}-{parcel.rid}-{code}" if qr else code

    def type(self, text: str, age_s: int = 0) -> None:
        """An entry at the kiosk, made some time ago."""
        key, uid = self.core.key(), self.uid()
        made_ns = self.core.now.boottime_ns - age_s * 10**9
        given = EnterCode(key, text, uid, entered_ns=made_ns)
        self.play(given, lambda: self.model.enter_code(key, text, uid, made_ns))

    @rule(which=some, waits_s=st.sampled_from([0, 0, 5, 59, 61]), closes=usually)
    def larger(self, which: int, waits_s: int, closes: bool) -> None:
        """A person whose parcel does not go into the open cell asks for a larger one."""
        parcel = self.pick(which)
        if parcel.status is S.PENDING and not parcel.over and not parcel.dropping:
            self.opens(self.ask(parcel, Purpose.DROPOFF, 30) or "", False, False)
        self.core.now = later(self.core.now, waits_s)
        key, uid = self.core.key(), self.uid()
        given = LargerCell(key, parcel.rid, uid, ended=self.ended(parcel))
        small = parcel.cell
        if self.play(given, lambda: self.model.larger_cell(key, parcel.rid, uid)):
            self.opens(uid, closes, False)
            if closes:
                self.shut(small)

    @rule(which=some, abandon=st.booleans())
    def cancel_or_abandon(self, which: int, abandon: bool) -> None:
        key, parcel = self.core.key(), self.pick(which)
        status = S.ABANDONED if abandon else S.CANCELLED
        given = (Abandon if abandon else Cancel)(key, parcel.rid, ended=self.ended(parcel))
        self.play(given, lambda: self.model.cancel_or_abandon(key, parcel.rid, status))

    def guessed(self, label: str | None) -> str:
        """A QR text with a guessed code; where a cell is named, with its reservation's id."""
        held = [parcel for parcel in self.model.parcels.values() if parcel.cell == label and not parcel.over]
        return f"DLV-PICK-{held[0].rid}-{held[0].drop_off_code}" if held else "DLV-DROP-res_never-1234"

    @rule(what=st.sampled_from(DESK), label=st.sampled_from([*LABELS, *LABELS, None, "Z9"]))
    def desk(self, what: str, label: str | None) -> None:
        """A technician's command for a cell, or guessed codes."""
        key, model = self.core.key(), self.model
        if what.startswith("guess"):
            for _ in range(4 + (label is None)):
                self.type(self.guessed(label) if what == "guess qr" else "no code")
        elif what.startswith("maintain") or label is None:
            block = what == "maintain and block"
            given: Input = RequestMaintenance(key, "m", "d", Severity.LOW, label, block)
            self.play(given, lambda: model.maintenance(key, label, block))
        elif what == "clear":
            self.play(Clear(key, label), lambda: model.clear(key, label))
        elif what == "tare":
            self.play(Tare(key, label), lambda: model.tare(key, label))
        else:
            given = BlockCell(key, label, "why") if what == "block" else UnblockCell(key, label)
            self.play(given, lambda: model.block(key, label, what == "block"))

    @rule()
    def clear_all(self) -> None:
        """The whole machine is put in order."""
        for label in LABELS:
            self.shut(label)
            self.desk("clear", label)
            self.desk("unblock", label)

    # --- what the bus brings ------------------------------------------------------------------------------

    def at(self, stage: str) -> list[str]:
        """The commands at one stage."""
        return [t.uid for t in self.model.attempts.values() if t.stage == stage]

    def look(self, uid: str, door: Door) -> None:
        """The result of a fresh reading, a moment later: what was seen before is older than the pulse."""
        self.core.now = later(self.core.now, 1e-6)
        self.play(DoorRead(uid, door), lambda: self.model.fresh_reading(uid, door))

    def watched(self, uid: str, attempt: int, door: Door, given: bool = True, known: bool = True) -> None:
        """The result of a pulse; `known`: the board has acknowledged it."""
        result = PulseDone(uid, attempt, door, given, known)
        self.play(result, lambda: self.model.pulse_done(uid, attempt, door, given, known))

    def see(self, label: str, door: Door) -> None:
        """A poll shows a door anew."""
        self.play(DoorsChanged({label: door}), lambda: self.model.poll({label: door}))

    def settle(self, label: str, ago_s: float = 0) -> None:
        """A door has stayed closed."""
        since_ns = self.core.now.boottime_ns - round(ago_s * 1e9)
        self.play(ClosingSettled(label, since_ns), lambda: self.model.closing_settled(label, since_ns))

    def shut(self, label: str) -> None:
        """A door is closed, and it stays closed."""
        self.see(label, Door.CLOSED)
        self.core.now = later(self.core.now, 0.6)
        self.settle(label, 0.6)

    @rule(label=st.sampled_from(LABELS), ago_s=st.sampled_from([0, 0.6]))
    def settles(self, label: str, ago_s: float) -> None:
        self.settle(label, ago_s)

    @rule(label=st.sampled_from(LABELS), lasts=usually, closes=usually)
    def forced(self, label: str, lasts: bool, closes: bool) -> None:
        """A door is pulled open, or a wire breaks."""
        self.see(label, Door.OPEN)
        if lasts:
            self.time(0.2, 0.0, self.core.now.synced)
        if closes:
            self.shut(label)

    @rule(labels=st.sampled_from([LABELS, LABELS[:1], (LABELS[1], "Z9")]), running=seldom)
    def hand_check(self, labels: tuple[str, ...], running: bool) -> None:
        """A person starts or stops checking the wiring of doors by hand."""
        self.play(HandCheck(labels, running), lambda: self.model.hand_check(labels, running))

    @rule(label=st.sampled_from(LABELS), changes=st.integers(2, 6), apart_s=st.sampled_from([0.1, 0.3, 0.6]))
    def chatters(self, label: str, changes: int, apart_s: float) -> None:
        """A contact that is loose."""
        for _ in range(changes):
            door = Door.CLOSED if self.model.places[label].door is Door.OPEN else Door.OPEN
            self.see(label, door)
            self.core.now = later(self.core.now, apart_s)

    @rule(label=st.sampled_from(LABELS), verdict=st.sampled_from(Verdict))
    def resolve(self, label: str, verdict: Verdict) -> None:
        key = self.core.key()
        self.play(Resolve(key, label, verdict), lambda: self.model.resolve(key, label, verdict))

    @precondition(lambda self: self.at("reading"))
    @rule(which=some, door=mostly_closed)
    def looked(self, which: int, door: Door) -> None:
        uids = self.at("reading")
        self.look(uids[which % len(uids)], door)

    @precondition(lambda self: self.at("pulsing"))
    @rule(which=some, door=doors, given=usually, known=usually)
    def pulse_done(self, which: int, door: Door, given: bool, known: bool) -> None:
        uids = self.at("pulsing")
        uid = uids[which % len(uids)]
        self.watched(uid, self.model.attempts[uid].attempt, door, given, known)

    @precondition(lambda self: self.at("pulsing"))
    @rule(known=usually)
    def stays_shut(self, known: bool) -> None:
        """A lock that does not move at any pulse."""
        uid = self.at("pulsing")[0]
        while uid in self.at("pulsing"):
            self.watched(uid, self.model.attempts[uid].attempt, Door.CLOSED, known=known)

    @rule(which=some, result=mostly_closed)
    def begins(self, which: int, result: Door) -> None:
        """A drop-off or pick-up that is left with its first pulse under way, or with nothing seen."""
        parcel = self.pick(which)
        purpose = Purpose.DROPOFF if parcel.status is S.PENDING else Purpose.PICKUP
        uid = self.ask(parcel, purpose, 30)
        if uid in self.at("reading"):
            assert uid is not None
            self.look(uid, Door.CLOSED)
            if result is Door.UNKNOWN and uid in self.at("pulsing"):
                self.watched(uid, 1, Door.UNKNOWN)

    @precondition(lambda self: self.ids)
    @rule(which=some, door=doors, attempt=st.integers(0, 3), look=st.booleans())
    def stale(self, which: int, door: Door, attempt: int, look: bool) -> None:
        uid = self.ids[-1 - which % len(self.ids)]
        if look and uid not in self.at("reading"):
            self.look(uid, door)
        elif uid not in self.model.attempts or self.model.attempts[uid].attempt != attempt:
            self.watched(uid, attempt, door)

    @rule(which=some, again=st.booleans(), closes=usually, polled=st.booleans(), kiosk=st.booleans())
    def goes_on(self, which: int, again: bool, closes: bool, polled: bool, kiosk: bool) -> None:
        """The next opening in a parcel's life, or the last one once more, as it mostly goes."""
        parcel = self.pick(which)
        pick = parcel.status is S.PICKED_UP or (parcel.status is S.DROPPED_OFF and not again)
        if kiosk:
            self.type(self.text(parcel, pick, polled))
            uid = self.ids[-1]
        else:
            uid = self.ask(parcel, Purpose.PICKUP if pick else Purpose.DROPOFF, 30) or ""
        self.opens(uid, closes, polled)

    @rule(which=some, closes=usually, polled=st.booleans())
    def helped(self, which: int, closes: bool, polled: bool) -> None:
        """A whole opening for support."""
        self.opens(self.ask(self.pick(which), Purpose.OPEN_DOOR, 30) or "", closes, polled)

    @rule(
        label=st.sampled_from([*LABELS, *LABELS, "Z9"]),
        purpose=st.sampled_from(sorted(TECHNICIAN_PURPOSES)),
        goes_on=usually,
        closes=usually,
        polled=st.booleans(),
    )
    def by_hand(self, label: str, purpose: Purpose, goes_on: bool, closes: bool, polled: bool) -> None:
        """A technician opens a cell, or tests it."""
        key, uid = self.core.key(), self.uid()
        given = OpenCell(key, label, "why", uid, "bob", purpose)
        granted = self.play(given, lambda: self.model.by_hand(key, label, purpose, uid, "bob"))
        if granted and goes_on:
            self.opens(uid, closes, polled)

    def opens(self, uid: str, closes: bool, polled: bool) -> None:
        """The door opens at the first pulse."""
        if uid not in self.at("reading"):
            return
        label = self.model.attempts[uid].cell
        self.look(uid, self.model.places[label].door)
        if uid in self.at("pulsing"):
            self.core.now = later(self.core.now, 0.2)
            if polled:
                self.see(label, Door.OPEN)
            self.watched(uid, 1, Door.OPEN)
        if closes:
            self.shut(label)

    @rule(seen=st.dictionaries(st.sampled_from(LABELS), doors, min_size=1, max_size=3))
    def people(self, seen: dict[str, Door]) -> None:
        self.play(DoorsChanged(seen), lambda: self.model.poll(seen))

    @rule(mass_g=masses, error=st.booleans())
    def scale(self, mass_g: int | None, error: bool) -> None:
        error = error and mass_g is None
        self.play(Weighed("A01", mass_g, error), lambda: self.model.weighed("A01", mass_g, error))

    @rule(device=st.sampled_from(sorted(BOARDS)), answers=st.booleans())
    def board(self, device: str, answers: bool) -> None:
        labels = BOARDS[device]
        given = DeviceHealth(device, answers, labels)
        self.play(given, lambda: self.model.health(device, answers, labels))
        for label in labels if answers else ():
            door = self.model.places[label].door
            self.see(label, Door.CLOSED if door is Door.UNKNOWN else door)
            self.settle(label)

    # --- time ---------------------------------------------------------------------------------------------

    @rule(
        seconds=st.sampled_from([0.001, 0.2, 0.5, 3, 5, 6, 11, 30, 61, 121, 300, 605, 4000, 90_000]),
        wall_step_s=st.sampled_from([0.0, 0.0, 86_400.0, -86_400.0]),
        synced=usually,
    )
    def time(self, seconds: float, wall_step_s: float, synced: bool) -> None:
        self.when_due()
        now = later(self.core.now, seconds)
        self.stepped = self.stepped or wall_step_s != 0
        self.core.now = replace(now, wall_s=now.wall_s + wall_step_s, synced=synced)
        self.play(Tick(), lambda: None)

    def when_due(self) -> None:
        """A tick does something when the core says that it will, and not before."""
        core = self.core
        if self.boots > 1 and (self.stepped or not core.now.synced):
            return  # how long ago something was in another boot, no clock shows reliably then
        due_ns = next_due_ns(core.state, core.layout, core.now)
        left_s = 10.0**8 if due_ns is None else (due_ns - core.now.boottime_ns) / 1e9
        for seconds, something in ((left_s - 0.001, False), (left_s + 0.001, due_ns is not None)):
            if seconds >= 0:
                done = step(core.state, core.layout, Tick(), later(core.now, seconds))
                assert bool(done.changed) is something

    @rule(
        rebooted=st.booleans(),
        off_s=st.sampled_from([0, 5, 130, 4000]),
        moved=st.dictionaries(st.sampled_from(LABELS), doors, max_size=2),
        synced=usually,
    )
    def restart(self, rebooted: bool, off_s: float, moved: dict[str, Door], synced: bool) -> None:
        core, model = self.core, self.model
        self.boots += rebooted
        core.now = replace(core.now, synced=synced)
        seen = {label: place.door for label, place in model.places.items()} | moved
        done = core.restart(seen, boot_id=f"boot-{self.boots}" if rebooted else None, off_s=off_s)
        self.watch.restarted(seen, rebooted=rebooted)
        model.begin(core.now)
        model.restart(seen)
        model.apply_due()
        for label, door in seen.items():
            if door is Door.CLOSED:
                model.closing_settled(label, core.now.boottime_ns)
                model.apply_due()
        assert not any(isinstance(effect, PulseLock | ReadDoor) for effect in done.effects)
        self.watch.after(done, core.now)
        for label, door in seen.items():
            if door is Door.CLOSED:
                self.watch.closing_settled(label)
        self.compare(done)


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=LIVES,
    stateful_step_count=LENGTH,
    deadline=None,
    derandomize=not EFFORT.isdigit(),
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate] if EFFORT in ("least", "fast") else list(Phase),
)
