"""X-Request-ID: the same again gives the same answer and acts once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.cloud_gateway.support import (
    MACHINE,
    OTHER_KEY,
    RESERVE,
    Peer,
    bench,
    error,
    eventually,
    running_gateway,
    settings,
    silent,
)
from tests.support.broker import Broker


async def test_a_repeated_request_gets_the_same_response_and_acts_once(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        first = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
        again = await gateway.post("/reservations", dict(reversed(RESERVE.items())), X_Request_ID="r1")
        assert (first.status_code, first.content) == (again.status_code, again.content)
        assert again.headers["x-request-id"] == "r1"
        assert len(peer.commands) == 1


async def test_concurrent_equal_requests_act_once(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        calls = [gateway.post("/reservations", RESERVE, X_Request_ID="r1") for _ in range(5)]
        answers = await asyncio.gather(*calls)
        assert {answer.content for answer in answers} == {answers[0].content}
        assert [answer.status_code for answer in answers] == [200] * 5
        assert len(peer.commands) == 1


async def test_another_body_is_an_invalid_argument_also_at_the_same_time(
    tmp_path: Path, broker: Broker
) -> None:
    other = {**RESERVE, "notes": "other"}
    async with bench(tmp_path, broker.port) as (gateway, peer):
        first, second = await asyncio.gather(
            gateway.post("/reservations", RESERVE, X_Request_ID="r1"),
            gateway.post("/reservations", other, X_Request_ID="r1"),
        )
        assert sorted((first.status_code, second.status_code)) == [200, 400]
        third = await gateway.post(
            "/reservations", other if first.status_code == 200 else RESERVE, X_Request_ID="r1"
        )
        assert (third.status_code, third.json()["code"]) == (400, 3)
        assert "X-Request-ID" in third.json()["message"]
        assert len(peer.commands) == 1


async def test_another_platform_or_path_is_another_request(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        first = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
        second = await gateway.post("/reservations", RESERVE, X_Request_ID="r1", X_API_Key=OTHER_KEY)
        assert second.status_code == 200
        assert first.json()["reservation_id"] != second.json()["reservation_id"]
        path = f"/reservations/{first.json()['reservation_id']}"
        for action in ("dropoffs", "pickups"):
            assert (await gateway.post(f"{path}/{action}", X_Request_ID="r1")).status_code == 200
        ids = {command.body["request_id"] for command in peer.commands}
        assert len(ids) == len(peer.commands) == 4


async def test_a_refusal_is_kept_too(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        peer.scripts["reserve"] = error(8, "all that fit are taken")
        first = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
        del peer.scripts["reserve"]
        again = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
        assert first.status_code == again.status_code == 429
        assert first.content == again.content
        assert len(peer.commands) == 1


async def test_answers_outlive_the_gateway(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        first = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
        rid = first.json()["reservation_id"]
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        again = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")  # the machine is gone
        assert (first.status_code, first.content) == (again.status_code, again.content)
        other = await gateway.post("/reservations", {**RESERVE, "notes": "x"}, X_Request_ID="r1")
        assert other.json()["code"] == 3
        assert (await gateway.get(f"/reservations/{rid}")).status_code == 200
    assert len(peer.commands) == 1


async def test_after_expired_the_request_may_be_retried_under_the_same_ids(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        peer.scripts["reserve"] = silent
        response = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
        assert response.json()["code"] == 4
        del peer.scripts["reserve"]
        response = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
        assert response.status_code == 200
        first, second = (command.body for command in peer.commands)
        assert first["request_id"] == second["request_id"]
        assert first["reservation_id"] == second["reservation_id"] == response.json()["reservation_id"]
        assert first["expires_at"] < second["expires_at"]
        assert peer.commands[0].correlation != peer.commands[1].correlation


async def test_after_offline_the_request_may_be_retried(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        await asyncio.to_thread(peer.online, False)
        await eventually(lambda: not gateway.machines.is_online(MACHINE))
        response = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
        assert response.json()["code"] == 14
        await asyncio.to_thread(peer.online, True)
        await gateway.sees()
        assert (await gateway.post("/reservations", RESERVE, X_Request_ID="r1")).status_code == 200
        assert len(peer.commands) == 1


async def test_expired_from_the_machine_is_not_final(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        peer.scripts["reserve"] = error(4, "the command has expired")
        response = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
        assert response.status_code == 504
        del peer.scripts["reserve"]
        assert (await gateway.post("/reservations", RESERVE, X_Request_ID="r1")).status_code == 200


async def test_a_restart_between_request_and_response_acts_once(tmp_path: Path, broker: Broker) -> None:
    peer = Peer(broker.port, scripts={"reserve": silent})
    await asyncio.to_thread(peer.start)
    try:
        async with running_gateway(settings(tmp_path, broker.port)) as gateway:
            await gateway.sees()
            asking = asyncio.create_task(gateway.post("/reservations", RESERVE, X_Request_ID="r1"))
            await eventually(lambda: peer.late)
            asking.cancel()
            await asyncio.wait([asking])
        peer.late.pop()()
        del peer.scripts["reserve"]
        async with running_gateway(settings(tmp_path, broker.port)) as gateway:
            await gateway.sees()
            response = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
            assert response.status_code == 200
            assert list(peer.reservations) == [response.json()["reservation_id"]]
    finally:
        await asyncio.to_thread(peer.stop)
