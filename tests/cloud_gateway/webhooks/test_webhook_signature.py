"""Signed webhooks, verified by an independent implementation of Standard Webhooks."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from cloud_gateway.settings import load
from cloud_gateway.webhook_signature import key_of, signed_headers
from edge_agent.errors import ConfigError
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.receiver import receiver
from tests.cloud_gateway.support import bench, eventually
from tests.cloud_gateway.test_settings import GOOD
from tests.support.broker import Broker

OLD, NEW = (f"whsec_{b64encode(bytes([n]) * 24).decode()}" for n in (1, 2))


@pytest.mark.parametrize("secrets", [(OLD,), (OLD, NEW)])
async def test_a_webhook_verifies_with_each_secret_of_its_platform(
    tmp_path: Path, broker: Broker, secrets: tuple[str, ...]
) -> None:
    async with (
        receiver() as target,
        bench(tmp_path, broker.port, webhook_url=target.url, webhook_secrets=secrets) as (gateway, peer),
    ):
        rid = (await gateway.reserve())["reservation_id"]
        target.status = lambda _: 200 if len(target.got) > 1 else 500
        peer.event(EventType.DROPOFF, peer.reservations[rid])
        await eventually(lambda: len(target.got) > 1)
        for hook in target.got:
            for secret in secrets:
                assert Webhook(secret).verify(hook.content, hook.headers) == hook.body
        first, again = target.got[:2]
        assert first.headers["webhook-id"] == again.headers["webhook-id"] == first.body["idempotency_key"]
        stranger = f"whsec_{b64encode(bytes(24)).decode()}"
        with pytest.raises(WebhookVerificationError):
            Webhook(stranger).verify(first.content, first.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(OLD).verify(first.content + b" ", first.headers)


async def test_without_a_secret_a_webhook_has_no_signature(tmp_path: Path, broker: Broker) -> None:
    async with (
        receiver() as target,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):
        rid = (await gateway.reserve())["reservation_id"]
        peer.event(EventType.DROPOFF, peer.reservations[rid])
        hook = await eventually(lambda: target.got and target.got[0])
        assert not [name for name in hook.headers if name.startswith("webhook-")]


def test_the_published_example_has_its_published_signature() -> None:
    # Standard Webhooks, "Signature scheme", and the tests of its reference libraries.
    body = b'{"test": 2432232314}'
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", body, 1614265330, [key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("secrets", "finding"),
    [
        ('["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]', "platforms[0].webhook_secrets[0]: must begin with whsec_"),
        ('["whsec_é…"]', "platforms[0].webhook_secrets[0]: must be base64 after whsec_"),
        ('["whsec_%%"]', "platforms[0].webhook_secrets[0]: must be base64 after whsec_"),
        ('["whsec_MfKQ"]', "platforms[0].webhook_secrets[0]: must hold 24 to 64 bytes in base64, not 3"),
        (f'["{OLD}", "{NEW}", "{OLD}"]', "platforms[0].webhook_secrets: "),
    ],
)
def test_a_bad_secret_is_named_by_its_key_and_not_shown(tmp_path: Path, secrets: str, finding: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(f"{GOOD}webhook_secrets = {secrets}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert finding in str(caught.value)
    assert "MfKQ" not in str(caught.value)
    assert OLD not in str(caught.value)


def test_a_good_secret_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(f'{GOOD}webhook_secrets = ["{OLD}"]\n')
    assert OLD not in repr(load(path))
