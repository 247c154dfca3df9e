"""Cards and tags at the kiosk: one opens what its code opens, under its name, and its id is never written."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from edge_agent.config import load_settings
from edge_agent.config.credentials import CredentialSection
from edge_agent.errors import Code
from edge_agent.model import Alarm, Door
from edge_agent.runtime.credentials import Credentials, plain_id
from edge_agent.statemachine.outputs import Answer
from tests.support.site import Site
from tools.bench.settings import REPOSITORY
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

MARIA, BOB = "04:A2:B3:C4:D5:E6:F7", "0011223344"
CARDS: dict[str, dict[str, Any]] = {
    "maria": {"id": MARIA, "code": "drop-off", "reservation": "res_1"},
    "bob": {"id": BOB, "code": "pick-up", "platform": "acme", "order": "bob's box"},
}


def at_cards(tmp_path: Path, test: Callable[[Site], Awaitable[None]]) -> None:
    """Runs a test at the demo machine, where Maria and Bob have cards."""

    async def run() -> None:
        settings = load_settings(REPOSITORY / "config" / "demo.toml")
        cards = {name: CredentialSection.model_validate(card) for name, card in CARDS.items()}
        machine = with_journal(settings, tmp_path / "journal.sqlite")
        site = Site(Plant(machine.model_copy(update={"credentials": cards}), 7))
        site.plant.start()
        await site.until(lambda: "locker/v1/machine_123/state/machine" in site.plant.broker.retained)
        await test(site)
        await site.plant.stop()

    with structlog.testing.capture_logs() as logged, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
    written = [str(logged).encode(), *(file.read_bytes() for file in tmp_path.iterdir())]
    assert len(written) > 1
    for card in (MARIA, BOB):
        assert not any(card.encode() in text or plain_id(card).encode() in text for text in written)


async def shown(site: Site, text: str) -> Answer:
    assert site.plant.agent is not None
    return await site.plant.agent.local.enter_code(text)


async def dropped_off(site: Site, label: str, number: int = 1) -> None:
    site.plant.world.place(label, 500)
    site.plant.world.close(label)
    await site.until(lambda: len(site.published("DROPOFF")) == number)


def completed(site: Site, number: int) -> Callable[[], bool]:
    return lambda: len(site.published("RESERVATION_COMPLETED")) == number


def ledger(tmp_path: Path) -> list[tuple[str, str, str | None]]:
    """Cell, actor and outcome of each line."""
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as journal:
        rows = journal.execute("SELECT cell, actor, outcome FROM unlock ORDER BY rowid").fetchall()
        return [(str(cell), str(actor), outcome) for cell, actor, outcome in rows]


@pytest.mark.parametrize("text", [MARIA, "04a2b3c4d5e6f7", "04-A2-B3-C4-D5-E6-F7", "04 A2 B3 C4 D5 E6 F7"])
def test_a_card_opens_what_its_code_opens_and_the_ledger_has_its_name(tmp_path: Path, text: str) -> None:
    async def test(site: Site) -> None:
        label = (await site.reserve())["cell"]["description"]
        answer = await shown(site, text)
        assert (answer.refusal, answer.cell) == (None, label)
        assert site.plant.world.cell(label).door is Door.OPEN
        await site.until(lambda: len(ledger(tmp_path)) == 2)
        assert ledger(tmp_path) == [(label, "credential maria", None), (label, "credential maria", "OPENED")]
        assert site.plant.agent is not None
        row = [row for row in site.plant.agent.report.timeline(limit=10) if row["kind"] == "unlock"][-1]
        assert row["actor"] == "credential maria"

    at_cards(tmp_path, test)


def test_a_card_opens_nothing_that_its_code_does_not_open(tmp_path: Path) -> None:
    """After the drop-off and its grace a drop-off card opens nothing, and never another reservation."""

    async def test(site: Site) -> None:
        made = await site.reserve(grace_period_dropoff_in_seconds=5)
        await site.reserve(2)
        label = made["cell"]["description"]
        await shown(site, MARIA)
        await dropped_off(site, label)
        await asyncio.sleep(10)
        refused = await shown(site, MARIA)
        typed = await shown(site, made["drop_off_code"])
        assert refused.refusal is not None
        assert typed.refusal is not None
        assert (refused.refusal.code, refused.refusal.message) == (typed.refusal.code, typed.refusal.message)
        assert (refused.refusal.code, refused.refusal.message) == (Code.NOT_ALLOWED, "not valid")
        assert site.pulses() == 1

    at_cards(tmp_path, test)


def test_a_card_without_its_reservation_opens_nothing_and_is_no_guess(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        assert site.plant.agent is not None
        await site.reserve(2)
        for _ in range(10):
            refused = await shown(site, MARIA)
            assert refused.refusal is not None
            assert refused.refusal.message == "not valid"
        assert site.pulses() == 0
        assert not site.plant.agent.loop.state.alarms
        made = await site.reserve()
        assert (await shown(site, MARIA)).cell == made["cell"]["description"]

    at_cards(tmp_path, test)


def test_unknown_cards_are_guesses_and_while_digits_rest_no_card_opens(tmp_path: Path) -> None:
    """Otherwise ids could be tried without end while the keypad rests."""

    async def test(site: Site) -> None:
        assert site.plant.agent is not None
        made = await site.reserve()
        for number in range(5):
            assert (await shown(site, f"04A2B3C4D5E6F{number}")).refusal is not None
        alarms = {alarm.alarm for alarm in site.plant.agent.loop.state.alarms.values()}
        assert alarms == {Alarm.CODE_GUESSING}
        assert (await shown(site, MARIA)).refusal is not None
        assert site.pulses() == 0
        await asyncio.sleep(61)
        assert (await shown(site, MARIA)).cell == made["cell"]["description"]

    at_cards(tmp_path, test)


def test_a_card_for_an_order_serves_one_reservation_after_the_other(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        for number in (1, 2):
            made = await site.reserve(number, platform="acme", platform_order_id="bob's box")
            label = made["cell"]["description"]
            assert (await shown(site, BOB)).refusal is not None  # nothing is in it yet
            await site.call("dropoff", f"res_{number}")
            await dropped_off(site, label, number)
            assert (await shown(site, BOB)).cell == label
            site.plant.world.close(label)
            await site.until(completed(site, number))
        assert {actor for _, actor, _ in ledger(tmp_path)} == {"", "credential bob"}

    at_cards(tmp_path, test)


def test_a_card_for_an_order_of_two_reservations_opens_neither(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        for number in (1, 2):
            made = await site.reserve(number, platform="acme", platform_order_id="bob's box")
            await site.call("dropoff", f"res_{number}")
            await dropped_off(site, made["cell"]["description"], number)
        pulses = site.pulses()
        assert (await shown(site, BOB)).refusal is not None
        assert site.pulses() == pulses

    at_cards(tmp_path, test)


def test_a_reservation_in_its_grace_gives_way_to_one_that_waits(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        order = {"platform": "acme", "platform_order_id": "bob's box", "grace_period_pickup_in_seconds": 600}
        opened = []
        for number in (1, 2):
            label = (await site.reserve(number, **order))["cell"]["description"]
            await site.call("dropoff", f"res_{number}")
            await dropped_off(site, label, number)
            assert (await shown(site, BOB)).cell == label
            site.plant.world.close(label)
            await asyncio.sleep(2)
            opened.append(label)
        assert opened[0] != opened[1]
        assert (await shown(site, BOB)).refusal is not None  # both are in their grace: neither is meant

    at_cards(tmp_path, test)


def test_another_platform_with_the_same_order_id_is_not_opened(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(platform="other", platform_order_id="bob's box")
        await site.call("dropoff", "res_1")
        await dropped_off(site, made["cell"]["description"])
        assert (await shown(site, BOB)).refusal is not None
        assert site.pulses() == 1

    at_cards(tmp_path, test)


def test_a_jammed_cell_is_replaced_and_the_other_one_has_the_name_of_the_card_too(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        label = (await site.reserve())["cell"]["description"]
        site.plant.world.jam(label, True)
        other = (await shown(site, MARIA)).cell
        assert other not in (None, label)
        await site.until(lambda: ledger(tmp_path)[-1][2] == "OPENED")
        assert {actor for _, actor, _ in ledger(tmp_path)} == {"credential maria"}
        assert ledger(tmp_path)[-1][0] == other

    at_cards(tmp_path, test)


def test_every_id_is_compared_whatever_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr("edge_agent.runtime.credentials.compare_digest", compare)
    sections = {name: CredentialSection.model_validate(card) for name, card in CARDS.items()}
    credentials = Credentials(section.credential(name) for name, section in sections.items())
    for text, name in ((MARIA, "maria"), (BOB, "bob"), ("nobody's", None), ("\uff10\uff10" + BOB[2:], "bob")):
        compared.clear()
        found = credentials.find(text)
        assert (None if found is None else found.name) == name
        assert len(compared) == len(CARDS)
    assert MARIA.lower() not in repr(credentials.find(MARIA)).lower()
    assert plain_id(MARIA) not in repr(credentials.find(MARIA))
