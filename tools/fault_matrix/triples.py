"""The triples, and how one is played: phase, fault, act, judgement, repair, judgement."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from tools.fault_matrix.actors import ACTORS, act, neighbour_acts, try_again, way_of
from tools.fault_matrix.disasters import copy_journal, gateway_forgot
from tools.fault_matrix.faults import FAULTS, Fault, begin
from tools.fault_matrix.judge import PLAIN, alarms_wrong, normal_again, others_ask, reach_all
from tools.fault_matrix.phases import PHASES, PendingDoor, Phase, stranger
from tools.fault_matrix.stage import Kind, Stage, Unreached
from tools.simulate.virtual_loop import VirtualLoop

GREEN, RED, UNOBSERVABLE, NOT_APPLICABLE = "green", "red", "unobservable", "not applicable"
LIMIT_S = 900.0
MEMORY = Path("/dev/shm")
SCRATCH = MEMORY if os.access(MEMORY, os.W_OK) else None
"""The folder of journals while they are played: their power is never cut, and no disk delays them."""
JOURNAL = "journal"
"""The group of faults that a technician's `restore` ends."""
SETTLED_S = 1.0
"""A beginning or an end has been read after this time."""


@dataclass(frozen=True, slots=True)
class Triple:
    """A fault in a phase, and the actor."""

    fault: str
    phase: str
    actor: str

    @property
    def name(self) -> str:
        """The name for people."""
        return f"{self.fault} × {self.phase} × {self.actor}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two faults in a phase, the second some seconds after the first, and the actor."""

    first: str
    second: str
    phase: str
    actor: str
    after_s: float

    def as_triple(self) -> Triple:
        """Both faults as one."""
        return Triple(f"{self.first} + {self.second} {self.after_s:.2f} s later", self.phase, self.actor)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a triple. `why`: the reason of one that is unobservable or not applicable."""

    triple: Triple
    verdict: str
    problems: tuple[str, ...]
    why: str
    pulses: int
    events: int
    virtual_s: float

    def as_row(self) -> dict[str, Any]:
        """The row of the results file."""
        return asdict(self)


def all_triples() -> Iterator[Triple]:
    """Every fault × phase × actor, in a fixed order."""
    for fault in FAULTS:
        for phase in PHASES:
            for actor in ACTORS:
                yield Triple(fault, phase, actor)


def silence_logs() -> None:
    """The daemons of a matrix log nothing."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)


Course = Callable[[Stage], Awaitable[Result]]


def play(triple: Triple, seed: int) -> Result:
    """Plays one triple in virtual time."""
    fault = FAULTS[triple.fault]
    return _at_a_stage(triple, seed, fault.kind, lambda stage: _play(stage, triple, fault))


def play_pair(pair: Pair, seed: int) -> Result:
    """Plays two faults at once in virtual time."""
    faults = (FAULTS[pair.first], FAULTS[pair.second])
    kinds: list[Kind] = [fault.kind for fault in faults if fault.kind != "plain"]
    kind = kinds[0] if kinds else PLAIN
    what = pair.as_triple()
    return _at_a_stage(what, seed, kind, lambda stage: _play_pair(stage, pair, what, faults))


def _at_a_stage(what: Triple, seed: int, kind: Kind, course: Course) -> Result:
    with tempfile.TemporaryDirectory(prefix="matrix", dir=SCRATCH) as folder:

        async def run() -> Result:
            stage = Stage(Path(folder), seed, kind)
            try:
                async with asyncio.timeout(LIMIT_S):
                    return await course(stage)
            except TimeoutError:
                return _result(stage, what, RED, ["stuck: it did not end"], "")
            except Exception as error:
                return _result(stage, what, RED, [f"crash: {error!r}"], "")
            finally:
                with contextlib.suppress(Exception):
                    await stage.end()

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(run())


def _result(stage: Stage, what: Triple, verdict: str, problems: list[str], why: str) -> Result:
    pulses, events = len(stage.plant.world.pulses_seen), len(stage.books.events)
    return Result(what, verdict, tuple(dict.fromkeys(problems)), why, pulses, events, round(stage.now_s, 3))


async def _bring(stage: Stage, phase: Phase, actor: str) -> PendingDoor | None:
    """A healthy stage, in its phase. Raises `Unreached`."""
    await stage.start()
    await gateway_forgot(stage)  # it is a new machine, and the gateway reports that it knows of nothing
    copy_journal(stage)
    await stranger(stage)
    return await phase.bring(stage, way_of(actor))


async def _play(stage: Stage, triple: Triple, fault: Fault) -> Result:
    phase = PHASES[triple.phase]
    try:
        pending = await _bring(stage, phase, triple.actor)
    except Unreached as missed:
        return _result(stage, triple, NOT_APPLICABLE, [], str(missed))
    began_s = stage.now_s
    mend = await begin(stage, fault)
    await asyncio.sleep(0.0 if pending is not None else SETTLED_S)
    if fault.neighbour:
        await neighbour_acts(stage, triple.actor)
    await act(stage, phase, triple.actor, pending)
    await asyncio.sleep(fault.wait_s)
    observed = fault.shows(stage, began_s)
    problems = alarms_wrong(stage, fault, observed=observed)
    await others_ask(stage)
    if fault.neighbour:
        await try_again(stage)
    if not fault.blocks:
        problems += await reach_all(stage)
    await mend()
    await asyncio.sleep(SETTLED_S)
    await others_ask(stage)
    problems += await reach_all(stage)
    problems += await normal_again(stage, fault.lingers)
    problems += [*stage.books.problems, *stage.books.judge_pulses()]
    if problems:
        return _result(stage, triple, RED, problems, "")
    return _result(stage, triple, GREEN if observed else UNOBSERVABLE, [], "" if observed else fault.equal)


async def _play_pair(stage: Stage, pair: Pair, what: Triple, faults: tuple[Fault, Fault]) -> Result:
    phase = PHASES[pair.phase]
    try:
        pending = await _bring(stage, phase, pair.actor)
    except Unreached as missed:
        return _result(stage, what, NOT_APPLICABLE, [], str(missed))
    first = await begin(stage, faults[0])
    await asyncio.sleep(pair.after_s)
    second = await begin(stage, faults[1])
    if any(fault.neighbour for fault in faults):
        await neighbour_acts(stage, pair.actor)
    await act(stage, phase, pair.actor, pending)
    await asyncio.sleep(max(fault.wait_s for fault in faults))
    await others_ask(stage)
    mends = [(faults[1], second), (faults[0], first)]
    mends.sort(key=lambda one: one[0].group == JOURNAL)  # a journal is restored once all else is in order
    for _, mend in mends:
        await mend()
    await asyncio.sleep(SETTLED_S)
    problems = await reach_all(stage)
    problems += await normal_again(stage, faults[0].lingers + faults[1].lingers)
    problems += [*stage.books.problems, *stage.books.judge_pulses()]
    return _result(stage, what, RED if problems else GREEN, problems, "")
