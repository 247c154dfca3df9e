"""The OpenAPI document describes each webhook as it is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema

from edge_agent.protocol.events import DETAIL_KEY, WEBHOOK_TYPES, EventType
from tests.cloud_gateway.receiver import receiver
from tests.cloud_gateway.support import bench, eventually
from tests.support.broker import Broker

MORE: dict[EventType, dict[str, Any]] = {
    EventType.PICKUP_FAILED: {"outcome": "NO_MOVEMENT", "reason": "the door did not open"},
    EventType.OPEN_DOOR_FULFILLED: {
        "request_id": "req_1",
        "platform_reference_id": "t1",
        "outcome": "OPENED",
    },
}


async def test_every_webhook_has_the_body_and_headers_that_the_document_gives(
    tmp_path: Path, broker: Broker
) -> None:
    secret = "whsec_YmVuY2ggc2VjcmV0LCBub3QgZm9yIHByb2R1Y3Rpb24="
    async with (
        receiver() as target,
        bench(tmp_path, broker.port, webhook_url=target.url, webhook_secrets=[secret]) as (gateway, peer),
    ):
        document = (await gateway.http.get("/openapi.json")).json()
        assert set(document["webhooks"]) == WEBHOOK_TYPES
        for kind in sorted(WEBHOOK_TYPES):
            rid = (await gateway.reserve())["reservation_id"]
            peer.event(kind, peer.reservations[rid], more=MORE.get(kind))
        await eventually(lambda: len(target.got) == len(WEBHOOK_TYPES))
    for hook in target.got:
        operation = document["webhooks"][hook.body["event_type"]]["post"]
        (content,) = operation["requestBody"]["content"].values()
        schema = content["schema"] | {"components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(hook.body)
        kind = EventType(hook.body["event_type"])
        assert set(hook.body) == set(schema["properties"])
        named = set(schema["properties"][DETAIL_KEY[kind]]["properties"])
        assert set(hook.body[DETAIL_KEY[kind]]) == named - (
            {"reason"} if "reason" not in MORE.get(kind, {}) else set()
        )
        signed = {"webhook-id", "webhook-timestamp", "webhook-signature", "x-platform-order-id"}
        assert signed <= set(hook.headers)
        listed = {parameter["name"].lower() for parameter in operation["parameters"]}
        assert signed <= listed
