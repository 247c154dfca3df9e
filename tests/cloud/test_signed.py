"""Signed commands through the whole machine: a real broker with TLS, the real link, real doors or none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.signer import Signer
from edge_agent.model import Alarm
from edge_agent.protocol.signing import SIGNATURE, SIGNATURE_KEY
from edge_agent.runtime import command_handler as handler_module
from edge_agent.runtime.incoming import IncomingCommand
from tests.support.real_site import RealSite, real_site
from tests.support.secure import LOCALHOST, Keys, Recorder, SecureBroker
from tests.support.sender import Sender, body_of, public_key

SEED, OTHER_SEED = bytes(range(32)), bytes(range(1, 33))
SIGNER = Signer(SEED, "gateway-2026")


@dataclass
class Signed:
    """A machine that wants signatures, its broker and a sender."""

    site: RealSite
    sender: Sender
    folder: Path
    mqtt: dict[str, Any]
    logs: list[Any]

    async def reserve(self) -> str:
        rid = self.site.reserve_here()
        await self.site.until(lambda: rid in self.site.agent.loop.state.reservations)
        return rid

    def rejected(self) -> list[dict[str, Any]]:
        return [entry for entry in self.logs if entry["event"] == "command rejected"]

    def body(self, rid: str, request_id: str, **fields: Any) -> bytes:
        online = self.sender.online()
        repeated = {"challenge": online["challenge"]} if "challenge" in online else {}
        return body_of(request_id, reservation_id=rid, **(repeated | fields))


@asynccontextmanager
async def signed_site(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, synced: bool = False
) -> AsyncIterator[Signed]:
    logs: list[Any] = []
    monkeypatch.setattr(handler_module, "log", Recorder(logs))
    keys = Keys.make(folder / "keys")
    broker = SecureBroker(folder / "broker", keys.server, keys.authority.file)
    broker.start()
    files = {"ca_file": "keys/ca.pem", "cert_file": "keys/m1.pem", "key_file": "keys/m1.key"}
    known = {"gateway-2026": public_key(SEED), "gateway-2027": public_key(bytes(32))}
    mqtt = {"host": LOCALHOST, "port": broker.port, "tls": files, "signing_keys": known}
    sender = Sender(broker.port, keys)
    try:
        async with real_site(folder, mqtt, synced=synced) as site:
            await site.until(lambda: sender.online().get("online"))
            yield Signed(site, sender, folder, mqtt, logs)
    finally:
        sender.end()
        broker.stop(kill=True)


async def test_without_a_clock_a_door_opens_for_a_command_with_the_challenge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_site(tmp_path, monkeypatch) as at:
        challenge = at.sender.online()["challenge"]
        assert len(challenge) > 32
        rid = await at.reserve()
        for number, wrong in enumerate(("", "challenge_0", challenge.upper())):
            body = at.body(rid, f"w-{number}", challenge=wrong)
            # A broker may say that a message is as young as it likes.
            reply = await at.sender.reply(at.sender.signed("dropoff", body, SIGNER, expiry_s=3600))
            assert reply["error"]["code"] == 4
        assert at.site.pulses() == 0
        assert at.site.alarm(Alarm.COMMAND_REJECTED) is None
        reply = await at.sender.reply(at.sender.signed("dropoff", at.body(rid, "d-1"), SIGNER))
        assert "result" in reply, reply
        assert at.site.pulses() == 1
        echo = body_of("e-1", message="hello")  # it only asks, so it needs none
        assert (await at.sender.reply(at.sender.signed("echo", echo, SIGNER)))["result"] == {
            "message": "hello"
        }


async def test_without_a_clock_a_delayed_cancel_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_site(tmp_path, monkeypatch) as at:
        rid = await at.reserve()
        held_back = at.body(rid, "c-1", challenge="challenge_of_yesterday")
        reply = await at.sender.reply(at.sender.signed("cancel", held_back, SIGNER, expiry_s=3600))
        assert reply["error"]["code"] == 4
        assert rid in at.site.agent.loop.state.reservations
        reply = await at.sender.reply(at.sender.signed("cancel", at.body(rid, "c-2"), SIGNER))
        assert "result" in reply


async def test_with_a_clock_there_is_no_challenge_and_an_old_command_is_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_site(tmp_path, monkeypatch, synced=True) as at:
        assert "challenge" not in at.sender.online()
        rid = await at.reserve()
        late = body_of("late", -1.0, reservation_id=rid)
        reply = await at.sender.reply(at.sender.signed("dropoff", late, SIGNER))
        assert reply["error"]["code"] == 4
        reply = await at.sender.reply(at.sender.signed("dropoff", at.body(rid, "d-1"), SIGNER))
        assert "result" in reply
        assert at.site.pulses() == 1
        assert at.rejected() == []


def unsigned(sender: Sender, body: bytes) -> bytes:
    return sender.send("dropoff", body, [])


def half_signed(sender: Sender, body: bytes) -> bytes:
    return sender.send("dropoff", body, SIGNER.properties(sender.topics.command("dropoff"), body)[:1])


def by_another_key(sender: Sender, body: bytes) -> bytes:
    return sender.signed("dropoff", body, Signer(OTHER_SEED, "gateway-2026"))


def by_another_name(sender: Sender, body: bytes) -> bytes:
    return sender.signed("dropoff", body, Signer(SEED, "gateway-2027"))


def by_an_unknown_key(sender: Sender, body: bytes) -> bytes:
    return sender.signed("dropoff", body, Signer(SEED, "gateway-1999"))


def changed(sender: Sender, body: bytes) -> bytes:
    user = SIGNER.properties(sender.topics.command("dropoff"), body + b" ")
    return sender.send("dropoff", body, user)


def of_another_command(sender: Sender, body: bytes) -> bytes:
    return sender.send("dropoff", body, SIGNER.properties(sender.topics.command("pickup"), body))


def of_another_machine(sender: Sender, body: bytes) -> bytes:
    return sender.send("dropoff", body, SIGNER.properties("locker/v1/m2/cmd/dropoff", body))


def no_base64(sender: Sender, body: bytes) -> bytes:
    return sender.send("dropoff", body, [(SIGNATURE, "?"), (SIGNATURE_KEY, "gateway-2026")])


def short(sender: Sender, body: bytes) -> bytes:
    return sender.send("dropoff", body, [(SIGNATURE, "AAAA"), (SIGNATURE_KEY, "gateway-2026")])


WRONG = "the signature is wrong"
FORGERIES: dict[str, tuple[Callable[[Sender, bytes], bytes], str, str]] = {
    "unsigned": (unsigned, "", "the command is not signed"),
    "half signed": (half_signed, "", "the command is not signed"),
    "by another key": (by_another_key, "gateway-2026", WRONG),
    "by another name": (by_another_name, "gateway-2027", WRONG),
    "by an unknown key": (
        by_an_unknown_key,
        "gateway-1999",
        "the command is signed with a key that is not configured",
    ),
    "changed": (changed, "gateway-2026", WRONG),
    "of another command": (of_another_command, "gateway-2026", WRONG),
    "of another machine": (of_another_machine, "gateway-2026", WRONG),
    "no base64": (no_base64, "gateway-2026", WRONG),
    "short": (short, "gateway-2026", WRONG),
}


@pytest.mark.behaviour("alarms-19")
async def test_a_command_without_a_valid_signature_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_site(tmp_path, monkeypatch) as at:
        rid = await at.reserve()
        for number, (forge, key, reason) in enumerate(FORGERIES.values()):
            reply = await at.sender.reply(forge(at.sender, at.body(rid, f"f-{number}")))
            assert reply["error"]["code"] == 7
            rejected = at.rejected()
            assert len(rejected) == number + 1
            line = {"event": "command rejected", "log_level": "error", "command": "dropoff"}
            assert rejected[-1] == line | {"key": key, "reason": reason}
            await at.site.until(lambda: at.site.alarm(Alarm.COMMAND_REJECTED) == f"dropoff: {reason}")  # noqa: B023
        assert at.site.pulses() == 0
        assert rid not in repr(at.rejected())
        await at.site.serves_a_parcel_by_codes()


async def test_a_replay_is_refused_and_raises_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_site(tmp_path, monkeypatch) as at:
        rid = await at.reserve()
        body = at.body(rid, "d-1")
        assert "result" in await at.sender.reply(at.sender.signed("dropoff", body, SIGNER))
        at.site.plant.world.close(at.site.agent.loop.state.reservations[rid].cell)
        reply = await at.sender.reply(at.sender.signed("dropoff", body, SIGNER))
        assert reply["error"]["code"] == 7
        assert [entry["reason"] for entry in at.rejected()] == ["the same signed command was sent before"]
        await at.site.until(
            lambda: (
                at.site.alarm(Alarm.COMMAND_REJECTED) == "dropoff: the same signed command was sent before"
            )
        )
        assert at.site.pulses() == 1


async def test_a_replay_of_a_command_under_way_does_not_answer_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_site(tmp_path, monkeypatch) as at:
        rid = await at.reserve()
        requests: Any = at.site.agent.commands
        handle = requests.handle

        def twice(incoming: IncomingCommand) -> None:
            handle(incoming)
            handle(incoming)

        requests.handle = twice
        correlation = at.sender.signed("dropoff", at.body(rid, "d-1"), SIGNER)
        assert "result" in await at.sender.reply(correlation)
        assert len(at.rejected()) == 1
        assert len(at.sender.replies(correlation)) == 1
        assert at.site.pulses() == 1


async def test_a_redelivered_command_gets_the_stored_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_site(tmp_path, monkeypatch) as at:
        rid = await at.reserve()
        link: Any = at.site.agent.link
        requests: Any = at.site.agent.commands
        handle = requests.handle
        came: list[bool] = []

        def without_puback(incoming: IncomingCommand) -> None:
            came.append(incoming.duplicate)
            first = len(came) == 1
            handle(replace(incoming, acknowledge=(lambda: None) if first else incoming.acknowledge))

        requests.handle = without_puback
        correlation = at.sender.signed("dropoff", at.body(rid, "d-1"), SIGNER)
        first = await at.sender.reply(correlation)
        link.client.library.socket().shutdown(2)  # the connection breaks before the broker has our PUBACK
        assert await at.sender.reply(correlation, count=2) == first
        assert came == [False, True]
        assert at.site.pulses() == 1
        assert at.rejected() == []


async def test_a_refused_command_does_not_act_when_it_is_redelivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept of an EXPIRED; its sender knows that nothing opens, whatever happens to the message."""
    async with signed_site(tmp_path, monkeypatch) as at:
        rid = await at.reserve()
        came: list[IncomingCommand] = []
        requests: Any = at.site.agent.commands
        handle = requests.handle

        def noting(incoming: IncomingCommand) -> None:
            came.append(incoming)
            handle(incoming)

        requests.handle = noting
        correlation = at.sender.signed("dropoff", at.body(rid, "d-1", challenge="stale"), SIGNER)
        assert (await at.sender.reply(correlation))["error"]["code"] == 4
        at.site.clock.synced = True  # now it needs no challenge, and by its own times it lives
        handle(replace(came[0], duplicate=True))
        again = await at.sender.reply(correlation, count=2)
        assert again["error"] == {"code": 4, "message": "the command was refused before", "details": []}
        assert at.site.pulses() == 0
        assert at.rejected() == []


async def test_the_sender_s_retry_is_signed_again_and_gets_the_stored_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_site(tmp_path, monkeypatch) as at:
        rid = await at.reserve()
        first = await at.sender.reply(at.sender.signed("dropoff", at.body(rid, "d-1"), SIGNER))
        again = await at.sender.reply(at.sender.signed("dropoff", at.body(rid, "d-1"), SIGNER))
        assert again == first
        assert at.site.pulses() == 1
        assert at.rejected() == []


async def test_after_a_restart_the_same_bytes_get_the_stored_reply_and_act_no_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with signed_site(tmp_path, monkeypatch) as at:
        rid = await at.reserve()
        body = at.body(rid, "d-1")
        first = await at.sender.reply(at.sender.signed("dropoff", body, SIGNER))
        at.site.plant.world.close(at.site.agent.loop.state.reservations[rid].cell)
    async with signed_site(tmp_path, monkeypatch) as at:
        again = await at.sender.reply(at.sender.signed("dropoff", body, SIGNER))
        assert again == first
        assert at.site.pulses() == 0


@pytest.mark.parametrize("topic", ["locker/v1/m2/reply/sender", "locker/v1/m1/evt", "locker/v1/m1/reply/"])
async def test_a_reply_is_published_nowhere_but_below_our_own_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    async with signed_site(tmp_path, monkeypatch) as at:
        rid = await at.reserve()
        elsewhere = at.sender.signed("dropoff", at.body(rid, "d-1"), SIGNER, reply_topic=topic)
        await at.site.until(at.rejected)
        assert at.rejected()[0]["reason"] == "the Response Topic of the command is not one of this machine"
        assert "result" in await at.sender.reply(at.sender.signed("dropoff", at.body(rid, "d-2"), SIGNER))
        heard = [m for m in at.sender.heard if getattr(m.properties, "CorrelationData", None) == elsewhere]
        assert [m.topic for m in heard if "/cmd/" not in m.topic] == []
        assert at.site.pulses() == 1


async def test_the_challenge_is_renewed_and_ends_with_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.app.sender_checks.CHALLENGE_CHECK_S", 0.05)
    monkeypatch.setattr("edge_agent.cloud.challenges.CHALLENGE_NS", round(0.2e9))
    async with signed_site(tmp_path, monkeypatch) as at:
        first = at.sender.online()["challenge"]
        await at.site.until(lambda: at.sender.online()["challenge"] != first)
        at.site.clock.synced = True
        await at.site.until(lambda: "challenge" not in at.sender.online())
        at.site.clock.synced = False
        await at.site.until(lambda: "challenge" in at.sender.online())
        assert "challenge" not in at.site.agent._online(False)  # the will and the good-bye
