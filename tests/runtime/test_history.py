"""A lost and an older journal at a whole machine: what it finds out, grants, and has restored."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edge_agent.model import Alarm, CellStatus
from edge_agent.statemachine.history import CALL_FOR_HELP, LOST, YOUNG
from tests.app.test_startup import dropped_off
from tests.support.site import Site, at_site
from tools.simulate.plant import with_journal

DIGEST = "locker/v1/machine_123/state/digest"
NOTHING = {"request_id": "x", "applied": {}, "reservations": []}
ONLINE = "locker/v1/machine_123/state/online"


def state(site: Site) -> Any:
    assert site.plant.agent is not None
    return site.plant.agent.loop.state


def offer(views: list[dict[str, Any]], applied: dict[str, int], journal_id: str) -> dict[str, Any]:
    """The command that a gateway makes of the views it had from replies."""
    rows = [view | {"cell": view["cell"]["description"]} for view in views]
    request_id = f"restore-{len(applied)}-{sum(applied.values())}-{len(rows)}"
    return {"request_id": request_id, "journal_id": journal_id, "applied": applied, "reservations": rows}


async def view_of(site: Site, rid: str) -> dict[str, Any]:
    reply = await site.call("get-reservation", rid)
    found: dict[str, Any] = reply["result"]["reservation"]
    return found


def lose(tmp_path: Path, sign: str, site: Site) -> None:
    """The card dies: what is left beside the journal, or elsewhere, depends on the `sign`."""
    for file in sorted(tmp_path.glob("journal.sqlite*")):
        if sign == "companions" and file.suffix in (".lock", ".reserve"):
            continue
        file.unlink()
    if sign == "companions":
        (tmp_path / "journal.sqlite").touch()
    if sign != "digest":
        site.plant.broker.retained.pop(DIGEST, None)
    if sign != "mark":
        shutil.rmtree(tmp_path / "mark", ignore_errors=True)


def marked(site: Site, tmp_path: Path) -> None:
    settings = site.plant.settings
    paths = settings.paths.model_copy(update={"mark": str(tmp_path / "mark" / "m.json")})
    moved = settings.model_copy(update={"paths": paths})
    site.plant.settings = with_journal(moved, tmp_path / "journal.sqlite")


@pytest.mark.behaviour("history-01", "history-02", "history-09")
@pytest.mark.parametrize("sign", ["companions", "mark", "digest", "gateway"])
def test_w8_a_dead_card_gives_nothing_away_and_every_parcel_comes_out(tmp_path: Path, sign: str) -> None:
    async def run(site: Site) -> None:
        await site.plant.stop()
        marked(site, tmp_path)
        site.plant.start()
        await asyncio.sleep(2)
        labels = [await dropped_off(site, number) for number in (1, 2)]
        views = [await view_of(site, f"res_{number}") for number in (1, 2)]
        last, journal_id = site.events[-1]["sequence"], site.events[-1]["journal_id"]
        await site.plant.stop()
        lose(tmp_path, sign, site)
        site.plant.start()
        await asyncio.sleep(2)
        restored = offer(views, {journal_id: last}, journal_id)
        reply = await site.plant.broker.call("restore", restored)
        await asyncio.sleep(1)
        assert reply["result"]["history"] == ("asking" if sign == "gateway" else "lost")
        assert LOST in state(site).alarms
        assert {cell.status for cell in state(site).cells.values()} == {CellStatus.AWAITING_INSPECTION}
        refused = await site.plant.broker.call("reserve", reserve_body())
        assert refused["error"]["code"] == 9
        local = site.plant.agent.local  # type: ignore[union-attr]
        for view in views:
            answer = await local.enter_code(view["pickup_code"])
            assert answer.refusal is not None
            assert answer.refusal.message == CALL_FOR_HELP
        assert (await local.clear("A01")).refusal is not None
        before = site.pulses()
        assert (await local.restore(none=False, place={}, actor="bob")).refusal is None
        for label, view in zip(labels, views, strict=True):
            assert (await local.clear(label)).refusal is not None
            assert (await local.enter_code(view["pickup_code"])).cell == label
        assert site.pulses() == before + 2
        await site.until(lambda: len(site.published("PICKUP")) == 2)
        await asyncio.sleep(1)
        assert json.loads(site.plant.broker.retained[ONLINE])["history"] == "sound"
        assert {event["journal_id"] for event in site.published("PICKUP")} != {journal_id}

    at_site(tmp_path, run)


def reserve_body() -> dict[str, Any]:
    packaging = {"width": 200, "height": 100, "depth": 300}
    body = {"request_id": "r9", "reservation_id": "res_9", "machine_id": "machine_123"}
    return body | {"platform_order_id": "o", "packaging": packaging}


@pytest.mark.behaviour("history-10")
def test_a_first_start_is_not_a_lost_history(tmp_path: Path) -> None:
    async def run(site: Site) -> None:
        assert YOUNG in state(site).history
        await dropped_off(site)  # it does not wait for a gateway that has nothing to say
        reply = await site.plant.broker.call("restore", NOTHING)
        assert reply["result"]["history"] in ("asking", "sound")
        await asyncio.sleep(1)
        assert json.loads(site.plant.broker.retained[ONLINE])["history"] == "sound"
        assert not [a for a in state(site).alarms.values() if a.alarm is Alarm.JOURNAL_LOST]

    at_site(tmp_path, run)


@pytest.mark.behaviour("history-05", "history-06")
def test_w9_an_older_copy_is_frozen_and_goes_on_under_a_new_journal_id(tmp_path: Path) -> None:
    async def run(site: Site) -> None:
        first = await dropped_off(site, 1)
        await site.plant.broker.call("restore", NOTHING)
        await asyncio.sleep(1)
        await site.plant.stop()
        shutil.copy(tmp_path / "journal.sqlite", tmp_path / "copy")
        site.plant.start()
        await asyncio.sleep(2)
        second = await dropped_off(site, 2)
        views = [await view_of(site, f"res_{number}") for number in (1, 2)]
        last, journal_id = site.events[-1]["sequence"], site.events[-1]["journal_id"]
        await site.plant.stop()
        site.plant.start()  # once more, so that the broker keeps the newest digest
        await asyncio.sleep(2)
        await site.plant.stop()
        shutil.copy(tmp_path / "copy", tmp_path / "journal.sqlite")
        site.plant.start()
        await asyncio.sleep(2)
        local = site.plant.agent.local  # type: ignore[union-attr]
        frozen = await local.enter_code(views[0]["pickup_code"])
        assert frozen.refusal is not None
        assert frozen.refusal.message == CALL_FOR_HELP
        reply = await site.plant.broker.call("restore", offer(views, {journal_id: last}, journal_id))
        assert reply["result"]["history"] == "asking"
        await asyncio.sleep(1)
        assert state(site).cells[first].status is CellStatus.OCCUPIED
        assert state(site).cells[second].status is CellStatus.AWAITING_INSPECTION
        assert LOST in state(site).alarms
        assert (await local.enter_code(views[0]["pickup_code"])).cell == first
        assert (await local.restore(none=False, place={}, actor="bob")).refusal is None
        assert (await local.enter_code(views[1]["pickup_code"])).cell == second
        await site.until(lambda: len(site.published("PICKUP")) == 2)
        later = [event for event in site.events if event["journal_id"] != journal_id]
        numbers = [event["sequence"] for event in later]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert "ALARM_RAISED" in {event["event_type"].removeprefix("EVENT_TYPE_") for event in later}

    at_site(tmp_path, run)


@pytest.mark.behaviour("history-05")
@pytest.mark.parametrize("forced", [0, 6])
def test_w9_an_older_copy_is_frozen_although_its_start_numbered_events_of_its_own(
    tmp_path: Path, forced: int
) -> None:
    """The link was never renewed since the copy was made. With enough doors forced meanwhile, the older copy
    has as many events after its start as the newer journal had."""

    async def run(site: Site) -> None:
        await site.plant.broker.call("restore", NOTHING)
        await asyncio.sleep(1)
        await site.plant.stop()
        shutil.copy(tmp_path / "journal.sqlite", tmp_path / "copy")
        site.plant.start()
        await asyncio.sleep(2)
        label = await dropped_off(site)
        view, last = await view_of(site, "res_1"), site.events[-1]
        await asyncio.sleep(31)
        await site.plant.stop()
        shutil.copy(tmp_path / "copy", tmp_path / "journal.sqlite")
        for number in range(forced):
            site.plant.world.open(f"C0{number + 1}")
        site.plant.start()
        await asyncio.sleep(3)
        assert state(site).history.keys() == {"frozen"}
        assert "error" in await site.plant.broker.call("reserve", reserve_body())
        restored = offer([view], {last["journal_id"]: last["sequence"]}, last["journal_id"])
        await site.plant.broker.call("restore", restored)
        await asyncio.sleep(1)
        assert LOST in state(site).alarms
        assert state(site).cells[label].status is CellStatus.AWAITING_INSPECTION

    at_site(tmp_path, run)


@pytest.mark.behaviour("history-05", "history-09")
def test_w9_an_older_copy_is_detected_by_the_mark_without_a_link(tmp_path: Path) -> None:
    """Neither digest nor gateway can be asked: the commissioning mark says how far the journal was."""

    async def run(site: Site) -> None:
        await site.plant.stop()
        marked(site, tmp_path)
        site.plant.start()
        await asyncio.sleep(2)
        await site.plant.broker.call("restore", NOTHING)
        await asyncio.sleep(1)
        await site.plant.stop()
        shutil.copy(tmp_path / "journal.sqlite", tmp_path / "copy")
        site.plant.start()
        await asyncio.sleep(2)
        label = await dropped_off(site)
        view, last = await view_of(site, "res_1"), site.events[-1]
        await asyncio.sleep(31)
        await site.plant.stop()
        site.plant.broker.leave()
        shutil.copy(tmp_path / "copy", tmp_path / "journal.sqlite")
        for _ in range(2):  # and again at the next start
            site.plant.start()
            await asyncio.sleep(40)
            found = state(site).history["frozen"]
            assert found.why.startswith("the journal is an older copy: it ends at event ")
            await site.plant.stop()
        site.plant.start()
        site.plant.broker.come_back()
        await asyncio.sleep(3)
        assert "error" in await site.plant.broker.call("reserve", reserve_body())
        restored = offer([view], {last["journal_id"]: last["sequence"]}, last["journal_id"])
        await site.plant.broker.call("restore", restored)
        await asyncio.sleep(1)
        assert LOST in state(site).alarms
        assert state(site).cells[label].status is CellStatus.AWAITING_INSPECTION

    at_site(tmp_path, run)


@pytest.mark.behaviour("history-09")
def test_a_journal_that_goes_on_is_never_behind_its_mark(tmp_path: Path) -> None:
    """Killed and started again, with and without a mark of an earlier version."""

    async def run(site: Site) -> None:
        await site.plant.stop()
        marked(site, tmp_path)
        mark = tmp_path / "mark" / "m.json"
        site.plant.start()
        await asyncio.sleep(2)
        await site.plant.broker.call("restore", NOTHING)
        await dropped_off(site)
        await asyncio.sleep(31)
        written = json.loads(mark.read_text())
        assert written["last_sequence"] == int(site.events[-1]["sequence"])
        await site.plant.kill()
        del written["last_sequence"]
        for text in (None, json.dumps(written)):
            if text is not None:
                mark.write_text(text)
            site.plant.start()
            await asyncio.sleep(2)
            assert "frozen" not in state(site).history
            await site.plant.kill()
        assert json.loads(mark.read_text())["last_sequence"] > 0
        site.plant.start()

    at_site(tmp_path, run)
