"""A journal moves to a new controller by the very lines of the field manual, and goes on there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.support.site import Site, at_site
from tools.bench.settings import REPOSITORY
from tools.simulate.plant import with_journal

MANUAL = REPOSITORY / "docs" / "operations.md"
FOLDER = "/var/lib/edge-agent"


def by_the_manual(folder: Path) -> list[str]:
    """Runs what the manual gives to Python, in another folder; what it prints."""
    text = MANUAL.read_text(encoding="utf-8")
    (lines,) = re.findall(r"python -I - <<'END'\n(.*?)\n   END", text, re.DOTALL)
    rows: list[str] = []
    program = re.sub(r"^   ", "", lines, flags=re.MULTILINE).replace(FOLDER, str(folder))
    exec(program, {"print": lambda row: rows.append(str(row))})
    return rows


def test_codes_sequences_and_parcels_move_with_it(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        plant = site.plant
        made = await site.reserve()
        label = made["cell"]["description"]
        await site.call("dropoff", "res_1")
        plant.world.place(label, 900)
        await asyncio.sleep(1)
        plant.world.close(label)
        await site.until(lambda: bool(site.published("DROPOFF")))
        last = max(event["sequence"] for event in site.events)
        await plant.stop()
        assert by_the_manual(tmp_path) == ["('ok',)"]
        (tmp_path / "new").mkdir()
        moved = tmp_path / "new" / "journal.sqlite"
        (tmp_path / "move.sqlite").rename(moved)
        plant.settings = with_journal(plant.settings, moved)
        plant.start()
        agent = plant.agent
        assert agent is not None
        await asyncio.sleep(3)
        assert (await agent.local.enter_code(made["pickup_code"])).refusal is None
        await site.until(lambda: bool(site.published("PICKUP")))
        later = [event["sequence"] for event in site.events if event["sequence"] > last]
        assert later == list(range(last + 1, last + 1 + len(later)))
        assert len({event["journal_id"] for event in site.events}) == 1

    at_site(tmp_path, test)
