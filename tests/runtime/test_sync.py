"""What a gateway that lacks events receives: the digest after each connect, and `sync`, page by page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_agent.journal.store import JournalStore
from edge_agent.protocol.sync import SYNC_PAGE, Digest, SyncReply
from tests.support.site import Site, at_site

DIGEST = "locker/v1/machine_123/state/digest"


async def page(site: Site, from_sequence: int) -> SyncReply:
    body = {"request_id": f"sync-{from_sequence}-{len(site.plant.broker.replies)}"}
    reply = await site.plant.broker.call("sync", body | {"from_sequence": from_sequence})
    return SyncReply.model_validate(reply["result"])


async def everything(site: Site, from_sequence: int) -> tuple[list[dict[str, Any]], list[str]]:
    """All events from a sequence on, and the ids of the live reservations; asked for as a gateway does."""
    events: list[dict[str, Any]] = []
    while True:
        answer = await page(site, from_sequence + len(events))
        events += [e.model_dump(mode="json", exclude_none=True) for e in answer.events]
        if answer.reservations is not None:
            return events, [view.reservation_id for view in answer.reservations]


def digest(site: Site) -> Digest:
    return Digest.model_validate_json(site.plant.broker.retained[DIGEST])


def test_the_machine_publishes_its_digest_after_every_connect(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        first = digest(site)
        assert (first.machine_id, first.reservations) == ("machine_123", {})
        assert (first.oldest_sequence, first.last_sequence) == (1, 0)
        assert len(first.cells) == 24
        assert set(first.cells.values()) == {"IDLE"}
        made = await site.reserve()
        await site.until(lambda: len(site.events) == 1)
        await site.plant.kill()
        site.plant.start()
        await site.until(lambda: digest(site).last_sequence > 0)
        second = digest(site)
        assert second.reservations == {"res_1": "RESERVATION_STATUS_PENDING"}
        assert second.cells[made["cell"]["description"]] == "RESERVED"
        assert second.journal_id == first.journal_id == site.events[0]["journal_id"]
        assert (second.oldest_sequence, second.last_sequence) == (1, site.events[-1]["sequence"])
        assert made["drop_off_code"] not in json.dumps(site.plant.broker.retained)

    at_site(tmp_path, test)


def test_sync_returns_every_event_page_by_page_and_the_live_reservations(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(1)
        await site.reserve(2)
        await site.call("cancel", "res_2")
        for _ in range(SYNC_PAGE):
            await site.on_cell("block-cell", "cell_machine_123_c08", reason="a look")
            await site.on_cell("unblock-cell", "cell_machine_123_c08")
        await site.until(lambda: len(site.events) >= 2 * SYNC_PAGE + 3)
        events, live = await everything(site, 1)
        assert events == site.events
        assert live == ["res_1"]
        assert (await everything(site, 150))[0] == site.events[149:]
        first = await page(site, 1)
        assert len(first.events) == SYNC_PAGE
        assert first.reservations is None
        last = await page(site, len(site.events) + 1)
        assert last.events == []
        assert last.reservations is not None
        assert last.reservations[0].drop_off_code == made["drop_off_code"]

    at_site(tmp_path, test)


def test_sync_names_the_first_event_that_it_still_has(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve(1)
        await site.reserve(2)
        await site.until(lambda: len(site.events) == 2)
        agent = site.plant.agent
        assert agent is not None
        agent.store._writer.execute("DELETE FROM outbox WHERE sequence = 1")
        answer = await page(site, 1)
        assert answer.oldest_sequence == 2
        assert [event.sequence for event in answer.events] == [2]

    at_site(tmp_path, test)


def test_a_sequence_must_be_a_positive_integer(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        for wrong in (0, -1, "1", 1.5, None):
            reply = await site.plant.broker.call("sync", {"request_id": "s", "from_sequence": wrong})
            assert reply["error"]["code"] == 3
            assert "from_sequence" in reply["error"]["message"]

    at_site(tmp_path, test)


def test_another_journal_has_another_id(tmp_path: Path) -> None:
    ids = set()
    for name in ("a", "a", "b"):
        store = JournalStore(tmp_path / name)
        ids.add(store.journal_id)
        store.close()
    assert len(ids) == 2


def test_the_largest_answer_of_512_cells_fits_into_what_the_shipped_broker_takes(tmp_path: Path) -> None:
    config = (Path(__file__).parents[2] / "config/mosquitto/mosquitto.conf").read_text(encoding="utf-8")
    (limit,) = (int(line.split()[1]) for line in config.splitlines() if line.startswith("max_packet_size "))

    async def test(site: Site) -> None:
        sizes: list[int] = []
        for number in range(8):
            await site.reserve(number, notes="\U0001f4e6" * 1024, webhook_url=f"https://e/{'x' * 240}")
        site.plant.broker.on_message = lambda message: sizes.append(len(message.payload.encode()))
        await page(site, 10**9)
        reservation = sizes[-1] // 8
        await page(site, 1)
        event = (sizes[-1] - 8 * reservation) // 8
        assert 512 * reservation + SYNC_PAGE * event < limit

    at_site(tmp_path, test)


def test_a_reply_is_journaled_as_it_was_published(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        heard: list[str] = []
        site.plant.broker.on_message = lambda message: heard.append(message.payload)
        made = await site.reserve(1, notes="พัสดุ 📦")
        assert made["notes"] == "พัสดุ 📦"
        await page(site, 10**9)
        await site.plant.broker.call("get-reservation", {"request_id": "g", "reservation_id": "ผิด"})
        replies = [payload for payload in heard if payload.startswith(('{"result"', '{"error"'))]
        assert len(replies) == 3
        assert all("\\u" not in payload for payload in replies)

    at_site(tmp_path, test)
