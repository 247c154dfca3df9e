"""What a new configuration changes, and what may not be changed under a live reservation."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from edge_agent.app import Agent, system_environment
from edge_agent.app.reload import objections
from edge_agent.app.startup import Confirmed
from edge_agent.config import Settings, load_settings
from edge_agent.config.changes import changes
from edge_agent.errors import ConfigError
from edge_agent.runtime.writer import ThreadWriter
from tests.support.machines import CONFIG
from tests.support.site import PARCEL, Site, at_site

Document = dict[str, Any]


def demo() -> Document:
    document = tomllib.loads((CONFIG / "demo.toml").read_text(encoding="utf-8"))
    document["paths"] = {"profiles": str(CONFIG / "devices")}
    return document


def loaded(folder: Path, document: Document) -> Settings:
    file = folder / "machine.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    return load_settings(file)


def cell(document: Document, label: str) -> Document:
    found: Document = next(one for one in document["cells"] if one["label"] == label)
    return found


def test_changes_are_named_by_key_path_and_cells_by_their_labels(tmp_path: Path) -> None:
    before, document = loaded(tmp_path, demo()), demo()
    document["unlock"]["attempts"] = 2
    document["keypad"] = {"device": "/dev/input/event0"}
    del document["scanner"]
    document["cells"].insert(0, document["cells"].pop())  # its place in the file means nothing
    cell(document, "A01")["size"] = "large"
    found = [str(change) for change in changes(before, loaded(tmp_path, document))]
    assert "unlock.attempts: 3 is now 2" in found
    assert "keypad.device: new, '/dev/input/event0'" in found
    assert "scanner.baud: gone, was 9600" in found
    assert "cells.A01.size: 'small' is now 'large'" in found
    assert all(path.startswith(("unlock.", "keypad.", "scanner.", "cells.A01.")) for path in found)
    assert changes(before, before) == []


def test_a_profile_with_the_same_name_and_other_content_is_a_change(tmp_path: Path) -> None:
    before = loaded(tmp_path, demo())
    for file in (CONFIG / "devices").glob("*.toml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (tmp_path / "laumas-tlb.toml").read_text(encoding="utf-8")
    (tmp_path / "laumas-tlb.toml").write_text(text.replace("gap_ms = ", "gap_ms = 1"), encoding="utf-8")
    document = demo() | {"paths": {"profiles": str(tmp_path)}}
    paths = [change.path for change in changes(before, loaded(tmp_path, document))]
    assert set(paths) == {"paths.profiles", "profiles.laumas-tlb.bus.gap_ms"}


def drop(document: Document, label: str) -> None:
    document["cells"].remove(cell(document, label))


def swap(document: Document, label: str, other: str, use: str) -> None:
    one, two = cell(document, label), cell(document, other)
    one[use], two[use] = two[use], one[use]


def move_board(document: Document) -> None:
    document["devices"]["locks_b"]["address"] = 9


def plug_elsewhere(document: Document) -> None:
    document["buses"]["main"]["port"] = "/dev/ttyUSB7"


HARMFUL: dict[str, tuple[Callable[[Document], object], str]] = {
    "another machine": (lambda d: d["machine"].update(machine_id="m2"), "machine.machine_id"),
    "another journal": (lambda d: d["paths"].update(journal="/tmp/j"), "paths.journal"),
    "longer codes": (lambda d: d.update(codes={"code_digits": 6}), "codes.code_digits"),
    "its cell goes": (lambda d: drop(d, "B03"), "cells.B03"),
    "its cell has another id": (lambda d: cell(d, "B03").update(cell_id="c"), "cells.B03.cell_id"),
    "its lock on other wires": (lambda d: swap(d, "B03", "B04", "lock"), "cells.B03.lock"),
    "its contact on other wires": (lambda d: swap(d, "B03", "B04", "door"), "cells.B03.door"),
    "its board elsewhere": (move_board, "cells.B03.lock"),
    "its bus elsewhere": (plug_elsewhere, "cells.B03.lock"),
    "contacts the other way round": (lambda d: d["doors"].update(closed_level=0), "cells.B03.door"),
    "no cooling any more": (lambda d: cell(d, "B03").pop("cooling"), "cells.B03.cooling"),
}
HARMLESS: dict[str, Callable[[Document], object]] = {
    "an idle cell goes": lambda d: drop(d, "C08"),
    "idle cells change their wires": lambda d: swap(d, "C07", "C08", "lock"),
    "another baud rate": lambda d: d["buses"]["main"].update(baud=9600),
    "a device has another name": lambda d: rename(d, "locks_b", "upper"),
    "another setpoint": lambda d: d["climate"]["cold"].update(setpoint_c=2.0),
}


def rename(document: Document, old: str, new: str) -> None:
    document["devices"][new] = document["devices"].pop(old)
    for one in document["cells"]:
        for use in ("lock", "door"):
            if one[use]["device"] == old:
                one[use]["device"] = new


def with_a_parcel(tmp_path: Path, test: Callable[[Site, Settings], None]) -> None:
    """A site where a cooled parcel is to come into B03."""

    async def run(site: Site) -> None:
        made = await site.reserve(1, packaging=PARCEL | {"cooling_required": True})
        assert made["cell"]["description"] == "B03"
        await site.call("dropoff", "res_1")
        test(site, loaded(tmp_path, demo()))

    at_site(tmp_path, run)


def test_a_change_that_harms_a_live_reservation_is_refused_with_its_key(tmp_path: Path) -> None:
    def test(site: Site, before: Settings) -> None:
        assert site.plant.agent is not None
        state = site.plant.agent.loop.state
        for name, (change, path) in HARMFUL.items():
            document = demo()
            change(document)
            found = objections(before, loaded(tmp_path, document), state)
            assert path in [finding.path for finding in found], name
            if path.startswith("cells."):
                assert all("res_1" in finding.message for finding in found if finding.path == path), name

    with_a_parcel(tmp_path, test)


def test_a_change_that_harms_no_reservation_is_accepted(tmp_path: Path) -> None:
    def test(site: Site, before: Settings) -> None:
        assert site.plant.agent is not None
        for name, change in HARMLESS.items():
            document = demo()
            change(document)
            assert objections(before, loaded(tmp_path, document), site.plant.agent.loop.state) == [], name

    with_a_parcel(tmp_path, test)


@pytest.mark.parametrize("cleared", [False, True])
def test_a_cell_that_awaits_inspection_cannot_be_removed(tmp_path: Path, cleared: bool) -> None:
    async def run(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        await site.reserve(1)
        await site.call("dropoff", "res_1")
        site.plant.world.place("A01", 500)
        await site.until(lambda: bool(agent.report.cells()[0]["door"] == "open"))
        site.plant.world.close("A01")
        await site.until(lambda: "DROPOFF" in site.types())
        await site.call("abandon", "res_1")
        await site.until(lambda: agent.report.cells()[0]["reservation_id"] is None)
        if cleared:
            await agent.local.clear("A01")
        document = demo()
        drop(document, "A01")
        before = loaded(tmp_path, demo())
        found = objections(before, loaded(tmp_path, document), agent.loop.state)
        assert [finding.path for finding in found] == ([] if cleared else ["cells.A01"])

    at_site(tmp_path, run)


def test_a_cell_that_awaits_inspection_keeps_its_wires(tmp_path: Path) -> None:
    """What lies in it would be behind the door of a free one."""

    async def run(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        await site.reserve(1)
        await site.call("dropoff", "res_1")
        await site.until(lambda: bool(agent.report.cells()[0]["door"] == "open"))
        site.plant.world.close("A01")
        await site.until(lambda: "DROPOFF" in site.types())
        await site.call("abandon", "res_1")
        await site.until(lambda: agent.report.cells()[0]["reservation_id"] is None)
        before = loaded(tmp_path, demo())
        for use in ("lock", "door"):
            document = demo()
            swap(document, "A01", "A02", use)
            after = loaded(tmp_path, document)
            assert [f.path for f in objections(before, after, agent.loop.state)] == [f"cells.A01.{use}"]
        await agent.local.clear("A01")
        assert objections(before, after, agent.loop.state) == []

    at_site(tmp_path, run)


async def stopped_with_a_parcel(site: Site) -> None:
    await site.reserve(1, packaging=PARCEL | {"cooling_required": True})
    await site.call("dropoff", "res_1")
    await site.plant.stop()


def started_with(site: Site, settings: Settings, *, rewired: bool = False) -> Agent:
    """A second agent on the site's journal."""
    journal = site.plant.settings.path(site.plant.settings.paths.journal)
    paths = settings.paths.model_copy(update={"journal": str(journal)})
    moved = settings.model_copy(update={"paths": paths})
    return Agent(moved, replace(system_environment(moved), writer=ThreadWriter, confirmed=Confirmed(rewired)))


MOVED = ("its lock on", "its board", "its contact")


@pytest.mark.parametrize("name", [name for name in HARMFUL if name.startswith(MOVED)])
def test_a_start_with_other_wires_under_a_parcel_is_refused(tmp_path: Path, name: str) -> None:
    """As after a crash, with a file in place that a reload has refused."""

    async def run(site: Site) -> None:
        await stopped_with_a_parcel(site)
        document = demo()
        HARMFUL[name][0](document)
        harmful = loaded(tmp_path, document)
        for _ in range(2):  # it is not forgotten by having been refused
            with pytest.raises(ConfigError, match=r"cells\.B03: holds reservation res_1, and its lock"):
                started_with(site, harmful)
        started_with(site, loaded(tmp_path, demo())).close()
        started_with(site, harmful, rewired=True).close()
        started_with(site, harmful).close()  # from then on these are its wires
        with pytest.raises(ConfigError):
            started_with(site, loaded(tmp_path, demo()))
        site.plant.start()

    with pytest.raises(ConfigError):  # the plant's own agent has the wires of before
        at_site(tmp_path, run)


@pytest.mark.parametrize("name", [name for name in HARMLESS if "cell" in name or "name" in name])
def test_a_start_may_change_the_wires_of_empty_cells(tmp_path: Path, name: str) -> None:
    async def run(site: Site) -> None:
        await stopped_with_a_parcel(site)
        document = demo()
        HARMLESS[name](document)
        started_with(site, loaded(tmp_path, document)).close()
        document["buses"]["main"]["port"] = "/dev/another-adapter"  # the only one: it has another name now
        started_with(site, loaded(tmp_path, document)).close()
        site.plant.start()

    at_site(tmp_path, run)
