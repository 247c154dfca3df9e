"""A dead card and an older one, with a real broker, gateway and agent: what a technician does, command by
command, until every parcel has come out by its own old code and the machine is back to normal."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import paho.mqtt.publish
import paho.mqtt.subscribe
import pytest

from edge_agent.cloud import publisher
from edge_agent.model import Alarm, CellStatus
from edge_agent.statemachine.history import CALL_FOR_HELP, LOST
from tests.cloud_gateway.support import Gateway, running_gateway, settings
from tests.support.broker import Broker
from tests.support.real_site import RealSite, real_site

ORDER = {
    "machine_id": "m1",
    "platform_order_id": "o",
    "packaging": {"width": 200, "height": 100, "depth": 300},
    "grace_period_pickup_in_seconds": 0,
}
GRAMS = 1500


@asynccontextmanager
async def machine(folder: Path, broker: Broker, *full: str) -> AsyncIterator[RealSite]:
    """The machine with its card in `card` and its mark elsewhere; a parcel lies in each `full` cell."""
    mqtt = {"host": "127.0.0.1", "port": broker.port}
    mark = folder / "mark" / "m1.json"
    async with real_site(
        folder / "card", mqtt, synced=True, access={}, mark=mark, parcels=dict.fromkeys(full, GRAMS)
    ) as site:
        yield site


async def technician(folder: Path, *arguments: str) -> str:
    """Runs a command of `edge-agent` as a process of its own; gives what it printed."""
    program = Path(sys.executable).with_name("edge-agent")
    process = await asyncio.create_subprocess_exec(
        str(program),
        *arguments,
        "--socket",
        str(folder / "card" / "agent.sock"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def parcel(gateway: Gateway, site: RealSite) -> tuple[dict[str, Any], str]:
    """A parcel that is dropped off; its reservation and its cell."""
    response = await gateway.post("/reservations", ORDER)
    assert response.status_code == 200, response.text
    made = response.json()
    answer = await site.agent.local.enter_code(made["drop_off_code"])
    assert answer.cell is not None
    site.plant.world.place(answer.cell, GRAMS)
    site.plant.world.close(answer.cell)
    await gateway.until(made["reservation_id"], "DROPPED_OFF")
    return made, answer.cell


async def picks_up(site: RealSite, made: dict[str, Any], label: str) -> None:
    """The consumer's old code opens the door of the parcel's own cell, and of no other."""
    before = site.pulses()
    answer = await site.agent.local.enter_code(made["pickup_code"])
    assert (answer.refusal, answer.cell, site.pulses()) == (None, label, before + 1)
    site.plant.world.take(label)
    site.plant.world.close(label)


async def gives_nothing_away(gateway: Gateway, site: RealSite, codes: list[str]) -> None:
    """No order, code or `clear` moves a lock or frees a cell."""
    refused = await gateway.post("/reservations", ORDER)
    assert refused.json()["code"] in (9, 14), refused.text
    for code in codes:
        answer = await site.agent.local.enter_code(code)
        assert answer.refusal is not None
        assert answer.refusal.message == CALL_FOR_HELP
    assert (await site.agent.local.clear(next(iter(site.agent.loop.state.cells)))).refusal is not None
    assert site.pulses() == 0


async def is_normal_again(gateway: Gateway, site: RealSite) -> None:
    """Nothing stands, every cell is free, and the next parcel goes its way."""
    assert gateway.app.state.parts.accounts.rejected("m1") == 0
    state = site.agent.loop.state
    await site.until(lambda: {cell.status for cell in state_of(site)} == {CellStatus.IDLE})
    await site.until(lambda: LOST not in site.agent.loop.state.alarms)
    assert [one.alarm for one in state.alarms.values() if one.alarm is Alarm.JOURNAL_LOST] == []
    made, label = await parcel(gateway, site)
    await picks_up(site, made, label)
    await gateway.until(made["reservation_id"], "PICKED_UP")


def state_of(site: RealSite) -> list[Any]:
    """The cells as the machine holds them."""
    return list(site.agent.loop.state.cells.values())


def copy_journal(source: Path, target: Path) -> None:
    """An image of the card of a running machine."""
    with closing(sqlite3.connect(source)) as journal, closing(sqlite3.connect(target)) as copy:
        journal.backup(copy)


async def until_digest(broker: Broker, sequence: int) -> None:
    """Waits until the broker keeps a digest of this sequence."""
    topic = "locker/v1/m1/state/digest"
    async with asyncio.timeout(60):
        while True:
            kept = await asyncio.to_thread(
                paho.mqtt.subscribe.simple, topic, hostname="127.0.0.1", port=broker.port
            )
            if json.loads(kept.payload)["last_sequence"] >= sequence:
                return


def die(folder: Path, broker: Broker, sign: str) -> None:
    """The card dies; what is left of the earlier life depends on the `sign`."""
    card = folder / "card"
    if sign == "companions":
        for file in card.glob("journal.sqlite*"):
            if file.suffix not in (".lock", ".reserve"):
                file.unlink()
        (card / "journal.sqlite").touch()
    else:
        shutil.rmtree(card)
        card.mkdir()
    if sign != "mark":
        shutil.rmtree(folder / "mark", ignore_errors=True)
    topic = "locker/v1/m1/state/digest"
    paho.mqtt.publish.single(topic, b"", qos=1, retain=True, hostname="127.0.0.1", port=broker.port)


@pytest.mark.behaviour("history-01", "history-02", "history-09")
@pytest.mark.parametrize(
    "sign", [*(pytest.param(sign, marks=pytest.mark.long) for sign in ("companions", "mark")), "gateway"]
)
async def test_w8_a_dead_card_costs_one_visit_and_no_parcel(
    tmp_path: Path, broker: Broker, sign: str
) -> None:
    (tmp_path / "card").mkdir()
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        async with machine(tmp_path, broker) as site:
            await gateway.sees("m1")
            parcels = [await parcel(gateway, site) for _ in range(2)]
        await asyncio.to_thread(die, tmp_path, broker, sign)
        async with machine(tmp_path, broker, *(label for _, label in parcels)) as site:
            await gateway.sees("m1")
            await site.until(lambda: LOST in site.agent.loop.state.alarms)
            await site.until(lambda: site.agent.history_check.offer is not None)
            assert {cell.status for cell in state_of(site)} == {CellStatus.AWAITING_INSPECTION}
            await gives_nothing_away(gateway, site, [made["pickup_code"] for made, _ in parcels])
            shown = await technician(tmp_path, "restore", "--yes")
            for made, label in parcels:
                assert made["reservation_id"] in shown
                await picks_up(site, made, label)
                await gateway.until(made["reservation_id"], "PICKED_UP")
            await site.until(lambda: {c.status for c in state_of(site)} == {CellStatus.AWAITING_INSPECTION})
            await technician(tmp_path, "clear", "--all")
            await is_normal_again(gateway, site)


@pytest.mark.behaviour("history-05", "history-06")
@pytest.mark.long
async def test_w9_an_older_card_costs_one_visit_and_no_parcel(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "DIGEST_S", 0.1)  # the copy is made while one connection stands
    card, older = tmp_path / "card", tmp_path / "older.sqlite"
    card.mkdir()
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        async with machine(tmp_path, broker) as site:
            await gateway.sees("m1")
            known, first = await parcel(gateway, site)
            await site.until(lambda: site.agent.history_check.state == "sound")
            copy_journal(card / "journal.sqlite", older)
            lost, second = await parcel(gateway, site)
            await until_digest(broker, site.agent.loop.last_sequence)
        for file in card.glob("journal.sqlite*"):
            file.unlink()
        older.rename(card / "journal.sqlite")
        async with machine(tmp_path, broker, first, second) as site:
            await gateway.sees("m1")
            await site.until(lambda: LOST in site.agent.loop.state.alarms)
            assert site.pulses() == 0
            await picks_up(site, known, first)
            refused = await site.agent.local.enter_code(lost["pickup_code"])
            assert refused.refusal is not None
            assert site.agent.loop.state.cells[second].status is CellStatus.AWAITING_INSPECTION
            await technician(tmp_path, "restore", "--yes")
            await picks_up(site, lost, second)
            for made in (known, lost):
                await gateway.until(made["reservation_id"], "PICKED_UP")
            await site.until(lambda: not site.agent.loop.state.reservations)
            await technician(tmp_path, "clear", "--all")
            await is_normal_again(gateway, site)
