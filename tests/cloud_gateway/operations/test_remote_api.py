"""Remote work by `/api/operations/v1`: a real gateway, a real broker, a machine played over MQTT."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine

from cloud_gateway.db.tables import metadata
from cloud_gateway.keys import main as make_key
from cloud_gateway.remote.releases import ReleaseRow, add_release, end_release, pause_release, set_sent
from cloud_gateway.settings import Settings
from cloud_gateway.users import Role
from cloud_gateway.users import main as users
from edge_agent.errors import Code
from edge_agent.protocol.signing import SIGNATURE_KEY
from tests.cloud_gateway.support import (
    MACHINE,
    OPERATIONS_KEY,
    Gateway,
    Peer,
    Received,
    eventually,
    running_gateway,
    settings,
)
from tests.support.broker import Broker

V1 = "/api/operations/v1"
PASSWORD = "correct horse battery"
ADA = httpx.BasicAuth("ada", OPERATIONS_KEY)


def with_key(folder: Path, given: Settings) -> Settings:
    """The settings with a service key."""
    file = folder / "service.key"
    if not file.exists():
        assert make_key(["--name", "ops", str(file)]) == 0
    mqtt = given.mqtt.model_copy(update={"service_key_file": str(file), "service_key_name": "ops"})
    return given.model_copy(update={"mqtt": mqtt})


class Operations:
    """An operator at a gateway, and machines that accept remote work."""

    def __init__(self, gateway: Gateway, peers: list[Peer]) -> None:
        self.gateway, self.peers = gateway, peers
        self.peer = peers[0]

    async def call(self, method: str, path: str, body: Any = None, auth: Any = ADA) -> httpx.Response:
        return await self.gateway.http.request(method, V1 + path, json=body, auth=auth)

    async def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        body = {"command": command, "arguments": arguments}
        response = await self.call("POST", f"/machines/{MACHINE}/service-commands", body)
        assert response.status_code == 202, response.text
        made: dict[str, Any] = response.json()
        return made

    async def until(self, request_id: str, state: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while found.get("state") != state:
            found = (await self.call("GET", f"/service-commands/{request_id}")).json()
            assert found["state"] not in ("DONE", "FAILED") or found["state"] == state, found
        return found

    async def acts(self) -> list[tuple[str, str]]:
        text = (await self.gateway.http.get("/operations/acts.jsonl", auth=ADA)).text
        return [(row["act"], row["result"]) for row in map(json.loads, text.splitlines())]


def accepts(body: dict[str, Any]) -> dict[str, Any]:
    return {"result": {"request_id": body["request_id"], "state": "RUNNING"}}


@asynccontextmanager
async def operations(folder: Path, broker: Broker, *, machines: int = 1) -> AsyncIterator[Operations]:
    names = [MACHINE, *(f"machine_{n}" for n in range(2, machines + 1))]
    peers = [Peer(broker.port, name) for name in names]
    for peer in peers:
        peer.scripts = dict.fromkeys(("diagnose", "logs", "config-set", "update", "bundle"), accepts)
        peer.start()
    try:
        given = with_key(folder, settings(folder, broker.port))
        async with running_gateway(given) as gateway:
            for name in names:
                await gateway.sees(name)
            yield Operations(gateway, peers)
    finally:
        for peer in peers:
            peer.stop()


def report(peer: Peer, received: Received, content: bytes | None = None, **changes: Any) -> None:
    """What a machine publishes of a command: its result in two parts, or what `changes` say."""
    body = {
        "machine_id": peer.machine_id,
        "request_id": received.body["request_id"],
        "command": received.name,
        "by": received.body["by"],
        "key": "ops",
        "received_at": "2026-01-01T00:00:00Z",
        "state": "DONE",
    }
    if content is None:
        peer.publish(peer.topics.service, json.dumps(body | changes).encode())
        return
    whole = {
        "content_type": "application/json",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "parts": 2,
    }
    middle = len(content) // 2
    for number, part in enumerate((content[:middle], content[middle:]), 1):
        data = {"part": number, "data": base64.b64encode(part).decode()}
        peer.publish(peer.topics.service, json.dumps(body | whole | data | changes).encode())


async def test_a_self_test_is_requested_signed_and_its_result_read(tmp_path: Path, broker: Broker) -> None:
    async with operations(tmp_path, broker) as at:
        made = await at.request("diagnose", outputs=False)
        assert made["state"] == "RUNNING"
        (received,) = at.peer.commands
        assert received.name == "diagnose"
        assert received.user[SIGNATURE_KEY] == "ops"
        assert received.body["by"] == "ada (operations key)"
        assert (await at.call("GET", f"/service-commands/{made['request_id']}/result")).status_code == 404
        content = b'[{"check": "daemon", "verdict": "good"}]'
        report(at.peer, received, content)
        report(at.peer, received, content)  # each comes at least once
        done = await at.until(made["request_id"], "DONE")
        assert (done["content_type"], done["bytes"]) == ("application/json", len(content))
        result = await at.call("GET", f"/service-commands/{made['request_id']}/result")
        assert result.content == content
        listed = (await at.call("GET", f"/machines/{MACHINE}/service-commands")).json()
        assert [one["request_id"] for one in listed] == [made["request_id"]]
        assert await at.acts() == [("request diagnose", "done")]


@pytest.mark.parametrize(
    "changes",
    [{"sha256": "0" * 64}, {"bytes": 3}, {"data": "?"}, {"part": 3}],
    ids=["another digest", "another length", "no base64", "a part too many"],
)
async def test_a_damaged_result_is_a_failure_and_not_shown(
    tmp_path: Path, broker: Broker, changes: dict[str, Any]
) -> None:
    async with operations(tmp_path, broker) as at:
        made = await at.request("logs")
        report(at.peer, at.peer.commands[0], b"[1, 2, 3]", **changes)
        failed = await at.until(made["request_id"], "FAILED")
        assert failed["error"]["code"] == Code.INTERNAL
        assert (await at.call("GET", f"/service-commands/{made['request_id']}/result")).status_code == 404


async def test_a_machine_reports_its_own_requests_only(tmp_path: Path, broker: Broker) -> None:
    async with operations(tmp_path, broker, machines=2) as at:
        made = await at.request("diagnose")
        other, received = at.peers[1], at.peer.commands[0]
        report(other, received, b"[]")  # in its own name: not its request
        report(other, received, b"[]", machine_id=MACHINE)  # in the name of another one
        await eventually(lambda: at.gateway.app.state.parts.accounts.rejected("machine_2") == 2)
        assert (await at.call("GET", f"/service-commands/{made['request_id']}")).json()["state"] == "RUNNING"


async def test_what_the_machine_refuses_is_a_failure_with_its_words(tmp_path: Path, broker: Broker) -> None:
    async with operations(tmp_path, broker) as at:
        refusal = {"code": 7, "message": "key 'ops' has no right to diagnose", "details": []}
        at.peer.scripts["diagnose"] = lambda _: {"error": refusal}
        made = await at.request("diagnose")
        assert (made["state"], made["error"]) == ("FAILED", refusal)


async def test_wrong_requests_are_refused_and_sent_to_nobody(tmp_path: Path, broker: Broker) -> None:
    async with operations(tmp_path, broker) as at:
        path = f"/machines/{MACHINE}/service-commands"
        for body, field in (
            ({"command": "shell"}, "command"),
            ({"command": "open-door"}, "command"),
            ({"command": "config-set"}, "command"),
            ({"command": "update"}, "command"),
            ({"command": "logs", "arguments": {"limit": 0}}, "limit"),
            ({"command": "logs", "arguments": {"level": "loud"}}, "level"),
            ({"command": "diagnose", "arguments": {"doors": True}}, "arguments.doors"),
        ):
            response = await at.call("POST", path, body)
            assert response.status_code == 400, response.text
            assert response.json()["message"].startswith(field), response.text
        offline = await at.call("POST", "/machines/machine_x/service-commands", {"command": "diagnose"})
        assert offline.status_code == 503
        assert at.peer.commands == []


async def test_without_a_service_key_nothing_is_requested(tmp_path: Path, broker: Broker) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        at = Operations(gateway, [Peer(broker.port)])
        body = {"command": "diagnose"}
        for method, path, given in (
            ("POST", f"/machines/{MACHINE}/service-commands", body),
            ("PUT", f"/machines/{MACHINE}/configuration", {"settings": {}}),
            ("POST", "/releases", {"version": "1"}),
        ):
            response = await at.call(method, path, given)
            assert (response.status_code, response.json()["code"]) == (501, Code.NOT_BUILT)


def reported(peer: Peer, version: int | None, **changes: Any) -> None:
    body = {"machine_id": peer.machine_id, "hash": "h", "version": version} | changes
    peer.publish(peer.topics.configuration, json.dumps(body).encode())


async def test_a_wanted_configuration_is_sent_once_and_reported(tmp_path: Path, broker: Broker) -> None:
    async with operations(tmp_path, broker) as at:
        path = f"/machines/{MACHINE}/configuration"
        reported(at.peer, 4)
        async with at_reported(at, path, 4):
            wanted = await at.call("PUT", path, {"settings": {"doors.door_ajar_s": 90}})
        assert wanted.json()["version"] == 5  # higher than any that the machine has seen
        await eventually(lambda: at.peer.commands)
        (received,) = at.peer.commands
        assert (received.name, received.body["version"]) == ("config-set", 5)
        assert received.body["settings"] == {"doors.door_ajar_s": 90}
        drift = [{"key": "machine.name", "local": "x"}]
        reported(at.peer, 5, settings={"doors.door_ajar_s": 90}, drift=drift)
        async with at_reported(at, path, 5):
            pass
        found = (await at.call("GET", path)).json()
        assert found["reported"]["drift"] == [{"key": "machine.name", "local": "x"}]
        assert len(at.peer.commands) == 1
        assert ("set configuration", "done") in await at.acts()


async def test_what_a_machine_refuses_stands_with_its_wanted_configuration(
    tmp_path: Path, broker: Broker
) -> None:
    async with operations(tmp_path, broker) as at:
        path = f"/machines/{MACHINE}/configuration"
        body = {"settings": {"doors.door_ajar_s": 0}, "reason": "they close slowly"}
        wanted = await at.call("PUT", path, body)
        assert "sent" not in wanted.json()
        await eventually(lambda: at.peer.commands)
        error = {"code": 3, "message": "doors.door_ajar_s: must be at least 1", "details": []}
        report(at.peer, at.peer.commands[0], state="FAILED", error=error)
        await at.until(at.peer.commands[0].body["request_id"], "FAILED")
        found = (await at.call("GET", path)).json()
        assert (found["sent"]["state"], found["sent"]["error"]) == ("FAILED", error)
        again = await at.call("PUT", path, {"settings": {}})
        assert "sent" not in again.json()  # the refusal was of the version before
        text = (await at.gateway.http.get("/operations/acts.jsonl", auth=ADA)).text
        assert f'"target": "{MACHINE} version 1 (they close slowly)"' in text


async def test_a_key_that_is_not_on_the_closed_list_is_not_sent(tmp_path: Path, broker: Broker) -> None:
    async with operations(tmp_path, broker) as at:
        path = f"/machines/{MACHINE}/configuration"
        listed = (await at.call("GET", "/remote-settings")).json()
        assert {"key": "doors.door_ajar_s", "kind": "integer", "choices": []} in listed
        for key in ("doors.closed_level", "access.technicians", "climate.a.b.setpoint_c", "unlock.attempts"):
            refused = await at.call("PUT", path, {"settings": {"machine.name": "North", key: 1}})
            assert (refused.status_code, refused.json()["code"]) == (400, Code.INVALID_ARGUMENT)
            assert refused.json()["message"] == f"settings.{key}: cannot be set remotely"
        assert "version" not in (await at.call("GET", path)).json()
        assert at.peer.commands == []


@asynccontextmanager
async def at_reported(at: Operations, path: str, version: int) -> AsyncIterator[None]:
    """Goes on when the gateway has taken in a reported version."""
    while (await at.call("GET", path)).json().get("reported", {}).get("version") != version:
        pass
    yield


async def test_a_release_goes_to_five_and_stops_at_the_first_fallback(tmp_path: Path, broker: Broker) -> None:
    async with operations(tmp_path, broker, machines=8) as at:
        begun = (await at.call("POST", "/releases", {"version": "0.3.0"})).json()
        assert begun["results"] == {"WAITING": 8}
        path = f"/releases/{begun['release_id']}"

        def asked() -> list[tuple[Peer, Received]]:
            return [(peer, one) for peer in at.peers for one in peer.commands]

        await eventually(lambda: len(asked()) == 5)
        assert {one.body["version"] for _, one in asked()} == {"0.3.0"}
        (first, received), (second, other) = asked()[:2]
        report(first, received, b'{"version": "0.3.0"}')
        failure = {"code": 9, "message": "REVERTED: the daemon does not answer", "details": []}
        report(second, other, state="FAILED", error=failure)
        view: dict[str, Any] = {"state": "RUNNING"}
        while view["state"] == "RUNNING":
            view = (await at.call("GET", path)).json()
        assert view["state"] == "STOPPED"
        assert view["reason"].startswith("1 of 5 machines of wave 1 went back")
        assert view["results"] == {"APPLIED": 1, "REVERTED": 1, "SENT": 3, "WAITING": 3}
        assert len(asked()) == 5
        stopped = await at.call("POST", f"{path}/stop")
        assert stopped.json()["state"] == "STOPPED"
        wrong = await at.call("POST", "/releases", {"version": "1", "machine_ids": ["nobody"]})
        assert wrong.json()["message"] == "machine_ids[0]: no machine nobody is known"


async def test_a_paused_release_reaches_nobody_until_it_is_resumed(tmp_path: Path, broker: Broker) -> None:
    async with operations(tmp_path, broker, machines=8) as at:
        begun = (await at.call("POST", "/releases", {"version": "0.3.0"})).json()
        assert [one["wave"] for one in begun["waves"]] == [1, 4]
        path = f"/releases/{begun['release_id']}"

        def asked() -> list[tuple[Peer, Received]]:
            return [(peer, one) for peer in at.peers for one in peer.commands]

        await eventually(lambda: len(asked()) == 5)
        paused = (await at.call("POST", f"{path}/pause")).json()
        assert paused["state"] == "PAUSED"
        for peer, received in asked():
            report(peer, received, b'{"version": "0.3.0"}')
        view: dict[str, Any] = {"results": {}}
        while view["results"].get("APPLIED") != 5:  # what comes meanwhile is recorded
            view = (await at.call("GET", path)).json()
        assert view["waves"][0] == {"wave": 1, "results": {"APPLIED": 5}}
        assert (view["state"], len(asked())) == ("PAUSED", 5)
        await at.gateway.app.state.parts.remote._send_releases()  # a round of its own: still nobody
        assert len(asked()) == 5
        assert (await at.call("POST", f"{path}/resume")).json()["state"] == "RUNNING"
        await eventually(lambda: len(asked()) == 8)
        await at.call("POST", f"{path}/pause")
        stopped = (await at.call("POST", f"{path}/stop")).json()
        assert (stopped["state"], stopped["reason"]) == ("STOPPED", "stopped by ada (operations key)")
        assert (await at.call("POST", f"{path}/resume")).json()["state"] == "STOPPED"  # it is over
        acts = [one for one in await at.acts() if "release" in one[0]]
        assert acts == [
            ("begin release", "done"),
            ("pause release", "done"),
            ("resume release", "done"),
            ("pause release", "done"),
            ("stop release", "done"),
            ("resume release", "nothing to do"),
        ]


def test_a_release_that_was_paused_meanwhile_is_not_sent() -> None:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.begin() as db:
        add_release(db, ReleaseRow("rel_1", "0.3.0", "ada", 0.0), ["m1", "m2"])
        assert pause_release(db, "rel_1", paused=True)
        assert not pause_release(db, "rel_1", paused=True)
        assert not set_sent(db, "rel_1", "m1", "svc_1", 1.0)
        assert pause_release(db, "rel_1", paused=False)
        assert set_sent(db, "rel_1", "m1", "svc_1", 1.0)
        assert end_release(db, "rel_1", "STOPPED", "", 2.0)
        assert not set_sent(db, "rel_1", "m2", "svc_2", 3.0)


ACTS: tuple[tuple[str, str, Any, Role], ...] = (
    ("GET", f"/machines/{MACHINE}/service-commands", None, Role.READER),
    ("GET", "/service-commands/svc_1", None, Role.READER),
    ("GET", f"/machines/{MACHINE}/configuration", None, Role.READER),
    ("GET", "/remote-settings", None, Role.READER),
    ("GET", "/releases", None, Role.READER),
    ("GET", "/releases/rel_1", None, Role.READER),
    ("GET", "/service-commands/svc_1/result", None, Role.SUPPORT),
    ("POST", f"/machines/{MACHINE}/service-commands", {"command": "diagnose"}, Role.SUPPORT),
    ("POST", f"/machines/{MACHINE}/service-commands", {"command": "bundle"}, Role.SUPPORT),
    ("POST", f"/machines/{MACHINE}/service-commands", {"command": "logs"}, Role.SUPPORT),
    ("POST", f"/machines/{MACHINE}/service-commands", {"command": "restart-service"}, Role.OPERATOR),
    ("PUT", f"/machines/{MACHINE}/configuration", {"settings": {}}, Role.OPERATOR),
    ("POST", "/releases", {"version": "1"}, Role.OPERATOR),
    ("POST", "/releases/rel_1/stop", None, Role.OPERATOR),
    ("POST", "/releases/rel_1/pause", None, Role.OPERATOR),
    ("POST", "/releases/rel_1/resume", None, Role.OPERATOR),
)


async def test_no_role_exceeds_itself(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "users.toml"
    for role in Role:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
        assert users(["set", "--file", str(file), "--name", str(role), "--role", str(role)]) == 0
    given = with_key(tmp_path, settings(tmp_path, broker.port))
    given = given.model_copy(update={"users_file": str(file)})
    async with running_gateway(given) as gateway:
        at = Operations(gateway, [Peer(broker.port)])
        for method, path, body, needed in ACTS:
            for role in Role:
                response = await at.call(method, path, body, httpx.BasicAuth(str(role), PASSWORD))
                refused = response.status_code == 403 and response.json()["code"] == Code.PERMISSION_DENIED
                assert refused is not role.may(needed), (method, path, role, response.text)
            response = await at.call(method, path, body, httpx.BasicAuth("nobody", PASSWORD))
            assert response.status_code == 401


async def test_another_site_requests_nothing(tmp_path: Path, broker: Broker) -> None:
    async with operations(tmp_path, broker) as at:
        for method, path, body, _ in ACTS:
            if method != "GET":
                response = await at.gateway.http.request(
                    method, V1 + path, json=body, auth=ADA, headers={"Sec-Fetch-Site": "cross-site"}
                )
                assert response.status_code == 403
        assert at.peer.commands == []
