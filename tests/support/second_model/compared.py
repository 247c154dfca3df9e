"""One input played to the core and to its second model, and everything compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis.stateful import RuleBasedStateMachine

from edge_agent.errors import Refusal
from edge_agent.statemachine.inputs import (
    Input,
)
from edge_agent.statemachine.outputs import PulseLock, ReadDoor, Weigh
from edge_agent.statemachine.step_builder import Step
from tests.support.pure_core.core import Core
from tests.support.second_model.model_facts import as_model_fact, is_wear
from tests.support.second_model.observed import Model
from tests.support.second_model.parcels import Refused
from tests.support.second_model.watch import Watch, differing, snapshot


def expected(predict: Callable[[], object]) -> frozenset[int]:
    """The codes with which an input may be refused; none if it must be granted."""
    try:
        predict()
    except Refused as refused:
        return refused.codes
    return frozenset()


def fed(core: Core, given: Input) -> tuple[Step, None] | tuple[None, Refusal]:
    """One step of the core, or its refusal."""
    try:
        return core.feed(given), None
    except Refusal as refusal:
        return None, refusal


class Compared(RuleBasedStateMachine):
    """A core and a model side by side."""

    core: Core
    model: Model
    watch: Watch

    # --- one input, played to both ------------------------------------------------------------------------

    def play(self, given: Input, predict: Callable[[], object]) -> bool:
        """Feeds an input to both and compares; False if it was refused."""
        core, model = self.core, self.model
        begin, before = core.state, snapshot(core.state)
        model.begin(core.now)
        refused = expected(predict)
        self.watch.before(given, core.now)
        done, refusal = fed(core, given)
        assert snapshot(begin) == before, "the state before was changed"
        if done is None:
            assert refusal is not None
            assert int(refusal.code) in refused, refusal
            assert core.state is begin
            return False
        assert not refused, f"granted, not refused with one of {sorted(refused)}"
        model.apply_due()
        assert differing(before, snapshot(done.state)) <= set(done.changed)
        self.watch.after(done, core.now)
        self.compare(done)
        return True

    def compare(self, done: Step) -> None:
        """Compares facts, answers and effects, then the state."""
        model = self.model
        for fact in filter(is_wear, done.facts):
            assert fact.cell is not None
            model.places[fact.cell].worn = True
        assert Counter(as_model_fact(f) for f in done.facts if not is_wear(f)) == Counter(model.facts)
        answers = dict(model.answers)
        assert sorted(answer.request_key for answer in done.answers) == sorted(answers)
        for answer in done.answers:
            code = 0 if answer.refusal is None else int(answer.refusal.code)
            assert code in answers[answer.request_key]
        assert [e.cell for e in done.effects if isinstance(e, ReadDoor)] == model.readings
        assert [e.cell for e in done.effects if isinstance(e, Weigh)] == model.weighs
        assert [(e.cell, e.pulse_number) for e in done.effects if isinstance(e, PulseLock)] == model.pulsed
        self.compare_cells(done)
        state = done.state
        live = {
            r.reservation_id: (
                r.status,
                r.cell,
                r.dropoff_opened,
                r.to_be_weighed,
                bool(r.first_dropoff),
                bool(r.picked_up),
            )
            for r in state.reservations.values()
        }
        assert live == {
            p.rid: (p.status, p.cell, p.dropping, p.to_weigh, bool(p.first_dropoff), bool(p.picked_up))
            for p in model.parcels.values()
            if not p.over
        }
        assert {r.reservation_id: r.status for r in done.ended} == {
            rid: model.parcels[rid].status for rid in (r.reservation_id for r in done.ended)
        }
        work = {
            t.unlock_id: (t.stage, t.pulse_number, t.reservation_id) for t in state.unlock_attempts.values()
        }
        assert work == {t.uid: (t.stage, t.attempt, t.parcel.rid) for t in model.attempts.values()}
        assert list(state.queue) == model.queue
        assert set(state.alarms) == set(model.alarms)

    def compare_cells(self, done: Step) -> None:
        """Compares every cell."""
        for label, place in self.model.places.items():
            cell = done.state.cells[label]
            assert cell.status is place.use, label
            assert cell.reservation_id == (place.holder and place.holder.rid)
            assert (cell.door, cell.answering) == (place.door, place.answering)
            assert (cell.mass_g, cell.empty) == (place.mass_g, place.empty)
            assert (cell.tare_g, cell.drift_g) == (place.tare_g, place.drift_g)
            assert (cell.blocked is not None, cell.faulty is not None) == (place.blocked, place.faulty)
            former = done.state.former.get(label)
            assert (former and former.reservation_id) == (place.last and place.last.rid)
            assert (cell.settled, cell.opened_by_unlock) == (place.settled, place.opened_by_machine), label
            assert (cell.contact_doubt is not None) == place.contact_doubted, label
            assert cell.unexplained_since == place.unexplained, label
            assert (cell.last_outcome is not None) == place.uncertain, label
            assert (cell.failing, cell.board_down) == (place.failing, place.board_down), label
            assert cell.opened_rightly == place.opened_rightly, label
            awaited = done.state.unconfirmed.get(label)
            assert (awaited and (awaited.reservation_id, awaited.purpose, bool(awaited.closed))) == (
                place.awaited
                and (place.awaited.parcel.rid, place.awaited.purpose, bool(place.awaited.closed))
            ), label
            if place.holder is not None:
                assert (cell.opened_since_allocation, cell.outcome_unknown) == (
                    place.opened,
                    place.outcome_unknown,
                )
                assert cell.unlocked_since_allocation == place.unlocked, label
                assert cell.inspect_unless_empty == place.inspect_unless_empty, label
