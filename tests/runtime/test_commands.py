"""Commands over the production composition: their replies, their events, and what a kill makes of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import cast

import httpx
import pytest

from edge_agent.console.api import ConsolePort, create_app
from edge_agent.errors import Code, Refusal
from edge_agent.journal.configurations import ConfigurationChange, keep_configuration
from edge_agent.model import CellStatus
from edge_agent.runtime.ids import Ids
from edge_agent.runtime.views import Identity, Views
from edge_agent.service import report
from edge_agent.service.timeline import Place
from edge_agent.statemachine.state import Layout
from tests.support.site import Site, at_site


@pytest.mark.behaviour("reservation-18")
def test_open_door_is_accepted_at_once_and_fulfilled_later(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        asked = {"reason": "cannot open", "platform_reference_id": "ticket_456"}
        first = await site.call("open-door", "res_1", "od-1", body=asked, x_request_id="req_xyz789")
        assert first["result"]["request_id"] == "req_xyz789"
        assert first["result"]["accepted_at"].endswith("Z")
        await site.until(lambda: bool(site.published("OPEN_DOOR_FULFILLED")))
        (event,) = site.published("OPEN_DOOR_FULFILLED")
        assert (event["reservation_id"], event["request_id"]) == ("res_1", "od-1")
        detail = event["open_door_fulfilled_event"]
        assert (detail["request_id"], detail["platform_reference_id"]) == ("req_xyz789", "ticket_456")
        assert (detail["outcome"], detail["source_type"]) == ("OPENED", "SOURCE_TYPE_API")
        assert detail["cell"] == made["cell"]
        assert "reason" not in detail
        site.plant.world.close(made["cell"]["description"])
        again = await site.call("open-door", "res_1", "od-1", body=asked, x_request_id="req_xyz789")
        assert again == first
        assert site.pulses() == 1

    at_site(tmp_path, test)


def test_an_accepted_open_door_ends_with_an_event_also_when_the_machine_dies(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        for number in range(1, 8):
            await site.reserve(number)
        agent = site.plant.agent
        assert agent is not None
        busy = [asyncio.create_task(site.call("dropoff", f"res_{number}")) for number in range(2, 8)]
        asking = asyncio.create_task(site.call("open-door", "res_1", "od-1"))
        loop = agent.loop

        def queued() -> list[str | None]:
            return [loop.state.unlock_attempts[unlock_id].request_key for unlock_id in loop.state.queue]

        await site.until(lambda: "od-1" in queued())
        assert agent.store.request("od-1") is not None
        await site.plant.kill()
        site.plant.start()
        assert "result" in await asking
        await asyncio.gather(*busy)
        await site.until(lambda: bool(site.published("OPEN_DOOR_FULFILLED")))
        (event,) = site.published("OPEN_DOOR_FULFILLED")
        detail = event["open_door_fulfilled_event"]
        assert (detail["outcome"], detail["reason"]) == (
            "NO_MOVEMENT",
            "the machine restarted before the lock was pulsed",
        )
        opened = {actuation.label for actuation in site.plant.world.actuations()}
        assert detail["cell"]["description"] not in opened

    at_site(tmp_path, test)


def test_an_accessible_reservation_gets_a_cell_within_reach(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        assert site.plant.agent is not None
        low = {label for label, spec in site.plant.agent.loop.layout.specs.items() if spec.low}
        made = [await site.reserve(number, accessible=number % 2 == 0) for number in (1, 2)]
        assert [one["cell"]["description"] in low for one in made] == [False, True]
        wrong = {
            "request_id": "reserve-3",
            "reservation_id": "res_3",
            "machine_id": "machine_123",
            "platform_order_id": "o",
            "packaging": {"width": 200, "height": 100, "depth": 300},
            "accessible": "yes",
        }
        reply = await site.plant.broker.call("reserve", wrong)
        assert reply["error"]["message"].startswith("accessible: ")

    at_site(tmp_path, test)


@pytest.mark.behaviour("reservation-16")
def test_the_last_window_holds_over_a_restart_and_ends_with_the_next_parcel(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(grace_period_pickup_in_seconds=0)
        label = made["cell"]["description"]
        for name in ("dropoff", "pickup"):
            await site.call(name, "res_1")
            await asyncio.sleep(1)
            site.plant.world.close(label)
            await asyncio.sleep(1)
        await site.until(lambda: bool(site.published("RESERVATION_COMPLETED")))
        await site.plant.kill()
        site.plant.start()
        assert "result" in await site.call("open-door", "res_1")
        await site.until(lambda: bool(site.published("OPEN_DOOR_FULFILLED")))
        assert site.pulses() == 3
        site.plant.world.close(label)
        await asyncio.sleep(1)
        assert "result" in await site.on_cell("clear-cell", made["cell"]["cell_id"])
        number = 2
        while (await site.reserve(number))["cell"]["description"] != label:
            number += 1
        refused = await site.call("open-door", "res_1", "late")
        assert refused["error"]["code"] == 9
        await site.plant.kill()
        site.plant.start()
        refused = await site.call("open-door", "res_1", "later")
        assert refused["error"]["code"] == 9

    at_site(tmp_path, test)


@pytest.mark.behaviour("cells-02")
def test_abandon_maintenance_block_unblock_and_clear(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        label, cell_id = made["cell"]["description"], made["cell"]["cell_id"]
        assert (await site.call("abandon", "res_1", "a-0"))["error"]["code"] == 9
        await site.call("dropoff", "res_1")
        await asyncio.sleep(1)
        site.plant.world.close(label)
        await site.until(lambda: bool(site.published("DROPOFF")))
        done = await site.call("abandon", "res_1")
        assert done["result"]["reservation"]["status"] == "RESERVATION_STATUS_ABANDONED"
        assert (await site.call("pickup", "res_1"))["error"]["code"] == 9
        fields = {"description": "smells", "severity": "HIGH", "block_cell_immediately": True}
        ticket = (await site.on_cell("maintenance", cell_id, **fields))["result"]
        assert ticket["status"] == "OPEN"
        assert ticket["maintenance_ticket_id"].startswith("maint_")
        await site.until(lambda: bool(site.published("MAINTENANCE_REQUESTED")))
        (asked,) = site.published("MAINTENANCE_REQUESTED")
        detail = asked["maintenance_requested_event"]
        assert detail["maintenance_ticket_id"] == ticket["maintenance_ticket_id"]
        assert (detail["description"], detail["severity"], detail["blocked"]) == ("smells", "HIGH", True)
        agent = site.plant.agent
        assert agent is not None
        row = next(row for row in agent.report.cells() if row["label"] == label)
        assert (row["status"], row["blocked_reason"]) == ("AWAITING_CLEANUP", "smells")
        assert "result" in await site.on_cell("clear-cell", cell_id)
        assert (await site.on_cell("clear-cell", cell_id))["error"]["code"] == 9
        assert "result" in await site.on_cell("unblock-cell", cell_id)
        assert "result" in await site.on_cell("block-cell", cell_id, reason="for me")
        assert (await site.on_cell("block-cell", "cell_x", reason="x"))["error"]["code"] == 5
        assert (await site.on_cell("block-cell", cell_id))["error"]["code"] == 3
        await site.until(lambda: len(site.published("CELL_STATUS_CHANGED")) == 5)
        causes = [e["cell_status_changed_event"]["cause"] for e in site.published("CELL_STATUS_CHANGED")]
        assert causes == ["RELEASED", "BLOCKED", "CLEARED", "UNBLOCKED", "BLOCKED"]

        def flags_and_status() -> tuple[object, ...]:
            machine = json.loads(site.plant.broker.retained["locker/v1/machine_123/state/machine"])
            cell = {cell["description"]: cell for cell in machine["all_cells"]}[label]
            return cell["blocked"], cell["available"], cell["status"]

        await site.until(lambda: flags_and_status() == (True, False, "IDLE"))

    at_site(tmp_path, test)


def test_the_events_of_a_command_are_published_before_its_reply(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        for number in range(1, 6):
            made = await site.reserve(number)
            machine = json.loads(site.plant.broker.retained["locker/v1/machine_123/state/machine"])
            status = {cell["description"]: cell["status"] for cell in machine["all_cells"]}
            assert status[made["cell"]["description"]] == "RESERVED"

    at_site(tmp_path, test)


def test_a_maintenance_request_for_another_or_no_machine_is_refused(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        async def ask(**fields: str) -> dict[str, object]:
            body = {"request_id": str(len(site.plant.broker.replies)), "description": "d"}
            reply = await site.plant.broker.call("maintenance", body | fields)
            found: dict[str, object] = reply.get("error") or reply["result"]
            return found

        assert (await ask(machine_id="machine_x"))["code"] == 3
        assert (await ask())["status"] == "OPEN"
        assert (await ask(machine_id="machine_123"))["status"] == "OPEN"

    at_site(tmp_path, test)


@pytest.mark.behaviour("reservation-26")
def test_the_console_shows_what_happened_without_codes(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(eta_minutes=0, notes="[red]fragile")
        await site.call("open-door", "res_1", "od-1", body={"reason": "help"})
        await site.until(lambda: bool(site.published("OPEN_DOOR_FULFILLED")))
        await asyncio.sleep(2)
        agent = site.plant.agent
        assert agent is not None
        app = create_app(ConsolePort(agent.local, agent.report))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as console:
            rows = (await console.get("/v1/events")).json()
            assert [row["what"].removeprefix("EVENT_TYPE_") for row in rows] == [
                "RESERVATION_CREATED",
                "INTENT",
                "OPENED",
                "OPEN_DOOR_FULFILLED",
            ]
            intent, outcome = rows[1], rows[2]
            assert (intent["purpose"], intent["reason"], intent["source"]) == (
                "open-door",
                "help",
                "SOURCE_TYPE_API",
            )
            assert (intent["pulsed"], outcome["pulsed"]) == (None, True)
            assert rows[0]["sent"] is True
            (row,) = (await console.get("/v1/reservations")).json()
            assert row["notes"] == "[red]fragile"
            assert row["overdue_s"] > 0
            everything = json.dumps([rows, row, (await console.get("/v1/status")).json()])
            assert made["drop_off_code"] not in everything.replace(made["reservation_id"], "")
            assert (await console.get("/v1/alarms")).json() == []
            assert (await console.get("/v1/events?limit=0")).json()["code"] == 3
            assert len((await console.get("/v1/events?limit=2")).json()) == 2
            label = made["cell"]["description"]
            blocked = await console.post(f"/v1/cells/{label}/block", json={"reason": "x"})
            assert blocked.json() == {"cell": {"description": label}}
            assert (await console.post(f"/v1/cells/{label}/block", json={})).status_code == 400
            assert (await console.post(f"/v1/cells/{label}/unblock")).status_code == 200
            assert (await console.post(f"/v1/cells/{label}/unblock")).status_code == 400
            assert (await console.post("/v1/cells/Z9/unblock")).status_code == 404
            assert (await console.post(f"/v1/cells/{label}/paint")).status_code == 501

    at_site(tmp_path, test)


def test_reservations_that_are_over_are_shown_on_request(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        for number in range(1, 6):
            made = await site.reserve(number)
            if number < 5:
                assert "result" in await site.call("cancel", f"res_{number}")
        agent = site.plant.agent
        assert agent is not None
        transport = httpx.ASGITransport(app=create_app(ConsolePort(agent.local, agent.report)))
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as console:

            async def shown(query: str) -> list[tuple[str, bool]]:
                rows = (await console.get(f"/v1/reservations{query}")).json()
                assert not {"drop_off_code", "pickup_code"} & rows[0].keys()
                return [(row["reservation_id"], row["live"]) for row in rows]

            everything = [*((f"res_{number}", False) for number in range(1, 5)), ("res_5", True)]
            assert await shown("") == await shown("?all=0") == everything[4:]
            assert await shown("?all=1") == everything
            assert await shown("?all=1&limit=2") == everything[2:]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(report, "PART", 3)
                assert await shown("?all=1&limit=1000") == everything
            row = (await console.get("/v1/reservations?all=1&limit=1")).json()[0]
            assert row["status"] == "RESERVATION_STATUS_CANCELLED"
            assert (row["overdue_s"], row["grace_over"]) == (None, False)
            refused = await console.get("/v1/reservations?all=1&limit=1001")
            assert (refused.status_code, refused.json()["message"]) == (400, "limit: must be 1 to 1000")
        assert made["status"] == "RESERVATION_STATUS_PENDING"

    at_site(tmp_path, test)


def test_a_reservation_whose_cell_was_removed_is_shown_without_the_cell_s_id() -> None:
    identity = Identity("machine_123", "n", "l", 0.0, 0.0)
    views = Views(identity, Layout({}), cast(Ids, None), "journal")
    assert views.cell("Z9").model_dump() == {"description": "Z9", "cell_id": None}


def test_following_returns_each_row_once_in_order(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        await site.reserve()
        seen: list[str] = []

        async def follow() -> None:
            assert agent is not None
            async for row, _place in agent.report.follow():
                seen.append(row["what"])
                if len(seen) == 4:
                    return

        following = asyncio.create_task(follow())
        await asyncio.sleep(0.1)
        await site.call("dropoff", "res_1")
        await asyncio.sleep(1)
        site.plant.world.close(agent.loop.state.reservations["res_1"].cell)
        await site.reserve(2)
        async with asyncio.timeout(30):
            await following
        assert seen[:2] == ["INTENT", "OPENED"]
        assert sorted(seen[2:]) == ["EVENT_TYPE_DROPOFF", "EVENT_TYPE_RESERVATION_CREATED"]

    at_site(tmp_path, test)


def test_following_goes_on_from_a_place_and_shows_a_new_configuration(tmp_path: Path) -> None:
    """As after a reload: the rows that came while no client could follow are shown, too."""

    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        place = agent.report.newest_place()
        await site.reserve()
        made = ConfigurationChange("reload", "bob", changes=("unlock.attempts: 3 is now 2",))
        assert keep_configuration(agent.store, made, "other", 1.75e9, agent.loop.last_sequence)
        seen: list[tuple[str, str]] = []
        for _ in range(2):
            row, place = await anext(agent.report.follow(place))
            seen.append((row["what"], row["actor"] or ""))
        assert seen == [("EVENT_TYPE_RESERVATION_CREATED", ""), ("CONFIGURATION_RELOAD", "bob")]
        assert place == agent.report.newest_place() == Place.read(str(place))
        await site.reserve(2)
        lower = Place(place.sequence + 1000, place.unlock + 1000, place.configuration + 1000)
        following = asyncio.ensure_future(anext(agent.report.follow(lower)))  # of another journal
        await asyncio.sleep(0.1)
        await site.reserve(3)
        row, _place = await following
        assert row["what"] == "EVENT_TYPE_RESERVATION_CREATED"
        assert row["reservation_id"] == "res_3"

    at_site(tmp_path, test)


@pytest.mark.parametrize("text", ["", "1", "1.2", "1.2.3.4", "a.b.c", "-1.2.3", "1.2.٣"])
def test_a_place_is_three_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="three numbers"):
        Place.read(text)


def test_a_command_for_an_unknown_cell_is_not_found(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        with pytest.raises(Refusal) as caught:
            agent.commands.translator.label_of("cell_nowhere")
        assert caught.value.code is Code.NOT_FOUND

    at_site(tmp_path, test)


HEATED = {"width": 200, "height": 100, "depth": 300, "heating_required": True}


def test_scales_reveal_an_empty_drop_off_and_a_parcel_left_behind(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None

        def alarms() -> list[tuple[str, str | None]]:
            return [(row["alarm"], row["label"]) for row in agent.report.alarms()]

        async def with_a_scale() -> tuple[str, str]:
            for number in range(1, 12):
                made = await site.reserve(number, packaging=HEATED, grace_period_pickup_in_seconds=0)
                label = made["cell"]["description"]
                if label in agent.loop.layout.weighed:
                    return made["reservation_id"], label
            raise AssertionError("no heated cell has a scale")

        rid, label = await with_a_scale()
        await site.call("dropoff", rid)
        await asyncio.sleep(1)
        site.plant.world.close(label)
        await site.until(lambda: ("EMPTY_DROPOFF", label) in alarms())
        assert site.published("DROPOFF")
        await site.call("pickup", rid)
        await asyncio.sleep(1)
        site.plant.world.place(label, 700)
        site.plant.world.close(label)
        await site.until(lambda: ("PARCEL_LEFT_BEHIND", label) in alarms())
        assert ("EMPTY_DROPOFF", label) not in alarms()
        assert agent.loop.state.cells[label].status is CellStatus.AWAITING_INSPECTION

    at_site(tmp_path, test)
