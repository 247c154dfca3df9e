"""The other half of the model: what scales, technicians and the clock do to a locker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from edge_agent.model import CellStatus as Use
from edge_agent.model import Door, Instant, Purpose
from edge_agent.model import ReservationStatus as S
from tests.support.modelled_doors import Doors
from tests.support.parcels import (
    GRANTED,
    NOT_NOW,
    OFFLINE,
    SECOND,
    No,
    Parcel,
    Place,
    dated,
    passed_ns,
    redated,
)

FORCED_S, PATIENCE_S = 600, 5


class Model(Doors):
    """The machine in time."""

    def waits_for_scale(self, label: str) -> bool:
        """Whether a door was closed so lately that its scale may still tell."""
        place = self.places[label]
        if label not in self.layout.weighed or place.mass_g is not None or place.since is None:
            return False
        stood = passed_ns(place.since, self.now)
        return stood is not None and stood < PATIENCE_S * SECOND

    def weighed(self, label: str, reading_g: int | None, error: bool = False) -> None:
        """A scale has settled, or does not answer any more, or says that it cannot weigh."""
        place = self.places[label]
        if label in self.layout.weighed and (error or reading_g is not None):
            self.alarm("SENSOR_FAULT", f"{label}/scale", on=error)
        if reading_g is None or place.door is not Door.CLOSED or label not in self.layout.weighed:
            place.mass_g = place.empty = None
            return
        before_g, parcel, nothing_g = place.mass_g, place.holder, self.layout.empty_below_g
        if place.use is Use.IDLE:
            self.zero(place, label, reading_g)
        mass_g = reading_g - place.tare_g - place.drift_g
        doubtful = self.lasts("SENSOR_FAULT", f"{label}/scale zero") or mass_g <= -nothing_g
        empty = None if doubtful else mass_g < nothing_g
        place.mass_g, place.empty = mass_g, empty
        if parcel and before_g is not None and abs(mass_g - before_g) > self.layout.weight_change_g:
            self.alarm("WEIGHT_CHANGED", label)
        if empty:
            self.proven_empty(label)
        if empty is not None:
            self.dropoff_weighed(label, empty)

    def zero(self, place: Place, label: str, reading_g: int) -> None:
        """A free cell's scale: its zero creeps, or is wrong."""
        nothing_g, most_g = self.layout.empty_below_g, self.layout.drift_max_g
        shows_g, was_empty = reading_g - place.tare_g - place.drift_g, bool(place.empty)
        if was_empty and place.mass_g is not None and abs(shows_g - place.mass_g) <= nothing_g // 2:
            creep_g = min(abs(shows_g), nothing_g // 2) * (1 if shows_g > 0 else -1)
            if -most_g <= place.drift_g + creep_g <= most_g:
                place.drift_g += creep_g
                shows_g -= creep_g
        near = -nothing_g < shows_g < nothing_g
        if near and -most_g <= reading_g - place.tare_g <= most_g:
            self.alarm("SENSOR_FAULT", f"{label}/scale zero", on=False)
        elif near or shows_g < 0 or was_empty:
            self.alarm("SENSOR_FAULT", f"{label}/scale zero")

    def tare(self, key: str, label: str) -> None:
        """What lies on a scale is nothing from now on."""
        place = self.place(label)
        self.not_while_busy(label)
        if place.mass_g is None or place.use is not Use.IDLE or not place.heard:
            raise No(NOT_NOW)
        reads_g = place.mass_g + place.tare_g + place.drift_g
        if abs(reads_g) > place.spec.max_mass_g // 5:
            raise No(NOT_NOW)
        place.tare_g, place.drift_g, place.mass_g, place.empty = reads_g, 0, 0, True
        self.tell_cell(label, "TARED")
        self.alarm("SENSOR_FAULT", f"{label}/scale zero", on=False)
        self.answers.append((key, GRANTED))

    # --- a technician's word ------------------------------------------------------------------------------

    def resolve(self, key: str, label: str, verdict: str) -> None:
        """What no witness can tell."""
        place = self.place(label)
        t, parcel = self.working(label), place.holder
        alarms = any(self.stands(name, label) for name in ("LOCK_JAMMED", "WRONG_DOOR", "DOOR_AJAR"))
        if t is not None and t.at != "unclear":
            raise No(NOT_NOW)
        if t is None and not (alarms or place.contact_doubted or place.uncertain):
            raise No(NOT_NOW)
        fits = {
            "dropped-off": (S.PENDING,),
            "picked-up": (S.DROPPED_OFF,),
            "still-inside": (S.DROPPED_OFF, S.PICKED_UP),
            "empty": (S.PENDING, S.DROPPED_OFF, S.PICKED_UP),
        }
        if parcel is None or parcel.status not in fits[verdict]:
            raise No(NOT_NOW)
        if t is not None:
            self.finish(t, "UNKNOWN")
        place.waits = None
        if verdict != "still-inside":
            parcel.to_weigh = False
        if verdict == "dropped-off":
            self.dropped_off(parcel)
        elif verdict == "picked-up":
            parcel.status, parcel.picked_up, parcel.unsure = S.PICKED_UP, self.now, False
            self.tell("PICKUP", parcel.rid, label, "MACHINE", False)
        elif verdict == "still-inside":
            parcel.held = parcel.status is S.PICKED_UP
        else:
            self.found_empty(place, parcel)
        place.uncertain = False
        if place.door is Door.OPEN:
            place.mine = False
            self.doubt_contact(label)
        self.tell_cell(label, "RESOLVED")
        self.answers.append((key, GRANTED))

    def found_empty(self, place: Place, parcel: Parcel) -> None:
        """A technician saw nothing in the cell."""
        place.opened = place.unlocked = place.doubted = place.opened_only = False
        if parcel.status is S.PENDING:
            parcel.dropping = False
        elif parcel.status is S.PICKED_UP:
            self.complete(parcel)
        else:
            parcel.status = S.ABANDONED
            self.tell("PICKUP_ABANDONED", parcel.rid, parcel.cell)
            self.leave(parcel, Use.AWAITING_CLEANUP)
            self.end_waiting(parcel)

    def health(self, device: str, answers: bool, labels: tuple[str, ...]) -> None:
        """A board ceases to answer, or answers again."""
        self.alarm("DEVICE_SILENT", device, on=not answers)
        for label in labels if not answers else ():
            self.seen(label, Door.UNKNOWN)

    def hand_check(self, labels: Iterable[str], running: bool) -> None:
        """Somebody begins, or ends, to move doors by hand; a cell that is not there is none."""
        for label in labels:
            if label in self.places:
                self.places[label].by_hand = running

    # --- time ---------------------------------------------------------------------------------------------

    def restart(self, doors: Mapping[str, Door]) -> None:
        """A start: what was meant is not done again; what the doors show decides."""
        rebooted, self.boot_id = self.boot_id != self.now.boot_id, self.now.boot_id
        for place in self.places.values():
            place.heard, place.unread, place.settled = False, True, False
            place.flips, place.quiet_ns, place.by_hand = [], None, False
            if rebooted:
                place.recent, place.unspent = [], []
        self.open_unasked(doors)
        self.queue.clear()
        for t in list(self.tries.values()):
            if t.at in ("pulses", "unclear"):
                t.at, t.key = "unclear", None if t.kiosk else t.key
            elif t.purpose is Purpose.OPEN_DOOR:
                self.fail(t, OFFLINE)
            else:
                del self.tries[t.uid]  # the loop answers these with 14
        if self.now.synced:
            self.redate_moments()
        for way, guessing in self.guessing.items():
            if guessing.since is not None and passed_ns(guessing.since, self.now) is None:
                guessing.since = self.now if self.stands("CODE_GUESSING", way) else None
        for place in self.places.values():
            place.since = None if place.since is None else redated(place.since, self.now)
            place.ajar = None if place.ajar is None else redated(place.ajar, self.now)
            if place.waits is not None:
                if passed_ns(place.waits.since, self.now) is None:
                    place.waits.since = self.now
                place.waits.closed = None
        for label in self.places:
            self.seen(label, doors.get(label, Door.UNKNOWN), starting=True)

    def redate_moments(self) -> None:
        """What began in another boot runs on this one's clock, as soon as that can be told."""
        for guessing in self.guessing.values():
            guessing.recent = [at for at in map(self.over_the_reboot, guessing.recent) if at is not None]
            guessing.wrong = [at for at in map(self.over_the_reboot, guessing.wrong) if at is not None]
            guessing.last = self.over_the_reboot(guessing.last)
            guessing.since = self.over_the_reboot(guessing.since)
        for parcel in self.parcels.values():
            if not parcel.over:
                parcel.first_dropoff = self.at_least_as_old_as_this_boot(parcel, parcel.first_dropoff)
                parcel.picked_up = self.at_least_as_old_as_this_boot(parcel, parcel.picked_up)
        for place in self.places.values():
            place.since, place.ajar = self.over_the_reboot(place.since), self.over_the_reboot(place.ajar)
            if place.waits is not None:
                since = self.over_the_reboot(place.waits.since)
                assert since is not None
                place.waits.since, place.waits.closed = since, self.over_the_reboot(place.waits.closed)

    def at_least_as_old_as_this_boot(self, parcel: Parcel, since: Instant | None) -> Instant | None:
        """When a grace began; nobody will ever tell of one that has no date: it opens nothing any more."""
        if since is None or passed_ns(since, self.now) is not None:
            return self.over_the_reboot(since)
        parcel.unsure = True
        return replace(since, boot_id=self.now.boot_id, boottime_ns=0)

    def over_the_reboot(self, since: Instant | None) -> Instant | None:
        """A moment by the clock of this boot; unchanged while no clock can tell."""
        if since is None or passed_ns(since, self.now) is None:
            return since
        if since.boot_id == self.now.boot_id:
            return dated(since, self.now)
        return redated(since, self.now)

    def due(self) -> None:
        """What time brings, after every input."""
        if self.now.synced and self.lasts("CLOCK_UNSYNCED", ""):
            self.redate_moments()
        self.alarm("CLOCK_UNSYNCED", "", on=not self.now.synced)
        for way, guessing in self.guessing.items():
            if self.rest_left_ns(guessing) <= 0:
                self.alarm("CODE_GUESSING", way, on=False)
        for key, standing in list(self.alarms.items()):
            gone = None if standing.gone is None else passed_ns(standing.gone, self.now)
            if standing.gone is not None and (gone is None or gone >= 5 * SECOND):
                name, _, where = key.partition("/")
                self.alarm(name, where, on=False, at_once=True)
        self.judge_openings()
        for label in self.places:
            self.door_due(label)
            self.wait_due(label)
            self.grace_due(label)
        self.next_turns()

    def door_due(self, label: str) -> None:
        """A door that stands open for long, or a forced one that is closed for long."""
        place = self.places[label]
        stood = 0 if place.since is None else passed_ns(place.since, self.now) or 0
        if not place.heard:
            pass  # what a silent board said last is not what is
        elif place.door is Door.OPEN and place.ajar is not None:
            if (passed_ns(place.ajar, self.now) or 0) >= self.layout.door_ajar_ns:
                self.alarm("DOOR_AJAR", label)
        elif place.door is Door.CLOSED and stood >= FORCED_S * SECOND:
            self.alarm("DOOR_FORCED", label, on=False)

    def wait_due(self, label: str) -> None:
        """A command in doubt is concluded by a closing of 30 s, or has failed after 10 min."""
        place, waits = self.places[label], self.places[label].waits
        if waits is None:
            return
        source = "MACHINE" if waits.kiosk else "API"
        waited = passed_ns(waits.since, self.now) or 0
        if waits.closed is not None:
            if (passed_ns(waits.closed, self.now) or 0) >= 30 * SECOND:
                place.waits = None
                if waits.parcel.status is S.PENDING:  # an earlier command may have concluded it meanwhile
                    self.dropped_off(waits.parcel, True, source)
        elif place.door is Door.CLOSED and place.heard and not place.settled:
            pass  # a closing in time, which may settle
        elif waited >= 600 * SECOND:
            place.waits = None
            if waits.purpose is Purpose.PICKUP:
                self.tell("PICKUP_FAILED", waits.parcel.rid, label, source, False)

    def grace_due(self, label: str) -> None:
        """A drop-off whose scale says nothing, and a pick-up grace that is over behind a closed door."""
        place = self.places[label]
        parcel, patient = place.holder, self.waits_for_scale(label)
        if parcel is not None and parcel.to_weigh and parcel.dropping and not patient:
            parcel.to_weigh = False
            self.dropped_off(parcel)
        if parcel is None or patient or parcel.picked_up is None or parcel.held or self.working(label):
            return
        taken = passed_ns(parcel.picked_up, self.now)
        shut = place.door is Door.CLOSED and place.heard and place.settled
        if shut and taken is not None and taken > parcel.grace_pickup_s * SECOND:
            self.complete(parcel)
