"""Service commands through the whole machine: a real broker with TLS, the real link, real signatures."""

from __future__ import annotations

import base64
import hashlib
import json
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.signer import Signer
from edge_agent.errors import Code, Refusal
from edge_agent.journal.service_commands import service_commands
from edge_agent.model import Alarm
from edge_agent.process.child_command import run_command
from edge_agent.protocol.service_commands import PART_BYTES, SERVICE_COMMANDS
from tests.support.real_site import RealSite, real_site
from tests.support.secure import LOCALHOST, Keys, SecureBroker
from tests.support.sender import Sender, body_of, public_key

OPS, READER, GATEWAY = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))
SIGNER, ONLY_READS, GATE = Signer(OPS, "ops"), Signer(READER, "reader"), Signer(GATEWAY, "gateway")


@dataclass
class Remote:
    """A machine that takes service commands, its broker, and a sender."""

    site: RealSite
    sender: Sender
    broker: SecureBroker
    ran: list[list[str]] = field(default_factory=list)

    async def send(self, name: str, signer: Signer = SIGNER, **fields: Any) -> dict[str, Any]:
        """The reply to a service command."""
        body = body_of(fields.pop("request_id", f"{name}-1"), **({"by": "Ada"} | fields))
        return await self.sender.reply(self.sender.signed(name, body, signer))

    def reports(self, request_id: str) -> list[dict[str, Any]]:
        """What came on the topic `service` for a command."""
        found = [json.loads(m.payload) for m in list(self.sender.heard) if m.topic == "locker/v1/m1/service"]
        return [one for one in found if one["request_id"] == request_id]

    async def outcome(self, request_id: str) -> dict[str, Any]:
        """The report that ends a command, and under `content` its result, put together and checked."""
        await self.site.until(lambda: any(r["state"] != "RUNNING" for r in self.reports(request_id)))
        last = next(r for r in self.reports(request_id) if r["state"] != "RUNNING")
        if "parts" not in last:
            return last
        parts: dict[int, str] = {}
        await self.site.until(
            lambda: (
                parts.update({r["part"]: r["data"] for r in self.reports(request_id) if "part" in r})
                or len(parts) == last["parts"]
            )
        )
        content = b"".join(base64.b64decode(parts[number]) for number in sorted(parts))
        assert hashlib.sha256(content).hexdigest() == last["sha256"]
        assert len(content) == last["bytes"]
        return last | {"content": content}

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The journal: command, key, person, state."""
        found = service_commands(self.site.agent.store, 50)
        return [(row.command, row.key, row.actor, row.state) for row in found]


def keys_section(document: dict[str, Any]) -> None:
    every = list(SERVICE_COMMANDS)
    document["service"] = {
        "keys": {
            "ops": {"public_key": public_key(OPS), "rights": every},
            "reader": {"public_key": public_key(READER), "rights": ["bus-stats", "logs"]},
        }
    }


@asynccontextmanager
async def remote_site(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[Remote]:
    keys = Keys.make(folder / "keys")
    broker = SecureBroker(folder / "broker", keys.server, keys.authority.file)
    broker.start()
    files = {"ca_file": "keys/ca.pem", "cert_file": "keys/m1.pem", "key_file": "keys/m1.key"}
    mqtt = {"host": LOCALHOST, "port": broker.port, "tls": files}
    if options.pop("signed", True):
        mqtt["signing_keys"] = {"gateway": public_key(GATEWAY)}
    sender = Sender(broker.port, keys)
    usual: dict[str, Any] = {"synced": True, "change": keys_section}
    ran: list[list[str]] = []

    async def noting(arguments: Sequence[str], limit_s: float) -> bytes:
        ran.append(list(arguments))
        return await run_command(arguments, limit_s)

    monkeypatch.setattr("edge_agent.app.remote_parts.run_command", noting)
    try:
        async with real_site(folder, mqtt, **(usual | options)) as site:
            await site.until(lambda: sender.online().get("online"))
            yield Remote(site, sender, broker, ran)
    finally:
        sender.end()
        broker.stop(kill=True)


async def test_bus_stats_is_accepted_journaled_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remote_site(tmp_path, monkeypatch) as at:
        reply = await at.send("bus-stats", ONLY_READS)
        assert reply == {"result": {"request_id": "bus-stats-1", "state": "RUNNING"}}
        outcome = await at.outcome("bus-stats-1")
        assert (outcome["state"], outcome["by"], outcome["key"]) == ("DONE", "Ada", "reader")
        assert [row["bus"] for row in json.loads(outcome["content"])] == ["main"]
        assert at.rows() == [("bus-stats", "reader", "Ada", "DONE")]
        again = await at.sender.reply(
            at.sender.signed("bus-stats", body_of("bus-stats-1", by="Eve"), ONLY_READS)
        )
        assert again["error"]["message"] == "request_id: was used for another service command"


async def test_bus_check_and_diagnose_open_no_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.service.diagnosis.diagnose.WINDOW_S", 1.0)
    async with remote_site(tmp_path, monkeypatch) as at:
        await at.send("bus-check")
        assert {row["check"] for row in json.loads((await at.outcome("bus-check-1"))["content"])} >= {
            "answers"
        }
        await at.send("diagnose")
        findings = json.loads((await at.outcome("diagnose-1"))["content"])
        assert all({"check", "verdict"} <= set(row) for row in findings), findings[0]
        assert at.site.pulses() == 0


@pytest.mark.parametrize("name", sorted(SERVICE_COMMANDS))
async def test_a_key_requests_only_what_it_has_a_right_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with remote_site(tmp_path, monkeypatch) as at:
        needed: dict[str, dict[str, Any]] = {"config-set": {"version": 1, "settings": {}}}
        needed |= {"update": {"version": "1"}, "forget": {"reservation_ids": ["res_1"]}}
        fields = needed.get(name, {})
        allowed = name in ("bus-stats", "logs")
        reply = await at.send(name, ONLY_READS, **fields)
        assert ("result" in reply) is allowed
        if not allowed:
            assert reply["error"]["code"] == Code.PERMISSION_DENIED
            assert reply["error"]["message"] == f"key 'reader' has no right to {name}"
            assert at.rows() == []


async def test_unsigned_and_wrongly_signed_commands_do_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remote_site(tmp_path, monkeypatch) as at:
        body = body_of("r-1", by="Mallory")
        for user in ([], SIGNER.properties(at.sender.topics.command("logs"), body)):
            reply = await at.sender.reply(at.sender.send("restart-service", body, user))
            assert reply["error"]["code"] == Code.PERMISSION_DENIED
        reply = await at.send("restart-service", GATE)  # the gateway's key signs no service command
        assert reply["error"]["message"] == "the command is signed with a key that is not configured"
        await at.site.until(lambda: at.site.alarm(Alarm.COMMAND_REJECTED))
        door = body_of("d-1", reservation_id="r")
        reply = await at.sender.reply(at.sender.signed("dropoff", door, SIGNER))  # and the other way round
        assert reply["error"]["message"] == "the command is signed with a key that is not configured"
        assert at.rows() == []


async def test_an_expired_and_a_replayed_command_do_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remote_site(tmp_path, monkeypatch) as at:
        late = body_of("late", -1.0, by="Ada")
        reply = await at.sender.reply(at.sender.signed("bus-stats", late, SIGNER))
        assert reply["error"]["code"] == Code.EXPIRED
        body = body_of("once", by="Ada")
        assert "result" in await at.sender.reply(at.sender.signed("bus-stats", body, SIGNER))
        reply = await at.sender.reply(at.sender.signed("bus-stats", body, SIGNER))
        assert reply["error"]["message"] == "the same signed command was sent before"
        assert [row[0] for row in at.rows()] == ["bus-stats"]


async def test_without_a_clock_a_command_needs_the_challenge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remote_site(tmp_path, monkeypatch, synced=False, signed=False) as at:
        reply = await at.send("bus-stats")
        assert reply["error"]["code"] == Code.EXPIRED
        reply = await at.send("bus-stats", request_id="b-2", challenge=at.sender.online()["challenge"])
        assert "result" in reply


async def test_without_keys_every_service_command_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remote_site(tmp_path, monkeypatch, change=lambda document: None) as at:
        reply = await at.send("bus-stats")
        assert reply["error"]["code"] == Code.NOT_ALLOWED
        assert "has no key in [service.keys]" in reply["error"]["message"]


async def test_a_result_of_many_parts_survives_a_broken_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{"message": hashlib.sha256(b"%d" % number).hexdigest()} for number in range(2500)]
    async with remote_site(tmp_path, monkeypatch) as at:

        async def log_lines(arguments: Sequence[str], limit_s: float) -> bytes:
            return json.dumps(lines).encode()

        work: Any = at.site.agent.remote.handler._work
        work._parts = replace(work._parts, run_command=log_lines)
        link: Any = at.site.agent.link
        await at.send("logs")
        await at.site.until(lambda: any("part" in one for one in at.reports("logs-1")))
        link.client.library.socket().shutdown(2)
        outcome = await at.outcome("logs-1")
        assert outcome["parts"] > 5
        assert outcome["bytes"] > 5 * PART_BYTES
        assert json.loads(outcome["content"]) == lines
        folder = tmp_path / "journal.sqlite.results"
        await at.site.until(lambda: not list(folder.iterdir()))


async def test_what_was_interrupted_by_a_restart_is_reported_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.service.diagnosis.diagnose.WINDOW_S", 3600.0)
    async with remote_site(tmp_path, monkeypatch) as at:
        await at.send("diagnose")
        await at.site.until(lambda: at.reports("diagnose-1"))
    async with remote_site(tmp_path, monkeypatch) as at:
        outcome = await at.outcome("diagnose-1")
        assert outcome["state"] == "FAILED"
        assert outcome["error"]["message"] == "the machine restarted before the work was done"
        assert at.rows() == [("diagnose", "ops", "Ada", "FAILED")]


async def test_a_bundle_comes_whole_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remote_site(tmp_path, monkeypatch, access={}) as at:
        rid = at.site.reserve_here()
        await at.site.until(lambda: rid in at.site.agent.loop.state.reservations)
        code = at.site.agent.loop.state.reservations[rid].drop_off_code

        class Control:
            file = tmp_path / "machine.toml"

        work: Any = at.site.agent.remote.handler._work
        work._parts = replace(work._parts, control=Control())
        await at.send("bundle", self_test=False)
        outcome = await at.outcome("bundle-1")
        assert outcome["state"] == "DONE", outcome.get("error")
        with tarfile.open(fileobj=BytesIO(outcome["content"])) as archive:
            names = {Path(member.name).name for member in archive.getmembers()}
            files = [archive.extractfile(member) for member in archive.getmembers()]
            texts = "".join(file.read().decode() for file in files if file is not None)
        assert {"status.json", "events.json", "config.json", "system.txt"} <= names
        assert rid in texts
        assert f'"{code}"' not in texts
        assert at.ran[0][0] == "bundle"
        assert "--quick" in at.ran[0]


async def test_a_failing_command_names_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with remote_site(tmp_path, monkeypatch) as at:

        async def fails(arguments: Sequence[str], limit_s: float) -> bytes:
            raise Refusal(Code.INTERNAL, "edge-agent logs: journalctl is not installed")

        work: Any = at.site.agent.remote.handler._work
        work._parts = replace(work._parts, run_command=fails)
        await at.send("logs")
        outcome = await at.outcome("logs-1")
        assert (outcome["state"], outcome["error"]["message"]) == (
            "FAILED",
            "edge-agent logs: journalctl is not installed",
        )
        for name in ("config-get", "restart-service"):
            await at.send(name)
            assert (await at.outcome(f"{name}-1"))["error"]["code"] == Code.NOT_BUILT
