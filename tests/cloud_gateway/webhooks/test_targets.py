"""Where webhooks may go, and that they go to the very address that was checked."""

from __future__ import annotations

import asyncio
import datetime
import json
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud_gateway.settings import Settings
from cloud_gateway.webhooks.deliverer import ATTEMPTS_MIN
from cloud_gateway.webhooks.targets import ReceiverResponse, TargetRefused, addresses_of, may_go_to, post
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.machines.test_mqtt_link import stored
from tests.cloud_gateway.operations.test_routes import ask, basic
from tests.cloud_gateway.receiver import receiver
from tests.cloud_gateway.support import OPERATIONS_KEY, bench, eventually, running_gateway, settings
from tests.cloud_gateway.webhooks.test_webhooks import FULFILLED
from tests.support.broker import Broker

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "ff02::1"),
        # Unassigned, or with a special purpose.
        *("4000::1", "5f00::1", "::a00:1", "100:0:0:1::1", "1fff::1", "64:ff9b:1::101:101"),
        # IPv4 in IPv6's clothes: mapped, NAT64, 6to4.
        *("::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:0a00:0001::1"),
    ],
)
def test_no_private_address_is_contacted(address: str) -> None:
    assert not may_go_to(ip_address(address), ())


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_contacted(address: str) -> None:
    assert may_go_to(ip_address(address), ())


SPECIAL_PURPOSE = """
0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
192.0.0.0/29 192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24
192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15
198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 255.255.255.255/32 ::1/128 ::/128 ::ffff:0:0/96 64:ff9b:1::/48
100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:2::/48
2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48
3fff::/20 5f00::/16 fc00::/7 fe80::/10 224.0.0.0/4 ff00::/8 fec0::/10 192.0.0.192/32 168.63.129.16/32
"""
"""The registries iana-ipv4-special-registry and iana-ipv6-special-registry, each entry; then multicast, the
site-local addresses of old, and two that were gone to. The well-known NAT64 prefix is judged by what is
inside."""


@pytest.mark.parametrize("text", SPECIAL_PURPOSE.split())
def test_x9_no_special_purpose_address_is_contacted(text: str) -> None:
    network = ip_network(text)
    dice = random.Random(text)
    inside = [0, network.num_addresses - 1, network.num_addresses // 2]
    inside += [dice.randrange(network.num_addresses) for _ in range(50)]
    for offset in inside:
        address = network[offset]
        assert not may_go_to(address, ()), address
        if address.version == 4:
            for clothed in (f"::ffff:{address}", f"64:ff9b::{address}", f"::{address}"):
                assert not may_go_to(ip_address(clothed), ()), clothed


@pytest.mark.parametrize(
    "address",
    [
        *("1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.0.0.1", "128.0.0.1"),
        *("168.63.129.15", "169.253.255.255", "169.255.0.1", "172.15.0.1", "172.32.0.1", "191.255.255.255"),
        *("192.0.1.0", "192.0.3.1", "192.167.0.1", "192.169.0.1", "198.17.0.1", "198.20.0.1", "203.0.114.1"),
        *("223.255.255.255", "2001:200::1", "2003::1", "2a00:1450::1", "2620:4f:8001::1", "3ffe:ffff::1"),
    ],
)
def test_x9_the_neighbours_of_special_ranges_are_contacted(address: str) -> None:
    assert may_go_to(ip_address(address), ())


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://hooks.example/", True),
        ("https://hooks.example:443/", True),
        ("https://hooks.example:8443/", True),
        ("https://hooks.example:22/", False),
        ("https://hooks.example:8080/", False),
        ("https://1.1.1.1:6379/", False),
        ("https://10.1.2.3:9000/", True),
    ],
)
async def test_x9_only_port_443_and_configured_ones(url: str, good: bool) -> None:
    async def resolver(_host: str, _port: int) -> list[str]:
        return ["1.1.1.1"]

    asked = addresses_of(httpx.URL(url), (ip_network("10.1.0.0/16"),), resolver, (8443,))
    if good:
        assert await asked
    else:
        with pytest.raises(TargetRefused, match="port"):
            await asked


def test_an_allowed_network_is_only_itself() -> None:
    allowed = (ip_network("10.1.0.0/16"), ip_network("::1/128"))
    assert may_go_to(ip_address("10.1.2.3"), allowed)
    assert may_go_to(ip_address("::ffff:10.1.2.3"), allowed)
    assert may_go_to(ip_address("::1"), allowed)
    assert not may_go_to(ip_address("10.2.0.1"), allowed)


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    async def resolver(_host: str, _port: int) -> list[str]:
        return ["1.1.1.1", "192.168.0.1"]

    with pytest.raises(TargetRefused, match=r"hooks\.example is at 192\.168\.0\.1"):
        await addresses_of(httpx.URL("https://hooks.example/x"), (), resolver)


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example/", "http://1.1.1.1/", "ftp://hooks.example/", "https://127.0.0.1/"),
        *("https://[::1]/", "https://0x7f000001/", "https://2130706433/", "https://127.1/"),
    ],
)
async def test_what_is_not_https_or_not_public_is_refused(url: str) -> None:
    async def resolver(host: str, _port: int) -> list[str]:
        return ["127.0.0.1"] if host[0].isdigit() else ["1.1.1.1"]

    with pytest.raises(TargetRefused):
        await addresses_of(httpx.URL(url), (), resolver)


@pytest.mark.parametrize("place", ["[2606:4700:4700::1111]99999", "hooks.example:99999", "1.1.1.1:-1", "x:0"])
async def test_an_invalid_port_is_refused(place: str) -> None:
    async def resolver(_host: str, _port: int) -> list[str]:
        raise AssertionError("no receiver may be asked")

    with pytest.raises(TargetRefused, match="port"):
        await addresses_of(httpx.URL(f"https://{place}/hook"), (), resolver)


def _certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's view of a certificate for a host name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "server.pem"
    file.write_bytes(secret + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=pem.decode())


@asynccontextmanager
async def tls_server(context: ssl.SSLContext) -> AsyncIterator[tuple[int, list[str]]]:
    """An HTTPS server that notes the heads of its requests; gives its port and the heads."""
    heads: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            writer.write(b"HTTP/1.1 204 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()
        await server.wait_closed()
        ours = asyncio.current_task()
        await eventually(lambda: not [task for task in asyncio.all_tasks() if task is not ours])


async def test_the_name_is_resolved_once_and_its_certificate_checked(tmp_path: Path) -> None:
    server, client_context = _certificate(tmp_path, "hooks.example")
    asked: list[str] = []

    async def resolver(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    async with (
        tls_server(server) as (port, heads),
        httpx.AsyncClient(verify=client_context, trust_env=False) as client,
    ):
        url = f"https://hooks.example:{port}/a?b=c"
        reply = await post(client, url, b"{}", {}, allowed=LOOPBACK, resolver=resolver)
        assert reply.status == 204
        assert asked == ["hooks.example"]
        assert heads[0].startswith("POST /a?b=c HTTP/1.1\r\n")
        assert f"\r\nHost: hooks.example:{port}\r\n" in heads[0]
        assert heads[0].lower().count("\r\nhost:") == 1
        # Another name on the same address: its certificate is not this one.
        with pytest.raises(httpx.ConnectError):
            await post(client, f"https://other.example:{port}/", b"", {}, allowed=LOOPBACK, resolver=resolver)
        with pytest.raises(TargetRefused):
            await post(client, url, b"{}", {}, allowed=(), resolver=resolver)
        assert len(heads) == 1


async def test_the_next_address_is_tried_when_one_does_not_answer(tmp_path: Path) -> None:
    server, client_context = _certificate(tmp_path, "hooks.example")

    async def resolver(_host: str, _port: int) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"]  # the server listens on the second only

    async with (
        tls_server(server) as (port, heads),
        httpx.AsyncClient(verify=client_context, trust_env=False) as client,
    ):
        url = f"https://hooks.example:{port}/"
        reply = await post(client, url, b"", {}, allowed=LOOPBACK, resolver=resolver)
        assert reply.status == 204
        assert len(heads) == 1


def _changed(given: Settings, **changes: Any) -> Settings:
    """Settings with other values in `[webhooks]`."""
    return given.model_copy(update={"webhooks": given.webhooks.model_copy(update=changes)})


async def test_a_refused_receiver_is_a_failure_with_its_reason(tmp_path: Path, broker: Broker) -> None:
    async with receiver() as target, bench(tmp_path, broker.port) as (gateway, peer):
        made = await gateway.reserve(webhook_url="https://10.1.2.3/hook")
        peer.event(EventType.DROPOFF, peer.reservations[made["reservation_id"]])
        problem = "SELECT last_problem, state FROM webhooks WHERE attempts > 0"
        await eventually(lambda: stored(tmp_path, problem))
        expected = ("10.1.2.3 is at 10.1.2.3, which is not a public address", "waiting")
        assert stored(tmp_path, problem) == [expected]
        assert target.got == []


async def test_no_failure_of_one_receiver_affects_the_others(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def odd(client: httpx.AsyncClient, target: str, *given: Any, **named: Any) -> ReceiverResponse:
        if "odd" in target:
            raise ExceptionGroup("all addresses", [OverflowError("port")])
        return await post(client, target, *given, **named)

    monkeypatch.setattr("cloud_gateway.webhooks.deliverer.post", odd)
    async with receiver() as target, bench(tmp_path, broker.port) as (gateway, peer):
        problem = "SELECT last_problem FROM webhooks WHERE attempts > 0"
        made = await gateway.reserve(webhook_url="https://odd.example/")
        peer.event(EventType.DROPOFF, peer.reservations[made["reservation_id"]])
        await eventually(lambda: stored(tmp_path, problem))
        assert stored(tmp_path, problem) == [("ExceptionGroup",)]
        made = await gateway.reserve(webhook_url=target.url)
        peer.event(EventType.DROPOFF, peer.reservations[made["reservation_id"]])
        await eventually(lambda: target.got)


async def test_loopback_has_to_be_allowed(tmp_path: Path, broker: Broker) -> None:
    async with receiver() as target, bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer):
        made = await gateway.reserve()
        view = peer.reservations[made["reservation_id"]]
    closed = _changed(settings(tmp_path, broker.port, target.url), allow_networks=())
    await asyncio.to_thread(peer.start)
    try:
        async with receiver() as again:
            given = closed.model_copy(
                update={"platforms": [closed.platforms[0].model_copy(update={"webhook_url": again.url})]}
            )
            async with running_gateway(given):
                await asyncio.to_thread(peer.event, EventType.DROPOFF, view)
                await eventually(lambda: stored(tmp_path, "SELECT 1 FROM webhooks WHERE attempts > 1"))
                assert again.got == []
    finally:
        await asyncio.to_thread(peer.stop)


async def test_an_undeliverable_webhook_is_given_up_shown_and_can_be_retried(
    tmp_path: Path, broker: Broker
) -> None:
    async with receiver() as target, bench(tmp_path, broker.port, webhook_url=target.url) as (_, peer):
        pass
    await asyncio.to_thread(peer.start)
    day_s = 86_400.0
    given = _changed(settings(tmp_path, broker.port), give_up_days=0.5 / day_s)
    try:
        async with receiver() as target, running_gateway(given) as gateway:
            target.status = lambda hook: 500 if hook.body["event_type"] == "EVENT_TYPE_DROPOFF" else 200
            await gateway.sees()
            made = await gateway.reserve(webhook_url=target.url, platform_order_id="order <b>")
            view = peer.reservations[made["reservation_id"]]
            peer.event(EventType.DROPOFF, view)
            peer.event(EventType.PICKUP, view)
            # The second goes out once the first is given up, in this order.
            await eventually(lambda: target.got and target.got[-1].body["event_type"] == "EVENT_TYPE_PICKUP")
            (dead,) = (await ask(gateway, "/operations.json")).json()["dead_webhooks"]
            assert dead["host"] == "127.0.0.1"
            assert (dead["platform_order_id"], dead["event_type"]) == ("order <b>", "EVENT_TYPE_DROPOFF")
            assert dead["last_problem"] == "HTTP 500"
            assert dead["attempts"] == len(target.got) - 1 >= ATTEMPTS_MIN
            text = (await ask(gateway)).text
            assert "order &lt;b&gt;" in text
            assert f'action="/operations/webhooks/{dead["webhook_id"]}/retry"' in text
            target.status = lambda _: 200
            target.got.clear()
            path = f"/operations/webhooks/{dead['webhook_id']}/retry"
            headers = {"Authorization": basic(OPERATIONS_KEY)}
            foreign = await gateway.http.post(path, headers=headers | {"Sec-Fetch-Site": "cross-site"})
            assert foreign.status_code == 403
            response = await gateway.http.post(path, headers=headers)
            assert (response.status_code, response.headers["location"]) == (303, "/operations")
            await eventually(lambda: target.got)
            assert target.got[0].body["event_type"] == "EVENT_TYPE_DROPOFF"
            await eventually(lambda: stored(tmp_path, "SELECT 1 FROM webhooks WHERE state = 'delivered'"))
            assert (await gateway.http.post(path, headers=headers)).status_code == 404
            assert (await ask(gateway, "/operations.json")).json()["dead_webhooks"] == []
    finally:
        await asyncio.to_thread(peer.stop)


async def test_the_webhook_carries_the_caller_s_request_id(tmp_path: Path, broker: Broker) -> None:
    async with (
        receiver() as target,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):
        rid = (await gateway.reserve())["reservation_id"]
        view, path = peer.reservations[rid], f"/reservations/{rid}/dropoffs"
        await gateway.post(path, X_Request_ID="mine: 1")
        peer.event(EventType.DROPOFF, view, request_id=peer.commands[-1].body["request_id"])
        response = await gateway.post(path)  # without one
        made = response.headers["x-request-id"]
        assert peer.commands[-1].body["request_id"] == made == peer.commands[-1].user["x-request-id"]
        peer.event(EventType.OPEN_DOOR_FULFILLED, view, more=FULFILLED, request_id=made)
        peer.event(EventType.PICKUP, view)  # somebody at the kiosk
        await eventually(lambda: len(target.got) == 3)
        assert [hook.headers.get("x-request-id") for hook in target.got] == ["mine: 1", made, None]
        assert json.dumps(target.got[0].body).find("mine: 1") == -1
