"""Records the core's inputs during a storm for a replay.

`python -m tools.simulate.record SEED FILE` writes one JSON document a line: the layout, then every input with
its moment and every restart, and at the end the final state and the number of facts. A later version of the
core must reach the same state; otherwise it has changed the machine's behaviour.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from edge_agent.config import load_settings
from edge_agent.model import Instant
from edge_agent.runtime.loop import LockerLoop
from edge_agent.statemachine import inputs
from edge_agent.statemachine.locker import restored, step
from edge_agent.statemachine.outputs import Fact
from edge_agent.statemachine.state import Layout, LockerState, empty_state
from edge_agent.statemachine.step_builder import Step
from tools.simulate.lives import run_storm

KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (*get_args(inputs.AnsweredInput), *get_args(inputs.Observation))
}
INSTANT: TypeAdapter[Instant] = TypeAdapter(Instant)
LAYOUT: TypeAdapter[Layout] = TypeAdapter(Layout)
STATE: TypeAdapter[LockerState] = TypeAdapter(LockerState)
FACT: TypeAdapter[Fact] = TypeAdapter(Fact)
CONFIG = Path(__file__).resolve().parents[2] / "config" / "demo.toml"


class Recorder:
    """Listens to the loops of the agents that run in turn on one journal."""

    def __init__(self) -> None:
        self.layout: Layout | None = None
        self._entries: list[tuple[str, inputs.Input | None, Instant, LockerState]] = []

    def attach(self, loop: LockerLoop) -> None:
        """A new agent has read the journal: its predecessor's inputs that did not reach the disk are
        dropped."""
        self.layout = loop.layout
        if self._entries:
            self._cut(loop.state)
        own = loop.step

        def listening(state: LockerState, given: inputs.Input, now: Instant) -> Step:
            done = own(state, given, now)
            self._entries.append((type(given).__name__, given, now, done.state))
            return done

        loop.step = listening  # type: ignore[method-assign]

    def _cut(self, found: LockerState) -> None:
        now = self._entries[-1][2]
        while self._entries and restored(self._entries[-1][3], now) != found:
            self._entries.pop()
        if not self._entries:
            raise AssertionError("what the journal holds was never a state")
        self._entries.append(("restart", None, now, found))

    def lines(self) -> Iterator[str]:
        """The lines of the recording."""
        assert self.layout is not None
        layout = LAYOUT.dump_python(self.layout, mode="json", exclude_defaults=True)
        for name in ("weighed", "thermometers"):  # sets, whose order differs from run to run
            layout[name] = sorted(layout[name])
        yield _line(layout=layout)
        for kind, given, now, _ in self._entries:
            fields = (
                {} if given is None else _adapter(kind).dump_python(given, mode="json", exclude_defaults=True)
            )
            yield _line(kind=kind, now=INSTANT.dump_python(now, mode="json"), fields=fields)
        player = Player(self.layout)
        for kind, given, now, _ in self._entries:
            player.play(kind, given, now)
        yield _line(end=player.end())


class Player:
    """Plays a recording."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.state = empty_state(layout)
        self.facts = 0
        self._digest = hashlib.sha256()

    def play(self, kind: str, given: inputs.Input | None, now: Instant) -> None:
        """Plays one entry."""
        if given is None:
            self.state = restored(self.state, now)
            return
        done = step(self.state, self.layout, given, now)
        self.state = done.state
        self.facts += len(done.facts)
        for fact in done.facts:
            self._digest.update(FACT.dump_json(fact, exclude_defaults=True))

    def end(self) -> dict[str, Any]:
        """The final state, the number of facts, and the digest of them all."""
        state = STATE.dump_python(self.state, mode="json", exclude_defaults=True)
        state.get("retired_codes", {}).pop("chunks", None)
        return {"state": state, "facts": self.facts, "digest": self._digest.hexdigest()}


def replay(lines: Iterator[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The end of a recording when it was made, and its end now."""
    player = Player(LAYOUT.validate_python(json.loads(next(lines))["layout"]))
    for line in lines:
        entry = json.loads(line)
        if "end" in entry:
            return entry["end"], player.end()
        kind = entry["kind"]
        given = None if kind == "restart" else _adapter(kind).validate_python(entry["fields"])
        player.play(kind, given, INSTANT.validate_python(entry["now"]))
    raise ValueError("the recording has no end")


def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(KINDS[kind])


def _line(**content: Any) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n"


def record(seed: int, *, lives: int, kill_every_s: float) -> list[str]:
    """The recording of one storm, as lines."""
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as folder:
        run_storm(
            load_settings(CONFIG),
            Path(folder) / "journal.sqlite",
            seed,
            lives=lives,
            kill_every_s=kill_every_s,
            on_agent=lambda agent: recorder.attach(agent.loop),
        )
    return list(recorder.lines())


if __name__ == "__main__":
    Path(sys.argv[2]).write_text("".join(record(int(sys.argv[1]), lives=14, kill_every_s=10.0)), "utf-8")
