"""What telemetry publishes, and when."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cloud.telemetry import BEAT_S, HEALTH_PAUSE_S
from edge_agent.errors import StorageFault
from edge_agent.mqtt.messages import Message
from tests.support.site import Site, at_site


def listening(site: Site) -> list[dict[str, Any]]:
    """What arrives on `telemetry` from now on."""
    heard: list[dict[str, Any]] = []

    def note(message: Message) -> None:
        if message.topic.endswith("/telemetry"):
            assert (message.qos, message.retain) == (0, False)
            heard.append(json.loads(message.payload))

    site.plant.broker.on_message = note
    return heard


def test_a_door_change_and_then_its_alarms_are_published(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await asyncio.sleep(5)
        heard = listening(site)
        site.plant.world.open("A01")
        await asyncio.sleep(2.5)
        rows = [[(c["label"], c["door"], c["alarms"]) for c in body["cells"]] for body in heard]
        assert rows == [[("A01", "open", [])], [("A01", "open", ["DOOR_FORCED", "SENSOR_FAULT"])]]
        assert heard[0]["at"].endswith("Z")
        assert "buses" not in heard[0]

    at_site(tmp_path, test)


@pytest.mark.behaviour("reservation-27")
def test_the_beat_publishes_everything_and_overdue_reservations(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve(1, eta_minutes=1)
        await site.reserve(2, eta_minutes=600)
        heard = listening(site)
        await asyncio.sleep(3 * BEAT_S)
        full = [body for body in heard if "buses" in body]
        assert len(full) == 3
        assert len(full[-1]["cells"]) == 24
        assert full[-1]["buses"]["main"]["requests"] > full[0]["buses"]["main"]["requests"]
        assert not full[0]["overdue"]
        (late,) = full[-1]["overdue"]
        assert late["reservation_id"] == "res_1"
        assert 30 < late["overdue_s"] < 180
        assert "code" not in json.dumps(heard)

    at_site(tmp_path, test)


def test_the_beat_publishes_figures_of_the_machine_and_its_locks(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        heard = listening(site)
        agent = site.plant.agent
        assert agent is not None
        await agent.local.open_cell("A02", "looks inside")
        await site.until(lambda: agent.store.lock_figures(10) != [])
        await site.until(lambda: any(body.get("figures", {}).get("locks") for body in heard), 2 * BEAT_S)
        figures = heard[-1]["figures"]
        assert figures["locks"] == [{"label": "A02", "unlocks": 1, "opened_first": 1}]
        assert figures["worn"] == []
        assert figures["events_waiting"] == 0
        assert figures["up_since"].endswith("Z")

    at_site(tmp_path, test)


def test_without_a_link_nothing_is_kept_and_the_next_beat_publishes_all(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        heard = listening(site)
        await site.plant.kill()
        site.plant.start()
        site.plant.world.open("A02")
        await site.until(lambda: any("buses" in body for body in heard))
        doors = {cell["label"]: cell["door"] for cell in heard[-1]["cells"]}
        assert doors["A02"] == "open"

    at_site(tmp_path, test)


def test_telemetry_needs_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(site: Site) -> None:
        assert site.plant.agent is not None

        def unreadable() -> int:
            raise StorageFault("journal: disk I/O error")

        monkeypatch.setattr(site.plant.agent.store, "outbox_size", unreadable)
        heard = listening(site)
        await asyncio.sleep(2 * BEAT_S)
        assert len([body for body in heard if "buses" in body]) == 2

    at_site(tmp_path, test)


def test_the_retained_health_is_right_in_the_end(tmp_path: Path) -> None:
    """Also if a change came with a new challenge or connection, and ended before the next look."""

    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        topic = "locker/v1/machine_123/state/online"
        await site.until(lambda: topic in site.plant.broker.retained)
        await asyncio.sleep(HEALTH_PAUSE_S)
        await agent.local.block("C08", "hinge")
        await site.until(lambda: json.loads(site.plant.broker.retained[topic])["health"]["cells_out"] == 1)
        await agent.local.unblock("C08")  # within the pause: it is not published yet
        agent.link.publish(Message(topic, agent._online(True), retain=True))
        await agent.local.block("C08", "hinge")
        await asyncio.sleep(2 * HEALTH_PAUSE_S)
        assert json.loads(site.plant.broker.retained[topic])["health"]["cells_out"] == 1

    at_site(tmp_path, test)
