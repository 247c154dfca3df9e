"""The MQTT contract as an AsyncAPI 3.0 document, generated from the models that encode and decode its
messages."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from edge_agent.protocol.api import Machine
from edge_agent.protocol.commands import COMMANDS, DOOR_OPENING, QUERIES
from edge_agent.protocol.events import Event, Online
from edge_agent.protocol.replies import RESULTS, RpcStatus
from edge_agent.protocol.service_commands import (
    SERVICE_COMMANDS,
    ReportedConfiguration,
    ServiceAccepted,
    ServiceReport,
)
from edge_agent.protocol.signing import SIGNATURE, SIGNATURE_KEY
from edge_agent.protocol.sync import Digest
from edge_agent.protocol.telemetry import TelemetryBody
from edge_agent.protocol.topics import CONTENT_TYPE, ROOT

Json = dict[str, Any]

TOLD: dict[str, tuple[str, type[BaseModel], int, bool, str]] = {
    "events": ("evt", Event, 1, False, "Events in `sequence` order; each comes at least once."),
    "online": ("state/online", Online, 1, True, "Birth, will and good-bye."),
    "machine": ("state/machine", Machine, 1, True, "The machine and its cells, at each change."),
    "digest": ("state/digest", Digest, 1, True, "What the machine holds, after every connection."),
    "config": ("state/config", ReportedConfiguration, 1, True, "The configuration in use, at each change."),
    "service": ("service", ServiceReport, 1, False, "The outcomes of service commands; at least once each."),
    "telemetry": ("telemetry", TelemetryBody, 0, False, "Figures from the field; nothing depends on them."),
}
"""What a machine publishes: topic below its root, body, QoS, whether it is retained, and a description."""
ALL_COMMANDS: dict[str, type[BaseModel]] = dict(COMMANDS)
ALL_RESULTS: dict[str, type[BaseModel]] = dict(RESULTS)
for _name, _model in SERVICE_COMMANDS.items():
    ALL_COMMANDS[_name], ALL_RESULTS[_name] = _model, ServiceAccepted


def document(version: str) -> Json:
    """The whole document; `version` is the agent's."""
    channels: Json = {}
    operations: Json = {}
    messages: Json = {}
    for name, model in ALL_COMMANDS.items():
        channels[name], operations[name] = _command(name)
        messages[f"{name}-command"] = _command_message(name, model)
        messages[f"{name}-result"] = _reply_message(name)
    messages["error"] = _message("error", "RpcError", "The command was refused, and nothing changed.")
    channels["reply"] = _reply_channel()
    for name, (topic, body, qos, retain, words) in TOLD.items():
        channels[name] = _channel(topic, name, words)
        operations[name] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": words,
            "bindings": {"mqtt": {"qos": qos, "retain": retain, "bindingVersion": "0.2.0"}},
        }
        messages[name] = _message(name, body.__name__, words)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Parcel locker machine",
            "version": version,
            "description": "What a parcel locker's edge agent receives and publishes over MQTT 5. `receive` "
            "and `send` are seen from the machine. Unknown fields are to be ignored.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": _schemas()},
    }


def _command(name: str) -> tuple[Json, Json]:
    words = (ALL_COMMANDS[name].__doc__ or "").strip()
    channel = _channel(f"cmd/{name}", f"{name}-command", words)
    operation = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": words,
        "reply": {
            "address": {
                "location": "$message.header#/responseTopic",
                "description": "MQTT 5 Response Topic, below the machine's own `reply/`. Without one the "
                "command is carried out, unanswered.",
            },
            "channel": {"$ref": "#/channels/reply"},
            "messages": [
                {"$ref": f"#/channels/reply/messages/{message}"} for message in (f"{name}-result", "error")
            ],
        },
        "bindings": {"mqtt": {"qos": 1, "retain": False, "bindingVersion": "0.2.0"}},
    }
    return channel, operation


def _command_message(name: str, model: type[BaseModel]) -> Json:
    headers: Json = {
        "responseTopic": {"type": "string", "description": "MQTT 5 Response Topic."},
        "correlationData": {"type": "string", "description": "MQTT 5 Correlation Data."},
        "messageExpiryInterval": {"type": "integer", "description": "MQTT 5 Message Expiry Interval, s."},
        "x-request-id": {"type": "string", "description": "User property: X-Request-ID of the REST call."},
        SIGNATURE: {"type": "string", "description": "User property: Ed25519 signature, base64."},
        SIGNATURE_KEY: {"type": "string", "description": "User property: name of the key."},
    }
    required = ["messageExpiryInterval"] if name in DOOR_OPENING else []
    if name in SERVICE_COMMANDS:
        required = [SIGNATURE, SIGNATURE_KEY]
    words = (model.__doc__ or "").strip()
    if name in DOOR_OPENING:
        words += " Lives 30 s at most; needs a Message Expiry Interval while the machine's clock is not set."
    if name in QUERIES:
        words += " Changes nothing."
    if name in SERVICE_COMMANDS:
        words += " Always signed, by a key that has the right; the outcome follows on the topic `service`."
    message = _message(f"{name}-command", model.__name__, words)
    message["headers"] = {"type": "object", "properties": headers}
    if required:
        message["headers"]["required"] = required
    message["correlationId"] = {"location": "$message.header#/correlationData"}
    return message


def _reply_message(name: str) -> Json:
    model = ALL_RESULTS[name]
    return {
        "name": f"{name}-result",
        "title": model.__name__,
        "summary": (model.__doc__ or "").strip(),
        "correlationId": {"location": "$message.header#/correlationData"},
        "payload": {
            "type": "object",
            "required": ["result"],
            "properties": {"result": {"$ref": f"#/components/schemas/{model.__name__}"}},
        },
    }


def _reply_channel() -> Json:
    names = [*(f"{name}-result" for name in ALL_COMMANDS), "error"]
    return {
        "address": None,
        "title": "reply",
        "description": f"`{ROOT}/{{machineId}}/reply/{{anything}}`, QoS 1, with the command's Correlation "
        "Data.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }


def _channel(topic: str, message: str, words: str) -> Json:
    return {
        "address": f"{ROOT}/{{machineId}}/{topic}",
        "description": words,
        "parameters": {"machineId": {"description": "The `machine_id` of the machine's configuration."}},
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


def _message(name: str, schema: str, words: str) -> Json:
    return {
        "name": name,
        "title": schema,
        "summary": words,
        "payload": {"$ref": f"#/components/schemas/{schema}"},
    }


def _schemas() -> Json:
    wanted: list[tuple[type[BaseModel], str]] = [(model, "validation") for model in ALL_COMMANDS.values()]
    published: list[type[BaseModel]] = [
        *dict.fromkeys(ALL_RESULTS.values()),
        *(model for _, model, *_ in TOLD.values()),
        RpcStatus,
    ]
    wanted += [(model, "serialization") for model in published]
    _, found = models_json_schema(wanted, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    schemas: Json = found["$defs"]
    schemas["RpcError"] = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"$ref": "#/components/schemas/RpcStatus"}},
    }
    return dict(sorted(schemas.items()))
