"""The broker's files as they are shipped: each machine reads and writes what is its own, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.settings import MqttSettings
from edge_agent.mqtt.credentials import Credentials
from edge_agent.mqtt.messages import Message
from edge_agent.protocol.topics import Topics
from tests.cloud_gateway.support import MACHINE, eventually, running_gateway, settings
from tests.support.pki import Pair, write_private
from tests.support.production import Client, ProductionBroker
from tests.support.real_site import real_site
from tests.support.secure import LOCALHOST, make_link, watched
from tests.support.sender import public_key

M1, M2 = Topics("m1"), Topics("m2")
DENIED = 0x87
SEED = bytes(range(32))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ProductionBroker]:
    running = ProductionBroker(tmp_path)
    running.start()
    yield running
    running.stop(kill=True)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as clients:
        yield clients


async def machine(broker: ProductionBroker, stack: ExitStack, name: str, **options: Any) -> Client:
    client = Client(broker, broker.machines.issue(name), **options)
    stack.callback(client.end)
    assert await client.let_in()
    return client


async def gateway(broker: ProductionBroker, stack: ExitStack) -> Client:
    """A gateway that receives everything it is allowed to."""
    client = Client(broker, broker.gateways.issue("gateway"), port=broker.gateway_port)
    stack.callback(client.end)
    assert await client.let_in()
    await client.subscribe("#")
    return client


async def test_a_machine_receives_its_own_commands_only(broker: ProductionBroker, stack: ExitStack) -> None:
    one, two = await machine(broker, stack, "m1"), await machine(broker, stack, "m2")
    for topic in ("#", f"{M1.root}/#", M1.commands, f"$share/x/{M1.commands}", f"{M1.root}/+/x", "$SYS/#"):
        await two.subscribe(topic)
    await one.subscribe(M1.commands)
    boss = await gateway(broker, stack)
    assert not (await boss.publish(M1.command("pickup"), b"for one")).is_failure
    assert not (await one.publish(M1.events, b"event")).is_failure
    assert not (await one.publish(M1.reply("gateway-1"), b"reply")).is_failure
    assert not (await one.publish(M1.machine, b"state", retain=True)).is_failure
    assert not (await boss.publish(M2.command("pickup"), b"for two")).is_failure  # the last: all is through
    await eventually(lambda: one.heard and two.heard and len(boss.heard) >= 3)
    assert one.heard == [(M1.command("pickup"), b"for one")]
    assert set(two.heard) == {(M2.command("pickup"), b"for two")}
    assert sorted(payload for _, payload in boss.heard) == [b"event", b"reply", b"state"]


OWN = [M2.events, M2.online, M2.machine, M2.digest, M2.configuration, M2.service, M2.telemetry]
OWN.append(M2.reply("gateway-1"))
FOREIGN = [
    *(
        M1.events,
        M1.online,
        M1.machine,
        M1.configuration,
        M1.service,
        M1.telemetry,
        M1.reply("gateway-1"),
        M1.command("pickup"),
    ),
    *(M2.command("pickup"), f"{M2.root}/evt/x", "locker/v1/evt", "anything"),
]


async def test_a_machine_publishes_to_its_own_topics_only(broker: ProductionBroker, stack: ExitStack) -> None:
    boss = await gateway(broker, stack)
    victim = await machine(broker, stack, "m1")
    await victim.subscribe(M1.commands)
    for topic in FOREIGN:
        for retain in (False, True):
            two = await machine(broker, stack, "m2")
            assert (await two.publish(topic, b"forged", retain=retain)).value == DENIED, topic
    two = await machine(broker, stack, "m2")
    for topic in OWN:
        assert not (await two.publish(topic, b"own", retain=True)).is_failure
    await eventually(lambda: len(boss.heard) == len(OWN))
    assert sorted(topic for topic, _ in boss.heard) == sorted(OWN)
    assert victim.heard == []
    late = await gateway(broker, stack)
    await eventually(lambda: len(late.heard) == len(OWN))  # what is retained, which is nothing forged
    assert {payload for _, payload in late.heard} == {b"own"}


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize(
    "topic", [f"{M2.root}/state/other", f"{M2.online}/x", M2.reply("other"), M2.reply("gateway-1/x")]
)
async def test_x6_a_machine_may_leave_behind_named_topics_only(
    broker: ProductionBroker, stack: ExitStack, topic: str, retain: bool
) -> None:
    two = await machine(broker, stack, "m2")
    assert (await two.publish(topic, b"more", retain=retain)).value == DENIED


async def test_x6_what_is_larger_than_the_limit_is_neither_kept_nor_passed_on(
    broker: ProductionBroker, stack: ExitStack
) -> None:
    boss = await gateway(broker, stack)
    two = await machine(broker, stack, "m2")
    await two.publish(M2.machine, b"x" * 4_300_000, retain=True)
    again = await machine(broker, stack, "m2")
    assert not (await again.publish(M2.machine, b"x" * 4_000_000, retain=True)).is_failure
    await eventually(lambda: boss.heard)
    late = await gateway(broker, stack)
    await eventually(lambda: late.heard)
    assert [len(payload) for _, payload in boss.heard + late.heard] == [4_000_000] * 2


@pytest.mark.parametrize("name", ["gateway", "gateway-1"])
async def test_x9_a_machine_named_like_a_gateway_does_not_disconnect_it(
    broker: ProductionBroker, stack: ExitStack, tmp_path: Path, name: str
) -> None:
    boss = broker.gateways.issue("gateway", file="true-gateway")
    files = {"ca_file": broker.server.file, "cert_file": boss.cert, "key_file": boss.key}
    section = MqttSettings.model_validate(
        {
            "host": LOCALHOST,
            "port": broker.gateway_port,
            "client_id": name,
            "tls": {key: str(path) for key, path in files.items()},
        }
    )
    given = settings(tmp_path, broker.gateway_port).model_copy(update={"mqtt": section})
    async with running_gateway(given) as api:
        first = api.machines._link.client.library
        false = await machine(broker, stack, name, client_id=f"gateway:{name}")
        assert not (await false.publish(Topics(name).events, b"{}")).is_failure
        assert (await api.http.get("/healthz")).status_code == 200
        assert api.machines._link.client.library is first


async def test_a_machine_leaves_no_will_elsewhere(broker: ProductionBroker, stack: ExitStack) -> None:
    boss = await gateway(broker, stack)
    wicked = Client(broker, broker.machines.issue("m2"), will=M1.online)
    stack.callback(wicked.end)
    if await wicked.let_in():
        wicked.cut()
    honest = await machine(broker, stack, "m3", will=Topics("m3").online)
    honest.cut()
    await eventually(lambda: boss.heard)
    last = await machine(broker, stack, "m4")
    await last.publish(Topics("m4").events, b"last")
    await eventually(lambda: len(boss.heard) >= 2)
    assert boss.heard == [(Topics("m3").online, b"will"), (Topics("m4").events, b"last")]


async def test_no_machine_takes_over_the_session_of_another(
    broker: ProductionBroker, stack: ExitStack
) -> None:
    pair = broker.machines.issue("m1")
    link = make_link(broker.port, credentials(broker, pair.cert, pair.key))
    async with watched(link) as seen:
        await seen.until(lambda: link.up)
        two = await machine(broker, stack, "m2", client_id="m1")
        await two.publish(M2.events)
        acknowledged = asyncio.Event()
        link.publish(Message(M1.events, "{}"), lambda _: acknowledged.set())
        await asyncio.wait_for(acknowledged.wait(), 10)
        assert (link.up, seen.user.ups) == (True, 1)


def credentials(broker: ProductionBroker, cert: Path, key: Path) -> Credentials:
    return Credentials(tls=True, ca_file=broker.server.file, cert_file=cert, key_file=key)


async def test_over_websockets_a_machine_is_identified_too(
    broker: ProductionBroker, stack: ExitStack
) -> None:
    boss = await gateway(broker, stack)
    pair = broker.machines.issue("m1")
    link = make_link(broker.web_port, credentials(broker, pair.cert, pair.key), transport="websockets")
    async with watched(link) as seen:
        await seen.until(lambda: link.up)
        await boss.publish(M2.command("echo"), b"for two")
        await boss.publish(M1.command("echo"), b"for one")
        await seen.until(lambda: seen.user.commands)
        link.publish(Message(M1.events, "own"))
        await seen.until(lambda: (M1.events, b"own") in boss.heard)
    assert seen.user.payloads() == [b"for one"]
    with pytest.raises(ssl.SSLError):
        web(broker, None)
    assert web(broker, pair) == "HTTP/1.1 101 Switching Protocols"


def web(broker: ProductionBroker, pair: Pair | None) -> str:
    """What the websockets listener says to who shows this certificate, or none."""
    context = ssl.create_default_context(cafile=str(broker.server.file))
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    key = base64.b64encode(bytes(16)).decode()
    ask = ["GET /mqtt HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade"]
    ask += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: mqtt", "", ""]
    with (
        socket.create_connection((LOCALHOST, broker.web_port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=LOCALHOST) as secure,
    ):
        secure.sendall("\r\n".join(ask).encode())
        return secure.recv(4096).decode().splitlines()[0]


async def test_a_client_without_the_right_certificate_is_refused(
    broker: ProductionBroker, stack: ExitStack
) -> None:
    pair = broker.machines.issue("gateway")  # the name is right, the authority is not
    boss = broker.gateways.issue("m1", file="false-m1")
    for shown, port in (
        (None, broker.port),
        (None, broker.gateway_port),
        (pair, broker.gateway_port),
        (boss, broker.port),
    ):
        client = Client(broker, shown, port=port)
        stack.callback(client.end)
        assert not await client.let_in()


async def test_a_gateway_reads_and_commands_but_publishes_for_no_machine(
    broker: ProductionBroker, stack: ExitStack
) -> None:
    one, other = await machine(broker, stack, "m1"), await gateway(broker, stack)
    shared = Client(broker, broker.gateways.issue("gateway"), port=broker.gateway_port)
    stack.callback(shared.end)
    assert await shared.let_in()
    await shared.subscribe("$share/gateway/locker/v1/+/evt")
    for topic in (M1.events, M1.online, M1.reply("x"), "anything"):
        boss = await gateway(broker, stack)
        assert (await boss.publish(topic, b"forged")).value == DENIED
    await one.publish(M1.events, b"event")
    await eventually(lambda: shared.heard and other.heard)
    assert shared.heard == other.heard == [(M1.events, b"event")]


async def test_the_real_links_work_under_these_files_and_a_signed_command_opens_a_door(
    broker: ProductionBroker, tmp_path: Path
) -> None:
    """REST, gateway, broker, agent, lock: all of it with certificates, ACLs and signatures."""
    own, boss = broker.machines.issue("m1"), broker.gateways.issue("gateway")
    write_private(tmp_path / "seed", base64.b64encode(SEED))
    files = {"ca_file": str(broker.server.file)}
    mine = files | {"cert_file": str(own.cert), "key_file": str(own.key)}
    theirs = files | {"cert_file": str(boss.cert), "key_file": str(boss.key)}
    keys = {"signing_key_file": str(tmp_path / "seed"), "signing_key_name": "gateway-2026"}
    section = MqttSettings.model_validate(
        {"host": LOCALHOST, "port": broker.gateway_port, "client_id": "gateway-1", "tls": theirs} | keys
    )
    given = settings(tmp_path, broker.gateway_port).model_copy(update={"mqtt": section})
    mqtt = {"host": LOCALHOST, "port": broker.port, "tls": mine}
    mqtt["signing_keys"] = {"gateway-2026": public_key(SEED)}
    async with running_gateway(given) as api:
        for synced in (False, True):  # with the machine's challenge, and without
            async with real_site(tmp_path, mqtt, synced=synced) as site:
                await api.sees("m1")
                challenge = api.machines._online["m1"].challenge
                assert (challenge is None) is synced
                made = await api.reserve(
                    machine_id="m1", packaging={"width": 200, "height": 100, "depth": 300}
                )
                assert MACHINE not in str(made)
                response = await api.post(f"/reservations/{made['reservation_id']}/dropoffs")
                assert response.status_code == 200, response.text
                assert site.pulses() == 1
                row = await api.until(made["reservation_id"], "PENDING")
                site.plant.world.close(row["cell"]["description"])
                await api.until(made["reservation_id"], "DROPPED_OFF")
            await eventually(lambda: not api.machines.is_online("m1"))
        assert (
            api.app.state.parts.accounts.rejected("m1") == 0
        )  # a real machine says nothing that is not believed
