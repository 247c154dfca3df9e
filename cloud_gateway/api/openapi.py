"""/openapi.json: the framework's document, corrected and completed by the request bodies, which the routes
read themselves.

The routes read bodies by hand (to answer with the API's own errors), so the framework knows neither the
bodies nor X-Request-ID, and it would document its own 422.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from cloud_gateway.api.bodies import EchoBody, OperatorActBody, SearchBody
from cloud_gateway.api.common import PREFIX
from cloud_gateway.api.field_texts import explain_fields, explain_parameter
from cloud_gateway.api.middleware import HEADER, REQUEST_ID_MAX
from cloud_gateway.api.webhook_schema import webhooks
from edge_agent.protocol.api import Body, MaintenanceBody, OpenDoorBody, ReserveBody

Json = dict[str, Any]

REQUEST_BODIES: dict[str, type[Body]] = {
    "/echo": EchoBody,
    "/machines/search": SearchBody,
    "/reservations": ReserveBody,
    "/reservations/{reservation_id}/open-door": OpenDoorBody,
    "/maintenances": MaintenanceBody,
}
"""The body of each POST that has fields; the others take an object and ignore its fields."""

OPERATORS_PREFIX = "/api/operations/v1"
OPERATORS_ACTS = tuple(
    f"{OPERATORS_PREFIX}{path}"
    for path in (
        "/machines/{machine_id}/cells/{label}/block",
        "/machines/{machine_id}/cells/{label}/unblock",
        "/machines/{machine_id}/cells/{label}/clear",
        "/tickets/{ticket_id}/close",
    )
)
"""Operators' acts with a reason."""

REFERENCE = "#/components/schemas/{model}"
FRAMEWORK_ERRORS = ("HTTPValidationError", "ValidationError")

HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
AFTER_HOST = r"(:[1-9][0-9]{0,3})?(/[A-Za-z0-9._~/-]*)?(\?[A-Za-z0-9._~/=&-]*)?"
WEBHOOK_URL = rf"^(https://{HOST}{AFTER_HOST}|http://(localhost|127\.0\.0\.1|\[::1\]){AFTER_HOST})?$"

REQUEST_ID: Json = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Idempotency key of a POST: a repetition gets the same response and acts once. "
    "Made by the gateway if absent; every response returns it.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": REQUEST_ID_MAX,
        "pattern": r"^[!-~]([ -~]*[!-~])?$",
    },
}

OPERATIONS_KEY: Json = {
    "type": "http",
    "scheme": "basic",
    "description": "A person of the gateway's users_file with the password; or any user name with the "
    "gateway's operations_key as the password.",
}


DESCRIPTION = (
    "Reserves cells of parcel lockers and opens their doors. `docs/integrate.md` leads from the key to the "
    "first webhook, and `/docs` shows this document as a page. Repeat a call that got no answer with the "
    "same `X-Request-ID`: it acts once."
)

TAGS: list[Json] = [
    {"name": "Reservations", "description": "Reserve a cell, open its door, cancel, look up."},
    {
        "name": "Machines",
        "description": "Machines with their free cells, maintenance, and a test of the key.",
    },
    {"name": "Public", "description": "Needs no key: QR images, health, this document."},
    {"name": "Operations", "description": "For the operator of the machines, with a key of its own."},
    {
        "name": "Fleet",
        "description": "The machines as their operators see them, and what operators do to them; each person "
        "has a name, a password and a role.",
    },
    {"name": "Webhooks", "description": "What the gateway sends to a platform."},
]


def _tag(path: str) -> str:
    """The group of a path."""
    if path.startswith(OPERATORS_PREFIX):
        return "Fleet"
    if path.startswith("/operations"):
        return "Operations"
    if not path.startswith(PREFIX):
        return "Public"
    return "Reservations" if path.removeprefix(PREFIX).startswith("/reservations") else "Machines"


def describe(app: FastAPI) -> Json:
    """Returns the document, built once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=DESCRIPTION,
            routes=app.routes,
            tags=TAGS,
            servers=app.servers,
        )
        components = document["components"]
        schemas: Json = components["schemas"]
        for name in FRAMEWORK_ERRORS:
            schemas.pop(name, None)
        for schema in schemas.values():
            _never_null(schema)
        schemas.update(_request_body_schemas())
        document["webhooks"], referenced = webhooks()
        for name, schema in referenced.items():
            schemas.setdefault(name, schema)
            _never_null(schemas[name])
        for name, schema in schemas.items():
            explain_fields(name, schema)
            _join_lines(schema)
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                _complete(operation, path, method)
            if path.startswith(("/operations", "/api/operations")):
                components["securitySchemes"]["OperationsKey"] = OPERATIONS_KEY
        app.openapi_schema = document
    return app.openapi_schema


def _request_body_schemas() -> Json:
    """The schemas of the request bodies."""
    models = [(model, "validation") for model in (*REQUEST_BODIES.values(), OperatorActBody)]
    _, found = models_json_schema(models, ref_template=REFERENCE)  # type: ignore[arg-type]
    schemas: Json = found["$defs"]
    for schema in schemas.values():
        _may_be_null(schema)
    schemas["ReserveBody"]["properties"]["webhook_url"]["anyOf"][0]["pattern"] = WEBHOOK_URL
    # Either a cell or a machine; only a cell can be blocked.
    schemas["MaintenanceBody"]["anyOf"] = [
        {"required": ["cell_id"], "properties": {"cell_id": {"type": "string"}}},
        {
            "required": ["machine_id"],
            "properties": {
                "machine_id": {"type": "string"},
                "block_cell_immediately": {"enum": [False, None]},
            },
        },
    ]
    return schemas


def _may_be_null(schema: Json) -> None:
    """In a request, null is allowed for every optional field."""
    for name, field in schema.get("properties", {}).items():
        if name in schema.get("required", []) or "anyOf" in field:
            continue
        outer = {key: field.pop(key) for key in ("title", "default", "description") if key in field}
        schema["properties"][name] = {**outer, "anyOf": [field, {"type": "null"}]}


def _never_null(schema: Json) -> None:
    """In a response, unknown fields are left out."""
    for name, field in schema.get("properties", {}).items():
        schema["properties"][name] = _without_null(field)


def _without_null(field: Json) -> Json:
    kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return field
    kept = {name: field[name] for name in ("title", "description", "examples") if name in field}
    return {**kept, **kinds[0]}


def _join_lines(described: Json) -> None:
    """A docstring of several lines as one text."""
    if "description" in described:
        described["description"] = " ".join(described["description"].split())


def _complete(operation: Json, path: str, method: str) -> None:
    _join_lines(operation)
    operation["responses"].pop("422", None)
    for answer in operation["responses"].values():
        answer["headers"] = {HEADER: {"schema": {"type": "string"}}}
    for parameter in operation.get("parameters", []):
        parameter["schema"] = _without_null(parameter["schema"])
        explain_parameter(parameter)
    operation.setdefault("parameters", []).append(REQUEST_ID)
    operation["tags"] = [_tag(path)]
    if path.startswith(("/operations", "/api/operations")):
        operation["security"] = [{"OperationsKey": []}]
    if path in OPERATORS_ACTS and method == "post":
        reference = {"$ref": REFERENCE.format(model=OperatorActBody.__name__)}
        operation["requestBody"] = {"content": {"application/json": {"schema": reference}}, "required": True}
    if method == "post" and path.startswith(PREFIX):
        model = REQUEST_BODIES.get(path.removeprefix(PREFIX))
        named = None if model is None else {"$ref": REFERENCE.format(model=model.__name__)}
        content = {"application/json": {"schema": named or {"type": "object"}}}
        needed = model is not None and any(field.is_required() for field in model.model_fields.values())
        operation["requestBody"] = {"content": content, "required": needed}
