"""The closed list of keys that may be set remotely goes together with the configuration's own types."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.config import Settings
from edge_agent.protocol.settable import SETTABLE, SettableKey

SCHEMA = Settings.model_json_schema()


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """A part of the schema without references and without the choice of being absent."""
    while "$ref" in node or "anyOf" in node:
        if "$ref" in node:
            node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
        else:
            (node,) = (one for one in node["anyOf"] if one.get("type") != "null")
    return node


def any_of(node: dict[str, Any]) -> dict[str, Any]:
    """What the schema has for every name of a section."""
    named: list[dict[str, Any]] = list(node.get("patternProperties", {}).values())
    return named[0] if named else dict(node["additionalProperties"])


def type_of(key: str) -> dict[str, Any]:
    """What the schema has for a key path."""
    node = resolved(SCHEMA)
    for name in key.split("."):
        node = resolved(any_of(node) if name == "*" else node["properties"][name])
    return node


@pytest.mark.parametrize("one", SETTABLE, ids=lambda one: one.key)
def test_each_key_is_one_of_the_configuration_and_of_the_kind_that_is_stated(one: SettableKey) -> None:
    found = type_of(one.key)
    if one.kind == "choice":
        assert tuple(found["enum"]) == one.choices
    else:
        assert found["type"] == {"text": "string"}.get(one.kind, one.kind)
        assert one.choices == ()
