"""A code typed on a keyboard opens the door."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.app import Agent, entry_readers
from edge_agent.config import KeypadSection, load_settings
from tests.support.site import Site
from tools.bench.settings import REPOSITORY
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

DEVICE = "/dev/input/by-id/usb-keypad-event-kbd"


class Typist:
    """Stands in for the keyboard: a test types on it."""

    def __init__(self, path: str, on_text: Callable[[str, float], Awaitable[None]]) -> None:
        assert path == DEVICE
        self.type = on_text

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()


def test_a_code_from_the_keypad_opens_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typists: list[Typist] = []

    def keyboard(path: str, on_text: Callable[[str, float], Awaitable[None]], **_: str) -> Typist:
        typists.append(Typist(path, on_text))
        return typists[-1]

    def with_hands(agent: Agent) -> None:
        agent._environment = replace(agent._environment, scanner=True)

    async def run() -> None:
        settings = load_settings(REPOSITORY / "config" / "demo.toml")
        keypad = {"scanner": None, "keypad": KeypadSection(device=DEVICE)}
        machine = with_journal(settings, tmp_path / "journal.sqlite").model_copy(update=keypad)
        site = Site(Plant(machine, 7))
        site.plant.on_agent = with_hands
        site.plant.start()
        await site.until(lambda: "locker/v1/machine_123/state/machine" in site.plant.broker.retained)
        made = await site.reserve()
        (typist,) = typists
        await typist.type(made["drop_off_code"], 0.0)
        assert site.plant.world.cell(made["cell"]["description"]).door.value == "open"
        await site.plant.stop()

    monkeypatch.setattr(entry_readers, "Keyboard", keyboard)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
