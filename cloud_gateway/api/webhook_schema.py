"""The `webhooks` section of the OpenAPI document: what the gateway sends to a platform."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from cloud_gateway.api.field_texts import add_text, explain_fields
from cloud_gateway.events.projection import DETAIL_FIELDS, MORE_DETAIL, WEBHOOK_FIELDS
from edge_agent.protocol.events import DETAIL_KEY, WEBHOOK_TYPES, Event, EventDetail, EventType

Json = dict[str, Any]

REFERENCE = "#/components/schemas/{model}"
SUMMARIES = {
    EventType.DROPOFF: "The parcel is in its cell, and the door is closed.",
    EventType.PICKUP: "The door was opened for the customer.",
    EventType.PICKUP_FAILED: "The lock was pulsed for a pick-up, and the door did not open.",
    EventType.RESERVATION_CANCELLED: "The reservation was cancelled, or its drop-off came too late.",
    EventType.PICKUP_ABANDONED: "The parcel was abandoned and waits for a technician.",
    EventType.OPEN_DOOR_FULFILLED: "The outcome of an open-door call.",
}
FIELDS = {
    "event_id": ("The id of the event.", "evt_5d1f7c0a9b3e4d2f8a6c1b0e7f9d3c52"),
    "idempotency_key": (
        "The same in every attempt: receivers drop repetitions by it.",
        "6b0e9c1a-2f4d-4b7e-9a53-0c8d7e6f5a41",
    ),
    "event_time_unix_timestamp": ("When it happened, in seconds since 1970.", 1752141600),
    "event_time_timestamp": ("The same moment, in UTC (RFC 3339).", "2025-07-10T10:00:00Z"),
    "event_type": ("Names the object that holds the details.", None),
    "platform_order_id": ("The order, as the reservation named it.", "order-1234"),
    "reservation_id": ("The reservation.", "res_1f0a6c2e9b7d4c53a8e60b7d2f4c9e15"),
}
HEADERS = {
    "X-Platform-Order-Id": ("The order, percent-encoded.", True),
    "X-Request-ID": ("That of the call that caused the event, if there was one.", False),
    "webhook-id": ("Standard Webhooks: the idempotency key. Only if the platform has a secret.", False),
    "webhook-timestamp": ("Standard Webhooks: when this attempt was sent, in seconds since 1970.", False),
    "webhook-signature": (
        "Standard Webhooks: `v1,` and the HMAC-SHA256 in base64; two while a secret is replaced.",
        False,
    ),
}
RESPONSES: Json = {
    "2XX": {"description": "Accepted: it is not sent again."},
    "410": {"description": "Gone: it is not sent again."},
    "429": {"description": "Sent again after Retry-After, at most 10 minutes."},
    "default": {"description": "Sent again: after 1 s, doubling to 10 minutes, for some days."},
}


def webhooks() -> tuple[Json, Json]:
    """The section, and the schemas that it refers to."""
    models = [(Event, "serialization"), (EventDetail, "serialization")]
    _, found = models_json_schema(models, ref_template=REFERENCE)  # type: ignore[arg-type]
    schemas: Json = found["$defs"]
    event, detail = schemas.pop("Event"), schemas.pop("EventDetail")
    section = {kind.value: {"post": _operation(kind, event, detail)} for kind in sorted(WEBHOOK_TYPES)}
    named = {"MachineReference", "CellReference", "Source", "UnlockOutcome"}
    return section, {name: schema for name, schema in schemas.items() if name in named}


def _operation(kind: EventType, event: Json, detail: Json) -> Json:
    parameters = [
        {
            "name": name,
            "in": "header",
            "required": required,
            "description": text,
            "schema": {"type": "string"},
        }
        for name, (text, required) in HEADERS.items()
    ]
    content = {"application/json": {"schema": _body(kind, event, detail)}}
    return {
        "operationId": kind.value.removeprefix("EVENT_TYPE_").lower(),
        "tags": ["Webhooks"],
        "summary": SUMMARIES[kind],
        "parameters": parameters,
        "requestBody": {"required": True, "content": content},
        "responses": RESPONSES,
    }


def _body(kind: EventType, event: Json, detail: Json) -> Json:
    fields = {name: dict(event["properties"][name]) for name in WEBHOOK_FIELDS}
    for name in ("platform_order_id", "reservation_id"):
        fields[name] = {"type": "string"}
    fields["event_type"] = {"type": "string", "const": kind.value}
    for name, (text, example) in FIELDS.items():
        add_text(fields[name], text, example)
    wanted = sorted(DETAIL_FIELDS | MORE_DETAIL.get(kind, frozenset()))
    inner = {name: dict(_given(detail["properties"][name])) for name in wanted}
    explain_fields("EventDetail", {"properties": inner})
    fields[DETAIL_KEY[kind]] = {
        "type": "object",
        "description": "The details of this kind of event.",
        "properties": inner,
        "required": ["source_type", "machine"],
    }
    return {"type": "object", "properties": fields, "required": [*WEBHOOK_FIELDS, DETAIL_KEY[kind]]}


def _given(field: Json) -> Json:
    """The schema of a field that is left out if it is unknown: without null and default."""
    kinds = [one for one in field.get("anyOf", []) if one != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else {key: value for key, value in field.items() if key != "default"}
