"""What is wrong with a file is said in plain sentences: the key, what it must be, and what it is."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from cloud_gateway.api import bodies as gateway_bodies
from cloud_gateway.settings import Settings as GatewaySettings
from edge_agent.config import Settings
from edge_agent.drivers.profiles import Profile
from edge_agent.protocol import api, commands
from edge_agent.protocol.api import Body, refusal_from
from edge_agent.validation_findings import findings_of
from tools.bench.settings import REPOSITORY

CONFIG = REPOSITORY / "config"
WRONG: list[Any] = [-1, 70000, 1.5, "", "no such thing", "x" * 300, True, [], [7], ["x", {}], {}, {"odd": 1}]
LIBRARY = re.compile(
    r"Value error|Input|should|Field required|Extra inputs|Assertion|valid (string|integer|number|dict)"
)
DOCUMENTS: dict[str, tuple[type[BaseModel], Path]] = {
    "machine": (Settings, CONFIG / "locker.example.toml"),
    "gateway": (GatewaySettings, CONFIG / "gateway.example.toml"),
    **{
        name: (Profile, CONFIG / "devices" / f"{name}.toml")
        for name in (
            "r4dcb08",
            "laumas-tlb",
            "eletechsup-r4d8a08",
            "waveshare-io-8ch",
            "cheap-4-relay",
            "wkly-12",
        )
    },
}


def said(model: type[BaseModel], document: dict[str, Any]) -> list[str]:
    """The findings; empty if there are none."""
    try:
        model.model_validate(document)
    except ValidationError as error:
        return [str(finding) for finding in findings_of(error, document)]
    return []


def places(value: Any) -> Iterator[tuple[int | str, ...]]:
    """Where the values of a document are, its tables included."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield (key,)
        yield from ((key, *rest) for rest in places(child))


def with_value(document: dict[str, Any], place: tuple[int | str, ...], value: Any) -> dict[str, Any]:
    changed: Any = copy.deepcopy(document)
    inside = changed
    for part in place[:-1]:
        inside = inside[part]
    inside[place[-1]] = value
    result: dict[str, Any] = changed
    return result


@pytest.mark.filterwarnings("ignore:__int__ returned non-int")  # pydantic, of a network that is true
@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_sentence_is_one_of_the_library(name: str) -> None:
    """Each value of a whole file is replaced by each wrong one, and each key left out."""
    model, path = DOCUMENTS[name]
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for place in places(document):
        for value in WRONG:
            found |= set(said(model, with_value(document, place, value)))
    assert len(found) > 20
    assert [line for line in sorted(found) if LIBRARY.search(line)] == []
    assert [line for line in sorted(found) if re.search(r"\[key\]|constrained|union", line)] == []


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("temperature", "channels"), 0, "temperature.channels: must be at least 1, not 0"),
        (("temperature", "channels"), "8", 'temperature.channels: must be a whole number, not "8"'),
        (("temperature", "function"), 7, "temperature.function: must be one of 3, 4, not 7"),
        (("temperature", "number"), 7, "temperature.number: unknown key"),
        (
            ("temperature", "degrees_per_count"),
            0,
            "temperature.degrees_per_count: must be more than 0, not 0",
        ),
        (
            ("temperature", "no_sensor"),
            "x",
            'temperature.no_sensor: must be a whole number or a list, not "x"',
        ),
        (("temperature", "no_sensor"), [1, [5]], "temperature.no_sensor[1][1]: is missing"),
        (("identity", "models"), "R4", 'identity.models: must be a list, not "R4"'),
        (("identity", "hw_verified"), [], "identity.hw_verified: must be true or false, not a list"),
        (("bus",), 5, "bus: must be a table, not 5"),
        (("vectors",), [], "vectors: must not be empty"),
        (("lock",), {"channels": 4, "pulse": {"kind": "long"}}, 'not "long"'),
        (("lock",), {"channels": 4, "pulse": {"kind": "fixed"}}, "lock.pulse.ms: is missing"),
        (("lock",), {"channels": 4, "pulse": {}}, "lock.pulse: kind is missing"),
    ],
)
def test_the_key_and_its_value_are_named(place: tuple[int | str, ...], value: Any, sentence: str) -> None:
    document = tomllib.loads((CONFIG / "devices" / "r4dcb08.toml").read_text(encoding="utf-8"))
    found = said(Profile, with_value(document, place, value))
    assert any(sentence in line for line in found), found


def test_no_secret_is_shown_whatever_is_wrong_with_it() -> None:
    document = tomllib.loads((CONFIG / "gateway.example.toml").read_text(encoding="utf-8"))
    for key in ("api_key", "webhook_secrets"):
        found = said(GatewaySettings, with_value(document, ("platforms", 0, key), 20260013))
        assert found
        assert not any("20260013" in line for line in found)
    found = said(GatewaySettings, document | {"database_url": 20260013, "operations_key": 20260014})
    assert len(found) == 2
    assert not any("2026001" in line for line in found)
    machine = tomllib.loads((CONFIG / "locker.example.toml").read_text(encoding="utf-8"))
    card = {"id": 20260013, "code": "drop-off", "reservation": "res_1"}
    found = said(Settings, machine | {"credentials": {"maria": card}})
    assert found == ["credentials.maria.id: must be a text"]


def test_a_long_value_is_cut() -> None:
    document = tomllib.loads((CONFIG / "demo.toml").read_text(encoding="utf-8"))
    (line,) = said(Settings, with_value(document, ("doors", "door_ajar_s"), "x" * 5000))
    assert len(line) < 150


def bodies() -> list[type[Body]]:
    """Every body that a platform, a technician's command or the gateway sends."""
    modules = (api, commands, gateway_bodies)
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return sorted((one for one in found if issubclass(one, Body) and one.model_fields), key=str)


@pytest.mark.parametrize("model", bodies(), ids=lambda model: model.__name__)
def test_every_refusal_of_a_body_says_what_is_wanted_in_one_style(model: type[Body]) -> None:
    documents: list[Any] = [[], "text", {}]
    documents += [
        {field.alias or name: wrong} for name, field in model.model_fields.items() for wrong in WRONG
    ]
    documents += [{field.alias or name: None} for name, field in model.model_fields.items()]
    descriptions = []
    for document in documents:
        try:
            model.model_validate(document)
        except ValidationError as error:
            refusal = refusal_from(error)
            descriptions += [violation.description for violation in refusal.violations]
            first = refusal.violations[0]
            assert refusal.message == f"{first.field}: {first.description}"
    assert descriptions
    for description in descriptions:
        assert description.startswith(("must ", "is missing")), description
        assert not LIBRARY.search(description), description
        assert not set("<^") & set(description), description


def test_a_body_with_the_wrong_kinds_of_values_is_refused_field_by_field() -> None:
    packaging = {"width": 0, "height": "a", "depth": 1.5, "cooling_required": "yes"}
    document = {"machine_id": 7, "platform_order_id": "", "packaging": packaging}
    with pytest.raises(ValidationError) as raised:
        api.ReserveBody.model_validate(document)
    found = {one.field: one.description for one in refusal_from(raised.value).violations}
    assert found == {
        "machine_id": "must be a text",
        "platform_order_id": "must not be empty",
        "packaging.width": "must be at least 1",
        "packaging.height": "must be a whole number",
        "packaging.depth": "must be a whole number",
        "packaging.cooling_required": "must be true or false",
    }
