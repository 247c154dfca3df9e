"""The outputs as SVGs: the tables of the commands, filled by the demo locker in virtual time."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import RenderableType

from edge_agent.app.agent import Agent
from edge_agent.cli.daemon import TerminalConsole
from edge_agent.cli.diagnose import findings_of
from edge_agent.cli.text.language import in_language
from edge_agent.cli.views import alarms_table, cells_table, events_table, status_table
from tools.pages.watch.scene import Scene, scene

WIDTH = 120
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""The picture names a font from the network; a viewer's own monospaced one is sufficient."""
OF_THIS_COMPUTER = ("daemon", "disk")
"""Checks whose findings depend on where the picture is made."""
EVENTS = 14


@dataclass(frozen=True, slots=True)
class Played:
    """The scene, and the findings of a self-test after it."""

    scene: Scene
    findings: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Output:
    """One picture: the command, its language, and what it shows."""

    command: str
    language: str
    parts: Callable[[Played], list[RenderableType]]

    @property
    def file(self) -> str:
        """Its name in the docs."""
        return f"{self.command.split()[0]}{'' if self.language == 'en' else f'-{self.language}'}.svg"


def _diagnosed(played: Played) -> list[RenderableType]:
    table, counts = findings_of(played.findings, everything=False)
    return [counts] if table is None else [table, counts]


OUTPUTS = (
    Output("status", "en", lambda played: [status_table(played.scene.status, utc=True)]),
    Output("cells", "en", lambda played: [cells_table(played.scene.cells)]),
    Output("alarms", "en", lambda played: [alarms_table(played.scene.status["alarms"], utc=True)]),
    Output("diagnose", "de", _diagnosed),
    Output("events --limit 14", "id", lambda played: [events_table(played.scene.events[-EVENTS:], utc=True)]),
)


def play() -> Played:
    """Plays the scene, then the self-test; the same every time."""
    rows: list[dict[str, object]] = []

    async def diagnose(agent: Agent) -> None:
        async for row in agent.diagnosis.run(doors=False, outputs=False, actor="maria"):
            if "progress" not in row and row["check"] not in OF_THIS_COMPUTER:
                rows.append(row)

    return Played(scene(diagnose), rows)


def pictures() -> dict[str, str]:
    """The SVGs by the names of their files."""
    played = play()
    return {output.file: _drawn(output, played) for output in OUTPUTS}


def _drawn(output: Output, played: Played) -> str:
    console = TerminalConsole(
        file=io.StringIO(), record=True, width=WIDTH, force_terminal=True, color_system="truecolor"
    )
    with in_language(output.language):
        for part in output.parts(played):
            console.print(part, highlight=False)
    locale = "" if output.language == "en" else f"LANG={output.language} "
    return FONT_FACE.sub("", console.export_svg(title=f"{locale}edge-agent {output.command}"))
