"""One configuration after the other in one process: what goes wrong on the way leaves the machine at work."""

from __future__ import annotations

import threading
import tomllib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tomli_w

from edge_agent.cli.text.event_rows import event_row
from edge_agent.config import Settings
from edge_agent.config.origin import head
from edge_agent.journal.store import Batch
from edge_agent.runtime.writer import ThreadWriter
from tests.support.served import machine, served


def lose_the_first(document: dict[str, Any]) -> None:
    document["cells"].pop(0)


def swap_the_first(document: dict[str, Any]) -> None:
    one, two = document["cells"][0], document["cells"][1]
    for use in ("lock", "door"):
        one[use], two[use] = two[use], one[use]


class SlowWriter(ThreadWriter):
    """A disk that is slow when the test asks for it."""

    held: ClassVar[threading.Event | None] = None

    def _work(self, batch: Batch | None) -> None:
        if batch is not None and self.held is not None:
            self.held.wait(10)
        super()._work(batch)


@pytest.mark.parametrize("harm", [lose_the_first, swap_the_first])
async def test_a_reservation_that_is_being_journaled_counts(
    tmp_path: Path, harm: Callable[[dict[str, Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path, writer=SlowWriter) as site:
        old = site.agent
        await site.until(lambda: old.loop.turns and old.loop._items == deque())
        monkeypatch.setattr(SlowWriter, "held", held := threading.Event())
        site.reserve()
        await site.until(lambda: not old.loop._items)
        site.change(harm)
        assert await site.service.reload("somebody")  # nothing that is known stands against it
        threading.Timer(0.2, held.set).start()
        await site.until(lambda: site.agent is not old and site.agent.loop.state.reservations)
        await site.works()
        assert site.agent.loop.state.reservations["res_1"].cell == "01"
        answer = site.service.in_use()
        assert answer["number"] == 1
        assert "res_1" in answer["failed"]
        assert [cell.lock.channel for cell in site.agent.settings.cells] == [1, 2, 3, 4]


async def test_a_configuration_that_ends_the_daemon_at_once_is_given_up(tmp_path: Path) -> None:
    """A socket that cannot be made shows only when it is tried."""

    async def no_socket(_: Any) -> None:
        raise PermissionError("the socket cannot be made")

    def consoles(settings: Settings) -> Any:
        return no_socket if settings.paths.socket == "/nowhere/agent.sock" else None

    async with served(tmp_path, console=consoles) as site:
        old = site.agent
        site.change(lambda d: d["paths"].update(socket="/nowhere/agent.sock"))
        await site.service.reload("somebody")
        await site.until(lambda: site.service.in_use()["failed"])
        await site.works()
        assert site.agent is not old
        assert site.service.in_use()["number"] == 1
        assert "the socket cannot be made" in site.service.in_use()["failed"]
        assert site.agent.settings.paths.socket == str(tmp_path / "agent.sock")
        rows = [row for row in site.agent.report.timeline() if row["kind"] == "configuration"]
        assert [(row["what"], row["actor"]) for row in rows] == [
            ("CONFIGURATION_START", None),
            ("CONFIGURATION_RELOAD", "somebody"),
            ("CONFIGURATION_REVERT", None),
        ]
        assert rows[1]["detail"]["changes"] == [
            f"paths.socket: {str(tmp_path / 'agent.sock')!r} is now '/nowhere/agent.sock'"
        ]
        assert "the socket cannot be made" in rows[2]["detail"]["changes"][0]


async def test_a_file_that_init_has_written_is_recorded_with_its_writer_once(tmp_path: Path) -> None:
    file = machine(tmp_path)
    text = file.read_text(encoding="utf-8")
    first = head("2026-11-30T10:00:00Z", "maria")
    document = tomllib.loads(text)
    document["doors"]["door_ajar_s"] = 77
    made = f"{first}\n{text}"
    for number, content in enumerate((made, made, f"{first}\n{tomli_w.dumps(document)}")):
        file.write_text(content, encoding="utf-8")
        async with served(tmp_path, content=content) as site:
            rows = [row for row in site.agent.report.timeline() if row["kind"] == "configuration"]
            assert [row["what"] for row in rows] == [
                "CONFIGURATION_INIT",
                *(["CONFIGURATION_START"] if number == 2 else []),
            ]
            assert rows[0]["actor"] == "maria"
            assert event_row(rows[0], utc=True)[1:] == ("CONFIGURATION_INIT", "", "", "maria", "")


async def test_a_reload_during_another_is_compared_with_the_newer_configuration(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as site:
        kept = site.file.read_text(encoding="utf-8")
        site.change(lambda d: d.update(doors={"closed_level": 1, "door_ajar_s": 77}))
        assert await site.service.reload("somebody")
        site.file.write_text(kept, encoding="utf-8")
        assert [change.after for change in await site.service.reload("somebody")] == [120]
        await site.until(lambda: site.service.in_use()["number"] == 3)
        assert site.agent.settings.doors.door_ajar_s == 120
