"""A larger cell at the kiosk's screen: who gets it, and by what session."""

from __future__ import annotations

from pathlib import Path

from edge_agent.console.screen.sessions import SESSIONS_MAX, KioskSessions
from edge_agent.errors import Code, Refusal
from edge_agent.model import CellStatus
from edge_agent.runtime.ids import Ids
from edge_agent.statemachine.outputs import Answer
from tests.console.test_screen import OWN, client_of, entered
from tests.support.site import Site, at_site


def test_a_drop_off_gets_a_larger_cell_once(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(1)
        label = made["cell"]["description"]
        async with client_of(site) as client:
            opened = await entered(client, made["drop_off_code"])
            session = opened["larger"]["session"]
            answer = await client.post("/larger-cell", json={"session": session}, headers={"Origin": OWN})
            moved = answer.json()
            assert (moved["result"], moved["purpose"], "larger" in moved) == ("opened", "dropoff", False)
            assert moved["cell"] != label
            agent = site.plant.agent
            assert agent is not None
            assert agent.loop.state.cells[label].status is CellStatus.AWAITING_INSPECTION
            again = await client.post("/larger-cell", json={"session": session}, headers={"Origin": OWN})
            assert again.json() == {"result": "try_again"}
            site.plant.world.close(moved["cell"])
            await site.until(lambda: "DROPOFF" in site.types())

    at_site(tmp_path, test)


def test_no_larger_cell_without_a_session(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(1)
        async with client_of(site) as client:
            await entered(client, made["drop_off_code"])
            for session in ("x", made["drop_off_code"], "res_1"):
                answer = await client.post("/larger-cell", json={"session": session}, headers={"Origin": OWN})
                assert answer.json() == {"result": "too_late"}
            for body in ({}, {"session": ""}, {"session": 1}, {"reservation_id": "res_1"}):
                answer = await client.post("/larger-cell", json=body, headers={"Origin": OWN})
                assert answer.status_code == 400
                assert "session" in answer.text
        assert site.plant.agent is not None
        assert site.plant.agent.loop.state.reservations["res_1"].cell == made["cell"]["description"]

    at_site(tmp_path, test)


def test_a_request_that_fails_after_the_move_names_the_new_cell(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(1)
        agent = site.plant.agent
        assert agent is not None

        async def too_late(reservation_id: str) -> Answer:
            """It has moved, and then waited for other doors."""
            await agent.local.larger_cell(reservation_id)
            return Answer("a", refusal=Refusal(Code.EXPIRED, "the command expired while it waited"))

        async with client_of(site) as client:
            opened = await entered(client, made["drop_off_code"])
        result = await agent.screen_feed.larger_cell(opened["larger"]["session"], too_late)
        moved = agent.loop.state.reservations["res_1"].cell
        assert moved != opened["cell"]
        assert result == {"result": "not_opened", "cell": moved}

    at_site(tmp_path, test)


def test_a_session_ends_with_its_time_and_with_newer_ones() -> None:
    sessions = KioskSessions(Ids())
    first = sessions.begin("res_1", 10)
    assert sessions.reservation_of(first, 9) == "res_1"
    assert sessions.reservation_of(first, 10) is None
    second = sessions.begin("res_1", 10)
    assert (sessions.reservation_of(first, 0), sessions.reservation_of(second, 0)) == (None, "res_1")
    for number in range(SESSIONS_MAX):
        sessions.begin(f"res_{number + 2}", 10)
    assert sessions.reservation_of(second, 0) is None
