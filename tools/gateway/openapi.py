"""/openapi.json: what the framework finds, plus the request bodies that the routes read themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from edge_agent.protocol.api import Body, PackagingBody, ReserveBody
from tools.gateway.bodies import EchoBody, SearchBody

TAKEN: tuple[type[Body], ...] = (EchoBody, SearchBody, ReserveBody, PackagingBody)


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas = document["components"]["schemas"]
        for model in TAKEN:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schema.pop("$defs", None)
            schemas[model.__name__] = schema
        app.openapi_schema = document
    return app.openapi_schema
