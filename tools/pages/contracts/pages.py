"""The two documents: MQTT as AsyncAPI 3, REST as OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import SecretStr

from cloud_gateway.app import create_app
from cloud_gateway.settings import MqttSettings, Platform, Settings
from edge_agent.cli.schema import asyncapi_yaml

DOCS = Path(__file__).resolve().parents[3] / "docs"


def openapi_yaml() -> str:
    """The REST API as described by a gateway with every page."""
    settings = Settings(
        listen_port=8080,
        public_url="https://gateway.example.org",
        database_url="sqlite://",
        operations_key=SecretStr("unused"),
        mqtt=MqttSettings(host="broker.example.org", port=8883, client_id="gateway"),
        platforms=[Platform(name="example", api_key=SecretStr("unused"))],
    )
    document = create_app(settings).openapi()
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


PAGES: dict[Path, Callable[[], str]] = {
    DOCS / "asyncapi.yaml": asyncapi_yaml,
    DOCS / "openapi.yaml": openapi_yaml,
}
"""Each document and its generator."""
