"""The last part of the model: what scales, technicians and the clock do to a locker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from edge_agent.model import CellStatus as Use
from edge_agent.model import Door, Instant, Purpose
from edge_agent.model import ReservationStatus as S
from tests.support.second_model.modelled_doors import Doors
from tests.support.second_model.parcels import (
    GRANTED,
    NOT_NOW,
    OFFLINE,
    SECOND,
    Parcel,
    Place,
    Refused,
    dated,
    elapsed_ns,
    redated,
)

FORCED_S, PATIENCE_S = 600, 5


class Model(Doors):
    """The machine in time."""

    def waits_for_scale(self, label: str) -> bool:
        """Whether a closed cell's scale is still awaited."""
        place = self.places[label]
        if label not in self.layout.weighed or place.mass_g is not None or place.since is None:
            return False
        stood = elapsed_ns(place.since, self.now)
        return stood is not None and stood < PATIENCE_S * SECOND

    def weighed(self, label: str, reading_g: int | None, error: bool = False) -> None:
        """A scale has settled, no longer answers, or answers that it cannot weigh."""
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
        doubtful = self.condition_stands("SENSOR_FAULT", f"{label}/scale zero") or mass_g <= -nothing_g
        empty = None if doubtful else mass_g < nothing_g
        place.mass_g, place.empty = mass_g, empty
        if parcel and before_g is not None and abs(mass_g - before_g) > self.layout.weight_change_g:
            self.alarm("WEIGHT_CHANGED", label)
        if empty:
            self.proven_empty(label)
        if empty is not None:
            self.dropoff_weighed(label, empty)

    def zero(self, place: Place, label: str, reading_g: int) -> None:
        """A free cell's scale: its zero drifts, or is wrong."""
        nothing_g, most_g = self.layout.empty_below_g, self.layout.drift_max_g
        shows_g, was_empty = reading_g - place.tare_g - place.drift_g, bool(place.empty)
        if was_empty and place.mass_g is not None and abs(shows_g - place.mass_g) <= nothing_g // 2:
            step_g = min(abs(shows_g), nothing_g // 2) * (1 if shows_g > 0 else -1)
            if -most_g <= place.drift_g + step_g <= most_g:
                place.drift_g += step_g
                shows_g -= step_g
        near = -nothing_g < shows_g < nothing_g
        if near and -most_g <= reading_g - place.tare_g <= most_g:
            self.alarm("SENSOR_FAULT", f"{label}/scale zero", on=False)
        elif near or shows_g < 0 or was_empty:
            self.alarm("SENSOR_FAULT", f"{label}/scale zero")

    def tare(self, key: str, label: str) -> None:
        """The reading of the scale is zero from now on."""
        place = self.place(label)
        self.refuse_while_busy(label)
        if place.mass_g is None or place.use is not Use.IDLE or not place.answering:
            raise Refused(NOT_NOW)
        reads_g = place.mass_g + place.tare_g + place.drift_g
        if abs(reads_g) > place.spec.max_mass_g // 5:
            raise Refused(NOT_NOW)
        place.tare_g, place.drift_g, place.mass_g, place.empty = reads_g, 0, 0, True
        self.add_cell_fact(label, "TARED")
        self.alarm("SENSOR_FAULT", f"{label}/scale zero", on=False)
        self.answers.append((key, GRANTED))

    # --- a technician's verdict ---------------------------------------------------------------------------

    def resolve(self, key: str, label: str, verdict: str) -> None:
        """A technician's verdict on what no sensor shows."""
        place = self.place(label)
        t, parcel = self.working(label), place.holder
        alarms = any(self.stands(name, label) for name in ("LOCK_JAMMED", "WRONG_DOOR", "DOOR_AJAR"))
        if t is not None and t.stage != "unresolved":
            raise Refused(NOT_NOW)
        if t is None and not (alarms or place.contact_doubted or place.uncertain):
            raise Refused(NOT_NOW)
        fits = {
            "dropped-off": (S.PENDING,),
            "picked-up": (S.DROPPED_OFF,),
            "still-inside": (S.DROPPED_OFF, S.PICKED_UP),
            "empty": (S.PENDING, S.DROPPED_OFF, S.PICKED_UP),
        }
        if parcel is None or parcel.status not in fits[verdict]:
            raise Refused(NOT_NOW)
        if t is not None:
            self.finish(t, "UNKNOWN")
        place.awaited = None
        if verdict != "still-inside":
            parcel.to_weigh = False
        if verdict == "dropped-off":
            self.dropped_off(parcel)
        elif verdict == "picked-up":
            parcel.status, parcel.picked_up, parcel.grace_unknown = S.PICKED_UP, self.now, False
            self.add_fact("PICKUP", parcel.rid, label, "MACHINE", False)
        elif verdict == "still-inside":
            parcel.held = parcel.status is S.PICKED_UP
        else:
            self.found_empty(place, parcel)
        place.uncertain = False
        if place.door is Door.OPEN:
            place.opened_by_machine = False
            self.doubt_contact(label)
        self.add_cell_fact(label, "RESOLVED")
        self.answers.append((key, GRANTED))

    def found_empty(self, place: Place, parcel: Parcel) -> None:
        """A technician found the cell empty."""
        place.opened = place.unlocked = place.outcome_unknown = place.inspect_unless_empty = False
        if parcel.status is S.PENDING:
            parcel.dropping = False
        elif parcel.status is S.PICKED_UP:
            self.complete(parcel)
        else:
            parcel.status = S.ABANDONED
            self.add_fact("PICKUP_ABANDONED", parcel.rid, parcel.cell)
            self.release_cell(parcel, Use.AWAITING_CLEANUP)
            self.end_waiting(parcel)

    def health(self, device: str, answers: bool, labels: tuple[str, ...]) -> None:
        """A board no longer answers, or answers again."""
        self.alarm("DEVICE_SILENT", device, on=not answers)
        for label in labels if not answers else ():
            self.read_door(label, Door.UNKNOWN)

    def hand_check(self, labels: Iterable[str], running: bool) -> None:
        """A person starts or stops moving doors by hand; unknown cells are ignored."""
        for label in labels:
            if label in self.places:
                self.places[label].by_hand = running

    # --- time ---------------------------------------------------------------------------------------------

    def restart(self, doors: Mapping[str, Door]) -> None:
        """A start: no pulse is repeated; the readings of the doors decide."""
        rebooted, self.boot_id = self.boot_id != self.now.boot_id, self.now.boot_id
        for place in self.places.values():
            place.answering, place.unread, place.settled = False, True, False
            place.changes_ns, place.quiet_ns, place.by_hand = [], None, False
            if rebooted:
                place.recent, place.unspent = [], []
        self.find_unasked(doors)
        self.queue.clear()
        for t in list(self.attempts.values()):
            if t.stage in ("pulsing", "unresolved"):
                t.stage, t.key = "unresolved", None if t.kiosk else t.key
            elif t.purpose is Purpose.OPEN_DOOR:
                self.fail(t, OFFLINE)
            else:
                del self.attempts[t.uid]  # the loop answers these with 14
        if self.now.synced:
            self.redate_moments()
        for way, guessing in self.guessing.items():
            if guessing.since is not None and elapsed_ns(guessing.since, self.now) is None:
                guessing.since = self.now if self.stands("CODE_GUESSING", way) else None
        for place in self.places.values():
            place.since = None if place.since is None else redated(place.since, self.now)
            place.open_since = None if place.open_since is None else redated(place.open_since, self.now)
            if place.awaited is not None:
                if elapsed_ns(place.awaited.since, self.now) is None:
                    place.awaited.since = self.now
                place.awaited.closed = None
        for label in self.places:
            self.read_door(label, doors.get(label, Door.UNKNOWN), starting=True)

    def redate_moments(self) -> None:
        """Moments of another boot are converted to this one's clock, if a clock allows that."""
        for guessing in self.guessing.values():
            guessing.recent = [at for at in map(self.converted, guessing.recent) if at is not None]
            guessing.wrong = [at for at in map(self.converted, guessing.wrong) if at is not None]
            guessing.last = self.converted(guessing.last)
            guessing.since = self.converted(guessing.since)
        for parcel in self.parcels.values():
            if not parcel.over:
                parcel.first_dropoff = self.converted_grace(parcel, parcel.first_dropoff)
                parcel.picked_up = self.converted_grace(parcel, parcel.picked_up)
        for place in self.places.values():
            place.since, place.open_since = self.converted(place.since), self.converted(place.open_since)
            if place.awaited is not None:
                since = self.converted(place.awaited.since)
                assert since is not None
                place.awaited.since, place.awaited.closed = since, self.converted(place.awaited.closed)

    def converted_grace(self, parcel: Parcel, since: Instant | None) -> Instant | None:
        """The start of a grace on this boot's clock; a grace without a date opens nothing."""
        if since is None or elapsed_ns(since, self.now) is not None:
            return self.converted(since)
        parcel.grace_unknown = True
        return replace(since, boot_id=self.now.boot_id, boottime_ns=0)

    def converted(self, since: Instant | None) -> Instant | None:
        """A moment on the clock of this boot; unchanged while no clock shows it."""
        if since is None or elapsed_ns(since, self.now) is None:
            return since
        if since.boot_id == self.now.boot_id:
            return dated(since, self.now)
        return redated(since, self.now)

    def apply_due(self) -> None:
        """What is due, after every input."""
        if self.now.synced and self.condition_stands("CLOCK_UNSYNCED", ""):
            self.redate_moments()
        self.alarm("CLOCK_UNSYNCED", "", on=not self.now.synced)
        for way, guessing in self.guessing.items():
            if self.rest_left_ns(guessing) <= 0:
                self.alarm("CODE_GUESSING", way, on=False)
        for key, standing in list(self.alarms.items()):
            gone = None if standing.gone is None else elapsed_ns(standing.gone, self.now)
            if standing.gone is not None and (gone is None or gone >= 5 * SECOND):
                name, _, where = key.partition("/")
                self.alarm(name, where, on=False, at_once=True)
        self.judge_openings()
        for label in self.places:
            self.check_door(label)
            self.check_awaited(label)
            self.check_grace(label)
        self.start_waiting()

    def check_door(self, label: str) -> None:
        """A door that stands open for long, or a forced one that is closed for long."""
        place = self.places[label]
        stood = 0 if place.since is None else elapsed_ns(place.since, self.now) or 0
        if not place.answering:
            pass  # the last reading of a silent board proves nothing
        elif place.door is Door.OPEN and place.open_since is not None:
            stood_open = elapsed_ns(place.open_since, self.now) or 0
            if stood_open >= self.layout.door_ajar_ns and not place.by_hand:
                self.alarm("DOOR_AJAR", label)
        elif place.door is Door.CLOSED and stood >= FORCED_S * SECOND:
            self.alarm("DOOR_FORCED", label, on=False)

    def check_awaited(self, label: str) -> None:
        """A command in doubt is concluded by a closing of 30 s, or has failed after 10 min."""
        place, awaited = self.places[label], self.places[label].awaited
        if awaited is None:
            return
        source = "MACHINE" if awaited.kiosk else "API"
        waited = elapsed_ns(awaited.since, self.now) or 0
        if awaited.closed is not None:
            if (elapsed_ns(awaited.closed, self.now) or 0) >= 30 * SECOND:
                place.awaited = None
                if awaited.parcel.status is S.PENDING:  # an earlier command may have concluded it meanwhile
                    self.dropped_off(awaited.parcel, True, source)
        elif place.door is Door.CLOSED and place.answering and not place.settled:
            pass  # a closing in time, which may settle
        elif waited >= 600 * SECOND:
            place.awaited = None
            if awaited.purpose is Purpose.PICKUP:
                self.add_fact("PICKUP_FAILED", awaited.parcel.rid, label, source, False)

    def check_grace(self, label: str) -> None:
        """A drop-off whose scale does not report, and a pick-up grace that is over behind a closed door."""
        place = self.places[label]
        parcel, patient = place.holder, self.waits_for_scale(label)
        if parcel is not None and parcel.to_weigh and parcel.dropping and not patient:
            parcel.to_weigh = False
            self.dropped_off(parcel)
        if parcel is None or patient or parcel.picked_up is None or parcel.held or self.working(label):
            return
        taken = elapsed_ns(parcel.picked_up, self.now)
        shut = place.door is Door.CLOSED and place.answering and place.settled
        if shut and taken is not None and taken > parcel.grace_pickup_s * SECOND:
            self.complete(parcel)
